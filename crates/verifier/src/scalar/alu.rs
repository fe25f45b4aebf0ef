//! Transfer functions: what arithmetic does to a [`Scalar`].
//!
//! As precise as Linux 6.18 and no more, so that the verdicts are the same: nothing is said of divisions, remainders, byte
//! swaps and shifts by an unknown count.

use isa::{AluOp, ByteOrder, Size, SwapBits, Width};

use super::{Bounds32, Bounds64, Scalar};
use crate::tnum::Tnum;

impl Scalar {
    /// `self op other` at the given width; a 32-bit result is zero-extended.
    pub(crate) fn alu(self, width: Width, op: AluOp, other: Self) -> Self {
        let count = match op {
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
                let bits = if width == Width::W64 { 64 } else { 32 };
                let count = other.as_constant().and_then(|c| u32::try_from(c).ok()).filter(|c| *c < bits);
                // A count of the width or more is masked at run time.
                let Some(count) = count else { return Self::UNKNOWN };
                count
            }
            AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => return Self::UNKNOWN,
            _ => 0,
        };
        match width {
            Width::W64 => alu64(op, self, other, count),
            Width::W32 => alu32(op, self.low_half(), other.low_half(), count),
        }
        .sync()
    }

    /// `-self`.
    pub(crate) fn neg(self, width: Width) -> Self {
        Self::ZERO.alu(width, AluOp::Sub, self)
    }

    /// `(s8|s16|s32)self`; at 32 bits zero-extended after.
    pub(crate) fn mov_sx(self, width: Width, from: Size) -> Self {
        let extended = self.sign_extended(u32::from(from.bits()));
        match width {
            Width::W64 => extended,
            Width::W32 => extended.low_half(),
        }
    }

    /// `swap(self)`.
    pub(crate) fn byte_swap(self, _order: ByteOrder, _bits: SwapBits) -> Self {
        Self::UNKNOWN
    }
}

fn alu64(op: AluOp, a: Scalar, b: Scalar, count: u32) -> Scalar {
    let of = |bits: Tnum, wide: Bounds64, low: Bounds32| Scalar { bits, wide, low };
    match op {
        AluOp::Add => of(a.bits.add(b.bits), a.wide.add(b.wide), a.low.add(b.low)),
        AluOp::Sub => of(a.bits.sub(b.bits), a.wide.sub(b.wide), a.low.sub(b.low)),
        AluOp::Mul => of(a.bits.mul(b.bits), a.wide.mul(b.wide), a.low.mul(b.low)),
        AluOp::And => of(a.bits.and(b.bits), a.wide.and(b.wide), a.low.and(b.low)),
        AluOp::Or => of(a.bits.or(b.bits), a.wide.or(b.wide), a.low.or(b.low)),
        AluOp::Xor => of(a.bits.xor(b.bits), Bounds64::UNKNOWN, Bounds32::UNKNOWN),
        AluOp::Lsh => {
            let mut wide = a.wide.lsh(count);
            if count == 32 {
                // `x << 32` followed by `s>> 32` is how older compilers sign-extend.
                let (smin, smax) = (i64::from(a.low.smin) << 32, i64::from(a.low.smax) << 32);
                wide = wide.meet(Bounds64::signed(smin, smax));
            }
            let low = if count < 32 { a.low.lsh(count) } else { Bounds32::UNKNOWN };
            of(a.bits.lsh(count), wide, low)
        }
        AluOp::Rsh => of(a.bits.rsh(count), a.wide.rsh(count), Bounds32::UNKNOWN),
        AluOp::Arsh => of(a.bits.arsh(count), a.wide.arsh(count), Bounds32::UNKNOWN),
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => Scalar::UNKNOWN,
    }
}

/// The operands' high halves are zero and do not matter.
fn alu32(op: AluOp, a: Scalar, b: Scalar, count: u32) -> Scalar {
    match op {
        AluOp::Add => Scalar::from_low(a.bits.add(b.bits), a.low.add(b.low)),
        AluOp::Sub => Scalar::from_low(a.bits.sub(b.bits), a.low.sub(b.low)),
        AluOp::Mul => Scalar::from_low(a.bits.mul(b.bits), a.low.mul(b.low)),
        AluOp::And => Scalar::from_low(a.bits.and(b.bits), a.low.and(b.low)),
        AluOp::Or => Scalar::from_low(a.bits.or(b.bits), a.low.or(b.low)),
        AluOp::Xor => Scalar::from_low(a.bits.xor(b.bits), Bounds32::UNKNOWN),
        AluOp::Lsh => Scalar::from_low(a.bits.lsh(count), a.low.lsh(count)),
        AluOp::Rsh => Scalar::from_low(a.bits.rsh(count), a.low.rsh(count)),
        AluOp::Arsh => Scalar::from_low(a.bits.arsh32(count), a.low.arsh(count)),
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => Scalar::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{low32, tests::member};
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
