//! One block with memory, or a number, in the place of a register.

use isa::Width;

use crate::flow::At;
use crate::x86::insn::{Alu, Block, End, Insn, Reg, Slot, Src, Test, Use, low_half};

/// What stands for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Slot(Slot),
    Number(i64),
}

impl Home {
    /// As an operand of an instruction of that width.
    fn src(self, width: Width) -> Src {
        match (self, width) {
            (Self::Slot(slot), _) => Src::Slot(slot),
            (Self::Number(number), Width::W64) => Src::Imm(number),
            (Self::Number(number), Width::W32) => Src::Imm(low_half(number)),
        }
    }
}

/// Replaces a register in a block; `brief` gives new ones for single instructions.
pub(super) fn rewrite(block: &mut Block, reg: Reg, home: Home, brief: &mut dyn FnMut() -> Reg) {
    let mut uses = false;
    for (insn, _) in &block.insns {
        insn.each_reg(|used, _| uses |= used == reg);
    }
    block.end.each_reg(|used| uses |= used == reg);
    if !uses {
        return;
    }
    let mut insns = Vec::with_capacity(block.insns.len() + 4);
    for (mut insn, at) in std::mem::take(&mut block.insns) {
        let (mut read, mut written) = (false, false);
        insn.each_reg(|used, how| {
            if used == reg {
                if how == Use::Write { written = true } else { read = true }
            }
        });
        if !read && !written {
            insns.push((insn, at));
            continue;
        }
        let done = match home {
            Home::Slot(slot) => with_memory(&insn, reg, slot),
            Home::Number(_) if written => Done::Gone,
            Home::Number(_) => Done::No,
        };
        match done {
            Done::Gone => continue,
            Done::Insn(insn) => {
                insns.push((insn, at));
                continue;
            }
            Done::No => {}
        }
        if read && !written && read_home(&mut insn, reg, home) {
            insns.push((insn, at));
            continue;
        }
        replace(insn, at, reg, home, &mut insns, brief);
    }
    rewrite_end(block, reg, home, &mut insns, brief);
    block.insns = insns;
}

/// What became of an instruction.
enum Done {
    Gone,
    Insn(Insn),
    No,
}

/// An instruction that reads or writes memory where it has the register.
fn with_memory(insn: &Insn, reg: Reg, slot: Slot) -> Done {
    match *insn {
        Insn::Mov { dst, src: Src::Slot(from), .. } if dst == reg && from == slot => Done::Gone,
        Insn::ToSlot { slot: to, src: Src::Reg(from) } if from == reg && to == slot => Done::Gone,
        Insn::Mov { width: Width::W64, dst, src: Src::Reg(src) } if dst == reg && src != reg => {
            Done::Insn(Insn::ToSlot { slot, src: Src::Reg(src) })
        }
        Insn::Mov { dst, src: Src::Imm(number), .. } if dst == reg && i32::try_from(number).is_ok() => {
            Done::Insn(Insn::ToSlot { slot, src: Src::Imm(number) })
        }
        Insn::Alu { op, width: Width::W64, dst, a, b }
            if dst == reg && a == reg && op != Alu::Mul && b != Src::Reg(reg) && is_direct(b) =>
        {
            Done::Insn(Insn::SlotAlu { op, slot, b })
        }
        _ => Done::No,
    }
}

/// Whether an operand need not be fetched from memory.
fn is_direct(src: Src) -> bool {
    match src {
        Src::Reg(_) => true,
        Src::Imm(number) => i32::try_from(number).is_ok(),
        Src::Slot(_) => false,
    }
}

/// Puts the home into an instruction that only reads the register, if it can read it there.
fn read_home(insn: &mut Insn, reg: Reg, home: Home) -> bool {
    let is_number = matches!(home, Home::Number(_));
    let wide = home.src(Width::W64);
    match insn {
        Insn::Mov { width, src, .. } => {
            *src = match (home, width) {
                (Home::Number(number), Width::W32) => Src::Imm(number & 0xffff_ffff),
                _ => wide,
            };
            true
        }
        Insn::Extend { src, .. } if !is_number => {
            *src = wide;
            true
        }
        Insn::ToSlot { src, .. } | Insn::SlotAlu { b: src, .. } if is_direct(wide) => {
            *src = wide;
            true
        }
        Insn::Alu { op, width, a, b, .. } => {
            let commutes = *op != Alu::Sub;
            match (*a == reg, *b == Src::Reg(reg)) {
                (false, true) => *b = home.src(*width),
                (true, false) if commutes => {
                    let Src::Reg(other) = *b else { return false };
                    *a = other;
                    *b = home.src(*width);
                }
                _ => return false,
            }
            true
        }
        Insn::Select { test, yes, no, .. } => {
            let mut tested = false;
            test.each_reg_mut(|used| tested |= *used == reg);
            if tested && !test_home(test, reg, home) {
                return false;
            }
            for src in [yes, no] {
                if *src == Src::Reg(reg) {
                    *src = wide;
                }
            }
            true
        }
        Insn::Set { test, .. } => test_home(test, reg, home),
        Insn::Call { args, .. } => {
            for arg in args {
                if *arg == Src::Reg(reg) {
                    *arg = wide;
                }
            }
            true
        }
        _ => false,
    }
}

/// Puts the home into a test.
fn test_home(test: &mut Test, reg: Reg, home: Home) -> bool {
    let home_src = home.src(test.width);
    match (test.a == Src::Reg(reg), test.b == Src::Reg(reg)) {
        (false, true) if matches!(test.a, Src::Reg(_)) => {
            test.b = home_src;
            true
        }
        (true, false) if matches!(home, Home::Slot(_)) && is_direct(test.b) => {
            test.a = home_src;
            true
        }
        _ => false,
    }
}

/// An instruction with brief registers, which are filled before it and put back behind it.
fn replace(
    mut insn: Insn,
    at: At,
    reg: Reg,
    home: Home,
    insns: &mut Vec<(Insn, At)>,
    brief: &mut dyn FnMut() -> Reg,
) {
    let (mut before, mut behind) = (None, None);
    insn.each_reg_mut(|used, how| {
        if *used == reg {
            let new = if how == Use::Write { &mut behind } else { &mut before };
            *used = *new.get_or_insert_with(&mut *brief);
        }
    });
    if let Some(dst) = before {
        insns.push((Insn::Mov { width: Width::W64, dst, src: home.src(Width::W64) }, at));
    }
    insns.push((insn, at));
    if let (Some(src), Home::Slot(slot)) = (behind, home) {
        insns.push((Insn::ToSlot { slot, src: Src::Reg(src) }, at));
    }
}

fn rewrite_end(
    block: &mut Block,
    reg: Reg,
    home: Home,
    insns: &mut Vec<(Insn, At)>,
    brief: &mut dyn FnMut() -> Reg,
) {
    let mut read = false;
    block.end.each_reg(|used| read |= used == reg);
    if !read {
        return;
    }
    let done = match &mut block.end {
        End::Branch { test, .. } => test_home(test, reg, home),
        End::Afford { left: src, .. } | End::Exit(src) => {
            *src = home.src(Width::W64);
            true
        }
        End::Look { .. } | End::Jump(_) | End::Trap => false,
    };
    if done {
        return;
    }
    let dst = brief();
    insns.push((Insn::Mov { width: Width::W64, dst, src: home.src(Width::W64) }, block.at));
    block.end.each_reg_mut(|used| {
        if *used == reg {
            *used = dst;
        }
    });
}
