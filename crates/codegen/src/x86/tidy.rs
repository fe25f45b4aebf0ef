//! Small improvements of instructions: what several do that the machine does with one, and what nobody reads.

use std::collections::HashMap;

use isa::{Size, Width};

use super::insn::{Address, Alu, BlockId, Cc, End, Function, Insn, Reg, Shift, Src, Test, Use, low_half};
use crate::flow::At;

/// Improves the instructions of a function whose registers are one [web](super::webs) each.
pub(super) fn run(function: &mut Function) {
    let reads = drop_unread(function);
    for id in function.order.clone() {
        let Some(block) = function.block_mut(id) else { continue };
        Local { reads: &reads, known: HashMap::new(), written: HashMap::new() }.join(&mut block.insns);
    }
    let reads = drop_unread(function);
    for id in function.order.clone() {
        fold_test(function, id, &reads);
    }
}

/// What is known of registers in the midst of a block.
struct Local<'a> {
    /// How often each is read in the function.
    reads: &'a [u32],
    /// What wrote a register in this block.
    known: HashMap<Reg, Known>,
    /// The number of the last instruction of this block that wrote a register.
    written: HashMap<Reg, usize>,
}

/// What wrote a register, and when.
struct Known {
    insn: Insn,
    at: usize,
}

impl Local<'_> {
    /// Makes one instruction of what several do.
    fn join(&mut self, insns: &mut [(Insn, At)]) {
        for (at, (insn, _)) in insns.iter_mut().enumerate() {
            while let Some(better) = self.better(insn) {
                *insn = better;
            }
            insn.each_reg(|reg, how| {
                if how == Use::Write {
                    self.written.insert(reg, at);
                    self.known.insert(reg, Known { insn: insn.clone(), at });
                }
            });
        }
    }

    fn better(&self, insn: &Insn) -> Option<Insn> {
        self.low_half(insn)
            .or_else(|| self.rotation(insn))
            .or_else(|| self.complement(insn))
            .or_else(|| self.sum(insn))
    }

    /// An instruction that reads low halves only, without a copy of one.
    fn low_half(&self, insn: &Insn) -> Option<Insn> {
        match insn {
            Insn::Alu { width: Width::W32, .. }
            | Insn::Lea { width: Width::W32, .. }
            | Insn::Mov { width: Width::W32, .. }
            | Insn::Shift { width: Width::W32, .. }
            | Insn::Extend { from: Size::B | Size::H | Size::W, .. } => {}
            _ => return None,
        }
        let mut better = insn.clone();
        let mut changed = false;
        better.each_reg_mut(|reg, how| {
            if how != Use::Write
                && self.is_read_once(*reg)
                && let Some(Insn::Mov { src: Src::Reg(src), .. }) = self.written_by(*reg)
            {
                *reg = *src;
                changed = true;
            }
        });
        changed.then_some(better)
    }

    /// What wrote a register, if what that read is still there.
    fn written_by(&self, reg: Reg) -> Option<&Insn> {
        let Known { insn, at } = self.known.get(&reg)?;
        let mut unchanged = true;
        insn.each_reg(|read, how| {
            // A register that was written over what it was made of is not there any more.
            unchanged &=
                how == Use::Write || read != reg && self.written.get(&read).is_none_or(|last| last <= at);
        });
        unchanged.then_some(insn)
    }

    fn is_read_once(&self, reg: Reg) -> bool {
        self.reads.get(reg.index()) == Some(&1)
    }

    /// `(x << n) | (x >> (bits - n))`.
    fn rotation(&self, insn: &Insn) -> Option<Insn> {
        let Insn::Alu { op: Alu::Or | Alu::Xor | Alu::Add, width, dst, a, b: Src::Reg(b) } = *insn else {
            return None;
        };
        let shift = |reg: Reg, wanted: Shift| match *self.written_by(reg)? {
            Insn::Shift { op, width: w, a, by: Src::Imm(by), .. } if op == wanted && w == width => {
                Some((a, by))
            }
            _ => None,
        };
        let bits = if width == Width::W32 { 32 } else { 64 };
        let (left, right) = match (shift(a, Shift::Left), shift(b, Shift::Right)) {
            (Some(left), Some(right)) => (left, right),
            _ => (shift(b, Shift::Left)?, shift(a, Shift::Right)?),
        };
        let by = Src::Imm(right.1);
        let rotation = Insn::Shift { op: Shift::Rotate, width, dst, a: left.0, by };
        (left.0 == right.0 && left.1 + right.1 == bits).then_some(rotation)
    }

    /// `x & ~y`.
    fn complement(&self, insn: &Insn) -> Option<Insn> {
        let Insn::Alu { op: Alu::And, width, dst, a, b: Src::Reg(b) } = *insn else { return None };
        let inverted = |reg: Reg| match *self.written_by(reg)? {
            Insn::Alu { op: Alu::Xor, width: w, a, b: Src::Imm(-1), .. } if w == Width::W64 || w == width => {
                Some(a)
            }
            _ => None,
        };
        let (inverted, other) = match (inverted(a), inverted(b)) {
            (Some(x), _) => (x, b),
            (None, x) => (x?, a),
        };
        Some(Insn::AndNot { width, dst, a: inverted, b: other })
    }

    /// Sums of sums, numbers and shifted registers: what an address can be.
    fn sum(&self, insn: &Insn) -> Option<Insn> {
        match *insn {
            Insn::Alu { op: Alu::Add, width, dst, a, b: Src::Imm(number) } => {
                if !self.is_read_once(a) {
                    return None;
                }
                match *self.written_by(a)? {
                    // Of a sum of 64 bits the low half is that of the low halves.
                    Insn::Alu { op: Alu::Add, width: w, a, b: Src::Imm(first), .. }
                        if w == width || width == Width::W32 =>
                    {
                        let sum = first.checked_add(number)?;
                        let sum = if width == Width::W32 { low_half(sum) } else { sum };
                        Some(Insn::Alu { op: Alu::Add, width, dst, a, b: Src::Imm(sum) })
                    }
                    Insn::Alu { op: Alu::Add, width: w, a, b: Src::Reg(b), .. }
                        if w == width || width == Width::W32 =>
                    {
                        let address =
                            Address { base: a, index: Some((b, 0)), offset: i32::try_from(number).ok()? };
                        Some(Insn::Lea { width, dst, address })
                    }
                    Insn::Lea { width: w, address, .. } if w == width || width == Width::W32 => {
                        let offset = i64::from(address.offset).checked_add(number)?;
                        let offset = i32::try_from(offset).ok()?;
                        Some(Insn::Lea { width, dst, address: Address { offset, ..address } })
                    }
                    _ => None,
                }
            }
            Insn::Alu { op: Alu::Add, width, dst, a, b: Src::Reg(b) } => {
                let scaled = |reg: Reg| match *self.written_by(reg)? {
                    Insn::Shift { op: Shift::Left, width: w, a, by: Src::Imm(by @ 1..=3), .. }
                        if w == width || width == Width::W32 =>
                    {
                        Some((a, u8::try_from(by).ok()?))
                    }
                    _ => None,
                };
                let (base, index) = match (scaled(b), scaled(a)) {
                    (Some(index), _) => (a, index),
                    (None, index) => (b, index?),
                };
                Some(Insn::Lea { width, dst, address: Address { base, index: Some(index), offset: 0 } })
            }
            Insn::Load { size, signed, dst, address, access } => {
                let address = self.address(address)?;
                Some(Insn::Load { size, signed, dst, address, access })
            }
            Insn::Store { size, address, src, access } => {
                let address = self.address(address)?;
                Some(Insn::Store { size, address, src, access })
            }
            _ => None,
        }
    }

    /// An address whose base is a sum.
    fn address(&self, address: Address) -> Option<Address> {
        let Address { base, index: None, offset } = address else { return None };
        if !self.is_read_once(base) {
            return None;
        }
        match *self.written_by(base)? {
            Insn::Alu { op: Alu::Add, width: Width::W64, a, b: Src::Imm(number), .. } => {
                let offset = i32::try_from(i64::from(offset).checked_add(number)?).ok()?;
                Some(Address { base: a, index: None, offset })
            }
            Insn::Alu { op: Alu::Add, width: Width::W64, a, b: Src::Reg(b), .. } => {
                Some(Address { base: a, index: Some((b, 0)), offset })
            }
            Insn::Lea { width: Width::W64, address: inner, .. } => {
                let offset = inner.offset.checked_add(offset)?;
                Some(Address { offset, ..inner })
            }
            _ => None,
        }
    }
}

/// Drops instructions whose results nobody reads; the result is how often each register is read.
fn drop_unread(function: &mut Function) -> Vec<u32> {
    let mut reads = vec![0_u32; function.classes.len()];
    let mut count = |reg: Reg, by: i32| -> u32 {
        reads.get_mut(reg.index()).map_or(1, |entry| {
            *entry = entry.saturating_add_signed(by);
            *entry
        })
    };
    for id in &function.order {
        let Some(block) = function.block(*id) else { continue };
        for (insn, _) in &block.insns {
            insn.each_reg(|reg, how| {
                if how != Use::Write {
                    count(reg, 1);
                }
            });
        }
        block.end.each_reg(|reg| _ = count(reg, 1));
    }
    let mut changed = true;
    while changed {
        changed = false;
        for id in function.order.iter().rev() {
            let Some(block) = function.blocks.get_mut(id.index()) else { continue };
            let before = block.insns.len();
            let mut kept = Vec::with_capacity(before);
            for (insn, at) in std::mem::take(&mut block.insns).into_iter().rev() {
                if insn.result_only().is_some_and(|dst| count(dst, 0) == 0) {
                    insn.each_reg(|reg, how| {
                        if how != Use::Write {
                            count(reg, -1);
                        }
                    });
                } else {
                    kept.push((insn, at));
                }
            }
            kept.reverse();
            changed |= kept.len() < before;
            block.insns = kept;
        }
    }
    reads
}

/// A test of `a & b`, which was computed for nothing else, against 0.
fn fold_test(function: &mut Function, id: BlockId, reads: &[u32]) {
    let Some(block) = function.block(id) else { return };
    let End::Branch { test, yes, no } = block.end else { return };
    let Test { cc: Cc::Equal | Cc::NotEqual, and: false, a: Src::Reg(tested), b: Src::Imm(0), .. } = test
    else {
        return;
    };
    let Some((Insn::Alu { op: Alu::And, width, dst, a, b }, _)) = block.insns.last() else { return };
    // Of 64 bits tested as 32 the upper half would matter.
    let same = *width == test.width || *width == Width::W32;
    if *dst == tested && same && reads.get(tested.index()) == Some(&1) {
        let test = Test { cc: test.cc, and: true, width: *width, a: Src::Reg(*a), b: *b };
        if let Some(block) = function.block_mut(id) {
            block.insns.pop();
            block.end = End::Branch { test, yes, no };
        }
    }
}
