//! Tests that can be done once for several iterations.

use isa::{Cond, Width};

use super::Candidate;
use crate::analysis::{Counted, Limit, limit};
use crate::flow::{BlockId, Body, End, Var};

/// An exit of the loop that is left out where it is known not to be taken for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedExit {
    /// The block it ends.
    pub(super) block: BlockId,
    /// Where it goes on.
    pub(super) inside: BlockId,
    /// Whether the last copy tests: the variable was changed before, and one value more would have to be known.
    pub(super) last_tests: bool,
    /// What holds where the loop may be entered.
    pub(super) enter: Enough,
    /// What holds where another round may follow, and the variable was inside.
    pub(super) enough: Enough,
}

/// `var + add cond limit`: all values that the exit would compare stay inside.
///
/// With steps upwards by `c` and `n` copies, the highest value is `var + (n - 1) * c`, so it must hold that
/// `var < bound - (n - 1) * c`, and nothing may have wrapped around on the right-hand side. Where it would, the limit is the
/// least number there is, below which there is none.
///
/// What the variable is when the loop is entered is not compared if it is changed before: a loop from 0 on may begin at -1. Then
/// the first value that is compared has to be as far from the bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enough {
    pub(super) width: Width,
    pub(super) cond: Cond,
    pub(super) var: Var,
    pub(super) add: i64,
    pub(super) limit: Limit,
}

/// The first exit of the loop whose tests can be done at once for `copies` iterations.
pub(super) fn find(body: &Body, l: Candidate<'_>) -> Option<CountedExit> {
    let Candidate { edges, dominators, shape, inductions, copies } = l;
    shape.blocks.iter().find_map(|&id| {
        let block = body.block(id)?;
        let End::Branch { test, taken, next } = block.end else { return None };
        let (stay, inside) = match (shape.contains(taken), shape.contains(next)) {
            (true, false) => (test, taken),
            (false, true) => (test.negated()?, next),
            _ => return None,
        };
        let Counted { induction, cond, bound } = inductions.counted(stay)?;
        let var = induction.var;
        let reach = induction.by.checked_mul(i64::from(copies) - 1)?;
        let last_tests = induction.is_done(edges, dominators, id, block.steps.len());
        let enough = |add: i64, reach: i64| {
            let (cond, limit) = match reach {
                0 => (cond, Limit::Known(bound)),
                _ => limit(stay.width, cond, bound, reach)?,
            };
            Some(Enough { width: stay.width, cond, var, add, limit })
        };
        let again = enough(0, reach)?;
        let enter = if last_tests { enough(induction.by, reach - induction.by)? } else { again };
        Some(CountedExit { block: id, inside, last_tests, enter, enough: again })
    })
}
