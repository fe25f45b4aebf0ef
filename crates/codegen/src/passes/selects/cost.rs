//! What is worth doing in vain.
//!
//! A mispredicted branch costs some fifteen cycles in which four operations each could be done; one that is predicted well
//! costs nothing, and hides how long its condition takes. As which of the two a branch is cannot be known, the limits are about
//! those of compilers for machines with conditional moves.

use isa::{AluOp, Width};

use super::assign::Choice;
use crate::flow::{Op, Src};

/// The most operations done in vain, and results to be selected.
const SPECULATED: u32 = 6;
const RESULTS: usize = 4;

/// Whether computing both sides and selecting is likely to be faster than a branch.
pub(super) fn is_worth_it<'a>(ops: impl Iterator<Item = &'a Op>, choices: &[Choice]) -> bool {
    let results = choices.iter().filter(|choice| choice.yes != choice.no).count();
    results <= RESULTS && ops.map(cost).sum::<u32>() <= SPECULATED
}

/// About how many machine instructions, or as many cycles, if they are more.
fn cost(op: &Op) -> u32 {
    const NEVER: u32 = SPECULATED + 1;
    match op {
        Op::Mov { width: Width::W64, .. } | Op::Mov { src: Src::Imm(_), .. } => 0,
        Op::Alu { op: AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod, .. } => NEVER,
        Op::Alu { op: AluOp::Mul, .. } => 3,
        Op::Alu { op: AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, b: Src::Var(_), .. }
        | Op::Select { .. }
        | Op::Compare { .. } => 2,
        Op::ToUser { .. } => 4,
        _ => 1,
    }
}
