//! One instruction each.

use isa::Width;

use super::{EmitError, Emitter};
use crate::x86::insn::{Insn, Src};

impl Emitter<'_> {
    /// Writes an instruction.
    pub(super) fn insn(&mut self, insn: &Insn) {
        match *insn {
            Insn::Mov { width, dst, src } => self.mov(width, dst, src),
            Insn::ToSlot { slot, src } => self.store_slot(slot, src),
            Insn::Alu { op, width, dst, a, b } => {
                let (dst, a) = (self.reg(dst), self.reg(a));
                self.alu(op, width, dst, a, b);
            }
            Insn::SlotAlu { op, slot, b } => self.slot_alu(op, slot, b),
            Insn::Shift { op, width, dst, a, by } => {
                let (dst, a) = (self.reg(dst), self.reg(a));
                match by {
                    Src::Imm(by) => self.shift_by_number(op, width, dst, a, by),
                    Src::Reg(by) => {
                        let by = self.reg(by);
                        self.shift_by_register(op, width, dst, a, by);
                    }
                    Src::Slot(_) => self.asm.fail(EmitError::Operand),
                }
            }
            Insn::AndNot { width, dst, a, b } => self.and_not(width, dst, a, b),
            Insn::Lea { width, dst, address } => self.lea(width, dst, address),
            Insn::Neg { width, dst, src } => {
                let (dst, src) = (self.reg(dst), self.reg(src));
                self.copy(width, dst, src);
                self.neg(width, dst);
            }
            Insn::Extend { from, signed, width, dst, src } => self.extend(from, signed, width, dst, src),
            Insn::SwapBytes { size, dst, src } => self.swap_bytes(size, dst, src),
            Insn::TrailingZeros { dst, src } => self.trailing_zeros(dst, src),
            Insn::MulHigh { dst, a, b } => self.mul_high(dst, a, b),
            Insn::Div { width, signed, remainder, dst, a, b } => {
                self.div(width, signed, remainder, dst, a, b);
            }
            Insn::Load { size, signed, dst, address, access } => {
                self.load(size, signed, dst, address, access);
            }
            Insn::Store { size, address, src, access } => self.store(size, address, src, access),
            Insn::Select { dst, test, yes, no } => self.select(dst, test, yes, no),
            Insn::Set { dst, test } => self.set(dst, test),
            _ => self.of_memory(insn),
        }
    }

    /// Writes an instruction that is one of the others: atomic, a call, or of 16 bytes.
    fn of_memory(&mut self, insn: &Insn) {
        match *insn {
            Insn::Atomic { size, op, dst, address, src, access } => match dst {
                Some(dst) => self.exchange(size, op, dst, address, src, access),
                None => self.atomic(size, op, address, src, access),
            },
            Insn::CompareExchange { size, dst, address, expected, src, access } => {
                self.compare_exchange(size, dst, address, [expected, src], access);
            }
            Insn::AtomicLoop { size, op, dst, address, src } => self.atomic_loop(size, op, dst, address, src),
            Insn::Call { callee, ref args, dst } => self.call(callee, args, dst),
            Insn::Subprogram { dst, index } => self.subprogram(dst, index),
            ref wide => self.wide(wide),
        }
    }

    /// `mov`. Flags are not needed by anyone.
    fn mov(&mut self, width: Width, dst: crate::x86::insn::Reg, src: Src) {
        let dst = self.reg(dst);
        match src {
            Src::Reg(src) => {
                let src = self.reg(src);
                self.mov_register(width, dst, src);
            }
            Src::Imm(value) => self.number(width, dst, value),
            Src::Slot(slot) => {
                let slot = self.slot(slot);
                self.load_slot(width, dst, slot);
            }
        }
    }
}
