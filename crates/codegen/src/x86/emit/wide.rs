//! Operations on 16 bytes.

use iced_x86::{Code, Instruction, Register};

use super::{EmitError, Emitter, codes};
use crate::x86::insn::{Insn, Reg, WideOp};

impl Emitter<'_> {
    /// Writes an instruction of 16 bytes.
    pub(super) fn wide(&mut self, insn: &Insn) {
        let made = match *insn {
            Insn::WideLoad { dst, address, access } => {
                let (dst, memory) = (self.xmm(dst), self.address(address));
                self.accesses(access);
                Instruction::with2(Code::Movdqu_xmm_xmmm128, dst, memory)
            }
            Insn::WideStore { address, src, access } => {
                let (memory, src) = (self.address(address), self.xmm(src));
                self.accesses(access);
                Instruction::with2(Code::Movdqu_xmmm128_xmm, memory, src)
            }
            Insn::WideAlu { op, dst, a, b } => return self.lanes(op, dst, a, b),
            Insn::WideMov { dst, src } => {
                let (dst, src) = (self.xmm(dst), self.xmm(src));
                return self.wide_copy(dst, src);
            }
            Insn::WideZero { dst } => {
                let dst = self.xmm(dst);
                Instruction::with2(Code::Pxor_xmm_xmmm128, dst, dst)
            }
            Insn::ToWide { dst, src } => {
                let (dst, src) = (self.xmm(dst), self.reg(src).r64());
                Instruction::with2(Code::Movq_xmm_rm64, dst, src)
            }
            Insn::FromWide { dst, src } => {
                let (dst, src) = (self.reg(dst).r64(), self.xmm(src));
                Instruction::with2(Code::Movq_rm64_xmm, dst, src)
            }
            Insn::Shuffle { low_words, dst, src, order } => {
                let code =
                    if low_words { Code::Pshuflw_xmm_xmmm128_imm8 } else { Code::Pshufd_xmm_xmmm128_imm8 };
                Instruction::with3(code, self.xmm(dst), self.xmm(src), u32::from(order))
            }
            Insn::SignBits { dst, src } => {
                let (dst, src) = (self.reg(dst).r32(), self.xmm(src));
                Instruction::with2(Code::Pmovmskb_r32_xmm, dst, src)
            }
            _ => return self.asm.fail(EmitError::Operand),
        };
        self.asm.put(made);
    }

    fn lanes(&mut self, op: WideOp, dst: Reg, a: Reg, b: Reg) {
        let (dst, a, b) = (self.xmm(dst), self.xmm(a), self.xmm(b));
        if dst == b && dst != a {
            return self.asm.fail(EmitError::Operand);
        }
        self.wide_copy(dst, a);
        self.asm.put(Instruction::with2(codes::lanes(op), dst, b));
    }

    fn wide_copy(&mut self, dst: Register, src: Register) {
        if dst != src {
            self.asm.put(Instruction::with2(Code::Movdqa_xmm_xmmm128, dst, src));
        }
    }
}
