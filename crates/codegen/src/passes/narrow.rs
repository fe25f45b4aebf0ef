//! Upper halves that are known to be 0.
//!
//! An access to the arena takes the low half of its pointer. Where the upper half is 0 anyway (after 32-bit arithmetic, a cast,
//! a narrow load), nothing needs to be cleared; the same holds for an explicit zero-extension. What is known of a variable at
//! the beginning of a block is what all ways into the block agree on.

use isa::{AluOp, Size, Width};
use verifier::Memory;

use crate::analysis::{Edges, VarSet, Worklist};
use crate::flow::{Body, Op, Src, Step, Var};

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
#[derive(Clone, Debug)]
struct Known(VarSet);

impl Known {
    fn source(&self, src: Src) -> bool {
        match src {
            Src::Var(var) => self.0.contains(var),
            Src::Imm(imm) => u32::try_from(imm).is_ok(),
        }
    }

    fn step(&mut self, step: &Step) {
        let known = self.result(&step.op);
        step.op.writes(|var| _ = self.0.remove(var));
        if let Some(var) = step.op.result().filter(|_| known) {
            self.0.insert(var);
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
            Op::ZeroExtend { src, .. } => self.0.contains(src),
            _ => false,
        }
    }

    fn wide_alu(&self, op: AluOp, a: Var, b: Src) -> bool {
        match op {
            AluOp::And => self.0.contains(a) || self.source(b),
            AluOp::Or | AluOp::Xor => self.0.contains(a) && self.source(b),
            AluOp::Rsh => self.0.contains(a) || matches!(b, Src::Imm(32..=63)),
            // The quotient is no more than the dividend; the remainder is no more than either, or the dividend.
            AluOp::Div | AluOp::Mod => self.0.contains(a),
            _ => false,
        }
    }
}

/// What is known at the beginning of each block.
fn entries(body: &Body) -> Vec<Known> {
    let mut entries = vec![Known(VarSet::full(body.vars)); body.blocks.len()];
    if let Some(entry) = entries.first_mut() {
        *entry = Known(VarSet::empty(body.vars));
    }
    let edges = Edges::of(body);
    let mut work = Worklist::forwards(body, &edges);
    while let Some(id) = work.next() {
        let (Some(block), Some(mut known)) = (body.block(id), entries.get(id.index()).cloned()) else {
            continue;
        };
        block.steps.iter().for_each(|step| known.step(step));
        for next in block.end.successors() {
            if entries.get_mut(next.index()).is_some_and(|entry| entry.0.retain(&known.0)) {
                work.add(next);
            }
        }
    }
    entries
}

/// Whether something could be left out.
fn improve(op: &mut Op, known: &Known) -> bool {
    match op {
        Op::ZeroExtend { from: Size::W, dst, src } if known.0.contains(*src) => {
            *op = Op::Mov { width: Width::W64, dst: *dst, src: Src::Var(*src) };
            true
        }
        Op::Mov { width: width @ Width::W32, src: Src::Var(src), .. } if known.0.contains(*src) => {
            *width = Width::W64;
            true
        }
        Op::Load { place, .. } | Op::Store { place, .. } | Op::Atomic { place, .. }
            if place.memory == Memory::Arena && place.index.is_none() && known.0.contains(place.base) =>
        {
            let new = !place.clear;
            place.clear = true;
            new
        }
        _ => false,
    }
}
