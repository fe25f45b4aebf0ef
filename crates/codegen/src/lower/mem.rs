//! Memory accesses.
//!
//! Other threads and processes see arena memory and map values, and an arena page may be missing: then a load gives 0
//! although something was stored before. So these accesses must happen as often, and in the order, as the program
//! says. The backend forwards, merges and drops plain accesses, and folds loads into other instructions; against that
//! - 64-bit loads are `atomic_load`, which on x86-64 is a plain `mov`, needs no alignment, and is never folded;
//! - narrower ones are extending loads, which are never folded either and leave nothing to extend; a `sequence_point`
//!   before them, which is no code at all, keeps them from being merged with earlier accesses;
//! - a store is followed by a `sequence_point`.
//!
//! What is addressed through `r10` itself is left to the backend as ordinary memory.

use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Value, types};
use isa::{AtomicOp, InsnIdx, Operand, PacketBase, Reg, Size, Width};
use verifier::Memory;

use super::{ARENA_TRAP, Lower, memory_type, proven_memory};
use crate::flow::Step;
use crate::machine::Machine;
use crate::{CompileError, Import};

/// The memory operand of an instruction.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) size: Size,
    pub(super) base: Reg,
    pub(super) offset: i16,
}

/// What an atomic operation does to its place.
#[derive(Clone, Copy)]
pub(super) struct Update {
    pub(super) op: AtomicOp,
    pub(super) fetch: bool,
    pub(super) src: Reg,
}

/// How a place is accessed.
enum Way {
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
        step: &Step,
        place: Place,
        sign_extend: bool,
        dst: Reg,
    ) -> Result<(), CompileError> {
        let value = match self.way(step, place, self.unit.options.checked_arena)? {
            Way::Stack => {
                let ty = memory_type(place.size);
                let value = self.b.ins().load(ty, proven_memory(), self.frame, i32::from(place.offset));
                self.extend(place.size, sign_extend, value)
            }
            Way::Native { address, flags } => self.native_load(place.size, sign_extend, flags, address),
            Way::Runtime { window_offset } => {
                let [zero, index] = self.constants(step.at);
                let import = Import::ArenaLoad(place.size);
                let value = self.runtime_call(import, [window_offset, zero, index, zero, zero]);
                let value = self.truncate(place.size, value);
                self.extend(place.size, sign_extend, value)
            }
            Way::Guarded { address } => {
                let [zero, index] = self.constants(step.at);
                let import = Import::GuardedLoad(place.size);
                let value = self.runtime_call(import, [address, zero, index, zero, zero]);
                let value = self.truncate(place.size, value);
                self.extend(place.size, sign_extend, value)
            }
        };
        self.set(dst, value);
        Ok(())
    }

    /// `ld_abs` and `ld_ind`: the function returns 0 where the packet has no such byte. Clobbers the argument registers as a
    /// call does.
    pub(super) fn load_packet(&mut self, step: &Step, size: Size, from: PacketBase, imm: i32) {
        let offset = match from {
            // The sum is of 32 bits, and signed.
            PacketBase::Ind(reg) => {
                let index = self.get_low(Width::W32, reg);
                let sum = self.b.ins().iadd_imm_s(index, i64::from(imm));
                self.b.ins().sextend(types::I64, sum)
            }
            PacketBase::Abs => self.b.ins().iconst(types::I64, i64::from(imm)),
        };
        let [zero, at] = self.constants(step.at);
        let value = self.runtime_call(Import::PacketLoad(size), [offset, zero, at, zero, zero]);
        let missing = self.b.ins().ushr_imm_u(value, 32);
        let (leave, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(missing, leave, &[], go_on, &[]);
        self.b.switch_to_block(leave);
        let zero = self.b.ins().iconst(types::I64, 0);
        self.b.ins().return_(&[zero]);
        self.b.switch_to_block(go_on);
        self.set(Reg::R0, value);
        self.clobber_arguments();
    }

    /// A load that stays where it is, as 64 bits.
    pub(super) fn native_load(
        &mut self,
        size: Size,
        sign_extend: bool,
        flags: MemFlagsData,
        address: Value,
    ) -> Value {
        if size != Size::DW {
            self.b.ins().sequence_point();
        }
        let ins = self.b.ins();
        match (size, sign_extend) {
            (Size::DW, _) => ins.atomic_load(types::I64, flags, address),
            (Size::W, false) => ins.uload32(flags, address, 0),
            (Size::W, true) => ins.sload32(flags, address, 0),
            (Size::H, false) => ins.uload16(types::I64, flags, address, 0),
            (Size::H, true) => ins.sload16(types::I64, flags, address, 0),
            (Size::B, false) => ins.uload8(types::I64, flags, address, 0),
            (Size::B, true) => ins.sload8(types::I64, flags, address, 0),
        }
    }

    /// The 64 bits a load gives for what it read.
    fn extend(&mut self, size: Size, sign_extend: bool, value: Value) -> Value {
        match (size, sign_extend) {
            (Size::DW, _) => value,
            (_, false) => self.b.ins().uextend(types::I64, value),
            (_, true) => self.b.ins().sextend(types::I64, value),
        }
    }

    /// On x86-64 every store is a release; the order of the machine's stores is that of the program.
    pub(super) fn store(&mut self, step: &Step, place: Place, src: Operand) -> Result<(), CompileError> {
        let Machine::X86_64 = self.unit.machine;
        let value = self.operand(Width::W64, src);
        match self.way(step, place, self.unit.options.checked_arena)? {
            Way::Stack => {
                let value = self.truncate(place.size, value);
                let flags = proven_memory();
                self.b.ins().store(flags, value, self.frame, i32::from(place.offset));
            }
            Way::Native { address, flags } => {
                let value = self.truncate(place.size, value);
                self.b.ins().store(flags, value, address, 0);
                self.b.ins().sequence_point();
            }
            Way::Runtime { window_offset } => {
                let [zero, index] = self.constants(step.at);
                let import = Import::ArenaStore(place.size);
                self.runtime_call(import, [window_offset, value, index, zero, zero]);
            }
            Way::Guarded { address } => {
                let [zero, index] = self.constants(step.at);
                self.runtime_call(Import::GuardedStore(place.size), [address, value, index, zero, zero]);
            }
        }
        Ok(())
    }

    /// On a missing arena page the machine's instruction is skipped. `xadd`, `xchg` and `cmpxchg` have their result
    /// in the register that held the operand (the expected value), so a skipped one leaves it as it was. A loop
    /// around `cmpxchg`, which the fetching or, and, xor would need, cannot tell: the runtime does those.
    pub(super) fn atomic(&mut self, step: &Step, place: Place, update: Update) -> Result<(), CompileError> {
        let Update { op, fetch, src } = update;
        let loops = fetch && matches!(op, AtomicOp::Or | AtomicOp::And | AtomicOp::Xor);
        let result = if op == AtomicOp::CmpXchg { Reg::R0 } else { src };
        let ty = memory_type(place.size);
        let old = match self.way(step, place, loops || self.unit.options.checked_arena)? {
            Way::Stack => {
                let address = self.address(self.frame, place.offset);
                self.native_atomic(ty, proven_memory(), address, update)
            }
            Way::Native { address, flags } => self.native_atomic(ty, flags, address, update),
            Way::Runtime { window_offset } => {
                let [_, index] = self.constants(step.at);
                let operand = self.get(src);
                let expected = self.get_zero_extended(place.size, Reg::R0);
                let missing = self.get_zero_extended(place.size, result);
                let import = Import::ArenaAtomic(place.size, op);
                let old = self.runtime_call(import, [window_offset, operand, index, expected, missing]);
                self.truncate(place.size, old)
            }
            // The verifier allows no atomic there.
            Way::Guarded { .. } => return Err(CompileError::KernelMemory { at: step.at }),
        };
        if fetch || matches!(op, AtomicOp::Xchg | AtomicOp::CmpXchg) {
            let old = if place.size == Size::DW { old } else { self.b.ins().uextend(types::I64, old) };
            self.set(result, old);
        }
        Ok(())
    }

    fn native_atomic(
        &mut self,
        ty: ir::Type,
        flags: MemFlagsData,
        address: Value,
        Update { op, src, .. }: Update,
    ) -> Value {
        let width = if ty == types::I32 { Width::W32 } else { Width::W64 };
        let operand = self.get_low(width, src);
        let op = match op {
            AtomicOp::Add => ir::AtomicRmwOp::Add,
            AtomicOp::Or => ir::AtomicRmwOp::Or,
            AtomicOp::And => ir::AtomicRmwOp::And,
            AtomicOp::Xor => ir::AtomicRmwOp::Xor,
            AtomicOp::Xchg => ir::AtomicRmwOp::Xchg,
            AtomicOp::CmpXchg => {
                let expected = self.get_low(width, Reg::R0);
                return self.b.ins().atomic_cas(flags, address, expected, operand);
            }
        };
        self.b.ins().atomic_rmw(ty, flags, op, address, operand)
    }

    /// How the instruction's memory is to be accessed; `runtime` if an arena access is the runtime's.
    fn way(&mut self, step: &Step, place: Place, runtime: bool) -> Result<Way, CompileError> {
        let unknown = CompileError::UnknownMemory { at: step.at };
        match step.memory.ok_or_else(|| unknown.clone())? {
            Memory::Proven if place.base == Reg::R10 => Ok(Way::Stack),
            Memory::Proven => {
                let base = self.get(place.base);
                let address = self.address(base, place.offset);
                Ok(Way::Native { address, flags: proven_memory() })
            }
            Memory::Arena => {
                let pointer = self.get_zero_extended(Size::W, place.base);
                if runtime {
                    let window_offset = self.address(pointer, place.offset);
                    return Ok(Way::Runtime { window_offset });
                }
                let address = self.b.ins().iadd(self.window, pointer);
                let address = self.address(address, place.offset);
                Ok(Way::Native { address, flags: MemFlagsData::new().with_trap_code(Some(ARENA_TRAP)) })
            }
            Memory::Kernel => {
                let base = self.get(place.base);
                Ok(Way::Guarded { address: self.address(base, place.offset) })
            }
            _ => Err(unknown),
        }
    }

    fn address(&mut self, base: Value, offset: i16) -> Value {
        if offset == 0 { base } else { self.b.ins().iadd_imm_s(base, i64::from(offset)) }
    }

    /// The low bytes of a 64-bit value, as many as are accessed.
    fn truncate(&mut self, size: Size, value: Value) -> Value {
        match size {
            Size::DW => value,
            narrow => self.b.ins().ireduce(memory_type(narrow), value),
        }
    }

    fn get_zero_extended(&mut self, size: Size, reg: Reg) -> Value {
        let value = self.get(reg);
        let value = self.truncate(size, value);
        if size == Size::DW { value } else { self.b.ins().uextend(types::I64, value) }
    }

    /// 0 and the index of the instruction, arguments of runtime calls.
    fn constants(&mut self, at: InsnIdx) -> [Value; 2] {
        [0, i64::from(at.0)].map(|n| self.b.ins().iconst(types::I64, n))
    }
}
