//! Comparisons that tell beforehand that another one holds for a while.

use isa::{AluOp, Cond, Width};

use crate::flow::{Op, Src, Test, Var};

/// What is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// The bound itself, or a number.
    Known(Src),
    /// `if fits { bound + add } else { otherwise }`, to be computed in front of the loop.
    Computed { fits: Test, bound: Var, add: i64, otherwise: i64 },
}

impl Limit {
    /// The operations that compute it into `limit`; `scratch` is overwritten.
    pub(crate) fn compute(self, width: Width, limit: Var, scratch: Var) -> Vec<Op> {
        let Self::Computed { fits, bound, add, otherwise } = self else { return Vec::new() };
        vec![
            Op::Alu { width, op: AluOp::Add, dst: scratch, a: bound, b: Src::Imm(add) },
            Op::Select { dst: limit, test: fits, yes: Src::Var(scratch), no: Src::Imm(otherwise) },
        ]
    }
}

/// The comparison with its operands the other way round.
pub(crate) fn swapped(cond: Cond) -> Cond {
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
pub(crate) fn limit(width: Width, cond: Cond, bound: Src, reach: i64) -> Option<(Cond, Limit)> {
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
