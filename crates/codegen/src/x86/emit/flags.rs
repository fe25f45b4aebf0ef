//! Comparisons, and what is made of flags.

use iced_x86::{Code, Instruction};
use isa::Width;

use super::arith::in_width;
use super::encode::{Gpr, pick};
use super::{EmitError, Emitter, codes};
use crate::x86::insn::{Cc, Reg, Src, Test};

impl Emitter<'_> {
    /// Sets flags.
    pub(super) fn compare(&mut self, test: Test) {
        let Test { cc, and, width, a, b } = test;
        match (a, b) {
            (Src::Reg(a), Src::Imm(value)) => {
                let a = self.reg(a);
                let value = in_width(width, value);
                if and { self.test_number(cc, width, a, value) } else { self.compare_number(width, a, value) }
            }
            (Src::Slot(a), Src::Imm(value)) => {
                let a = self.slot(a);
                let Ok(value) = i32::try_from(in_width(width, value)) else {
                    return self.asm.fail(EmitError::Operand);
                };
                let forms = codes::cmp(width);
                let code = match i8::try_from(value) {
                    _ if and => pick(width, Code::Test_rm32_imm32, Code::Test_rm64_imm32),
                    Ok(_) => forms.byte,
                    Err(_) => forms.number,
                };
                self.asm.put(Instruction::with2(code, a, value));
            }
            (Src::Reg(a), Src::Reg(b)) => {
                let (a, b) = (self.reg(a).wide(width), self.reg(b).wide(width));
                let code = if and { bits(width) } else { codes::cmp(width).store };
                self.asm.put(Instruction::with2(code, a, b));
            }
            (Src::Reg(a), Src::Slot(b)) => {
                let (a, b) = (self.reg(a).wide(width), self.slot(b));
                self.asm.put(match and {
                    true => Instruction::with2(bits(width), b, a),
                    false => Instruction::with2(codes::cmp(width).load, a, b),
                });
            }
            (Src::Slot(a), Src::Reg(b)) => {
                let (a, b) = (self.slot(a), self.reg(b).wide(width));
                let code = if and { bits(width) } else { codes::cmp(width).store };
                self.asm.put(Instruction::with2(code, a, b));
            }
            (Src::Imm(_), _) | (Src::Slot(_), Src::Slot(_)) => self.asm.fail(EmitError::Operand),
        }
    }

    fn compare_number(&mut self, width: Width, a: Gpr, value: i64) {
        let (forms, register) = (codes::cmp(width), a.wide(width));
        let Ok(number) = i32::try_from(value) else {
            let memory = self.asm.constant(value);
            return self.asm.put(Instruction::with2(forms.load, register, memory));
        };
        self.asm.put(match i8::try_from(number) {
            Ok(0) => Instruction::with2(bits(width), register, register),
            Ok(_) => Instruction::with2(forms.byte, register, number),
            Err(_) => Instruction::with2(forms.number, register, number),
        });
    }

    fn test_number(&mut self, cc: Cc, width: Width, a: Gpr, value: i64) {
        let zero_only = matches!(cc, Cc::Equal | Cc::NotEqual);
        let made = match (u8::try_from(value), u32::try_from(value), i32::try_from(value)) {
            // The uppermost bit of the result is 0 either way.
            (Ok(value), ..) if zero_only || value < 0x80 => {
                Instruction::with2(Code::Test_rm8_imm8, a.r8(), u32::from(value))
            }
            (_, Ok(value), _) if zero_only || value <= i32::MAX.cast_unsigned() => {
                Instruction::with2(Code::Test_rm32_imm32, a.r32(), value)
            }
            (.., Ok(value)) => {
                let code = pick(width, Code::Test_rm32_imm32, Code::Test_rm64_imm32);
                Instruction::with2(code, a.wide(width), value)
            }
            _ => {
                let memory = self.asm.constant(value);
                Instruction::with2(Code::Test_rm64_r64, memory, a.r64())
            }
        };
        self.asm.put(made);
    }

    /// Flags live between the comparison and the conditional move.
    pub(super) fn select(&mut self, dst: Reg, test: Test, yes: Src, no: Src) {
        self.compare(test);
        let is_dst =
            |emitter: &mut Self, src| matches!(src, Src::Reg(src) if emitter.reg(src) == emitter.reg(dst));
        let cc = test.cc;
        if is_dst(self, yes) {
            return self.move_if(cc.negated(), dst, no);
        }
        if is_dst(self, no) {
            return self.move_if(cc, dst, yes);
        }
        // A number is moved first: as an operand it would be behind the code.
        let (first, cc, second) = match (yes, no) {
            (Src::Imm(_), Src::Reg(_) | Src::Slot(_)) => (yes, cc.negated(), no),
            _ => (no, cc, yes),
        };
        let to = self.reg(dst);
        match first {
            Src::Reg(src) => {
                let src = self.reg(src);
                self.copy(Width::W64, to, src);
            }
            Src::Imm(value) => self.number_with_flags(Width::W64, to, value),
            Src::Slot(slot) => {
                let slot = self.slot(slot);
                self.load_slot(Width::W64, to, slot);
            }
        }
        self.move_if(cc, dst, second);
    }

    fn move_if(&mut self, cc: Cc, dst: Reg, src: Src) {
        let dst = self.reg(dst).r64();
        let code = codes::move_if(cc);
        match src {
            Src::Reg(src) => {
                let src = self.reg(src).r64();
                if src != dst {
                    self.asm.put(Instruction::with2(code, dst, src));
                }
            }
            Src::Imm(value) => {
                let memory = self.asm.constant(value);
                self.asm.put(Instruction::with2(code, dst, memory));
            }
            Src::Slot(slot) => {
                let slot = self.slot(slot);
                self.asm.put(Instruction::with2(code, dst, slot));
            }
        }
    }

    pub(super) fn set(&mut self, dst: Reg, test: Test) {
        let dst = self.reg(dst);
        let mut read = false;
        for src in [test.a, test.b] {
            read |= matches!(src, Src::Reg(src) if self.reg(src) == dst);
        }
        if !read {
            self.number(Width::W32, dst, 0);
        }
        self.compare(test);
        self.asm.put(Instruction::with1(codes::set_if(test.cc), dst.r8()));
        if read {
            self.asm.put(Instruction::with2(Code::Movzx_r32_rm8, dst.r32(), dst.r8()));
        }
    }
}

/// `test` of a register or memory, and a register.
fn bits(width: Width) -> Code {
    pick(width, Code::Test_rm32_r32, Code::Test_rm64_r64)
}
