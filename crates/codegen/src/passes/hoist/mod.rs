//! What would give the same again is computed once.
//!
//! - A pure operation that gives the same in each iteration of a loop is done in front of it ([`ahead`]), from the innermost loop
//!   outwards. So is the clearing of the upper half of a pointer into an arena.
//! - A pure operation whose result a variable still has, or had, becomes a copy of it ([`same`]).
//!
//! A value that is kept takes a register. What is one machine instruction is worth one only if it is free: for the rest of a block, or
//! all through a loop that has one left. What is several, or slow, is worth it anyway. Numbers are never kept: they are part of instructions.
//!
//! Nothing is assumed: only pure operations move.

mod ahead;
mod preheaders;
mod reads;
mod same;

use isa::{AluOp, Imm64, Width};

use crate::flow::{Block, BlockId, Body, End, Op, Src, Use, Var};
use crate::limits;

/// Does both, and clears away the copies that are left; the result is how many operations.
pub(super) fn run(body: &mut Body) -> u32 {
    let changes = ahead::run(body) + same::run(body);
    super::tidy::run(body);
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

/// Whether the result depends on nothing but what is read, and is the same wherever the operation is.
fn has_value(op: &Op) -> bool {
    // The address of a function is as far from where it is taken as the instruction says.
    op.is_pure() && !op.is_of_wide_loop() && !matches!(op, Op::Address { of: Imm64::Func(_), .. })
}

/// Whether it takes so long that doing it when nobody asked for it may cost more than it saves.
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
        if how == Use::Write {
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
    if body.blocks.len() >= limits::FULL_EFFORT_BLOCKS {
        return;
    }
    let (at, moved) = (entry.at, body.push(entry));
    for block in &mut body.blocks {
        block.end.redirect(BlockId::ENTRY, moved);
    }
    if let Some(entry) = body.block_mut(BlockId::ENTRY) {
        *entry = Block { steps: Vec::new(), at, end: End::Jump(moved), cold: false };
    }
    for header in body.settled.iter_mut().filter(|id| **id == BlockId::ENTRY) {
        *header = moved;
    }
}
