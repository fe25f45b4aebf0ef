//! What a comparison says before it is made, and what it teaches afterwards.

use isa::{Cond, Width};

use super::{Bounds32, Bounds64, Scalar};
use crate::domain::tnum::Tnum;

/// Whether `a cond b` holds for all members, or for none; `None` if it depends.
pub(crate) fn outcome(width: Width, cond: Cond, a: &Scalar, b: &Scalar) -> Option<bool> {
    match cond {
        Cond::Eq => equal(width, a, b),
        Cond::Ne => equal(width, a, b).map(|eq| !eq),
        Cond::Set => bits_set(width, a, b),
        _ => match width {
            Width::W64 => ordered(cond, &a.wide, &b.wide),
            Width::W32 => ordered(cond, &a.low.widened(), &b.low.widened()),
        },
    }
}

/// The operands given that `a cond b` came out as `holds`. Where that is impossible, which need not be known, they may
/// contradict themselves: see [`Scalar::or_unbounded`].
pub(crate) fn refine(width: Width, cond: Cond, holds: bool, a: &Scalar, b: &Scalar) -> (Scalar, Scalar) {
    let (mut a, mut b) = (*a, *b);
    learn(width, cond, holds, &mut a, &mut b);
    (a.sync(), b.sync())
}

/// The same where both operands are the same register.
pub(crate) fn refine_same(width: Width, cond: Cond, holds: bool, both: &Scalar) -> Scalar {
    let (mut a, mut b) = (*both, *both);
    learn(width, cond, holds, &mut a, &mut b);
    Scalar { bits: a.bits, wide: a.wide.meet(b.wide), low: a.low.meet(b.low) }.sync().sync()
}

fn learn(width: Width, cond: Cond, holds: bool, a: &mut Scalar, b: &mut Scalar) {
    match (cond, holds) {
        (Cond::Eq, true) | (Cond::Ne, false) => make_equal(width, a, b),
        (Cond::Eq, false) | (Cond::Ne, true) => {
            if is_constant(width, b) {
                exclude(width, a, b);
            } else {
                exclude(width, b, a);
            }
        }
        (Cond::Set, _) => {
            if is_constant(width, b) {
                test_bits(width, holds, a, b);
            } else {
                test_bits(width, holds, b, a);
            }
        }
        (Cond::Lt, true) | (Cond::Ge, false) => order(width, false, true, a, b),
        (Cond::Le, true) | (Cond::Gt, false) => order(width, false, false, a, b),
        (Cond::Gt, true) | (Cond::Le, false) => order(width, false, true, b, a),
        (Cond::Ge, true) | (Cond::Lt, false) => order(width, false, false, b, a),
        (Cond::SLt, true) | (Cond::SGe, false) => order(width, true, true, a, b),
        (Cond::SLe, true) | (Cond::SGt, false) => order(width, true, false, a, b),
        (Cond::SGt, true) | (Cond::SLe, false) => order(width, true, true, b, a),
        (Cond::SGe, true) | (Cond::SLt, false) => order(width, true, false, b, a),
    }
}

impl Bounds32 {
    /// The same bounds for the number as it is compared: unsigned ones zero-extended, signed ones sign-extended.
    fn widened(&self) -> Bounds64 {
        let (umin, umax) = (u64::from(self.umin), u64::from(self.umax));
        Bounds64 { umin, umax, smin: i64::from(self.smin), smax: i64::from(self.smax) }
    }
}

fn ordered(cond: Cond, a: &Bounds64, b: &Bounds64) -> Option<bool> {
    match cond {
        Cond::Lt => less(a.umin, a.umax, b.umin, b.umax),
        Cond::Gt => less(b.umin, b.umax, a.umin, a.umax),
        Cond::Ge => less(a.umin, a.umax, b.umin, b.umax).map(|lt| !lt),
        Cond::Le => less(b.umin, b.umax, a.umin, a.umax).map(|lt| !lt),
        Cond::SLt => less(a.smin, a.smax, b.smin, b.smax),
        Cond::SGt => less(b.smin, b.smax, a.smin, a.smax),
        Cond::SGe => less(a.smin, a.smax, b.smin, b.smax).map(|lt| !lt),
        Cond::SLe => less(b.smin, b.smax, a.smin, a.smax).map(|lt| !lt),
        Cond::Eq | Cond::Ne | Cond::Set => None,
    }
}

fn less<T: PartialOrd>(amin: T, amax: T, bmin: T, bmax: T) -> Option<bool> {
    if amax < bmin { Some(true) } else { (amin >= bmax).then_some(false) }
}

/// The known bits that take part in the comparison.
fn compared_bits(width: Width, scalar: &Scalar) -> Tnum {
    match width {
        Width::W64 => scalar.bits,
        Width::W32 => scalar.bits.low32(),
    }
}

fn is_constant(width: Width, scalar: &Scalar) -> bool {
    compared_bits(width, scalar).as_constant().is_some()
}

fn equal(width: Width, a: &Scalar, b: &Scalar) -> Option<bool> {
    let (x, y) = (compared_bits(width, a), compared_bits(width, b));
    if let (Some(x), Some(y)) = (x.as_constant(), y.as_constant()) {
        return Some(x == y);
    }
    let apart =
        !x.overlaps(y) || width == Width::W64 && a.wide.is_apart_from(b.wide) || a.low.is_apart_from(b.low);
    apart.then_some(false)
}

/// Whether `a & b` is not 0, where one of them is known.
fn bits_set(width: Width, a: &Scalar, b: &Scalar) -> Option<bool> {
    if !is_constant(width, a) && !is_constant(width, b) {
        return None;
    }
    let both = compared_bits(width, a).and(compared_bits(width, b));
    if both.value() != 0 { Some(true) } else { (both.mask() == 0).then_some(false) }
}

fn make_equal(width: Width, a: &mut Scalar, b: &mut Scalar) {
    match width {
        Width::W64 => {
            let wide = a.wide.meet(b.wide);
            let bits = a.bits.intersect(b.bits);
            (a.wide, b.wide) = (wide, wide);
            (a.bits, b.bits) = (bits, bits);
        }
        Width::W32 => {
            let low = a.low.meet(b.low);
            let bits = a.bits.low32().intersect(b.bits.low32());
            (a.low, b.low) = (low, low);
            a.bits = a.bits.with_low32(bits);
            b.bits = b.bits.with_low32(bits);
        }
    }
}

/// Takes the value of `b`, if it has only one, off the ends of `a`.
fn exclude(width: Width, a: &mut Scalar, b: &Scalar) {
    match width {
        Width::W64 => {
            if let Some(value) = b.as_constant() {
                a.wide.exclude(value);
            }
        }
        Width::W32 => {
            if let Some(value) = b.as_constant32() {
                a.low.exclude(value);
            }
        }
    }
}

/// `a & b != 0` came out as `holds`. Nothing is learnt unless `b` is known.
fn test_bits(width: Width, holds: bool, a: &mut Scalar, b: &Scalar) {
    let Some(tested) = compared_bits(width, b).as_constant() else { return };
    if !holds {
        let zero = match width {
            Width::W64 => !tested,
            Width::W32 => !tested | 0xffff_ffff_0000_0000,
        };
        // The bounds are found again from the bits: on paths that cannot be taken both could contradict each other.
        *a = Scalar { bits: a.bits.and(Tnum::constant(zero)), ..Scalar::UNKNOWN };
    } else if tested.is_power_of_two() {
        a.bits = a.bits.or(Tnum::constant(tested));
    }
}

/// `a < b` (strict) or `a <= b`. Where nothing is less than `b`, the bounds wrap: no one comes here.
fn order(width: Width, signed: bool, strict: bool, a: &mut Scalar, b: &mut Scalar) {
    macro_rules! apply {
        ($part:ident, $min:ident, $max:ident) => {{
            let step = if strict { 1 } else { 0 };
            a.$part.$max = a.$part.$max.min(b.$part.$max.wrapping_sub(step));
            b.$part.$min = b.$part.$min.max(a.$part.$min.wrapping_add(step));
        }};
    }
    match (width, signed) {
        (Width::W64, false) => apply!(wide, umin, umax),
        (Width::W64, true) => apply!(wide, smin, smax),
        (Width::W32, false) => apply!(low, umin, umax),
        (Width::W32, true) => apply!(low, smin, smax),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{low32, tests::member};
    use super::*;

    fn concrete(width: Width, cond: Cond, x: u64, y: u64) -> bool {
        let (x, y, sx, sy) = match width {
            Width::W64 => (x, y, x.cast_signed(), y.cast_signed()),
            Width::W32 => (
                x & 0xffff_ffff,
                y & 0xffff_ffff,
                i64::from(low32(x).cast_signed()),
                i64::from(low32(y).cast_signed()),
            ),
        };
        match cond {
            Cond::Eq => x == y,
            Cond::Ne => x != y,
            Cond::Set => x & y != 0,
            Cond::Gt => x > y,
            Cond::Ge => x >= y,
            Cond::Lt => x < y,
            Cond::Le => x <= y,
            Cond::SGt => sx > sy,
            Cond::SGe => sx >= sy,
            Cond::SLt => sx < sy,
            Cond::SLe => sx <= sy,
        }
    }

    fn check(x: u64, a: &Scalar, y: u64, b: &Scalar) {
        for width in [Width::W32, Width::W64] {
            for cond in Cond::ALL {
                let holds = concrete(width, cond, x, y);
                if let Some(predicted) = outcome(width, cond, a, b) {
                    assert_eq!(predicted, holds, "{width:?} {cond:?} {x:#x} {y:#x}\n{a:?}\n{b:?}");
                }
                let (after_a, after_b) = refine(width, cond, holds, a, b);
                assert!(after_a.is_consistent() && after_b.is_consistent());
                assert!(after_a.contains(x), "{width:?} {cond:?} {x:#x} {y:#x}\n{a:?}\n{b:?}\n{after_a:?}");
                assert!(after_b.contains(y), "{width:?} {cond:?} {x:#x} {y:#x}\n{a:?}\n{b:?}\n{after_b:?}");
                if concrete(width, cond, x, x) == holds {
                    assert!(
                        refine_same(width, cond, holds, a).contains(x),
                        "{width:?} {cond:?} {x:#x} {a:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6000))]

        #[test]
        fn branches_are_sound((x, a) in member(), (y, b) in member()) {
            check(x, &a, y, &b);
            check(x, &a, x, &a);
        }

        #[test]
        fn branches_on_constants_are_sound((x, a) in member(), (y, _) in member()) {
            check(x, &a, y, &Scalar::constant(y));
            check(x, &a, x, &Scalar::constant(x));
        }
    }

    #[test]
    fn a_bound_is_learnt_on_both_sides() {
        let x = Scalar::UNKNOWN;
        let ten = Scalar::constant(10);
        let (below, _) = refine(Width::W64, Cond::Lt, true, &x, &ten);
        assert_eq!((below.wide.umin, below.wide.umax), (0, 9));
        let (above, _) = refine(Width::W64, Cond::Lt, false, &x, &ten);
        assert_eq!((above.wide.umin, above.wide.umax), (10, u64::MAX));
        let (zero, _) = refine(Width::W64, Cond::Ne, false, &x, &Scalar::ZERO);
        assert_eq!(zero.as_constant(), Some(0));
        assert_eq!(outcome(Width::W64, Cond::Gt, &below, &ten), Some(false));
    }
}
