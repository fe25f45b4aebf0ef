//! Which instruction of the machine does what.

use iced_x86::Code;
use isa::{Size, Width};

use super::encode::pick;
use crate::x86::insn::{Alu, Cc, WideOp};

/// The forms of an operation with two operands.
#[derive(Clone, Copy)]
pub(super) struct Forms {
    /// Register, register or memory.
    pub(super) load: Code,
    /// Register or memory, register.
    pub(super) store: Code,
    /// Register or memory, number of 8 bits with sign.
    pub(super) byte: Code,
    /// Register or memory, number of 32 bits with sign.
    pub(super) number: Code,
}

macro_rules! forms {
    ($width:expr, $load32:ident $load64:ident, $store32:ident $store64:ident, $byte32:ident $byte64:ident, $number32:ident $number64:ident) => {
        Forms {
            load: pick($width, Code::$load32, Code::$load64),
            store: pick($width, Code::$store32, Code::$store64),
            byte: pick($width, Code::$byte32, Code::$byte64),
            number: pick($width, Code::$number32, Code::$number64),
        }
    };
}

/// The forms of an operation; a product has none like the others.
#[rustfmt::skip]
pub(super) fn alu(op: Alu, width: Width) -> Option<Forms> {
    Some(match op {
        Alu::Add => forms!(width, Add_r32_rm32 Add_r64_rm64, Add_rm32_r32 Add_rm64_r64, Add_rm32_imm8 Add_rm64_imm8, Add_rm32_imm32 Add_rm64_imm32),
        Alu::Sub => forms!(width, Sub_r32_rm32 Sub_r64_rm64, Sub_rm32_r32 Sub_rm64_r64, Sub_rm32_imm8 Sub_rm64_imm8, Sub_rm32_imm32 Sub_rm64_imm32),
        Alu::And => forms!(width, And_r32_rm32 And_r64_rm64, And_rm32_r32 And_rm64_r64, And_rm32_imm8 And_rm64_imm8, And_rm32_imm32 And_rm64_imm32),
        Alu::Or => forms!(width, Or_r32_rm32 Or_r64_rm64, Or_rm32_r32 Or_rm64_r64, Or_rm32_imm8 Or_rm64_imm8, Or_rm32_imm32 Or_rm64_imm32),
        Alu::Xor => forms!(width, Xor_r32_rm32 Xor_r64_rm64, Xor_rm32_r32 Xor_rm64_r64, Xor_rm32_imm8 Xor_rm64_imm8, Xor_rm32_imm32 Xor_rm64_imm32),
        Alu::Mul => return None,
    })
}

/// The forms of a comparison.
#[rustfmt::skip]
pub(super) fn cmp(width: Width) -> Forms {
    forms!(width, Cmp_r32_rm32 Cmp_r64_rm64, Cmp_rm32_r32 Cmp_rm64_r64, Cmp_rm32_imm8 Cmp_rm64_imm8, Cmp_rm32_imm32 Cmp_rm64_imm32)
}

/// Moves a number, or memory, to a register while extending it.
pub(super) fn extend(size: Size, signed: bool, width: Width) -> Code {
    match (size, signed) {
        (Size::B, false) => Code::Movzx_r32_rm8,
        (Size::B, true) => pick(width, Code::Movsx_r32_rm8, Code::Movsx_r64_rm8),
        (Size::H, false) => Code::Movzx_r32_rm16,
        (Size::H, true) => pick(width, Code::Movsx_r32_rm16, Code::Movsx_r64_rm16),
        (Size::W, false) => Code::Mov_r32_rm32,
        (Size::W, true) => pick(width, Code::Mov_r32_rm32, Code::Movsxd_r64_rm32),
        (Size::DW, _) => pick(width, Code::Mov_r32_rm32, Code::Mov_r64_rm64),
    }
}

/// Stores a register, or a number.
pub(super) fn store(size: Size, number: bool) -> Code {
    match (size, number) {
        (Size::B, false) => Code::Mov_rm8_r8,
        (Size::H, false) => Code::Mov_rm16_r16,
        (Size::W, false) => Code::Mov_rm32_r32,
        (Size::DW, false) => Code::Mov_rm64_r64,
        (Size::B, true) => Code::Mov_rm8_imm8,
        (Size::H, true) => Code::Mov_rm16_imm16,
        (Size::W, true) => Code::Mov_rm32_imm32,
        (Size::DW, true) => Code::Mov_rm64_imm32,
    }
}

/// Jumps if a condition holds.
pub(super) fn jump_if(cc: Cc) -> Code {
    match cc {
        Cc::Equal => Code::Je_rel32_64,
        Cc::NotEqual => Code::Jne_rel32_64,
        Cc::Above => Code::Ja_rel32_64,
        Cc::AboveEqual => Code::Jae_rel32_64,
        Cc::Below => Code::Jb_rel32_64,
        Cc::BelowEqual => Code::Jbe_rel32_64,
        Cc::Greater => Code::Jg_rel32_64,
        Cc::GreaterEqual => Code::Jge_rel32_64,
        Cc::Less => Code::Jl_rel32_64,
        Cc::LessEqual => Code::Jle_rel32_64,
    }
}

/// Sets a byte to whether a condition holds.
pub(super) fn set_if(cc: Cc) -> Code {
    match cc {
        Cc::Equal => Code::Sete_rm8,
        Cc::NotEqual => Code::Setne_rm8,
        Cc::Above => Code::Seta_rm8,
        Cc::AboveEqual => Code::Setae_rm8,
        Cc::Below => Code::Setb_rm8,
        Cc::BelowEqual => Code::Setbe_rm8,
        Cc::Greater => Code::Setg_rm8,
        Cc::GreaterEqual => Code::Setge_rm8,
        Cc::Less => Code::Setl_rm8,
        Cc::LessEqual => Code::Setle_rm8,
    }
}

/// Moves 64 bits if a condition holds.
pub(super) fn move_if(cc: Cc) -> Code {
    match cc {
        Cc::Equal => Code::Cmove_r64_rm64,
        Cc::NotEqual => Code::Cmovne_r64_rm64,
        Cc::Above => Code::Cmova_r64_rm64,
        Cc::AboveEqual => Code::Cmovae_r64_rm64,
        Cc::Below => Code::Cmovb_r64_rm64,
        Cc::BelowEqual => Code::Cmovbe_r64_rm64,
        Cc::Greater => Code::Cmovg_r64_rm64,
        Cc::GreaterEqual => Code::Cmovge_r64_rm64,
        Cc::Less => Code::Cmovl_r64_rm64,
        Cc::LessEqual => Code::Cmovle_r64_rm64,
    }
}

/// An operation on 16 bytes.
pub(super) fn lanes(op: WideOp) -> Code {
    let of = |size, b, h, w, dw| match size {
        Size::B => b,
        Size::H => h,
        Size::W => w,
        Size::DW => dw,
    };
    match op {
        WideOp::Add(size) => of(
            size,
            Code::Paddb_xmm_xmmm128,
            Code::Paddw_xmm_xmmm128,
            Code::Paddd_xmm_xmmm128,
            Code::Paddq_xmm_xmmm128,
        ),
        WideOp::Sub(size) => of(
            size,
            Code::Psubb_xmm_xmmm128,
            Code::Psubw_xmm_xmmm128,
            Code::Psubd_xmm_xmmm128,
            Code::Psubq_xmm_xmmm128,
        ),
        WideOp::Equal(size) => of(
            size,
            Code::Pcmpeqb_xmm_xmmm128,
            Code::Pcmpeqw_xmm_xmmm128,
            Code::Pcmpeqd_xmm_xmmm128,
            Code::Pcmpeqq_xmm_xmmm128,
        ),
        WideOp::InterleaveLow(size) => of(
            size,
            Code::Punpcklbw_xmm_xmmm128,
            Code::Punpcklwd_xmm_xmmm128,
            Code::Punpckldq_xmm_xmmm128,
            Code::Punpcklqdq_xmm_xmmm128,
        ),
        WideOp::InterleaveHigh(size) => of(
            size,
            Code::Punpckhbw_xmm_xmmm128,
            Code::Punpckhwd_xmm_xmmm128,
            Code::Punpckhdq_xmm_xmmm128,
            Code::Punpckhqdq_xmm_xmmm128,
        ),
        WideOp::And => Code::Pand_xmm_xmmm128,
        WideOp::Or => Code::Por_xmm_xmmm128,
        WideOp::Xor => Code::Pxor_xmm_xmmm128,
    }
}
