//! Upper halves of registers: which are known to be 0, and which nobody reads.
//!
//! A pointer into the arena is the low half of a register, so an access has to clear the upper one before. Where it is clear already
//! that is a copy, which costs nothing. And where nobody reads the upper half, what writes the register may as well clear it, outside of the
//! loop in which it is used.

use isa::{Size, Width};

use super::insn::{Alu, End, Function, Insn, Reg, Shift, Src, Use, low_half};
use super::order::Shape;

/// Makes copies of what clears upper halves that are clear.
pub(super) fn run(function: &mut Function, shape: &Shape) {
    let gains = gains(function, shape);
    let read = upper_reads(function);
    for id in function.order.clone() {
        let Some(block) = function.block_mut(id) else { continue };
        for (insn, _) in &mut block.insns {
            let Some(dst) = insn.result_only() else { continue };
            let index = dst.index();
            if !read.get(index).is_some_and(|read| *read) && gains.get(index).is_some_and(|gain| *gain > 0.0)
            {
                clear(insn);
            }
        }
    }
    let clear = clear_upper(function);
    for id in function.order.clone() {
        let Some(block) = function.block_mut(id) else { continue };
        for (insn, _) in &mut block.insns {
            if let Insn::Mov { width: width @ Width::W32, src: Src::Reg(src), .. } = insn
                && clear.get(src.index()) == Some(&true)
            {
                *width = Width::W64;
            }
        }
    }
}

/// Has an instruction clear the upper half of its result, if it can do so at no cost.
fn clear(insn: &mut Insn) {
    match insn {
        Insn::Mov { width, src: Src::Reg(_), .. }
        | Insn::Lea { width, .. }
        | Insn::Shift { op: Shift::Left, width, by: Src::Imm(0..32), .. } => *width = Width::W32,
        Insn::Alu { width, b, .. } => match b {
            Src::Imm(number) => {
                *number = low_half(*number);
                *width = Width::W32;
            }
            Src::Reg(_) => *width = Width::W32,
            Src::Slot(_) => {}
        },
        Insn::Mov { src: Src::Imm(number), .. } => *number &= 0xffff_ffff,
        _ => {}
    }
}

/// Per register, how much would be won if its upper half were clear: the moves that clear it, without the copies that could not be
/// left out any more.
fn gains(function: &Function, shape: &Shape) -> Vec<f32> {
    let mut gains = vec![0.0_f32; function.classes.len()];
    for id in &function.order {
        let weight = shape.weight(*id);
        let Some(block) = function.block(*id) else { continue };
        for (insn, _) in &block.insns {
            let Insn::Mov { width, dst, src: Src::Reg(src) } = insn else { continue };
            let (reg, gain) = match width {
                Width::W32 => (src, weight),
                Width::W64 => (dst, -weight),
            };
            if let Some(entry) = gains.get_mut(reg.index()) {
                *entry += gain;
            }
        }
    }
    gains
}

/// Per register, whether anybody reads its upper half.
fn upper_reads(function: &Function) -> Vec<bool> {
    let mut read = vec![false; function.classes.len()];
    // A copy that nobody reads the upper half of does not read that of its source.
    let mut copies: Vec<(Reg, Reg)> = Vec::new();
    let mut note = |reg: Reg| {
        if let Some(entry) = read.get_mut(reg.index()) {
            *entry = true;
        }
    };
    for id in &function.order {
        let Some(block) = function.block(*id) else { continue };
        for (insn, _) in &block.insns {
            match insn {
                Insn::Mov { width: Width::W32, .. } | Insn::Lea { width: Width::W32, .. } => {}
                Insn::Alu { width: Width::W32, .. }
                | Insn::Shift { width: Width::W32, .. }
                | Insn::AndNot { width: Width::W32, .. }
                | Insn::Neg { width: Width::W32, .. }
                | Insn::Div { width: Width::W32, .. } => {}
                Insn::Extend { from: Size::B | Size::H | Size::W, .. } => {}
                Insn::SwapBytes { size: Size::H | Size::W, .. } => {}
                Insn::Mov { dst, src: Src::Reg(src), .. } => copies.push((*dst, *src)),
                // Of sums and products the low half is that of the low halves.
                Insn::Alu { dst, a, b, .. } => {
                    copies.push((*dst, *a));
                    if let Src::Reg(b) = b {
                        copies.push((*dst, *b));
                    }
                }
                Insn::Lea { dst, address, .. } => {
                    copies.push((*dst, address.base));
                    if let Some((index, _)) = address.index {
                        copies.push((*dst, index));
                    }
                }
                Insn::Shift { op: Shift::Left, dst, a, by: Src::Imm(_), .. } => copies.push((*dst, *a)),
                Insn::Store { size: Size::B | Size::H | Size::W, address, .. } => {
                    note(address.base);
                    address.index.iter().for_each(|(index, _)| note(*index));
                }
                insn => insn.each_reg(|reg, how| {
                    if how != Use::Write {
                        note(reg);
                    }
                }),
            }
        }
        match block.end {
            End::Branch { test, .. } if test.width == Width::W32 => {}
            end => end.each_reg(&mut note),
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for (dst, src) in &copies {
            if read.get(dst.index()) == Some(&true)
                && let Some(entry) = read.get_mut(src.index())
            {
                changed |= !std::mem::replace(entry, true);
            }
        }
    }
    read
}

/// Per register, whether its upper half is always 0.
fn clear_upper(function: &Function) -> Vec<bool> {
    let mut clear = vec![true; function.classes.len()];
    for param in function.params.iter().flatten() {
        if let Src::Reg(reg) = param
            && let Some(entry) = clear.get_mut(reg.index())
        {
            *entry = false;
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for id in &function.order {
            let Some(block) = function.block(*id) else { continue };
            for (insn, _) in &block.insns {
                insn.each_reg(|dst, how| {
                    if how == Use::Write
                        && !clears(insn, &clear)
                        && let Some(entry) = clear.get_mut(dst.index())
                    {
                        changed |= std::mem::replace(entry, false);
                    }
                });
            }
            if let End::Afford { left: Src::Reg(left), .. } = block.end
                && let Some(entry) = clear.get_mut(left.index())
            {
                changed |= std::mem::replace(entry, false);
            }
        }
    }
    clear
}

/// Whether the upper half of an instruction's result is 0, if those of some registers are.
fn clears(insn: &Insn, clear: &[bool]) -> bool {
    let is_clear = |reg: &Reg| clear.get(reg.index()) == Some(&true);
    match insn {
        Insn::Mov { width: Width::W32, .. }
        | Insn::Alu { width: Width::W32, .. }
        | Insn::Shift { width: Width::W32, .. }
        | Insn::AndNot { width: Width::W32, .. }
        | Insn::Lea { width: Width::W32, .. }
        | Insn::Neg { width: Width::W32, .. }
        | Insn::Div { width: Width::W32, .. }
        | Insn::Extend { width: Width::W32, .. }
        | Insn::Extend { signed: false, from: Size::B | Size::H | Size::W, .. }
        | Insn::SwapBytes { size: Size::H | Size::W, .. }
        | Insn::Load { signed: false, size: Size::B | Size::H | Size::W, .. }
        | Insn::Set { .. }
        | Insn::TrailingZeros { .. }
        | Insn::SignBits { .. } => true,
        Insn::Mov { src: Src::Imm(number), .. } => u32::try_from(*number).is_ok(),
        Insn::Mov { src: Src::Reg(src), .. } => is_clear(src),
        Insn::Alu { op: Alu::And, a, b, .. } => {
            is_clear(a)
                || match b {
                    Src::Reg(b) => is_clear(b),
                    Src::Imm(number) => u32::try_from(*number).is_ok(),
                    Src::Slot(_) => false,
                }
        }
        Insn::Alu { op: Alu::Or | Alu::Xor, a, b: Src::Reg(b), .. } => is_clear(a) && is_clear(b),
        Insn::Shift { op: Shift::Right, a, by, .. } => is_clear(a) || matches!(by, Src::Imm(32..)),
        Insn::Select { yes, no, .. } => [yes, no].into_iter().all(|src| match src {
            Src::Reg(reg) => is_clear(reg),
            Src::Imm(number) => u32::try_from(*number).is_ok(),
            Src::Slot(_) => false,
        }),
        _ => false,
    }
}
