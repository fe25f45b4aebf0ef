//! Tests that can be done once for several iterations.

use isa::{AluOp, Cond, Width};

use super::Candidate;
use crate::flow::{BlockId, Body, End, Op, Src, Test, Var};

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

/// What is compared with.
#[derive(Clone, Copy, Debug)]
pub(in crate::passes) enum Limit {
    /// The bound itself, or a number.
    Known(Src),
    /// `if fits { bound + add } else { otherwise }`, to be computed in front of the loop.
    Computed { fits: Test, bound: Var, add: i64, otherwise: i64 },
}

impl Limit {
    /// The operations that compute it into `limit`; `scratch` is overwritten.
    pub(in crate::passes) fn compute(self, width: Width, limit: Var, scratch: Var) -> Vec<Op> {
        let Self::Computed { fits, bound, add, otherwise } = self else { return Vec::new() };
        vec![
            Op::Alu { width, op: AluOp::Add, dst: scratch, a: bound, b: Src::Imm(add) },
            Op::Select { dst: limit, test: fits, yes: Src::Var(scratch), no: Src::Imm(otherwise) },
        ]
    }
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
        let (var, cond, bound) = match stay.b {
            bound if inductions.is_constant(bound) => (stay.a, stay.cond, bound),
            Src::Var(var) if inductions.is_invariant(stay.a) => (var, swapped(stay.cond), Src::Var(stay.a)),
            _ => return None,
        };
        let induction = inductions.get(var)?;
        // The comparison sees the sums as they are: the low half of a wide sum, but not all of a narrow one.
        if stay.width == Width::W64 && induction.width == Width::W32 {
            return None;
        }
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

/// The comparison with its operands the other way round.
pub(in crate::passes) fn swapped(cond: Cond) -> Cond {
    match cond {
        Cond::Gt => Cond::Lt,
        Cond::Lt => Cond::Gt,
        Cond::Ge => Cond::Le,
        Cond::Le => Cond::Ge,
        Cond::SGt => Cond::SLt,
        Cond::SLt => Cond::SGt,
        Cond::SGe => Cond::SLe,
        Cond::SLe => Cond::SGe,
        Cond::Eq | Cond::Ne | Cond::Set => cond,
    }
}

/// The strict comparison, and its right-hand side, that hold only where `x cond bound` holds for all `x` from `var` to
/// `var + reach`, and no sum on the way wraps around.
pub(in crate::passes) fn limit(width: Width, cond: Cond, bound: Src, reach: i64) -> Option<(Cond, Limit)> {
    let up = reach > 0;
    // `!=` holds up to the bound, and behind it is not looked at.
    let (strict, equal) = match (cond, up) {
        (Cond::Lt | Cond::Ne, true) => (Cond::Lt, false),
        (Cond::Le, true) => (Cond::Lt, true),
        (Cond::SLt, true) => (Cond::SLt, false),
        (Cond::SLe, true) => (Cond::SLt, true),
        (Cond::Gt | Cond::Ne, false) => (Cond::Gt, false),
        (Cond::Ge, false) => (Cond::Gt, true),
        (Cond::SGt, false) => (Cond::SGt, false),
        (Cond::SGe, false) => (Cond::SGt, true),
        _ => return None,
    };
    let (least, most) = match (strict, width) {
        (Cond::Lt | Cond::Gt, Width::W64) => (0, -1),
        (Cond::Lt | Cond::Gt, Width::W32) => (0, i64::from(u32::MAX)),
        (_, Width::W64) => (i64::MIN, i64::MAX),
        (_, Width::W32) => (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    // The bound must be as far from the end of the numbers as the variable goes.
    let (fits, farthest, otherwise) = match (strict, up) {
        (Cond::Lt, true) => (Cond::Ge, least.checked_add(reach)?, least),
        (Cond::Gt, false) => (Cond::Le, most.checked_add(reach)?, most),
        (Cond::SLt, true) => (Cond::SGe, least.checked_add(reach)?, least),
        (Cond::SGt, false) => (Cond::SLe, most.checked_add(reach)?, most),
        _ => return None,
    };
    // One more where the bound itself is inside: `x <= b` is `x < b + 1`.
    let add = (-reach).checked_add(if equal { reach.signum() } else { 0 })?;
    let limit = match bound {
        Src::Var(bound) => {
            let fits = Test { width, cond: fits, a: bound, b: Src::Imm(farthest) };
            Limit::Computed { fits, bound, add, otherwise }
        }
        Src::Imm(bound) if holds(width, fits, bound, farthest) => {
            Limit::Known(Src::Imm(bound.wrapping_add(add)))
        }
        Src::Imm(_) => return None,
    };
    Some((strict, limit))
}

/// Whether a comparison of two numbers holds.
fn holds(width: Width, cond: Cond, a: i64, b: i64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the low halves are compared")]
    let (a, b) = match width {
        Width::W64 => (a, b),
        Width::W32 => (i64::from(a as i32), i64::from(b as i32)),
    };
    // Sign extension keeps the order of numbers without sign.
    match cond {
        Cond::Ge => a.cast_unsigned() >= b.cast_unsigned(),
        Cond::Le => a.cast_unsigned() <= b.cast_unsigned(),
        Cond::SGe => a >= b,
        Cond::SLe => a <= b,
        _ => false,
    }
}
