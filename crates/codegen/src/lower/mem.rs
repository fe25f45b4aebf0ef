//! Memory accesses.
//!
//! Other threads and processes see arena memory and map values, and an arena page may be missing: then a load gives 0
//! although something was stored before. So these accesses must happen as often, and in the order, as the program
//! says. The backend forwards, merges and drops plain accesses, and folds loads into other instructions; against that
//! - 64-bit loads are `atomic_load` on x86-64, where that is a plain `mov`, needs no alignment, and is never folded;
//! - narrower ones, and all on AArch64, which cannot fold any and where an `atomic_load` is more than is asked for (and wants
//!   its address aligned), are extending loads, which are never folded either and leave nothing to extend; a `sequence_point`
//!   before them, which is no code at all, keeps them from being merged with earlier accesses;
//! - a store is followed by a `sequence_point`.
//!
//! What is addressed through `r10` itself is left to the backend as ordinary memory.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use isa::{AtomicOp, InsnIdx, Size, Width};
use verifier::Memory;

use super::{ARENA_TRAP, Lower, memory_type, proven_memory};
use crate::flow::{Order, PacketIndex, Place, Src, Var};
use crate::machine::Machine;
use crate::{CompileError, Import};

/// What an atomic operation does to its place; see [`Op::Atomic`](crate::flow::Op::Atomic).
#[derive(Clone, Copy)]
pub(super) struct Update {
    pub(super) op: AtomicOp,
    pub(super) src: Var,
    pub(super) expected: Option<Var>,
    pub(super) old: Option<Var>,
}

/// How a place is accessed.
pub(super) enum Way {
    /// An address the backend may reason about.
    Stack,
    /// By one instruction.
    Native { address: Value, flags: MemFlagsData },
    /// By the runtime, which gets the offset in the arena's window.
    Runtime { window_offset: Value },
    /// By the runtime, which looks whether there is anything.
    Guarded { address: Value },
}

impl Lower<'_, '_> {
    pub(super) fn load(
        &mut self,
        at: InsnIdx,
        size: Size,
        sign_extend: bool,
        dst: Var,
        place: Place,
        order: Order,
    ) -> Result<(), CompileError> {
        let value = match self.way(at, place, self.unit.options.checked_arena)? {
            Way::Stack => {
                let ty = memory_type(size);
                let value = self.b.ins().load(ty, proven_memory(), self.frame, place.offset);
                self.extend(size, sign_extend, value)
            }
            Way::Native { address, flags } if order == Order::Synchronizing => {
                self.acquiring_load(size, flags, address)
            }
            Way::Native { address, flags } => self.native_load(size, sign_extend, flags, address),
            Way::Runtime { window_offset } => {
                let [zero, index] = self.constants(at);
                let synchronizing = self.synchronizing(order);
                let import = Import::ArenaLoad(size);
                let value = self.runtime_call(import, [window_offset, zero, index, synchronizing, zero]);
                let value = self.truncate(size, value);
                self.extend(size, sign_extend, value)
            }
            Way::Guarded { address } => {
                let [zero, index] = self.constants(at);
                let import = Import::GuardedLoad(size);
                let value = self.runtime_call(import, [address, zero, index, zero, zero]);
                let value = self.truncate(size, value);
                self.extend(size, sign_extend, value)
            }
        };
        self.set(dst, value);
        Ok(())
    }

    /// `ld_abs` and `ld_ind`: the function returns 0 where the packet has no such byte.
    pub(super) fn load_packet(&mut self, at: InsnIdx, size: Size, from: PacketIndex, imm: i32) -> Value {
        let offset = match from {
            // The sum is of 32 bits, and signed.
            PacketIndex::Var(var) => {
                let index = self.get_low(Width::W32, var);
                let sum = self.b.ins().iadd_imm_s(index, i64::from(imm));
                self.b.ins().sextend(types::I64, sum)
            }
            PacketIndex::None => self.b.ins().iconst(types::I64, i64::from(imm)),
        };
        let [zero, index] = self.constants(at);
        let value = self.runtime_call(Import::PacketLoad(size), [offset, zero, index, zero, zero]);
        let missing = self.b.ins().ushr_imm_u(value, 32);
        let (leave, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(missing, leave, &[], go_on, &[]);
        self.b.switch_to_block(leave);
        let zero = self.b.ins().iconst(types::I64, 0);
        self.b.ins().return_(&[zero]);
        self.b.switch_to_block(go_on);
        value
    }

    /// A load that stays where it is, as 64 bits.
    pub(super) fn native_load(
        &mut self,
        size: Size,
        sign_extend: bool,
        flags: MemFlagsData,
        address: Value,
    ) -> Value {
        if (self.unit.machine, size) == (Machine::X86_64, Size::DW) {
            return self.b.ins().atomic_load(types::I64, flags, address);
        }
        self.b.ins().sequence_point();
        let ins = self.b.ins();
        match (size, sign_extend) {
            (Size::DW, _) => ins.load(types::I64, flags, address, 0),
            (Size::W, false) => ins.uload32(flags, address, 0),
            (Size::W, true) => ins.sload32(flags, address, 0),
            (Size::H, false) => ins.uload16(types::I64, flags, address, 0),
            (Size::H, true) => ins.sload16(types::I64, flags, address, 0),
            (Size::B, false) => ins.uload8(types::I64, flags, address, 0),
            (Size::B, true) => ins.sload8(types::I64, flags, address, 0),
        }
    }

    /// A store that stays where it is, of a value as wide as the place.
    pub(super) fn native_store(&mut self, flags: MemFlagsData, value: Value, address: Value) {
        self.b.ins().store(flags, value, address, 0);
        self.b.ins().sequence_point();
    }

    /// The 64 bits a load gives for what it read.
    pub(super) fn extend(&mut self, size: Size, sign_extend: bool, value: Value) -> Value {
        match (size, sign_extend) {
            (Size::DW, _) => value,
            (_, false) => self.b.ins().uextend(types::I64, value),
            (_, true) => self.b.ins().sextend(types::I64, value),
        }
    }

    pub(super) fn store(
        &mut self,
        at: InsnIdx,
        size: Size,
        place: Place,
        src: Src,
        order: Order,
    ) -> Result<(), CompileError> {
        let value = self.operand(Width::W64, src);
        match self.way(at, place, self.unit.options.checked_arena)? {
            Way::Stack => {
                let value = self.truncate(size, value);
                let flags = proven_memory();
                self.b.ins().store(flags, value, self.frame, place.offset);
            }
            Way::Native { address, flags } => {
                let value = self.truncate(size, value);
                match order {
                    Order::Plain => self.native_store(flags, value, address),
                    Order::Synchronizing => self.releasing_store(size, flags, value, address),
                }
            }
            Way::Runtime { window_offset } => {
                let [zero, index] = self.constants(at);
                let synchronizing = self.synchronizing(order);
                let import = Import::ArenaStore(size);
                self.runtime_call(import, [window_offset, value, index, synchronizing, zero]);
            }
            Way::Guarded { address } => {
                let [zero, index] = self.constants(at);
                self.runtime_call(Import::GuardedStore(size), [address, value, index, zero, zero]);
            }
        }
        Ok(())
    }

    /// On a missing arena page the machine's instruction is skipped, and the operand (the expected value) is the result. What
    /// would be a loop of several instructions cannot be skipped: the runtime does it.
    pub(super) fn atomic(
        &mut self,
        at: InsnIdx,
        size: Size,
        place: Place,
        update: Update,
    ) -> Result<(), CompileError> {
        let Update { op, src, expected, old: result } = update;
        let loops = !self.unit.machine.can_skip(op, result.is_some());
        let old = match self.way(at, place, loops || self.unit.options.checked_arena)? {
            Way::Stack => {
                let address = self.address(self.frame, place.offset);
                self.native_atomic(size, proven_memory(), address, update)
            }
            Way::Native { address, flags } => self.native_atomic(size, flags, address, update),
            Way::Runtime { window_offset } => {
                let [_, index] = self.constants(at);
                let operand = self.get(src);
                let missing = self.get_zero_extended(size, expected.unwrap_or(src));
                let import = Import::ArenaAtomic(size, op);
                let old = self.runtime_call(import, [window_offset, operand, index, missing, missing]);
                self.truncate(size, old)
            }
            // The verifier allows no atomic there.
            Way::Guarded { .. } => return Err(CompileError::KernelMemory { at }),
        };
        if let Some(result) = result {
            let old = if size == Size::DW { old } else { self.b.ins().uextend(types::I64, old) };
            self.set(result, old);
        }
        Ok(())
    }

    /// How the instruction's memory is to be accessed; `runtime` if an arena access is the runtime's.
    pub(super) fn way(&mut self, at: InsnIdx, place: Place, runtime: bool) -> Result<Way, CompileError> {
        match place.memory {
            Memory::Proven if place.is_own_stack() => Ok(Way::Stack),
            Memory::Proven => {
                let sum = self.sum(place);
                let address = self.address(sum, place.offset);
                Ok(Way::Native { address, flags: proven_memory() })
            }
            Memory::Arena => {
                let pointer = self.arena_pointer(place);
                if runtime {
                    let window_offset = self.address(pointer, place.offset);
                    return Ok(Way::Runtime { window_offset });
                }
                let address = self.b.ins().iadd(self.window, pointer);
                let address = self.address(address, place.offset);
                Ok(Way::Native { address, flags: MemFlagsData::new().with_trap_code(Some(ARENA_TRAP)) })
            }
            Memory::Kernel => {
                let sum = self.sum(place);
                Ok(Way::Guarded { address: self.address(sum, place.offset) })
            }
            _ => Err(CompileError::UnknownMemory { at }),
        }
    }

    /// Base and index.
    fn sum(&mut self, place: Place) -> Value {
        let base = self.get(place.base);
        let Some((index, shift)) = place.index else { return base };
        let index = self.get(index);
        let scaled = self.b.ins().ishl_imm_u(index, i64::from(shift));
        self.b.ins().iadd(base, scaled)
    }

    /// Base and index of an access to the arena: 32 bits, zero-extended.
    fn arena_pointer(&mut self, place: Place) -> Value {
        let Some((index, shift)) = place.index else {
            return if place.clear {
                self.get(place.base)
            } else {
                self.get_zero_extended(Size::W, place.base)
            };
        };
        let (base, index) = (self.get_low(Width::W32, place.base), self.get_low(Width::W32, index));
        let scaled = self.b.ins().ishl_imm_u(index, i64::from(shift));
        let sum = self.b.ins().iadd(base, scaled);
        self.b.ins().uextend(types::I64, sum)
    }

    fn address(&mut self, base: Value, offset: i32) -> Value {
        if offset == 0 { base } else { self.b.ins().iadd_imm_s(base, i64::from(offset)) }
    }

    /// The low bytes of a 64-bit value, as many as are accessed.
    pub(super) fn truncate(&mut self, size: Size, value: Value) -> Value {
        match size {
            Size::DW => value,
            narrow => self.b.ins().ireduce(memory_type(narrow), value),
        }
    }

    pub(super) fn get_zero_extended(&mut self, size: Size, var: Var) -> Value {
        let value = self.get(var);
        let value = self.truncate(size, value);
        if size == Size::DW { value } else { self.b.ins().uextend(types::I64, value) }
    }

    /// What the runtime is told of the order of an access.
    fn synchronizing(&mut self, order: Order) -> Value {
        self.b.ins().iconst(types::I64, i64::from(order == Order::Synchronizing))
    }

    /// 0 and the index of the instruction, arguments of runtime calls.
    fn constants(&mut self, at: InsnIdx) -> [Value; 2] {
        [0, i64::from(at.0)].map(|n| self.b.ins().iconst(types::I64, n))
    }
}
