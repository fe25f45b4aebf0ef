//! The domain of numbers: what is known of a register that holds no pointer.
//!
//! A [`Scalar`] is a product of a [`Tnum`] and unsigned and signed intervals at 64 and at 32 bits; a value is a member
//! if every part says so. `alu` holds the transfer functions, `branch` what a comparison teaches, `sync` lets the parts
//! sharpen each other. All are sound: the tests check members against concrete arithmetic.

mod alu;
mod bounds;
mod branch;
mod sync;

use isa::Size;

use crate::domain::tnum::Tnum;
pub(crate) use bounds::{Bounds32, Bounds64};
pub(crate) use branch::{outcome, refine, refine_same};

/// A set of 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// Known bits.
    pub(crate) bits: Tnum,
    /// Intervals of the value.
    pub(crate) wide: Bounds64,
    /// Intervals of its low half.
    pub(crate) low: Bounds32,
}

impl Scalar {
    /// Every value.
    pub(crate) const UNKNOWN: Self =
        Self { bits: Tnum::UNKNOWN, wide: Bounds64::UNKNOWN, low: Bounds32::UNKNOWN };

    /// Zero.
    pub(crate) const ZERO: Self = Self::constant(0);

    /// One value.
    pub(crate) const fn constant(value: u64) -> Self {
        Self {
            bits: Tnum::constant(value),
            wide: Bounds64::constant(value),
            low: Bounds32::constant(low32(value)),
        }
    }

    /// An unsigned interval.
    #[cfg(test)]
    pub(crate) fn unsigned(umin: u64, umax: u64) -> Self {
        Self { wide: Bounds64::unsigned(umin, umax), ..Self::UNKNOWN }.sync()
    }

    /// A signed 64-bit interval.
    pub(crate) fn signed(smin: i64, smax: i64) -> Self {
        Self { wide: Bounds64::signed(smin, smax), ..Self::UNKNOWN }.sync()
    }

    /// What a zero-extending load of this size gives.
    pub(crate) fn of_size(size: Size) -> Self {
        Self::UNKNOWN.zero_extended(u32::from(size.bits()))
    }

    /// The only member, if there is one.
    pub(crate) fn as_constant(&self) -> Option<u64> {
        self.bits.as_constant()
    }

    /// The only member of the low half, if there is one.
    pub(crate) fn as_constant32(&self) -> Option<u32> {
        self.bits.low32().as_constant().map(low32)
    }

    /// Whether the value is 0 and nothing else.
    pub(crate) fn is_zero(&self) -> bool {
        self.as_constant() == Some(0)
    }

    /// Whether `value` is a member.
    #[cfg(test)]
    pub(crate) fn contains(&self, value: u64) -> bool {
        self.bits.contains(value) && self.wide.contains(value) && self.low.contains(low32(value))
    }

    /// Whether every member of `inner` is a member of `self`, as far as the parts tell.
    pub(crate) fn includes(&self, inner: &Self) -> bool {
        self.bits.includes(inner.bits) && self.wide.includes(&inner.wide) && self.low.includes(&inner.low)
    }

    /// Whether no value fits.
    pub(crate) fn is_empty(&self) -> bool {
        self.wide.is_empty() || self.low.is_empty()
    }

    /// Bits needed at most to write the value as unsigned.
    pub(crate) fn bit_width(&self) -> u32 {
        64 - self.wide.umax.leading_zeros()
    }

    /// The low `bits` bits (8, 16, 32 or 64), zero-extended.
    pub(crate) fn zero_extended(self, bits: u32) -> Self {
        if bits >= 64 {
            return self;
        }
        let mask = (1_u64 << bits) - 1;
        let cut = self.bits.truncate(bits);
        // If the bits above are the same at both ends, the rest is one piece; else everything that fits.
        let (umin, umax) = if self.wide.umin & !mask == self.wide.umax & !mask {
            (self.wide.umin & mask, self.wide.umax & mask)
        } else {
            (0, mask)
        };
        let wide = Bounds64 { umin, umax, smin: umin.cast_signed(), smax: umax.cast_signed() };
        let low = if bits >= 32 { self.low } else { Bounds32::UNKNOWN };
        Self { bits: cut, wide, low }.sync()
    }

    /// The low `bits` bits (8, 16 or 32), sign-extended to 64.
    pub(crate) fn sign_extended(self, bits: u32) -> Self {
        if let Some(value) = self.as_constant() {
            return Self::constant(extend(value, bits).cast_unsigned());
        }
        let (smin, smax) = (self.wide.smin.cast_unsigned(), self.wide.smax.cast_unsigned());
        let (a, b) = (extend(smin, bits), extend(smax, bits));
        // The bits above are the same at both ends, and both ends get the same sign: one piece.
        if smin >> bits == smax >> bits && (a >= 0) == (b >= 0) {
            let wide = piece64(a.min(b), a.max(b));
            let low = piece32(low_signed(wide.umin), low_signed(wide.umax));
            return Self { bits: Tnum::range(wide.umin, wide.umax), wide, low };
        }
        // Single known bits do not survive.
        let top = 1_i64 << (bits - 1);
        let wide = Bounds64 { smin: -top, smax: top - 1, ..Bounds64::UNKNOWN };
        let (smin, smax) = (low_signed(wide.smin.cast_unsigned()), low_signed(wide.smax.cast_unsigned()));
        Self { bits: Tnum::UNKNOWN, wide, low: Bounds32 { smin, smax, ..Bounds32::UNKNOWN } }
    }

    /// The low `bits` bits (8 or 16), sign-extended to 32. Only the low half of the result is right.
    fn low_sign_extended(self, bits: u32) -> Self {
        if bits >= 32 {
            return self;
        }
        if let Some(value) = self.as_constant() {
            return Self::constant(extend(value, bits).cast_unsigned());
        }
        let (smin, smax) = (self.low.smin.cast_unsigned(), self.low.smax.cast_unsigned());
        let of = |value: u32| low_signed(extend(u64::from(value), bits).cast_unsigned());
        let (a, b) = (of(smin), of(smax));
        if smin >> bits == smax >> bits && (a >= 0) == (b >= 0) {
            let low = piece32(a.min(b), a.max(b));
            let range = Tnum::range(i64::from(low.smin).cast_unsigned(), i64::from(low.smax).cast_unsigned());
            return Self { bits: range.low32(), low, ..Self::UNKNOWN };
        }
        let top = 1_i32 << (bits - 1);
        let low = Bounds32 { smin: -top, smax: top - 1, ..Bounds32::UNKNOWN };
        Self { low, ..Self::UNKNOWN }
    }

    /// The low half of `self`, zero-extended.
    pub(crate) fn low_half(self) -> Self {
        let (umin, umax) = (u64::from(self.low.umin), u64::from(self.low.umax));
        let (smin, smax) = if self.low.smin >= 0 && self.low.smax >= 0 {
            (i64::from(self.low.smin), i64::from(self.low.smax))
        } else {
            (0, i64::from(u32::MAX))
        };
        let wide = Bounds64 { umin, umax, smin, smax };
        Self { bits: self.bits.low32(), wide, low: self.low }.sync()
    }
}

/// The low `bits` bits, sign-extended.
fn extend(value: u64, bits: u32) -> i64 {
    let shift = 64 - bits;
    (value << shift).cast_signed() >> shift
}

fn low_signed(value: u64) -> i32 {
    low32(value).cast_signed()
}

/// An interval that does not change its sign.
fn piece64(smin: i64, smax: i64) -> Bounds64 {
    Bounds64 { smin, smax, umin: smin.cast_unsigned(), umax: smax.cast_unsigned() }
}

fn piece32(smin: i32, smax: i32) -> Bounds32 {
    Bounds32 { smin, smax, umin: smin.cast_unsigned(), umax: smax.cast_unsigned() }
}

/// The low half of a 64-bit value.
#[allow(clippy::cast_possible_truncation, reason = "cutting off the high half is the point")]
pub(crate) const fn low32(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A value and a set that holds it, made from the value by forgetting.
    pub(crate) fn member() -> impl Strategy<Value = (u64, Scalar)> {
        let interesting = prop_oneof![
            any::<u64>(),
            any::<i8>().prop_map(|x| i64::from(x).cast_unsigned()),
            any::<i32>().prop_map(|x| i64::from(x).cast_unsigned()),
            any::<u32>().prop_map(u64::from),
            (0..64u32).prop_map(|s| 1 << s),
            Just(i64::MIN.cast_unsigned()),
            Just(i64::MAX.cast_unsigned()),
        ];
        let spread = || prop_oneof![Just(0u64), 0..16u64, 0..0x1_0000_0000u64, any::<u64>()];
        let mask = prop_oneof![Just(0u64), Just(u64::MAX), 0..256u64, any::<u64>(), Just(u64::MAX << 32)];
        let ends = (spread(), spread(), spread(), spread(), spread(), spread(), spread(), spread());
        (interesting, mask, ends).prop_map(|(value, mask, e)| {
            let half = low32(value);
            let signed = |x: u64| i64::try_from(x).unwrap_or(i64::MAX);
            let signed32 = |x: u64| i32::try_from(x).unwrap_or(i32::MAX);
            let scalar = Scalar {
                bits: Tnum::new(value, mask),
                wide: Bounds64 {
                    umin: value.saturating_sub(e.0),
                    umax: value.saturating_add(e.1),
                    smin: value.cast_signed().saturating_sub(signed(e.2)),
                    smax: value.cast_signed().saturating_add(signed(e.3)),
                },
                low: Bounds32 {
                    umin: half.saturating_sub(u32::try_from(e.4).unwrap_or(u32::MAX)),
                    umax: half.saturating_add(u32::try_from(e.5).unwrap_or(u32::MAX)),
                    smin: half.cast_signed().saturating_sub(signed32(e.6)),
                    smax: half.cast_signed().saturating_add(signed32(e.7)),
                },
            };
            (value, scalar.sync())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn sync_keeps_members((value, scalar) in member()) {
            prop_assert!(scalar.contains(value));
            prop_assert!(!scalar.is_empty());
            prop_assert!(scalar.sync().contains(value));
        }

        #[test]
        fn extensions_are_sound((value, scalar) in member()) {
            for bits in [8u32, 16, 32] {
                let shift = 64 - bits;
                prop_assert!(scalar.zero_extended(bits).contains(value << shift >> shift));
                let signed = ((value << shift).cast_signed() >> shift).cast_unsigned();
                prop_assert!(scalar.sign_extended(bits).contains(signed));
            }
            prop_assert!(scalar.low_half().contains(u64::from(low32(value))));
        }

        #[test]
        fn inclusion_means_membership((value, scalar) in member(), (_, other) in member()) {
            if other.includes(&scalar) {
                prop_assert!(other.contains(value));
            }
        }
    }

    #[test]
    fn the_parts_teach_each_other() {
        // 0..=255 has known high bits.
        let byte = Scalar::unsigned(0, 255);
        assert_eq!(byte.bits, Tnum::new(0, 255));
        assert_eq!((byte.low.smin, byte.low.smax), (0, 255));
        // A multiple of 4 below 16 is at most 12.
        let aligned = Scalar { bits: Tnum::new(0, !3), ..Scalar::unsigned(0, 15) }.sync();
        assert_eq!(aligned.wide.umax, 12);
        // -1..=0 as signed leaves nothing known as unsigned.
        let signed = Scalar::signed(-1, 0);
        assert_eq!((signed.wide.umin, signed.wide.umax), (0, u64::MAX));
    }
}
