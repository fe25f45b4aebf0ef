//! The domain of numbers: what is known of a register that holds no pointer.
//!
//! A [`Scalar`] is a product of a [`Tnum`] and unsigned and signed intervals at 64 and at 32 bits; a value is a member
//! if every part says so. [`Scalar::sync`] lets the parts sharpen each other. `alu` holds the transfer functions,
//! `branch` what a comparison teaches. All are sound: the tests check members against concrete arithmetic.

mod alu;
mod bounds;
mod branch;

use isa::Size;

use crate::tnum::Tnum;
pub(crate) use bounds::{Bounds32, Bounds64};
pub(crate) use branch::{outcome, refine};

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

    /// The values in both, or `None` if there is none.
    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        let bits = self.bits.meet(other.bits)?;
        let met = Self { bits, wide: self.wide.meet(other.wide), low: self.low.meet(other.low) }.sync();
        (!met.is_empty()).then_some(met)
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
        let wide = if self.wide.umin & !mask == self.wide.umax & !mask {
            Bounds64::unsigned(self.wide.umin & mask, self.wide.umax & mask)
        } else {
            Bounds64::unsigned(0, mask)
        };
        let low = if bits >= 32 { self.low } else { Bounds32::UNKNOWN };
        Self { bits: cut, wide, low }.sync()
    }

    /// The low `bits` bits (8, 16 or 32), sign-extended to 64.
    pub(crate) fn sign_extended(self, bits: u32) -> Self {
        let top = 1_i64 << (bits - 1);
        let fits = |min: i64, max: i64| -top <= min && max < top;
        if fits(self.wide.smin, self.wide.smax) {
            return self;
        }
        let mut wide = Bounds64::signed(-top, top - 1);
        let (smin, smax) = (i64::from(self.low.smin), i64::from(self.low.smax));
        if bits <= 32 && fits(smin, smax) {
            wide = wide.meet(Bounds64::signed(smin, smax));
        }
        // As the kernel: single known bits do not survive.
        let bits = self.as_constant().map_or(Tnum::UNKNOWN, |value| Tnum::constant(value).sign_extend(bits));
        Self { bits, wide, low: Bounds32::UNKNOWN }.sync()
    }

    /// The low half of `self`, zero-extended.
    pub(crate) fn low_half(self) -> Self {
        Self::from_low(self.bits, self.low)
    }

    /// A zero-extended 32-bit result.
    pub(crate) fn from_low(bits: Tnum, low: Bounds32) -> Self {
        let wide = Bounds64::unsigned(u64::from(low.umin), u64::from(low.umax));
        Self { bits: bits.low32(), wide, low }.sync()
    }

    /// Lets every part sharpen every other. An empty set stays empty.
    #[must_use]
    pub(crate) fn sync(mut self) -> Self {
        // Each round only ever shrinks the set and keeps its members; three are enough in practice, as for the kernel.
        for _ in 0..3 {
            let before = self;
            self = self.bounds_from_bits().across_widths();
            self.wide = self.wide.deduce();
            self.low = self.low.deduce();
            self = self.bits_from_bounds();
            if self == before {
                break;
            }
        }
        self
    }

    fn bounds_from_bits(mut self) -> Self {
        let sign = 1_u64 << 63;
        let (value, mask) = (self.bits.value(), self.bits.mask());
        self.wide = self.wide.meet(Bounds64 {
            umin: value,
            umax: value | mask,
            smin: (value | mask & sign).cast_signed(),
            smax: (value | mask & !sign).cast_signed(),
        });
        let sign = 1_u32 << 31;
        let (value, mask) = (low32(value), low32(mask));
        self.low = self.low.meet(Bounds32 {
            umin: value,
            umax: value | mask,
            smin: (value | mask & sign).cast_signed(),
            smax: (value | mask & !sign).cast_signed(),
        });
        self
    }

    /// What the whole value's bounds say of the low half and the other way round.
    fn across_widths(mut self) -> Self {
        let high = !0xffff_ffff_u64;
        // The high half is the same at both ends: the low halves are an interval.
        if self.wide.umin & high == self.wide.umax & high {
            self.low.umin = self.low.umin.max(low32(self.wide.umin));
            self.low.umax = self.low.umax.min(low32(self.wide.umax));
            // Then the low half's bounds bound the whole, too.
            let top = self.wide.umin & high;
            self.wide.umin = self.wide.umin.max(top | u64::from(self.low.umin));
            self.wide.umax = self.wide.umax.min(top | u64::from(self.low.umax));
        }
        if let (Ok(smin), Ok(smax)) = (i32::try_from(self.wide.smin), i32::try_from(self.wide.smax)) {
            self.low.smin = self.low.smin.max(smin);
            self.low.smax = self.low.smax.min(smax);
            // The whole value is a sign-extended 32-bit number.
            self.wide.smin = self.wide.smin.max(i64::from(self.low.smin));
            self.wide.smax = self.wide.smax.min(i64::from(self.low.smax));
        }
        self
    }

    fn bits_from_bounds(mut self) -> Self {
        if self.is_empty() {
            return self;
        }
        let of_wide = Tnum::range(self.wide.umin, self.wide.umax);
        let of_low = Tnum::range(u64::from(self.low.umin), u64::from(self.low.umax));
        let met = self.bits.meet(of_wide).and_then(|bits| Some(bits.with_low32(bits.low32().meet(of_low)?)));
        match met {
            Some(bits) => self.bits = bits,
            // The parts contradict each other: no value is left.
            None => (self.wide.umin, self.wide.umax) = (u64::MAX, 0),
        }
        self
    }
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
