//! What a comparison says before it is made, and what it teaches afterwards.

use isa::{Cond, Width};

use super::Scalar;
use crate::tnum::Tnum;

/// What both operands can still be on one side of a branch; `None` if that side cannot be taken.
pub(crate) type Refined = Option<(Scalar, Scalar)>;

/// Whether `a cond b` holds for all members, or for none; `None` if it depends.
pub(crate) fn outcome(width: Width, cond: Cond, a: &Scalar, b: &Scalar) -> Option<bool> {
    let (a, b) = match width {
        Width::W64 => (*a, *b),
        // Comparing the zero-extended (or for signed conditions: sign-extended) halves is the same comparison.
        Width::W32 if is_signed(cond) => (a.low_signed(), b.low_signed()),
        Width::W32 => (a.low_half(), b.low_half()),
    };
    match cond {
        Cond::Eq => equal(&a, &b),
        Cond::Ne => equal(&a, &b).map(|eq| !eq),
        Cond::Set => {
            // The kernel looks only at known masks.
            if a.as_constant().is_none() && b.as_constant().is_none() {
                return None;
            }
            let both = a.bits.and(b.bits);
            if both.value() != 0 { Some(true) } else { (both.mask() == 0).then_some(false) }
        }
        Cond::Lt => less(a.wide.umin, a.wide.umax, b.wide.umin, b.wide.umax),
        Cond::Gt => less(b.wide.umin, b.wide.umax, a.wide.umin, a.wide.umax),
        Cond::Ge => less(a.wide.umin, a.wide.umax, b.wide.umin, b.wide.umax).map(|lt| !lt),
        Cond::Le => less(b.wide.umin, b.wide.umax, a.wide.umin, a.wide.umax).map(|lt| !lt),
        Cond::SLt => less(a.wide.smin, a.wide.smax, b.wide.smin, b.wide.smax),
        Cond::SGt => less(b.wide.smin, b.wide.smax, a.wide.smin, a.wide.smax),
        Cond::SGe => less(a.wide.smin, a.wide.smax, b.wide.smin, b.wide.smax).map(|lt| !lt),
        Cond::SLe => less(b.wide.smin, b.wide.smax, a.wide.smin, a.wide.smax).map(|lt| !lt),
    }
}

/// The operands given that `a cond b` came out as `holds`.
pub(crate) fn refine(width: Width, cond: Cond, holds: bool, a: &Scalar, b: &Scalar) -> Refined {
    let (mut a, mut b) = (*a, *b);
    match (cond, holds) {
        (Cond::Eq, true) | (Cond::Ne, false) => make_equal(width, &mut a, &mut b)?,
        (Cond::Eq, false) | (Cond::Ne, true) => {
            exclude(width, &mut a, &b);
            exclude(width, &mut b, &a);
        }
        (Cond::Set, _) => test_bits(width, holds, &mut a, &mut b)?,
        (Cond::Lt, true) | (Cond::Ge, false) => order(width, false, true, &mut a, &mut b)?,
        (Cond::Le, true) | (Cond::Gt, false) => order(width, false, false, &mut a, &mut b)?,
        (Cond::Gt, true) | (Cond::Le, false) => order(width, false, true, &mut b, &mut a)?,
        (Cond::Ge, true) | (Cond::Lt, false) => order(width, false, false, &mut b, &mut a)?,
        (Cond::SLt, true) | (Cond::SGe, false) => order(width, true, true, &mut a, &mut b)?,
        (Cond::SLe, true) | (Cond::SGt, false) => order(width, true, false, &mut a, &mut b)?,
        (Cond::SGt, true) | (Cond::SLe, false) => order(width, true, true, &mut b, &mut a)?,
        (Cond::SGe, true) | (Cond::SLt, false) => order(width, true, false, &mut b, &mut a)?,
    }
    let (a, b) = (a.sync(), b.sync());
    (!a.is_empty() && !b.is_empty()).then_some((a, b))
}

impl Scalar {
    /// The low half, sign-extended.
    fn low_signed(self) -> Self {
        self.sign_extended(32)
    }
}

fn is_signed(cond: Cond) -> bool {
    matches!(cond, Cond::SGt | Cond::SGe | Cond::SLt | Cond::SLe)
}

fn less<T: PartialOrd>(amin: T, amax: T, bmin: T, bmax: T) -> Option<bool> {
    if amax < bmin { Some(true) } else { (amin >= bmax).then_some(false) }
}

fn equal(a: &Scalar, b: &Scalar) -> Option<bool> {
    if let (Some(x), Some(y)) = (a.as_constant(), b.as_constant()) {
        return Some(x == y);
    }
    let apart =
        a.wide.meet(b.wide).is_empty() || a.low.meet(b.low).is_empty() || a.bits.meet(b.bits).is_none();
    apart.then_some(false)
}

fn make_equal(width: Width, a: &mut Scalar, b: &mut Scalar) -> Option<()> {
    let low = a.low.meet(b.low);
    (a.low, b.low) = (low, low);
    match width {
        Width::W64 => {
            let wide = a.wide.meet(b.wide);
            let bits = a.bits.meet(b.bits)?;
            (a.wide, b.wide) = (wide, wide);
            (a.bits, b.bits) = (bits, bits);
        }
        Width::W32 => {
            let bits = a.bits.low32().meet(b.bits.low32())?;
            a.bits = a.bits.with_low32(bits);
            b.bits = b.bits.with_low32(bits);
        }
    }
    Some(())
}

/// Takes the only value of `b` off the ends of `a`.
fn exclude(width: Width, a: &mut Scalar, b: &Scalar) {
    match width {
        Width::W64 => {
            let Some(value) = b.as_constant() else { return };
            let wide = &mut a.wide;
            if wide.umin == value {
                wide.umin = wide.umin.saturating_add(1);
            }
            if wide.umax == value {
                wide.umax = wide.umax.saturating_sub(1);
            }
            if wide.smin == value.cast_signed() {
                wide.smin = wide.smin.saturating_add(1);
            }
            if wide.smax == value.cast_signed() {
                wide.smax = wide.smax.saturating_sub(1);
            }
        }
        Width::W32 => {
            let Some(value) = b.as_constant32() else { return };
            let low = &mut a.low;
            if low.umin == value {
                low.umin = low.umin.saturating_add(1);
            }
            if low.umax == value {
                low.umax = low.umax.saturating_sub(1);
            }
            if low.smin == value.cast_signed() {
                low.smin = low.smin.saturating_add(1);
            }
            if low.smax == value.cast_signed() {
                low.smax = low.smax.saturating_sub(1);
            }
        }
    }
}

/// `a & b != 0` came out as `holds`.
fn test_bits(width: Width, holds: bool, a: &mut Scalar, b: &mut Scalar) -> Option<()> {
    if b.as_constant().is_none() {
        std::mem::swap(a, b);
        let done = if b.as_constant().is_some() { test_bits(width, holds, a, b) } else { Some(()) };
        std::mem::swap(a, b);
        return done;
    }
    let mut tested = b.as_constant()?;
    if width == Width::W32 {
        tested &= 0xffff_ffff;
    }
    if !holds {
        a.bits = a.bits.meet(Tnum::new(0, !tested))?;
    } else if tested.is_power_of_two() {
        a.bits = a.bits.meet(Tnum::new(tested, !tested))?;
    }
    Some(())
}

/// `a < b` (strict) or `a <= b`.
fn order(width: Width, signed: bool, strict: bool, a: &mut Scalar, b: &mut Scalar) -> Option<()> {
    macro_rules! apply {
        ($part:ident, $min:ident, $max:ident) => {{
            let step = if strict { 1 } else { 0 };
            a.$part.$max = a.$part.$max.min(b.$part.$max.checked_sub(step)?);
            b.$part.$min = b.$part.$min.max(a.$part.$min.checked_add(step)?);
        }};
    }
    match (width, signed) {
        (Width::W64, false) => apply!(wide, umin, umax),
        (Width::W64, true) => apply!(wide, smin, smax),
        (Width::W32, false) => apply!(low, umin, umax),
        (Width::W32, true) => apply!(low, smin, smax),
    }
    Some(())
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
                let refined = refine(width, cond, holds, a, b);
                let Some((after_a, after_b)) = refined else {
                    panic!("{width:?} {cond:?} {holds} is possible: {x:#x} {y:#x}\n{a:?}\n{b:?}");
                };
                assert!(after_a.contains(x), "{width:?} {cond:?} {x:#x} {y:#x}\n{a:?}\n{b:?}\n{after_a:?}");
                assert!(after_b.contains(y), "{width:?} {cond:?} {x:#x} {y:#x}\n{a:?}\n{b:?}\n{after_b:?}");
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
        let (below, _) = refine(Width::W64, Cond::Lt, true, &x, &ten).unwrap();
        assert_eq!((below.wide.umin, below.wide.umax), (0, 9));
        let (above, _) = refine(Width::W64, Cond::Lt, false, &x, &ten).unwrap();
        assert_eq!((above.wide.umin, above.wide.umax), (10, u64::MAX));
        let (zero, _) = refine(Width::W64, Cond::Ne, false, &x, &Scalar::ZERO).unwrap();
        assert_eq!(zero.as_constant(), Some(0));
        assert_eq!(outcome(Width::W64, Cond::Gt, &below, &ten), Some(false));
        assert!(refine(Width::W64, Cond::Gt, true, &below, &ten).is_none());
    }
}
