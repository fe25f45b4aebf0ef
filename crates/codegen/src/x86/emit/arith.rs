//! Arithmetic: three operands become two.

use iced_x86::{Code, Instruction, MemoryOperand, Register};
use isa::{Size, Width};

use super::cold::Cold;
use super::encode::{Gpr, pick};
use super::{EmitError, Emitter, codes};
use crate::x86::insn::{Address, Alu, Cc, Reg, Shift, Slot, Src};

impl Emitter<'_> {
    /// `dst = src`, which is nothing if they are the same. Of 32 bits, whatever comes next clears the upper half.
    pub(super) fn copy(&mut self, width: Width, dst: Gpr, src: Gpr) {
        if dst != src {
            self.mov_register(width, dst, src);
        }
    }

    /// `dst = src`; of 32 bits, with zeros above.
    pub(super) fn mov_register(&mut self, width: Width, dst: Gpr, src: Gpr) {
        if width == Width::W32 || dst != src {
            let code = pick(width, Code::Mov_r32_rm32, Code::Mov_r64_rm64);
            self.asm.put(Instruction::with2(code, dst.wide(width), src.wide(width)));
        }
    }

    pub(super) fn load_slot(&mut self, width: Width, dst: Gpr, from: MemoryOperand) {
        let code = pick(width, Code::Mov_r32_rm32, Code::Mov_r64_rm64);
        self.asm.put(Instruction::with2(code, dst.wide(width), from));
    }

    /// `dst = value`. Overwrites flags.
    pub(super) fn number(&mut self, width: Width, dst: Gpr, value: i64) {
        if in_width(width, value) == 0 {
            self.asm.put(Instruction::with2(Code::Xor_r32_rm32, dst.r32(), dst.r32()));
        } else {
            self.number_with_flags(width, dst, value);
        }
    }

    /// `dst = value`. Keeps flags.
    pub(super) fn number_with_flags(&mut self, width: Width, dst: Gpr, value: i64) {
        let value = match width {
            Width::W32 => i64::from(low(value).cast_unsigned()),
            Width::W64 => value,
        };
        if let Ok(value) = u32::try_from(value) {
            self.asm.put(Instruction::with2(Code::Mov_r32_imm32, dst.r32(), value));
        } else if let Ok(value) = i32::try_from(value) {
            self.asm.put(Instruction::with2(Code::Mov_rm64_imm32, dst.r64(), value));
        } else {
            self.asm.put(Instruction::with2(Code::Mov_r64_imm64, dst.r64(), value));
        }
    }

    pub(super) fn store_slot(&mut self, slot: Slot, src: Src) {
        let slot = self.slot(slot);
        match src {
            Src::Reg(src) => {
                let src = self.reg(src).r64();
                self.asm.put(Instruction::with2(Code::Mov_rm64_r64, slot, src));
            }
            Src::Imm(value) => match i32::try_from(value) {
                Ok(value) => self.asm.put(Instruction::with2(Code::Mov_rm64_imm32, slot, value)),
                Err(_) => self.asm.fail(EmitError::Operand),
            },
            Src::Slot(_) => self.asm.fail(EmitError::Operand),
        }
    }

    pub(super) fn slot_alu(&mut self, op: Alu, slot: Slot, b: Src) {
        let slot = self.slot(slot);
        let Some(forms) = codes::alu(op, Width::W64) else { return self.asm.fail(EmitError::Operand) };
        match b {
            Src::Reg(b) => {
                let b = self.reg(b).r64();
                self.asm.put(Instruction::with2(forms.store, slot, b));
            }
            Src::Imm(value) => match (i8::try_from(value), i32::try_from(value)) {
                (Ok(value), _) => self.asm.put(Instruction::with2(forms.byte, slot, i32::from(value))),
                (_, Ok(value)) => self.asm.put(Instruction::with2(forms.number, slot, value)),
                _ => self.asm.fail(EmitError::Operand),
            },
            Src::Slot(_) => self.asm.fail(EmitError::Operand),
        }
    }

    /// `dst = a op b`.
    pub(super) fn alu(&mut self, op: Alu, width: Width, dst: Gpr, a: Gpr, b: Src) {
        match b {
            Src::Reg(b) => {
                let b = self.reg(b);
                self.alu_register(op, width, dst, a, b);
            }
            Src::Slot(slot) => {
                let slot = self.slot(slot);
                self.alu_memory(op, width, dst, a, slot);
            }
            Src::Imm(value) => self.alu_number(op, width, dst, a, in_width(width, value)),
        }
    }

    fn alu_register(&mut self, op: Alu, width: Width, dst: Gpr, a: Gpr, b: Gpr) {
        if dst == a {
            self.alu_in_place(op, width, dst, b);
        } else if op == Alu::Sub && dst == b {
            self.neg(width, dst);
            self.alu_in_place(Alu::Add, width, dst, a);
        } else if dst == b {
            self.alu_in_place(op, width, dst, a);
        } else if op == Alu::Add {
            self.lea_sum(width, dst, a.r64(), b.r64(), 1, 0);
        } else {
            self.copy(width, dst, a);
            self.alu_in_place(op, width, dst, b);
        }
    }

    fn alu_in_place(&mut self, op: Alu, width: Width, dst: Gpr, b: Gpr) {
        let code = in_place(op, width);
        self.asm.put(Instruction::with2(code, dst.wide(width), b.wide(width)));
    }

    fn alu_memory(&mut self, op: Alu, width: Width, dst: Gpr, a: Gpr, b: MemoryOperand) {
        self.copy(width, dst, a);
        self.asm.put(Instruction::with2(in_place(op, width), dst.wide(width), b));
    }

    /// `value` is what the width makes of it, with its sign.
    fn alu_number(&mut self, op: Alu, width: Width, dst: Gpr, a: Gpr, value: i64) {
        match (op, width, value) {
            (Alu::Add | Alu::Sub | Alu::Or | Alu::Xor, _, 0) | (Alu::And, _, -1) | (Alu::Mul, _, 1) => {
                return self.mov_register(width, dst, a);
            }
            (Alu::And, _, 0xff) => return self.zero_extend(Code::Movzx_r32_rm8, dst, a.r8()),
            (Alu::And, _, 0xffff) => return self.zero_extend(Code::Movzx_r32_rm16, dst, a.r16()),
            (Alu::And, Width::W64, 0xffff_ffff) => return self.zero_extend(Code::Mov_r32_rm32, dst, a.r32()),
            // What the upper half is and-ed with is 0.
            (Alu::And, Width::W64, 0..=0xffff_ffff) => {
                return self.alu_number(op, Width::W32, dst, a, in_width(Width::W32, value));
            }
            (Alu::Mul, _, 3 | 5 | 9) => {
                let scale = u32::try_from(value - 1).unwrap_or_default();
                return self.lea_sum(width, dst, a.r64(), a.r64(), scale, 0);
            }
            _ => {}
        }
        let Ok(number) = i32::try_from(value) else {
            let memory = self.asm.constant(value);
            return self.alu_memory(op, width, dst, a, memory);
        };
        let distance = match op {
            Alu::Add => Some(number),
            Alu::Sub => number.checked_neg(),
            _ => None,
        };
        match distance {
            Some(distance) if dst != a => {
                self.lea_sum(width, dst, a.r64(), Register::None, 1, i64::from(distance));
            }
            _ if op == Alu::Mul => self.multiply(width, dst, a, number),
            _ => {
                self.copy(width, dst, a);
                self.alu_number_in_place(op, width, dst, number);
            }
        }
    }

    fn alu_number_in_place(&mut self, op: Alu, width: Width, dst: Gpr, number: i32) {
        if op == Alu::Xor && number == -1 {
            let code = pick(width, Code::Not_rm32, Code::Not_rm64);
            return self.asm.put(Instruction::with1(code, dst.wide(width)));
        }
        // The number of the other sign may be shorter: that of 128.
        let (op, number) = match (op, number) {
            (Alu::Add, 128) => (Alu::Sub, -128),
            (Alu::Sub, 128) => (Alu::Add, -128),
            same => same,
        };
        let Some(forms) = codes::alu(op, width) else { return self.asm.fail(EmitError::Operand) };
        let code = if i8::try_from(number).is_ok() { forms.byte } else { forms.number };
        self.asm.put(Instruction::with2(code, dst.wide(width), number));
    }

    fn multiply(&mut self, width: Width, dst: Gpr, a: Gpr, number: i32) {
        let code = match i8::try_from(number) {
            Ok(_) => pick(width, Code::Imul_r32_rm32_imm8, Code::Imul_r64_rm64_imm8),
            Err(_) => pick(width, Code::Imul_r32_rm32_imm32, Code::Imul_r64_rm64_imm32),
        };
        self.asm.put(Instruction::with3(code, dst.wide(width), a.wide(width), number));
    }

    fn zero_extend(&mut self, code: Code, dst: Gpr, from: Register) {
        self.asm.put(Instruction::with2(code, dst.r32(), from));
    }

    /// `dst = base + index * scale + offset`.
    fn lea_sum(&mut self, width: Width, dst: Gpr, base: Register, index: Register, scale: u32, offset: i64) {
        // A base of `r13` needs a displacement.
        let swap = scale == 1 && base == Register::R13 && index != Register::None;
        let (base, index) = if swap { (index, base) } else { (base, index) };
        let bytes = if base == Register::None { 8 } else { u32::from(offset != 0) };
        let memory = MemoryOperand::new(base, index, scale, offset, bytes, false, Register::None);
        self.lea_memory(width, dst, memory);
    }

    fn lea_memory(&mut self, width: Width, dst: Gpr, memory: MemoryOperand) {
        let code = pick(width, Code::Lea_r32_m, Code::Lea_r64_m);
        self.asm.put(Instruction::with2(code, dst.wide(width), memory));
    }

    pub(super) fn lea(&mut self, width: Width, dst: Reg, address: Address) {
        let dst = self.reg(dst);
        if address.index.is_none() {
            let base = self.reg(address.base);
            return self.alu_number(Alu::Add, width, dst, base, i64::from(address.offset));
        }
        let memory = self.address(address);
        self.lea_memory(width, dst, memory);
    }

    pub(super) fn neg(&mut self, width: Width, dst: Gpr) {
        let code = pick(width, Code::Neg_rm32, Code::Neg_rm64);
        self.asm.put(Instruction::with1(code, dst.wide(width)));
    }

    pub(super) fn and_not(&mut self, width: Width, dst: Reg, a: Reg, b: Reg) {
        let (dst, a, b) = (self.reg(dst).wide(width), self.reg(a).wide(width), self.reg(b).wide(width));
        let code = pick(width, Code::VEX_Andn_r32_r32_rm32, Code::VEX_Andn_r64_r64_rm64);
        self.asm.put(Instruction::with3(code, dst, a, b));
    }

    pub(super) fn shift_by_number(&mut self, op: Shift, width: Width, dst: Gpr, a: Gpr, by: i64) {
        let bits = if width == Width::W32 { 31 } else { 63 };
        let by = low(by) & bits;
        if by == 0 {
            return self.mov_register(width, dst, a);
        }
        if op == Shift::Left && dst != a && by <= 3 {
            return match by {
                1 => self.lea_sum(width, dst, a.r64(), a.r64(), 1, 0),
                _ => self.lea_sum(width, dst, Register::None, a.r64(), 1 << by, 0),
            };
        }
        if op == Shift::Rotate && dst != a {
            let code = pick(width, Code::VEX_Rorx_r32_rm32_imm8, Code::VEX_Rorx_r64_rm64_imm8);
            return self.asm.put(Instruction::with3(code, dst.wide(width), a.wide(width), by));
        }
        self.copy(width, dst, a);
        let code = match op {
            Shift::Left if by == 1 => return self.alu_in_place(Alu::Add, width, dst, dst),
            Shift::Left => pick(width, Code::Shl_rm32_imm8, Code::Shl_rm64_imm8),
            Shift::Right => pick(width, Code::Shr_rm32_imm8, Code::Shr_rm64_imm8),
            Shift::Arithmetic => pick(width, Code::Sar_rm32_imm8, Code::Sar_rm64_imm8),
            Shift::Rotate => pick(width, Code::Ror_rm32_imm8, Code::Ror_rm64_imm8),
        };
        self.asm.put(Instruction::with2(code, dst.wide(width), by));
    }

    pub(super) fn shift_by_register(&mut self, op: Shift, width: Width, dst: Gpr, a: Gpr, by: Gpr) {
        let code = match op {
            Shift::Left => pick(width, Code::VEX_Shlx_r32_rm32_r32, Code::VEX_Shlx_r64_rm64_r64),
            Shift::Right => pick(width, Code::VEX_Shrx_r32_rm32_r32, Code::VEX_Shrx_r64_rm64_r64),
            Shift::Arithmetic => pick(width, Code::VEX_Sarx_r32_rm32_r32, Code::VEX_Sarx_r64_rm64_r64),
            Shift::Rotate => return self.asm.fail(EmitError::Operand),
        };
        self.asm.put(Instruction::with3(code, dst.wide(width), a.wide(width), by.wide(width)));
    }

    pub(super) fn extend(&mut self, from: Size, signed: bool, width: Width, dst: Reg, src: Src) {
        let code = codes::extend(from, signed, width);
        let dst = self.reg(dst);
        let to = if is_wide(code) { dst.r64() } else { dst.r32() };
        match src {
            Src::Reg(src) => {
                let src = self.reg(src);
                let src = match (from, code) {
                    (Size::B, _) => src.r8(),
                    (Size::H, _) => src.r16(),
                    (_, Code::Mov_r64_rm64) if src == dst => return,
                    (_, Code::Mov_r64_rm64) => src.r64(),
                    _ => src.r32(),
                };
                self.asm.put(Instruction::with2(code, to, src));
            }
            Src::Slot(slot) => {
                let slot = self.slot(slot);
                self.asm.put(Instruction::with2(code, to, slot));
            }
            Src::Imm(_) => self.asm.fail(EmitError::Operand),
        }
    }

    pub(super) fn swap_bytes(&mut self, size: Size, dst: Reg, src: Reg) {
        let (dst, src) = (self.reg(dst), self.reg(src));
        match size {
            Size::B => self.asm.fail(EmitError::Operand),
            Size::H => {
                self.copy(Width::W32, dst, src);
                self.asm.put(Instruction::with2(Code::Rol_rm16_imm8, dst.r16(), 8));
                self.zero_extend(Code::Movzx_r32_rm16, dst, dst.r16());
            }
            Size::W => {
                self.copy(Width::W32, dst, src);
                self.asm.put(Instruction::with1(Code::Bswap_r32, dst.r32()));
            }
            Size::DW => {
                self.copy(Width::W64, dst, src);
                self.asm.put(Instruction::with1(Code::Bswap_r64, dst.r64()));
            }
        }
    }

    pub(super) fn trailing_zeros(&mut self, dst: Reg, src: Reg) {
        let (dst, src) = (self.reg(dst).r64(), self.reg(src).r64());
        self.asm.put(Instruction::with2(Code::Tzcnt_r64_rm64, dst, src));
    }

    pub(super) fn mul_high(&mut self, dst: Reg, a: Reg, b: Reg) {
        let (dst, a, b) = (self.reg(dst).r64(), self.reg(a), self.reg(b).r64());
        self.copy(Width::W64, Gpr::RDX, a);
        self.asm.put(Instruction::with3(Code::VEX_Mulx_r64_r64_rm64, dst, dst, b));
    }

    /// What division by 0 and -1 gives, which the machine refuses, is in a cold part.
    pub(super) fn div(&mut self, width: Width, signed: bool, remainder: bool, dst: Reg, a: Reg, b: Reg) {
        let (dst, a, b) = (self.reg(dst), self.reg(a), self.reg(b));
        if b == Gpr::RAX || b == Gpr::RDX {
            self.asm.fail(EmitError::Operand);
        }
        let (zero, minus_one, back) = (self.asm.label(), self.asm.label(), self.asm.label());
        let test = pick(width, Code::Test_rm32_r32, Code::Test_rm64_r64);
        self.asm.put(Instruction::with2(test, b.wide(width), b.wide(width)));
        self.asm.branch(codes::jump_if(Cc::Equal), zero);
        if signed {
            self.asm.put(Instruction::with2(codes::cmp(width).byte, b.wide(width), -1));
            self.asm.branch(codes::jump_if(Cc::Equal), minus_one);
        }
        self.copy(width, Gpr::RAX, a);
        let code = if signed {
            self.asm.put(Ok(Instruction::with(pick(width, Code::Cdq, Code::Cqo))));
            pick(width, Code::Idiv_rm32, Code::Idiv_rm64)
        } else {
            self.number(Width::W32, Gpr::RDX, 0);
            pick(width, Code::Div_rm32, Code::Div_rm64)
        };
        self.asm.put(Instruction::with1(code, b.wide(width)));
        self.copy(width, dst, if remainder { Gpr::RDX } else { Gpr::RAX });
        self.asm.bind(back);
        let at = self.locations.last().map(|(_, at)| *at);
        let minus_one = signed.then_some(minus_one);
        self.cold.push(Cold::Division { at, width, remainder, dst, a, zero, minus_one, back });
    }
}

/// Adds, say, a register or memory to a register.
fn in_place(op: Alu, width: Width) -> Code {
    codes::alu(op, width)
        .map_or_else(|| pick(width, Code::Imul_r32_rm32, Code::Imul_r64_rm64), |forms| forms.load)
}

/// Whether what it writes is a register of 64 bits.
pub(super) fn is_wide(code: Code) -> bool {
    use Code::{Mov_r64_rm64, Movsx_r64_rm8, Movsx_r64_rm16, Movsxd_r64_rm32};
    matches!(code, Mov_r64_rm64 | Movsx_r64_rm8 | Movsx_r64_rm16 | Movsxd_r64_rm32)
}

/// The low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "the other bits are of no interest")]
pub(super) fn low(value: i64) -> i32 {
    value as i32
}

/// A number as operations of a width see it.
pub(super) fn in_width(width: Width, value: i64) -> i64 {
    match width {
        Width::W32 => i64::from(low(value)),
        Width::W64 => value,
    }
}
