//! Upper halves that are known to be 0.
//!
//! An access to the arena takes the low half of its pointer. Where the upper half is 0 anyway (after 32-bit arithmetic, a cast,
//! a narrow load), nothing needs to be cleared; the same holds for an explicit zero-extension. What is known of a variable at
//! the beginning of a block is what all ways into the block agree on.

use isa::{AluOp, Size, Width};
use verifier::Memory;

use crate::flow::{BlockId, Body, Op, Src, Step, Var};

/// Marks places and moves; the result is how many.
pub(super) fn run(body: &mut Body) -> u32 {
    let entries = entries(body);
    let mut changes = 0;
    for (block, mut known) in body.blocks.iter_mut().zip(entries) {
        for step in &mut block.steps {
            changes += u32::from(improve(&mut step.op, &known));
            known.step(step);
        }
    }
    changes
}

/// The variables whose upper half is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known(Vec<u64>);

impl Known {
    fn new(vars: u16, all: bool) -> Self {
        let word = if all { u64::MAX } else { 0 };
        Self(vec![word; usize::from(vars).div_ceil(64)])
    }

    fn has(&self, var: Var) -> bool {
        self.0.get(var.index() / 64).is_some_and(|word| word >> (var.index() % 64) & 1 != 0)
    }

    fn set(&mut self, var: Var, known: bool) {
        if let Some(word) = self.0.get_mut(var.index() / 64) {
            let bit = 1 << (var.index() % 64);
            *word = if known { *word | bit } else { *word & !bit };
        }
    }

    /// Keeps what the other knows too; whether that is less than before.
    fn meet(&mut self, other: &Self) -> bool {
        let mut less = false;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            less |= *word & !other != 0;
            *word &= other;
        }
        less
    }

    fn source(&self, src: Src) -> bool {
        match src {
            Src::Var(var) => self.has(var),
            Src::Imm(imm) => u32::try_from(imm).is_ok(),
        }
    }

    fn step(&mut self, step: &Step) {
        let known = self.result(&step.op);
        step.op.writes(|var| self.set(var, false));
        if let Some(var) = step.op.result() {
            self.set(var, known);
        }
    }

    /// Whether the upper half of an operation's result is 0.
    fn result(&self, op: &Op) -> bool {
        match *op {
            Op::Alu { width: Width::W32, .. }
            | Op::Neg { width: Width::W32, .. }
            | Op::Mov { width: Width::W32, .. }
            | Op::SignExtend { width: Width::W32, .. }
            | Op::ZeroExtend { from: Size::B | Size::H | Size::W, .. }
            | Op::Compare { .. } => true,
            Op::Mov { src, .. } => self.source(src),
            Op::Select { yes, no, .. } => self.source(yes) && self.source(no),
            Op::Alu { op, a, b, .. } => self.wide_alu(op, a, b),
            Op::Load { size, sign_extend, .. } => size != Size::DW && !sign_extend,
            Op::Atomic { size, .. } => size == Size::W,
            Op::SwapBytes { bits, .. } => bits != isa::SwapBits::B64,
            Op::ZeroExtend { src, .. } => self.has(src),
            _ => false,
        }
    }

    fn wide_alu(&self, op: AluOp, a: Var, b: Src) -> bool {
        match op {
            AluOp::And => self.has(a) || self.source(b),
            AluOp::Or | AluOp::Xor => self.has(a) && self.source(b),
            AluOp::Rsh => self.has(a) || matches!(b, Src::Imm(32..=63)),
            // The quotient is no more than the dividend; the remainder is no more than either, or the dividend.
            AluOp::Div | AluOp::Mod => self.has(a),
            _ => false,
        }
    }
}

/// What is known at the beginning of each block.
fn entries(body: &Body) -> Vec<Known> {
    let mut entries: Vec<_> = body.blocks.iter().map(|_| Known::new(body.vars, true)).collect();
    if let Some(entry) = entries.first_mut() {
        *entry = Known::new(body.vars, false);
    }
    let mut work = vec![BlockId::ENTRY];
    let mut seen = vec![false; body.blocks.len()];
    while let Some(id) = work.pop() {
        let (Some(block), Some(seen_before)) = (body.block(id), seen.get_mut(id.index())) else { continue };
        *seen_before = true;
        let Some(mut known) = entries.get(id.index()).cloned() else { continue };
        block.steps.iter().for_each(|step| known.step(step));
        for next in block.end.successors() {
            let Some(entry) = entries.get_mut(next.index()) else { continue };
            let less = entry.meet(&known);
            let unseen = seen.get(next.index()) == Some(&false);
            if (less || unseen) && !work.contains(&next) {
                work.push(next);
            }
        }
    }
    entries
}

/// Whether something could be left out.
fn improve(op: &mut Op, known: &Known) -> bool {
    match op {
        Op::ZeroExtend { from: Size::W, dst, src } if known.has(*src) => {
            *op = Op::Mov { width: Width::W64, dst: *dst, src: Src::Var(*src) };
            true
        }
        Op::Mov { width: width @ Width::W32, src: Src::Var(src), .. } if known.has(*src) => {
            *width = Width::W64;
            true
        }
        Op::Load { place, .. } | Op::Store { place, .. } | Op::Atomic { place, .. }
            if place.memory == Memory::Arena && place.index.is_none() && known.has(place.base) =>
        {
            let new = !place.clear;
            place.clear = true;
            new
        }
        _ => false,
    }
}
