//! Arithmetic, byte swaps and comparisons of RFC 9669 sections 4.1 to 4.3, as functions of values.

use isa::{AluOp, ByteOrder, Cond, Size, SwapBits, Width};

/// `a op b` at this width; a 32-bit result is zero-extended.
pub(super) fn alu(width: Width, op: AluOp, a: u64, b: u64) -> u64 {
    match width {
        Width::W64 => alu64(op, a, b),
        Width::W32 => u64::from(alu32(op, low(a), low(b))),
    }
}

/// `-a` at this width.
pub(super) fn neg(width: Width, a: u64) -> u64 {
    truncate(width, a.wrapping_neg())
}

/// `a` cut to this width.
pub(super) fn truncate(width: Width, a: u64) -> u64 {
    match width {
        Width::W64 => a,
        Width::W32 => u64::from(low(a)),
    }
}

/// The low `from` bytes of `a`, sign-extended to this width.
pub(super) fn sign_extend(width: Width, from: Size, a: u64) -> u64 {
    let shift = 64 - u32::from(from.bits());
    truncate(width, ((a << shift).cast_signed() >> shift).cast_unsigned())
}

/// A byte swap of a register on this machine.
#[allow(clippy::cast_possible_truncation, reason = "narrow swaps use the low bytes and clear the others")]
pub(super) fn swap(order: ByteOrder, bits: SwapBits, a: u64) -> u64 {
    let swaps = match order {
        ByteOrder::ToLe => cfg!(target_endian = "big"),
        ByteOrder::ToBe => cfg!(target_endian = "little"),
        ByteOrder::Swap => true,
    };
    match (bits, swaps) {
        (SwapBits::B16, true) => u64::from((a as u16).swap_bytes()),
        (SwapBits::B16, false) => u64::from(a as u16),
        (SwapBits::B32, true) => u64::from((a as u32).swap_bytes()),
        (SwapBits::B32, false) => u64::from(a as u32),
        (SwapBits::B64, true) => a.swap_bytes(),
        (SwapBits::B64, false) => a,
    }
}

/// Whether `a cond b` holds at this width.
pub(super) fn compare(width: Width, cond: Cond, a: u64, b: u64) -> bool {
    let (a, b) = (truncate(width, a), truncate(width, b));
    let signed = |x: u64| match width {
        Width::W64 => x.cast_signed(),
        Width::W32 => i64::from(low(x).cast_signed()),
    };
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Set => a & b != 0,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::SGt => signed(a) > signed(b),
        Cond::SGe => signed(a) >= signed(b),
        Cond::SLt => signed(a) < signed(b),
        Cond::SLe => signed(a) <= signed(b),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low(a: u64) -> u32 {
    a as u32
}

/// Arithmetic at one width: the same table for both (RFC 9669 section 4.1).
macro_rules! alu {
    ($name:ident, $int:ty, $amount:expr) => {
        fn $name(op: AluOp, a: $int, b: $int) -> $int {
            let (signed_a, signed_b) = (a.cast_signed(), b.cast_signed());
            // Shift amounts are masked to the width.
            let amount: u32 = $amount(b);
            match op {
                AluOp::Add => a.wrapping_add(b),
                AluOp::Sub => a.wrapping_sub(b),
                AluOp::Mul => a.wrapping_mul(b),
                AluOp::Div => a.checked_div(b).unwrap_or(0),
                AluOp::SDiv if b == 0 => 0,
                AluOp::SDiv => signed_a.wrapping_div(signed_b).cast_unsigned(),
                AluOp::Mod => a.checked_rem(b).unwrap_or(a),
                AluOp::SMod if b == 0 => a,
                AluOp::SMod => signed_a.wrapping_rem(signed_b).cast_unsigned(),
                AluOp::Or => a | b,
                AluOp::And => a & b,
                AluOp::Xor => a ^ b,
                AluOp::Lsh => a.wrapping_shl(amount),
                AluOp::Rsh => a.wrapping_shr(amount),
                AluOp::Arsh => signed_a.wrapping_shr(amount).cast_unsigned(),
            }
        }
    };
}

alu!(alu64, u64, low);
alu!(alu32, u32, u32::from);

#[cfg(test)]
mod tests {
    use super::*;
    use AluOp::*;
    use Width::{W32, W64};

    const MIN64: u64 = 1 << 63;
    const MIN32: u64 = 1 << 31;
    /// -1 at 64 and at 32 bits.
    const M1: u64 = u64::MAX;

    #[test]
    fn arithmetic_follows_the_rfc() {
        let rows = [
            (W64, Add, M1, 1, 0),
            (W32, Add, 0xffff_ffff, 1, 0),
            (W32, Add, 0x1_0000_0001, 0x5_0000_0001, 2),
            (W64, Sub, 0, 1, M1),
            (W32, Sub, 0, 1, 0xffff_ffff),
            (W64, Mul, 1 << 63, 2, 0),
            (W32, Mul, 0x1_0000, 0x1_0000, 0),
            (W64, Div, 7, 2, 3),
            (W64, Div, 7, 0, 0),
            (W64, Div, M1, 2, 0x7fff_ffff_ffff_ffff),
            (W32, Div, 0x1_0000_0007, 0x1_0000_0000, 0),
            (W64, SDiv, (-7i64).cast_unsigned(), 2, (-3i64).cast_unsigned()),
            (W64, SDiv, 7, 0, 0),
            (W64, SDiv, MIN64, M1, MIN64),
            (W32, SDiv, MIN32, M1, MIN32),
            (W32, SDiv, (-7i64).cast_unsigned(), 2, 0xffff_fffd),
            (W64, Mod, 7, 0, 7),
            (W32, Mod, 0x1_0000_0007, 0, 7),
            (W64, Mod, 7, 4, 3),
            (W64, SMod, (-7i64).cast_unsigned(), 4, (-3i64).cast_unsigned()),
            (W64, SMod, MIN64, M1, 0),
            (W32, SMod, MIN32, M1, 0),
            (W32, SMod, 0x5_0000_0009, 0, 9),
            (W64, Or, 0xf0, 0x0f, 0xff),
            (W64, And, 0xf0, 0x3c, 0x30),
            (W64, Xor, 0xf0, 0x3c, 0xcc),
            (W32, Xor, M1, 0, 0xffff_ffff),
            (W64, Lsh, 1, 64, 1),
            (W64, Lsh, 1, 63, MIN64),
            (W32, Lsh, 1, 33, 2),
            (W64, Rsh, MIN64, 63, 1),
            (W32, Rsh, M1, 32, 0xffff_ffff),
            (W64, Arsh, MIN64, 63, M1),
            (W32, Arsh, MIN32, 31, 0xffff_ffff),
            (W32, Arsh, MIN32, 63, 0xffff_ffff),
        ];
        for (width, op, a, b, expected) in rows {
            assert_eq!(alu(width, op, a, b), expected, "{width:?} {op:?} {a:#x} {b:#x}");
        }
        assert_eq!((neg(W64, 1), neg(W32, 1), neg(W32, 1 << 32)), (M1, 0xffff_ffff, 0));
    }

    #[test]
    fn sign_extension_and_swaps_follow_the_rfc() {
        assert_eq!(sign_extend(W64, Size::B, 0x180), 0xffff_ffff_ffff_ff80);
        assert_eq!(sign_extend(W32, Size::B, 0x180), 0xffff_ff80);
        assert_eq!(sign_extend(W64, Size::H, 0x7fff), 0x7fff);
        assert_eq!(sign_extend(W64, Size::W, 0x8000_0000), 0xffff_ffff_8000_0000);
        let value = 0x1122_3344_5566_7788;
        assert_eq!(swap(ByteOrder::Swap, SwapBits::B16, value), 0x8877);
        assert_eq!(swap(ByteOrder::ToBe, SwapBits::B32, value), u64::from(0x5566_7788u32.to_be()));
        assert_eq!(swap(ByteOrder::ToLe, SwapBits::B32, value), u64::from(0x5566_7788u32.to_le()));
        assert_eq!(swap(ByteOrder::ToLe, SwapBits::B16, value), u64::from(0x7788u16.to_le()));
        assert_eq!(swap(ByteOrder::Swap, SwapBits::B64, value), 0x8877_6655_4433_2211);
    }

    #[test]
    fn comparisons_follow_the_rfc() {
        use Cond::*;
        let rows = [
            (W64, Eq, 1, 1, true),
            (W32, Eq, 0x1_0000_0001, 1, true),
            (W64, Eq, 0x1_0000_0001, 1, false),
            (W64, Ne, 1, 2, true),
            (W64, Set, 6, 2, true),
            (W32, Set, 1 << 32, 1 << 32, false),
            (W64, Gt, M1, 1, true),
            (W64, SGt, M1, 1, false),
            (W32, SGt, 1, 0xffff_ffff, true),
            (W64, SGt, 1, 0xffff_ffff, false),
            (W64, Ge, 1, 1, true),
            (W64, SGe, MIN64, 0, false),
            (W64, Lt, 1, M1, true),
            (W64, Le, 2, 1, false),
            (W64, SLt, M1, 0, true),
            (W32, SLe, MIN32, 0, true),
        ];
        for (width, cond, a, b, expected) in rows {
            assert_eq!(compare(width, cond, a, b), expected, "{width:?} {cond:?} {a:#x} {b:#x}");
        }
    }
}
