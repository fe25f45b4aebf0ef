//! Tristate numbers: 64-bit values of which some bits are known.
//!
//! A [`Tnum`] stands for the set of all `x` with `x & !mask == value`: bits set in `mask` are unknown, the others are
//! as in `value`. The sets form a lattice with [`Tnum::UNKNOWN`] at the top; [`Tnum::intersect`] is intersection and
//! [`Tnum::contains`] membership. Every operation `op` here is sound: for all `x` in `a` and `y` in `b`,
//! `x op y` is in `a.op(b)`. The tests check this exhaustively on four-bit numbers.

use crate::report::reason::KnownBits;

/// A set of 64-bit values given by known and unknown bits.
// Invariant: value & mask == 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tnum {
    value: u64,
    mask: u64,
}

impl From<Tnum> for KnownBits {
    fn from(tnum: Tnum) -> Self {
        Self { value: tnum.value, mask: tnum.mask }
    }
}

impl Tnum {
    /// Every value.
    pub(crate) const UNKNOWN: Self = Self { value: 0, mask: u64::MAX };

    /// One value.
    pub(crate) const fn constant(value: u64) -> Self {
        Self { value, mask: 0 }
    }

    /// Bits of `value` known, except those in `mask`.
    pub(crate) const fn new(value: u64, mask: u64) -> Self {
        Self { value: value & !mask, mask }
    }

    /// The smallest set that holds `min..=max`: the bits above the highest one that differs are known.
    pub(crate) fn range(min: u64, max: u64) -> Self {
        let differing = 64 - (min ^ max).leading_zeros();
        Self::new(min, low_mask(differing))
    }

    /// The known bits; the smallest unsigned member.
    pub(crate) const fn value(self) -> u64 {
        self.value
    }

    /// The unknown bits.
    pub(crate) const fn mask(self) -> u64 {
        self.mask
    }

    /// The largest unsigned member.
    pub(crate) const fn max(self) -> u64 {
        self.value | self.mask
    }

    /// The only member, if there is one.
    pub(crate) fn as_constant(self) -> Option<u64> {
        (self.mask == 0).then_some(self.value)
    }

    /// Whether `x` is a member.
    pub(crate) const fn contains(self, x: u64) -> bool {
        x & !self.mask == self.value
    }

    /// The smallest member greater than `x`; the largest member if there is none, the smallest if all are.
    pub(crate) fn after(self, x: u64) -> u64 {
        if x >= self.max() {
            return self.max();
        }
        if x < self.value {
            return self.value;
        }
        // Members that agree with `x` above the highest known bit that does not are all on the same side of it.
        let different = (x ^ self.value) & !self.mask;
        let below = low_mask(64 - different.leading_zeros());
        let free = self.mask & !below;
        if x & different < self.value & different {
            return x & free | self.value;
        }
        // The next number in the free bits above: a carry runs through all others.
        (x | !free).wrapping_add(1) & free | self.value
    }

    /// Whether every member of `inner` is a member of `self`.
    pub(crate) const fn includes(self, inner: Self) -> bool {
        inner.mask & !self.mask == 0 && inner.value & !self.mask == self.value
    }

    /// Whether some value can be in both: no known bits contradict each other.
    pub(crate) const fn overlaps(self, other: Self) -> bool {
        (self.value ^ other.value) & !self.mask & !other.mask == 0
    }

    /// The members of both. Where known bits contradict each other there are none, and the result is of no use.
    pub(crate) const fn intersect(self, other: Self) -> Self {
        Self::new(self.value | other.value, self.mask & other.mask)
    }

    /// The smallest set that holds both.
    const fn union(self, other: Self) -> Self {
        Self::new(self.value & other.value, (self.value ^ other.value) | self.mask | other.mask)
    }

    /// The low 32 bits, the rest known to be zero.
    pub(crate) const fn low32(self) -> Self {
        Self { value: self.value & 0xffff_ffff, mask: self.mask & 0xffff_ffff }
    }

    /// `self` with its low 32 bits replaced by those of `low`.
    pub(crate) const fn with_low32(self, low: Self) -> Self {
        let high = !0xffff_ffff_u64;
        Self { value: self.value & high | low.low32().value, mask: self.mask & high | low.low32().mask }
    }

    /// The low `bits` bits, the rest known to be zero.
    pub(crate) fn truncate(self, bits: u32) -> Self {
        let keep = low_mask(bits);
        Self { value: self.value & keep, mask: self.mask & keep }
    }

    /// The low `bits` bits (16, 32 or 64) with their bytes in the other order, the rest known to be zero.
    pub(crate) fn swap_bytes(self, bits: u32) -> Self {
        let swap = |x: u64| x.swap_bytes() >> (64 - bits.clamp(8, 64));
        Self { value: swap(self.value), mask: swap(self.mask) }
    }

    /// The low `bits` bits (1 to 64), sign-extended.
    pub(crate) fn sign_extend(self, bits: u32) -> Self {
        let shift = 64 - bits.clamp(1, 64);
        let extend = |x: u64| ((x << shift).cast_signed() >> shift).cast_unsigned();
        // An unknown sign bit is unknown in every copy, a known one is known in every copy.
        Self { value: extend(self.value), mask: extend(self.mask) }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        let lowest = self.value.wrapping_add(other.value);
        let highest = self.max().wrapping_add(other.max());
        // Where no carry can differ between the extremes, it cannot differ in between.
        Self::new(lowest, (lowest ^ highest) | self.mask | other.mask)
    }

    pub(crate) fn sub(self, other: Self) -> Self {
        let lowest = self.value.wrapping_sub(other.max());
        let highest = self.max().wrapping_sub(other.value);
        Self::new(self.value.wrapping_sub(other.value), (lowest ^ highest) | self.mask | other.mask)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        let value = self.value & other.value;
        Self { value, mask: self.max() & other.max() & !value }
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        let value = self.value | other.value;
        Self { value, mask: (self.mask | other.mask) & !value }
    }

    pub(crate) const fn xor(self, other: Self) -> Self {
        Self::new(self.value ^ other.value, self.mask | other.mask)
    }

    /// Long multiplication: a known one adds the other factor, an unknown bit adds it or not.
    pub(crate) fn mul(self, other: Self) -> Self {
        let mut sum = Self::constant(0);
        let mut bits = self.max();
        while bits != 0 {
            let shift = bits.trailing_zeros();
            bits &= bits - 1;
            let more = sum.add(other.lsh(shift));
            sum = if self.value >> shift & 1 == 1 { more } else { sum.union(more) };
        }
        sum
    }

    /// Shift by a known count below 64.
    pub(crate) const fn lsh(self, count: u32) -> Self {
        Self { value: self.value.wrapping_shl(count), mask: self.mask.wrapping_shl(count) }
    }

    /// Shift by a known count below 64.
    pub(crate) const fn rsh(self, count: u32) -> Self {
        Self { value: self.value.wrapping_shr(count), mask: self.mask.wrapping_shr(count) }
    }

    /// Arithmetic shift of a 64-bit number by a known count below 64.
    pub(crate) const fn arsh(self, count: u32) -> Self {
        let value = self.value.cast_signed().wrapping_shr(count).cast_unsigned();
        let mask = self.mask.cast_signed().wrapping_shr(count).cast_unsigned();
        Self { value, mask }
    }

    /// Arithmetic shift of the low 32 bits by a known count below 32; the high half is zero.
    pub(crate) fn arsh32(self, count: u32) -> Self {
        self.sign_extend(32).arsh(count).low32()
    }

    /// Whether every member plus `offset` is a multiple of `size` (a power of two).
    pub(crate) const fn is_aligned(self, offset: u64, size: u64) -> bool {
        (self.value.wrapping_add(offset) | self.mask) & (size - 1) == 0
    }
}

/// The lowest `bits` bits set; `bits` up to 64.
fn low_mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All tnums whose unknown bits are among the lowest four.
    fn all4() -> impl Iterator<Item = Tnum> {
        (0..16u64).flat_map(|mask| (0..16u64).filter(move |v| v & mask == 0).map(move |v| Tnum::new(v, mask)))
    }

    fn members(t: Tnum) -> impl Iterator<Item = u64> {
        (0..16u64).filter(move |&x| t.contains(x))
    }

    fn check_binary(abstract_op: impl Fn(Tnum, Tnum) -> Tnum, concrete: impl Fn(u64, u64) -> u64) {
        for a in all4() {
            for b in all4() {
                let result = abstract_op(a, b);
                assert_eq!(result.value() & result.mask(), 0);
                for x in members(a) {
                    for y in members(b) {
                        assert!(result.contains(concrete(x, y)), "{a:?} {b:?} {result:?} {x} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn binary_operations_are_sound() {
        check_binary(Tnum::add, u64::wrapping_add);
        check_binary(Tnum::sub, u64::wrapping_sub);
        check_binary(Tnum::mul, u64::wrapping_mul);
        check_binary(Tnum::and, |x, y| x & y);
        check_binary(Tnum::or, |x, y| x | y);
        check_binary(Tnum::xor, |x, y| x ^ y);
    }

    #[test]
    fn add_and_bitwise_operations_are_exact_on_constants_and_best_for_bitwise() {
        for a in all4() {
            for b in all4() {
                for (got, op) in [
                    (a.and(b), (|x, y| x & y) as fn(u64, u64) -> u64),
                    (a.or(b), |x, y| x | y),
                    (a.xor(b), |x, y| x ^ y),
                ] {
                    let results: Vec<u64> =
                        members(a).flat_map(|x| members(b).map(move |y| op(x, y))).collect();
                    let all_ones = results.iter().fold(u64::MAX, |m, r| m & r);
                    let any_ones = results.iter().fold(0, |m, r| m | r);
                    assert_eq!(got, Tnum::new(all_ones, any_ones & !all_ones));
                }
            }
        }
    }

    #[test]
    fn shifts_are_sound() {
        for a in all4() {
            for high in [0, 0xf000_0000_0000_0000u64, 0xf000_0000] {
                let t = Tnum::new(a.value() | high, a.mask());
                for count in 0..32 {
                    for x in members(a).map(|x| x | high) {
                        assert!(t.lsh(count).contains(x << count));
                        assert!(t.rsh(count).contains(x >> count));
                        assert!(t.arsh(count).contains((x.cast_signed() >> count).cast_unsigned()));
                        let low = i32::from_ne_bytes(u32::try_from(x & 0xffff_ffff).unwrap().to_ne_bytes());
                        assert!(t.arsh32(count).contains(u64::from((low >> count).cast_unsigned())));
                    }
                }
            }
        }
    }

    #[test]
    fn sign_extension_and_truncation_are_sound() {
        for a in all4() {
            for bits in 1..=4 {
                for x in members(a) {
                    let shift = 64 - bits;
                    let extended = ((x << shift).cast_signed() >> shift).cast_unsigned();
                    assert!(a.sign_extend(bits).contains(extended));
                    assert!(a.truncate(bits).contains(x & low_mask(bits)));
                }
            }
        }
    }

    #[test]
    fn ranges_hold_their_members_and_intersections_those_of_both() {
        for min in 0..16 {
            for max in min..16 {
                let t = Tnum::range(min, max);
                assert!((min..=max).all(|x| t.contains(x)));
            }
        }
        for a in all4() {
            for b in all4() {
                let both: Vec<u64> = members(a).filter(|&x| b.contains(x)).collect();
                assert_eq!(a.overlaps(b), !both.is_empty());
                if a.overlaps(b) {
                    assert_eq!(members(a.intersect(b)).collect::<Vec<_>>(), both);
                }
                assert_eq!(a.includes(b), members(b).all(|x| a.contains(x)));
            }
        }
    }

    #[test]
    fn the_next_member_is_found() {
        for a in all4() {
            for x in 0..17 {
                let next = members(a).find(|&m| m > x).unwrap_or(a.max());
                assert_eq!(a.after(x), next, "{a:?} {x}");
            }
        }
    }

    #[test]
    fn alignment_needs_every_member() {
        for a in all4() {
            for offset in 0..8 {
                for size in [1, 2, 4, 8] {
                    assert_eq!(
                        a.is_aligned(offset, size),
                        members(a).all(|x| (x.wrapping_add(offset)) % size == 0)
                            && (a.mask() & (size - 1) == 0),
                    );
                }
            }
        }
    }
}
