//! The parts of a [`Scalar`] sharpen each other.
//!
//! Each step only ever shrinks the set and keeps its members. The steps and their order are those of Linux 6.18: another
//! order would end at other bounds, and with them at other verdicts.

use super::{Bounds32, Bounds64, Scalar, low32};
use crate::domain::tnum::Tnum;

/// The high half of a 64-bit value.
const HIGH: u64 = 0xffff_ffff_0000_0000;

impl Scalar {
    /// Lets every part sharpen every other. What becomes of a set without members is of no use, see
    /// [`Scalar::is_consistent`].
    #[must_use]
    pub(crate) fn sync(self) -> Self {
        let mut set = self.within_bits();
        // The last step of a round may teach the first ones.
        for _ in 0..3 {
            set = set.low_within_wide();
            set.low = set.low.deduce();
            set.wide = set.wide.deduce();
            set = set.wide_within_low().of_one_sign();
        }
        set.bits_within_bounds().within_bits()
    }

    /// Bounds within what the known bits allow.
    pub(super) fn within_bits(mut self) -> Self {
        let (value, mask) = (self.bits.value(), self.bits.mask());
        self.low = self.low.within_bits(low32(value), low32(mask));
        self.wide = self.wide.within_bits(value, mask);
        self.only_member().map_or(self, Self::constant)
    }

    /// The only number that both the known bits and the unsigned bounds allow, if it is found to be the only one.
    fn only_member(&self) -> Option<u64> {
        let (umin, umax) = (self.wide.umin, self.wide.umax);
        let next = self.bits.after(umin);
        if self.bits.contains(umin) {
            return (next > umax).then_some(umin);
        }
        (next == self.bits.max() || next <= umax && self.bits.after(next) > umax).then_some(next)
    }

    /// Whether the parts agree with each other. They do not on paths that cannot be taken although nothing has told so
    /// before.
    pub(crate) fn is_consistent(&self) -> bool {
        let wide = self.as_constant().is_none_or(|value| self.wide == Bounds64::constant(value));
        let low = self.as_constant32().is_none_or(|value| self.low == Bounds32::constant(value));
        !self.is_empty() && wide && low
    }

    /// The set with its bounds forgotten if they contradict each other.
    pub(crate) fn or_unbounded(self) -> Self {
        if self.is_consistent() { self } else { Self { bits: self.bits, ..Self::UNKNOWN } }
    }

    /// The low half's bounds within those of the whole value.
    fn low_within_wide(mut self) -> Self {
        let Bounds64 { umin, umax, smin, smax } = self.wide;
        let half = |min: u64, max: u64| (low32(min).cast_signed(), low32(max).cast_signed());
        // The high half is the same at both ends: the low halves are an interval.
        if umin >> 32 == umax >> 32 {
            self.narrow_low_unsigned(low32(umin), low32(umax));
            let (first, last) = half(umin, umax);
            if first <= last {
                self.narrow_low_signed(first, last);
            }
        }
        let (smin, smax) = (smin.cast_unsigned(), smax.cast_unsigned());
        if smin >> 32 == smax >> 32 {
            if low32(smin) <= low32(smax) {
                self.narrow_low_unsigned(low32(smin), low32(smax));
            }
            let (first, last) = half(smin, smax);
            if first <= last {
                self.narrow_low_signed(first, last);
            }
        }
        // The high halves are neighbours and the low half runs from negative to positive: a signed interval.
        for (min, max) in [(umin, umax), (smin, smax)] {
            let (first, last) = half(min, max);
            if low32(min >> 32).wrapping_add(1) == low32(max >> 32) && first < 0 && last >= 0 {
                self.narrow_low_signed(first, last);
            }
        }
        self
    }

    fn narrow_low_unsigned(&mut self, min: u32, max: u32) {
        self.low.umin = self.low.umin.max(min);
        self.low.umax = self.low.umax.min(max);
    }

    fn narrow_low_signed(&mut self, min: i32, max: i32) {
        self.low.smin = self.low.smin.max(min);
        self.low.smax = self.low.smax.min(max);
    }

    /// The whole value's bounds with the low half's bounds put in: if they are tighter, they hold.
    fn wide_within_low(mut self) -> Self {
        let low = self.low;
        self.put_low(low.umin, low.umax);
        let (first, last) = (low.smin.cast_unsigned(), low.smax.cast_unsigned());
        if first <= last {
            self.put_low(first, last);
        }
        self
    }

    fn put_low(&mut self, min: u32, max: u32) {
        let with = |wide: u64, low: u32| wide & HIGH | u64::from(low);
        let signed = |wide: i64, low: u32| with(wide.cast_unsigned(), low).cast_signed();
        self.wide.umin = self.wide.umin.max(with(self.wide.umin, min));
        self.wide.umax = self.wide.umax.min(with(self.wide.umax, max));
        self.wide.smin = self.wide.smin.max(signed(self.wide.smin, min));
        self.wide.smax = self.wide.smax.min(signed(self.wide.smax, max));
    }

    /// A sign-extended number whose low half is not negative is not negative as a whole: with the high half all ones it
    /// would be less than any sign-extended number.
    fn of_one_sign(mut self) -> Self {
        let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
        if self.low.smin >= 0 && self.wide.smin >= min && self.wide.smax <= max {
            self.wide.smin = i64::from(self.low.smin);
            self.wide.smax = i64::from(self.low.smax);
            self.wide.umin = self.wide.smin.cast_unsigned();
            self.wide.umax = self.wide.smax.cast_unsigned();
            self.bits = self.bits.intersect(Tnum::range(self.wide.umin, self.wide.umax));
        }
        self
    }

    /// Bits that are the same at both ends of the bounds.
    fn bits_within_bounds(mut self) -> Self {
        let bits = self.bits.intersect(Tnum::range(self.wide.umin, self.wide.umax));
        let low = Tnum::range(u64::from(self.low.umin), u64::from(self.low.umax));
        self.bits = bits.with_low32(bits.low32().intersect(low));
        self
    }
}
