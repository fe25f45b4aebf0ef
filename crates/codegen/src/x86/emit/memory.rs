//! Memory outside the frame. What may meet a missing page is one machine instruction each.

use iced_x86::{Code, Instruction};
use isa::{AtomicOp, Size, Width};

use super::arith::{is_wide, low};
use super::encode::{Gpr, pick};
use super::{EmitError, Emitter, codes};
use crate::x86::insn::{Access, Address, Alu, Cc, Reg, Src};

impl Emitter<'_> {
    pub(super) fn load(&mut self, size: Size, signed: bool, dst: Reg, address: Address, access: Access) {
        let code = codes::extend(size, signed, Width::W64);
        let (dst, memory) = (self.reg(dst), self.address(address));
        let to = if is_wide(code) { dst.r64() } else { dst.r32() };
        self.accesses(access);
        self.asm.put(Instruction::with2(code, to, memory));
    }

    pub(super) fn store(&mut self, size: Size, address: Address, src: Src, access: Access) {
        let memory = self.address(address);
        let made = match src {
            Src::Reg(src) => {
                let src = self.reg(src);
                let src = match size {
                    Size::B => src.r8(),
                    Size::H => src.r16(),
                    Size::W => src.r32(),
                    Size::DW => src.r64(),
                };
                Instruction::with2(codes::store(size, false), memory, src)
            }
            Src::Imm(value) => {
                let number = low(value);
                let number = match size {
                    Size::B => number & 0xff,
                    Size::H => number & 0xffff,
                    Size::W => number,
                    Size::DW if i64::from(number) == value => number,
                    Size::DW => return self.asm.fail(EmitError::Operand),
                };
                Instruction::with2(codes::store(size, true), memory, number)
            }
            Src::Slot(_) => return self.asm.fail(EmitError::Operand),
        };
        self.accesses(access);
        self.asm.put(made);
    }

    /// Read-modify-write without a result.
    pub(super) fn atomic(&mut self, size: Size, op: AtomicOp, address: Address, src: Reg, access: Access) {
        let (Some(width), Some(forms)) = (width(size), alu(op).and_then(|op| codes::alu(op, width(size)?)))
        else {
            return self.asm.fail(EmitError::Operand);
        };
        let (memory, src) = (self.address(address), self.reg(src).wide(width));
        self.accesses(access);
        self.asm.put_locked(Instruction::with2(forms.store, memory, src));
    }

    /// `xadd` or `xchg`: `dst` holds the operand, which is what stays in it if the access is skipped.
    pub(super) fn exchange(
        &mut self,
        size: Size,
        op: AtomicOp,
        dst: Reg,
        address: Address,
        src: Reg,
        access: Access,
    ) {
        let Some(width) = width(size) else { return self.asm.fail(EmitError::Operand) };
        let (dst, src) = (self.reg(dst), self.reg(src));
        let memory = self.address(address);
        self.mov_register(width, dst, src);
        self.accesses(access);
        match op {
            AtomicOp::Add => {
                let code = pick(width, Code::Xadd_rm32_r32, Code::Xadd_rm64_r64);
                self.asm.put_locked(Instruction::with2(code, memory, dst.wide(width)));
            }
            // Locks without a prefix.
            AtomicOp::Xchg => {
                let code = pick(width, Code::Xchg_rm32_r32, Code::Xchg_rm64_r64);
                self.asm.put(Instruction::with2(code, memory, dst.wide(width)));
            }
            _ => self.asm.fail(EmitError::Operand),
        }
    }

    /// `values` are what is expected and what is stored.
    pub(super) fn compare_exchange(
        &mut self,
        size: Size,
        dst: Option<Reg>,
        address: Address,
        values: [Reg; 2],
        access: Access,
    ) {
        let Some(width) = width(size) else { return self.asm.fail(EmitError::Operand) };
        let [expected, src] = values.map(|reg| self.reg(reg));
        let memory = self.address(address);
        self.mov_register(width, Gpr::RAX, expected);
        self.accesses(access);
        self.asm.put_locked(Instruction::with2(cmpxchg(width), memory, src.wide(width)));
        if let Some(dst) = dst {
            let dst = self.reg(dst);
            self.copy(width, dst, Gpr::RAX);
        }
    }

    /// Tries until nobody else has written in between.
    pub(super) fn atomic_loop(&mut self, size: Size, op: AtomicOp, dst: Reg, address: Address, src: Reg) {
        let (Some(width), Some(op)) = (width(size), alu(op)) else {
            return self.asm.fail(EmitError::Operand);
        };
        let Some(forms) = codes::alu(op, width) else { return self.asm.fail(EmitError::Operand) };
        let (dst, src, memory) = (self.reg(dst), self.reg(src), self.address(address));
        // `rax` holds what was read. If the result is to be there, too, the new value needs another place for now.
        let used = |gpr: &Gpr| {
            [dst, src, Gpr::RAX].contains(gpr) || [memory.base, memory.index].contains(&gpr.r64())
        };
        let spare = [Gpr::RCX, Gpr::RDX, Gpr::RSI, Gpr::RDI].into_iter().find(|gpr| !used(gpr));
        let saved = (dst == Gpr::RAX).then_some(spare).flatten();
        let new = saved.unwrap_or(dst);
        let own = self.frame.own(0);
        if saved.is_some() {
            self.asm.put(Instruction::with2(Code::Mov_rm64_r64, own, new.r64()));
        }
        let again = self.asm.label();
        self.load_slot(width, Gpr::RAX, memory);
        self.asm.bind(again);
        self.copy(width, new, Gpr::RAX);
        self.asm.put(Instruction::with2(forms.load, new.wide(width), src.wide(width)));
        self.asm.put_locked(Instruction::with2(cmpxchg(width), memory, new.wide(width)));
        self.asm.branch(codes::jump_if(Cc::NotEqual), again);
        if saved.is_some() {
            self.load_slot(Width::W64, new, own);
        }
        self.copy(width, dst, Gpr::RAX);
    }
}

fn cmpxchg(width: Width) -> Code {
    pick(width, Code::Cmpxchg_rm32_r32, Code::Cmpxchg_rm64_r64)
}

/// The width of an atomic operation.
fn width(size: Size) -> Option<Width> {
    match size {
        Size::W => Some(Width::W32),
        Size::DW => Some(Width::W64),
        Size::B | Size::H => None,
    }
}

fn alu(op: AtomicOp) -> Option<Alu> {
    match op {
        AtomicOp::Add => Some(Alu::Add),
        AtomicOp::Or => Some(Alu::Or),
        AtomicOp::And => Some(Alu::And),
        AtomicOp::Xor => Some(Alu::Xor),
        AtomicOp::Xchg | AtomicOp::CmpXchg => None,
    }
}
