//! What would give the same again is computed once.
//!
//! - A pure operation whose result a variable still has, or had, becomes a copy of it ([`same`]).
//! - A pure operation that gives the same in each iteration of a loop is done in front of it ([`ahead`]), from the innermost loop
//!   outwards. So is the clearing of the upper half of a pointer into an arena.
//!
//! A value that is kept takes a register. What is one machine instruction is worth one only if it is free: for the rest of a block, or
//! all through a loop that has one left. What is several, or slow, is worth it anyway. Numbers are never kept: they are part of instructions.
//!
//! Nothing is assumed: only pure operations move.

mod ahead;
mod preheaders;
mod reads;
mod same;

use isa::{AluOp, Width};

use crate::flow::{BlockId, Body, Op, Src, Var};

/// Does both; the result is how many operations.
pub(super) fn run(body: &mut Body) -> u32 {
    tidied(body, same::run) + tidied(body, ahead::run)
}

/// Runs it, and clears away the copies that it leaves.
fn tidied(body: &mut Body, run: impl Fn(&mut Body) -> u32) -> u32 {
    let changes = run(body);
    if changes > 0 {
        super::tidy::run(body);
    }
    changes
}

/// What it costs to do an operation, beside keeping its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    /// An instruction.
    Little,
    /// Two or three, or one that takes as long.
    Some,
    /// Several, with loads among them, or a division.
    Much,
}

impl Cost {
    /// Of an operation; `None` for what is never kept.
    fn of(op: &Op) -> Option<Self> {
        Some(match op {
            Op::Alu { op: AluOp::Div | AluOp::Mod | AluOp::SDiv | AluOp::SMod, .. }
            | Op::ToUser { .. }
            | Op::Address { .. }
            | Op::Element { .. } => Self::Much,
            Op::Alu { op: AluOp::Mul, .. }
            | Op::SwapBytes { .. }
            | Op::Select { .. }
            | Op::Compare { .. }
            | Op::MissedWord { .. } => Self::Some,
            Op::Alu { .. }
            | Op::Neg { .. }
            | Op::SignExtend { .. }
            | Op::ZeroExtend { .. }
            | Op::Mov { width: Width::W32, src: Src::Var(_), .. } => Self::Little,
            _ => return None,
        })
    }
}

/// Whether a division takes long: to do one that nobody asked for may cost more than it saves.
fn divides(op: &Op) -> bool {
    matches!(op, Op::Alu { op: AluOp::Div | AluOp::Mod | AluOp::SDiv | AluOp::SMod, .. })
}

/// A copy of all of a variable.
fn copy(dst: Var, src: Var) -> Op {
    Op::Mov { width: Width::W64, dst, src: Src::Var(src) }
}

/// The same operation with another result.
fn with_result(mut op: Op, result: Var) -> Op {
    op.each_var_mut(|var, how| {
        if how == crate::flow::Use::Write {
            *var = result;
        }
    });
    op
}

/// Gives the entry a block of its own if loops lead back to it, so that something can be done in front of them.
fn free_entry(body: &mut Body) {
    let leads_back =
        |body: &Body| body.blocks.iter().any(|block| block.end.successors().any(|to| to == BlockId::ENTRY));
    let Some(entry) = body.block(BlockId::ENTRY).filter(|_| leads_back(body)).cloned() else { return };
    let (at, moved) = (entry.at, body.push(entry));
    for block in &mut body.blocks {
        block.end.redirect(BlockId::ENTRY, moved);
    }
    if let Some(entry) = body.block_mut(BlockId::ENTRY) {
        *entry =
            crate::flow::Block { steps: Vec::new(), at, end: crate::flow::End::Jump(moved), cold: false };
    }
    for header in body.settled.iter_mut().chain(&mut body.refills).filter(|id| **id == BlockId::ENTRY) {
        *header = moved;
    }
}
