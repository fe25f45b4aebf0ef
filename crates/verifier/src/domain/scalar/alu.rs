//! Transfer functions: what arithmetic does to a [`Scalar`].
//!
//! As precise as Linux 6.18 and no more, so that the verdicts are the same: nothing is said of divisions, remainders and
//! shifts by an unknown count.

use isa::{AluOp, ByteOrder, Size, SwapBits, Width};

use super::{Bounds32, Bounds64, Scalar, low32};
use crate::domain::tnum::Tnum;

impl Scalar {
    /// `self op other` at the given width; a 32-bit result is zero-extended.
    pub(crate) fn alu(self, width: Width, op: AluOp, other: Self) -> Self {
        let count = match op {
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => match other.shift_count(width) {
                Some(count) => count,
                None => return Self::UNKNOWN,
            },
            AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => return Self::UNKNOWN,
            _ => 0,
        };
        match width {
            Width::W64 => alu64(op, self, other, count).sync(),
            Width::W32 => alu32(op, self, other, count).low_half(),
        }
    }

    /// The offset of a pointer after adding `other` to it. Only the whole value counts.
    pub(crate) fn moved_by(self, other: Self) -> Self {
        let (bits, wide) = (self.bits.add(other.bits), self.wide.add_exact(other.wide));
        Self { bits, wide, low: Bounds32::UNKNOWN }
    }

    /// The offset of a pointer after subtracting `other` from it.
    pub(crate) fn moved_back_by(self, other: Self) -> Self {
        let (bits, wide) = (self.bits.sub(other.bits), self.wide.sub_exact(other.wide));
        Self { bits, wide, low: Bounds32::UNKNOWN }
    }

    /// The same offset of a pointer, with nothing said of its low half alone.
    pub(crate) fn whole(self) -> Self {
        Self { low: Bounds32::UNKNOWN, ..self }
    }

    /// If the number, or its low half, is either 0 or all ones: the set with each of the two.
    pub(crate) fn split_flag(&self) -> Option<(Self, Self)> {
        if (self.wide.smin, self.wide.smax) == (-1, 0) {
            return Some((Self::ZERO, Self::constant(u64::MAX)));
        }
        let with = |low: u32| {
            let bits = self.bits.with_low32(Tnum::constant(u64::from(low)));
            Self { bits, low: Bounds32::constant(low), wide: self.wide }
        };
        ((self.low.smin, self.low.smax) == (-1, 0)).then(|| (with(0), with(u32::MAX)))
    }

    /// `self` plus a constant, the parts not yet reconciled.
    pub(crate) fn displaced(self, distance: i64) -> Self {
        let by = Self::constant(distance.cast_unsigned());
        alu64(AluOp::Add, self, by, 0)
    }

    /// `-self`.
    pub(crate) fn neg(self, width: Width) -> Self {
        Self::ZERO.alu(width, AluOp::Sub, self)
    }

    /// `(s8|s16|s32)self`; at 32 bits zero-extended after.
    pub(crate) fn mov_sx(self, width: Width, from: Size) -> Self {
        match width {
            Width::W64 => self.sign_extended(u32::from(from.bits())),
            Width::W32 => self.low_sign_extended(u32::from(from.bits())).low_half(),
        }
    }

    /// `swap(self)`: only single bits are followed.
    pub(crate) fn byte_swap(self, order: ByteOrder, bits: SwapBits) -> Self {
        let width = match bits {
            SwapBits::B16 => 16,
            SwapBits::B32 => 32,
            SwapBits::B64 => 64,
        };
        match order {
            // It has this order already: the rest is cut off.
            ByteOrder::ToLe => self.zero_extended(width),
            ByteOrder::ToBe | ByteOrder::Swap => {
                Self { bits: self.bits.swap_bytes(width), ..Self::UNKNOWN }.sync()
            }
        }
    }

    /// The count this is as an operand of a shift, if it is known. What the width or more does is undefined; a register
    /// of which anything but the count may be set is not looked at.
    fn shift_count(&self, width: Width) -> Option<u32> {
        let (known, bits) = match width {
            Width::W64 => (self.as_constant()?, 64),
            Width::W32 => (u64::from(self.as_constant32()?), 32),
        };
        let count = u32::try_from(known).ok()?;
        (self.wide.umax < bits).then_some(count)
    }
}

fn alu64(op: AluOp, a: Scalar, b: Scalar, count: u32) -> Scalar {
    let of = |bits: Tnum, wide: Bounds64, low: Bounds32| Scalar { bits, wide, low };
    match op {
        AluOp::Add => of(a.bits.add(b.bits), a.wide.add(b.wide), a.low.add(b.low)),
        AluOp::Sub => of(a.bits.sub(b.bits), a.wide.sub(b.wide), a.low.sub(b.low)),
        AluOp::Mul => of(a.bits.mul(b.bits), a.wide.mul(b.wide), a.low.mul(b.low)),
        AluOp::And => bitwise(a, b, a.bits.and(b.bits), (Bounds64::and, Bounds32::and)),
        AluOp::Or => bitwise(a, b, a.bits.or(b.bits), (Bounds64::or, Bounds32::or)),
        AluOp::Xor => bitwise(a, b, a.bits.xor(b.bits), (Bounds64::xor, Bounds32::xor)),
        AluOp::Lsh => {
            let mut wide = a.wide.lsh(count);
            if count == 32 {
                // `x << 32` followed by `s>> 32` is how older compilers sign-extend.
                (wide.smin, wide.smax) = (i64::from(a.low.smin) << 32, i64::from(a.low.smax) << 32);
            }
            of(a.bits.lsh(count), wide, a.low.lsh(count))
        }
        AluOp::Rsh => of(a.bits.rsh(count), a.wide.rsh(count), Bounds32::UNKNOWN),
        AluOp::Arsh => of(a.bits.arsh(count), a.wide.arsh(count), Bounds32::UNKNOWN),
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => Scalar::UNKNOWN,
    }
}

/// Only the low half of the result is right.
fn alu32(op: AluOp, a: Scalar, b: Scalar, count: u32) -> Scalar {
    let (bits, low) = match op {
        AluOp::Lsh => (a.bits.low32().lsh(count).low32(), a.low.lsh(count)),
        AluOp::Rsh => (a.bits.low32().rsh(count), a.low.rsh(count)),
        AluOp::Arsh => (a.bits.arsh32(count), a.low.arsh(count)),
        _ => return alu64(op, a, b, count),
    };
    Scalar { bits, low: low.within_bits(low32(bits.value()), low32(bits.mask())), ..Scalar::UNKNOWN }
}

/// The bounds of a bitwise operation on two intervals, whose result has these known and unknown bits.
type Bitwise<B, N> = fn(B, B, N, N) -> B;

/// A bitwise operation: its result's bits are exact, the bounds follow from them and from those of the operands. Where
/// both operands' bits leave one value, that is all there is to know.
fn bitwise(
    a: Scalar,
    b: Scalar,
    bits: Tnum,
    (wide, low): (Bitwise<Bounds64, u64>, Bitwise<Bounds32, u32>),
) -> Scalar {
    if let (Some(value), Some(_)) = (bits.as_constant(), b.as_constant()) {
        return Scalar::constant(value);
    }
    let (value, mask) = (low32(bits.value()), low32(bits.mask()));
    let low = match (bits.low32().as_constant(), b.as_constant32()) {
        (Some(_), Some(_)) => Bounds32::constant(value),
        _ => low(a.low, b.low, value, mask),
    };
    let wide = wide(a.wide, b.wide, bits.value(), bits.mask());
    Scalar { bits, wide, low }.within_bits()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::member;
    use super::*;

    /// RFC 9669 section 4.1 on 64 bits.
    fn concrete64(op: AluOp, x: u64, y: u64) -> u64 {
        let (sx, sy) = (x.cast_signed(), y.cast_signed());
        let count = low32(y & 63);
        match op {
            AluOp::Add => x.wrapping_add(y),
            AluOp::Sub => x.wrapping_sub(y),
            AluOp::Mul => x.wrapping_mul(y),
            AluOp::Div => x.checked_div(y).unwrap_or(0),
            AluOp::SDiv => if y == 0 { 0 } else { sx.wrapping_div(sy) }.cast_unsigned(),
            AluOp::Or => x | y,
            AluOp::And => x & y,
            AluOp::Lsh => x << count,
            AluOp::Rsh => x >> count,
            AluOp::Mod => x.checked_rem(y).unwrap_or(x),
            AluOp::SMod => if y == 0 { sx } else { sx.wrapping_rem(sy) }.cast_unsigned(),
            AluOp::Xor => x ^ y,
            AluOp::Arsh => (sx >> count).cast_unsigned(),
        }
    }

    /// The same on 32 bits, zero-extended.
    fn concrete32(op: AluOp, x: u64, y: u64) -> u64 {
        let (x, y) = (low32(x), low32(y));
        let (sx, sy) = (x.cast_signed(), y.cast_signed());
        let count = y & 31;
        u64::from(match op {
            AluOp::Add => x.wrapping_add(y),
            AluOp::Sub => x.wrapping_sub(y),
            AluOp::Mul => x.wrapping_mul(y),
            AluOp::Div => x.checked_div(y).unwrap_or(0),
            AluOp::SDiv => if y == 0 { 0 } else { sx.wrapping_div(sy) }.cast_unsigned(),
            AluOp::Or => x | y,
            AluOp::And => x & y,
            AluOp::Lsh => x << count,
            AluOp::Rsh => x >> count,
            AluOp::Mod => x.checked_rem(y).unwrap_or(x),
            AluOp::SMod => if y == 0 { sx } else { sx.wrapping_rem(sy) }.cast_unsigned(),
            AluOp::Xor => x ^ y,
            AluOp::Arsh => (sx >> count).cast_unsigned(),
        })
    }

    fn check(x: u64, a: Scalar, y: u64, b: Scalar) {
        for op in AluOp::ALL {
            let wide = a.alu(Width::W64, op, b);
            assert!(wide.contains(concrete64(op, x, y)), "{op:?} {x:#x} {y:#x}\n{a:?}\n{b:?}\n{wide:?}");
            let narrow = a.alu(Width::W32, op, b);
            assert!(
                narrow.contains(concrete32(op, x, y)),
                "{op:?}32 {x:#x} {y:#x}\n{a:?}\n{b:?}\n{narrow:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6000))]

        #[test]
        fn arithmetic_is_sound((x, a) in member(), (y, b) in member()) {
            check(x, a, y, b);
        }

        #[test]
        fn shifts_by_small_counts_are_sound((x, a) in member(), y in 0..70u64, spread in 0..70u64) {
            check(x, a, y, Scalar::unsigned(y.saturating_sub(spread), y + spread));
            check(x, a, y, Scalar::constant(y));
        }

        #[test]
        fn unary_operations_are_sound((x, a) in member()) {
            prop_assert!(a.neg(Width::W64).contains(x.wrapping_neg()));
            prop_assert!(a.neg(Width::W32).contains(u64::from(low32(x).wrapping_neg())));
            for (size, bits) in [(Size::B, 8), (Size::H, 16), (Size::W, 32)] {
                let shift = 64 - bits;
                let extended = ((x << shift).cast_signed() >> shift).cast_unsigned();
                prop_assert!(a.mov_sx(Width::W64, size).contains(extended));
                prop_assert!(a.mov_sx(Width::W32, size).contains(u64::from(low32(extended))));
            }
        }
    }

    #[test]
    fn constants_stay_constants() {
        let (x, y) = (Scalar::constant(0xffff_fff0), Scalar::constant(7));
        for op in
            [AluOp::Add, AluOp::Sub, AluOp::Mul, AluOp::Or, AluOp::And, AluOp::Xor, AluOp::Lsh, AluOp::Rsh]
        {
            assert_eq!(x.alu(Width::W64, op, y), Scalar::constant(concrete64(op, 0xffff_fff0, 7)), "{op:?}");
            assert_eq!(x.alu(Width::W32, op, y), Scalar::constant(concrete32(op, 0xffff_fff0, 7)), "{op:?}");
        }
    }
}
