//! Loads, stores and atomics: arena accesses by window offset, all others by checked address.

use std::sync::atomic::Ordering;

use isa::{AtomicOp, Insn, Reg, Size, Width};
use verifier::Memory;

use super::{Machine, alu};
use crate::error::TrapKind;
use crate::runtime::{Invocation, Order, Rmw};

impl Machine {
    /// Executes an instruction that accesses memory.
    pub(super) fn access(
        &mut self,
        insn: Insn,
        memory: Option<Memory>,
        invocation: &mut Invocation<'_>,
    ) -> Result<(), TrapKind> {
        match memory {
            Some(Memory::Arena) => {
                self.access_arena(insn, invocation);
                Ok(())
            }
            Some(Memory::Proven) => self.access_proven(insn, invocation),
            Some(Memory::Kernel) => self.access_guarded(insn, invocation),
            _ => Err(TrapKind::BadInstruction),
        }
    }

    fn access_guarded(&mut self, insn: Insn, invocation: &mut Invocation<'_>) -> Result<(), TrapKind> {
        let address =
            |machine: &Self, base, offset: i16| machine.get(base).wrapping_add_signed(i64::from(offset));
        match insn {
            Insn::Load { size, sign_extend, dst, base, offset } => {
                let value = invocation.guarded_load(address(self, base, offset), size);
                self.set(dst, extended(value, size, sign_extend));
            }
            Insn::Store { size, base, offset, src } => {
                let value = self.operand(src);
                invocation.guarded_store(address(self, base, offset), size, value);
            }
            _ => return Err(TrapKind::BadInstruction),
        }
        Ok(())
    }

    fn access_arena(&mut self, insn: Insn, invocation: &mut Invocation<'_>) {
        let window_offset = |machine: &Self, base, offset: i16| {
            alu::truncate(Width::W32, machine.get(base)).cast_signed() + i64::from(offset)
        };
        match insn {
            Insn::Load { size, sign_extend, dst, base, offset } => {
                let value =
                    invocation.arena_load(window_offset(self, base, offset), size, Order::Relaxed, self.at);
                self.set(dst, extended(value, size, sign_extend));
            }
            Insn::LoadAcquire { size, dst, base, offset } => {
                let value =
                    invocation.arena_load(window_offset(self, base, offset), size, Order::Ordered, self.at);
                self.set(dst, value);
            }
            Insn::Store { size, base, offset, src } => {
                let at = window_offset(self, base, offset);
                self.store_arena(at, size, self.operand(src), Order::Relaxed, invocation);
            }
            Insn::StoreRelease { size, base, offset, src } => {
                let at = window_offset(self, base, offset);
                self.store_arena(at, size, self.get(src), Order::Ordered, invocation);
            }
            Insn::Atomic { size, op, fetch, base, offset, src } => {
                let rmw = Rmw { op, operand: self.get(src), expected: self.get(Reg::R0) };
                let at = window_offset(self, base, offset);
                let old = invocation.arena_atomic(at, size, rmw, self.at);
                self.fetched(size, op, fetch, src, old);
            }
            _ => {}
        }
    }

    /// Stores at a window offset; something else than `value` where tests want the engine to be wrong.
    fn store_arena(&self, at: i64, size: Size, value: u64, order: Order, invocation: &mut Invocation<'_>) {
        let wrong = invocation.image.options.wrong_stores;
        let value = wrong.map_or(value, |wrong| wrong.stored(at, size, value));
        invocation.arena_store(at, size, value, order, self.at);
    }

    fn access_proven(&mut self, insn: Insn, invocation: &mut Invocation<'_>) -> Result<(), TrapKind> {
        let place = |machine: &Self, base: Reg, offset: i16, size: Size, write| {
            let address = machine.get(base).wrapping_add_signed(i64::from(offset));
            invocation.memory(address, u64::from(size.bytes()), write)
        };
        match insn {
            Insn::Load { size, sign_extend, dst, base, offset } => {
                let value = place(self, base, offset, size, false)?.load(size, Ordering::Relaxed);
                self.set(dst, extended(value, size, sign_extend));
            }
            Insn::LoadAcquire { size, dst, base, offset } => {
                let value = place(self, base, offset, size, false)?.load(size, Ordering::Acquire);
                self.set(dst, value);
            }
            Insn::Store { size, base, offset, src } => {
                place(self, base, offset, size, true)?.store(size, self.operand(src), Ordering::Relaxed);
            }
            Insn::StoreRelease { size, base, offset, src } => {
                place(self, base, offset, size, true)?.store(size, self.get(src), Ordering::Release);
            }
            Insn::Atomic { size, op, fetch, base, offset, src } => {
                let place = place(self, base, offset, size, true)?;
                let old = place.fetch(size, op, self.get(src), self.get(Reg::R0));
                let address = self.get(base).wrapping_add_signed(i64::from(offset));
                let old = old.ok_or(TrapKind::Misaligned { address, size: u64::from(size.bytes()) })?;
                self.fetched(size, op, fetch, src, Some(old));
            }
            _ => return Err(TrapKind::BadInstruction),
        }
        Ok(())
    }

    /// Puts the old value where the operation wants it. A dropped operation leaves the register as it was, except that a
    /// 32-bit one clears its high half.
    fn fetched(&mut self, size: Size, op: AtomicOp, fetch: bool, src: Reg, old: Option<u64>) {
        let result = match op {
            AtomicOp::CmpXchg => Reg::R0,
            _ if fetch || op == AtomicOp::Xchg => src,
            _ => return,
        };
        let width = if size == Size::DW { Width::W64 } else { Width::W32 };
        self.set(result, alu::truncate(width, old.unwrap_or_else(|| self.get(result))));
    }
}

fn extended(value: u64, size: Size, sign_extend: bool) -> u64 {
    if sign_extend { alu::sign_extend(Width::W64, size, value) } else { value }
}
