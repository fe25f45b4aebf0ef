//! Statements on scalars, and arithmetic on the arena pointer.

use isa::{AluOp, ByteOrder, Imm64, Insn, Operand, Reg, Size, SwapBits, Width};

use super::flow::Body;
use super::{ARENA, Generator, mov};

impl Generator {
    /// One instruction that changes one scalar.
    pub(super) fn scalar_statement(&mut self, body: &mut Body) {
        let dst = self.scalar_reg();
        let width = self.width();
        let insn = match self.rng.u8(..12) {
            0 => Insn::Neg { width, dst },
            1 => mov_width(width, dst, self.operand()),
            2 => {
                let from = match width {
                    Width::W32 => self.choose(&[Size::B, Size::H]),
                    Width::W64 => self.choose(&[Size::B, Size::H, Size::W]),
                };
                Insn::MovSx { width, from, dst, src: self.scalar_reg() }
            }
            3 => {
                let order = self.choose(&[ByteOrder::ToLe, ByteOrder::ToBe, ByteOrder::Swap]);
                let bits = self.choose(&[SwapBits::B16, SwapBits::B32, SwapBits::B64]);
                Insn::ByteSwap { order, bits, dst }
            }
            4 => Insn::LoadImm64 { dst, value: Imm64::Const(self.rng.u64(..)) },
            _ => self.alu(width, dst),
        };
        body.push(insn);
    }

    /// Arithmetic on the arena pointer, which the engines do in 32 bits; and what brings it back where memory is.
    pub(super) fn pointer_statement(&mut self, body: &mut Body) {
        match self.rng.u8(..4) {
            0 => self.arena_address(body, ARENA),
            1 => {
                let dst = self.scalar_reg();
                body.push(Insn::AddrSpaceCast { dst, src: ARENA, dst_as: 1, src_as: 0 });
            }
            _ => {
                let width = self.width();
                let insn = self.alu(width, ARENA);
                body.push(insn);
            }
        }
    }

    pub(super) fn width(&mut self) -> Width {
        self.choose(&[Width::W32, Width::W64])
    }

    pub(super) fn operand(&mut self) -> Operand {
        if self.rng.bool() { Operand::Reg(self.scalar_reg()) } else { Operand::Imm(self.imm()) }
    }

    fn alu(&mut self, width: Width, dst: Reg) -> Insn {
        let op = self.choose(&AluOp::ALL);
        let mut src = self.operand();
        if let Operand::Imm(imm) = &mut src {
            match op {
                // The verifiers refuse a constant that no run could use.
                AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
                    *imm &= if width == Width::W32 || dst == ARENA { 31 } else { 63 };
                }
                AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod if *imm == 0 => *imm = 7,
                _ => {}
            }
        }
        Insn::Alu { width, op, dst, src }
    }

    /// Makes `reg` an arena pointer: to a present or missing page, to the edge of one, or anywhere.
    pub(super) fn arena_address(&mut self, body: &mut Body, reg: Reg) {
        let start = (super::USER_VM_START & u64::from(u32::MAX)).cast_signed();
        let bytes = i64::from(super::ARENA_PAGES) * 4096;
        let at = match self.rng.u8(..8) {
            // Around the end of a page.
            0 | 1 => start + 4096 * self.rng.i64(0..=i64::from(super::ARENA_PAGES)) + self.rng.i64(-16..16),
            // Aligned, for atomics.
            2..=4 => start + 8 * self.rng.i64(0..bytes / 8),
            5 => start + self.rng.i64(0..bytes),
            // Computed by the program: the verifier knows nothing.
            6 => {
                let mask = self.choose(&[0xffff, 0xfff8, 0xfffc]);
                let src = self.scalar_reg();
                body.push(mov_width(Width::W32, reg, Operand::Reg(src)));
                body.push(alu32(AluOp::And, reg, mask));
                body.push(alu32(AluOp::Add, reg, low(start)));
                return body.push(Insn::AddrSpaceCast { dst: reg, src: reg, dst_as: 0, src_as: 1 });
            }
            _ => {
                let src = self.scalar_reg();
                return body.push(Insn::AddrSpaceCast { dst: reg, src, dst_as: 0, src_as: 1 });
            }
        };
        body.push(mov(reg, Operand::Imm(low(at))));
        body.push(Insn::AddrSpaceCast { dst: reg, src: reg, dst_as: 0, src_as: 1 });
    }
}

fn mov_width(width: Width, dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width, dst, src }
}

fn alu32(op: AluOp, dst: Reg, imm: i32) -> Insn {
    Insn::Alu { width: Width::W32, op, dst, src: Operand::Imm(imm) }
}

#[allow(clippy::cast_possible_truncation, reason = "an arena pointer is its low 32 bits")]
fn low(address: i64) -> i32 {
    address as i32
}
