//! Arithmetic (RFC 9669 section 4.1 and 4.2).
//!
//! Operations of 32 bits work on the low halves and zero-extend their result. Shifts use the low 5 or 6 bits of
//! the amount, which is what the backend's shifts do.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use isa::{AluOp, Size, SwapBits, Width};

use super::{Lower, memory_type};
use crate::flow::{Src, Test, Var};

impl Lower<'_, '_> {
    pub(super) fn alu(&mut self, width: Width, op: AluOp, dst: Var, a: Var, src: Src) {
        let a = self.get_low(width, a);
        let b = self.operand(width, src);
        let result = match op {
            AluOp::Add => self.b.ins().iadd(a, b),
            AluOp::Sub => self.b.ins().isub(a, b),
            AluOp::Mul => self.b.ins().imul(a, b),
            AluOp::Or => self.b.ins().bor(a, b),
            AluOp::And => self.b.ins().band(a, b),
            AluOp::Xor => self.b.ins().bxor(a, b),
            AluOp::Lsh => self.b.ins().ishl(a, b),
            AluOp::Rsh => self.b.ins().ushr(a, b),
            AluOp::Arsh => self.b.ins().sshr(a, b),
            AluOp::Div => self.udiv(width, a, b, src),
            AluOp::Mod => self.umod(width, a, b, src),
            AluOp::SDiv => self.sdiv(width, a, b, src),
            AluOp::SMod => self.smod(width, a, b, src),
        };
        self.set_low(width, dst, result);
    }

    pub(super) fn neg(&mut self, width: Width, dst: Var, src: Var) {
        let value = self.get_low(width, src);
        let value = self.b.ins().ineg(value);
        self.set_low(width, dst, value);
    }

    /// `dst = (s8|s16|s32)src`.
    pub(super) fn sign_extend(&mut self, width: Width, from: Size, dst: Var, src: Var) {
        let value = self.get(src);
        let value = match from {
            Size::DW => value,
            narrow => self.b.ins().ireduce(memory_type(narrow), value),
        };
        let value = match (width, from) {
            (Width::W64, Size::DW) => value,
            (Width::W32, Size::DW) => self.b.ins().ireduce(types::I32, value),
            (Width::W32, Size::W) => value,
            (Width::W32, _) => self.b.ins().sextend(types::I32, value),
            (Width::W64, _) => self.b.ins().sextend(types::I64, value),
        };
        self.set_low(width, dst, value);
    }

    pub(super) fn swap_bytes(&mut self, bits: SwapBits, dst: Var, src: Var) {
        let value = self.get(src);
        let narrow = match bits {
            SwapBits::B16 => Some(types::I16),
            SwapBits::B32 => Some(types::I32),
            SwapBits::B64 => None,
        };
        let value = narrow.map_or(value, |ty| self.b.ins().ireduce(ty, value));
        let value = self.b.ins().bswap(value);
        let value = narrow.map_or(value, |_| self.b.ins().uextend(types::I64, value));
        self.set(dst, value);
    }

    pub(super) fn select(&mut self, dst: Var, test: Test, yes: Src, no: Src) {
        let condition = self.condition(test);
        let (yes, no) = (self.operand(Width::W64, yes), self.operand(Width::W64, no));
        let value = self.b.ins().select(condition, yes, no);
        self.set(dst, value);
    }

    pub(super) fn compare(&mut self, dst: Var, test: Test) {
        let condition = self.condition(test);
        let value = match test.cond {
            isa::Cond::Set => self.b.ins().icmp_imm_s(IntCC::NotEqual, condition, 0),
            _ => condition,
        };
        let value = self.b.ins().uextend(types::I64, value);
        self.set(dst, value);
    }

    /// Division by zero gives 0.
    fn udiv(&mut self, width: Width, a: Value, b: Value, src: Src) -> Value {
        if safe_divisor(width, src, Signed::No) {
            return self.b.ins().udiv(a, b);
        }
        let zero = self.immediate(width, 0);
        let is_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let divisor = self.one_if(width, is_zero, b);
        let quotient = self.b.ins().udiv(a, divisor);
        self.b.ins().select(is_zero, zero, quotient)
    }

    /// Modulo zero leaves the dividend.
    fn umod(&mut self, width: Width, a: Value, b: Value, src: Src) -> Value {
        if safe_divisor(width, src, Signed::No) {
            return self.b.ins().urem(a, b);
        }
        let zero = self.immediate(width, 0);
        let is_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let divisor = self.one_if(width, is_zero, b);
        let remainder = self.b.ins().urem(a, divisor);
        self.b.ins().select(is_zero, a, remainder)
    }

    /// Division by zero gives 0; by -1 it negates, so that `MIN / -1` is `MIN`. Neither reaches the machine's
    /// division, which would trap.
    fn sdiv(&mut self, width: Width, a: Value, b: Value, src: Src) -> Value {
        if safe_divisor(width, src, Signed::Yes) {
            return self.b.ins().sdiv(a, b);
        }
        let (zero, minus_one) = (self.immediate(width, 0), self.immediate(width, -1));
        let is_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let is_minus_one = self.b.ins().icmp(IntCC::Equal, b, minus_one);
        let special = self.b.ins().bor(is_zero, is_minus_one);
        let divisor = self.one_if(width, special, b);
        let quotient = self.b.ins().sdiv(a, divisor);
        let negated = self.b.ins().ineg(a);
        let quotient = self.b.ins().select(is_minus_one, negated, quotient);
        self.b.ins().select(is_zero, zero, quotient)
    }

    /// Modulo zero leaves the dividend; modulo -1 is 0, as modulo 1.
    fn smod(&mut self, width: Width, a: Value, b: Value, src: Src) -> Value {
        if safe_divisor(width, src, Signed::Yes) {
            return self.b.ins().srem(a, b);
        }
        let (zero, minus_one) = (self.immediate(width, 0), self.immediate(width, -1));
        let is_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let is_minus_one = self.b.ins().icmp(IntCC::Equal, b, minus_one);
        let special = self.b.ins().bor(is_zero, is_minus_one);
        let divisor = self.one_if(width, special, b);
        let remainder = self.b.ins().srem(a, divisor);
        self.b.ins().select(is_zero, a, remainder)
    }

    /// 1 if the condition holds, else `value`.
    fn one_if(&mut self, width: Width, condition: Value, value: Value) -> Value {
        let one = self.immediate(width, 1);
        self.b.ins().select(condition, one, value)
    }
}

/// How a division reads its operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signed {
    No,
    Yes,
}

/// Whether the machine's own division gives BPF's result for every dividend.
fn safe_divisor(width: Width, src: Src, signed: Signed) -> bool {
    match src {
        Src::Imm(imm) => match (width, imm) {
            (Width::W64, 0) => false,
            (Width::W64, -1) => signed == Signed::No,
            (Width::W64, _) => true,
            (Width::W32, imm) => match imm & 0xffff_ffff {
                0 => false,
                0xffff_ffff => signed == Signed::No,
                _ => true,
            },
        },
        Src::Var(_) => false,
    }
}
