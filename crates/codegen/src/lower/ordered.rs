//! Accesses that order others: `load_acquire`, `store_release`, and atomic operations.
//!
//! On x86-64 every load is an acquire and every store a release, and an atomic operation orders everything. AArch64 has
//! instructions for the first two (`ldar`, `stlr`). Of an atomic operation the kernel's memory model wants, if its result is
//! used, that everything before it and everything behind it stays there: single instructions with acquire and release
//! semantics give that (`ldaddal`), a loop of an exclusive load and store needs a barrier behind it. The kernel's own
//! compiler does it likewise.
//!
//! AArch64 wants the addresses of such accesses aligned. Verification proves that of offsets and not of every base (memory of
//! dynptrs), so the code looks; what is not aligned is treated as if nothing were there. In an arena the fault handler does.

use cranelift_codegen::ir::{self, BlockArg, InstBuilder, MemFlagsData, Value, types};
use isa::{AtomicOp, Size, Width};

use super::mem::Update;
use super::{Lower, memory_type};
use crate::machine::Machine;

impl Lower<'_, '_> {
    /// A load with acquire semantics, as 64 bits.
    pub(super) fn acquiring_load(&mut self, size: Size, flags: MemFlagsData, address: Value) -> Value {
        if self.unit.machine == Machine::X86_64 {
            return self.native_load(size, false, flags, address);
        }
        let zero = self.b.ins().iconst(types::I64, 0);
        self.where_aligned(size, flags, address, zero, |lower| {
            let value = lower.b.ins().atomic_load(memory_type(size), flags, address);
            lower.extend(size, false, value)
        })
    }

    /// A store with release semantics; `value` is as wide as the place.
    pub(super) fn releasing_store(&mut self, size: Size, flags: MemFlagsData, value: Value, address: Value) {
        if self.unit.machine == Machine::X86_64 {
            return self.native_store(flags, value, address);
        }
        let zero = self.b.ins().iconst(types::I64, 0);
        self.where_aligned(size, flags, address, zero, |lower| {
            lower.b.ins().atomic_store(flags, value, address);
            zero
        });
    }

    /// A read-modify-write; the result is what was there, as wide as the place.
    pub(super) fn native_atomic(
        &mut self,
        size: Size,
        flags: MemFlagsData,
        address: Value,
        update: Update,
    ) -> Value {
        let width = if size == Size::DW { Width::W64 } else { Width::W32 };
        let operand = self.get_low(width, update.src);
        let unchanged = update.expected.map_or(operand, |expected| self.get_low(width, expected));
        if self.unit.machine == Machine::X86_64 {
            return self.update(flags, update.op, address, operand, unchanged);
        }
        self.where_aligned(size, flags, address, unchanged, |lower| {
            let old = lower.update(flags, update.op, address, operand, unchanged);
            if update.old.is_some() && lower.unit.machine.is_exclusive(update.op) {
                lower.b.ins().fence();
            }
            old
        })
    }

    /// `expected` is that of a comparison.
    fn update(
        &mut self,
        flags: MemFlagsData,
        op: AtomicOp,
        address: Value,
        operand: Value,
        expected: Value,
    ) -> Value {
        let op = match op {
            AtomicOp::Add => ir::AtomicRmwOp::Add,
            AtomicOp::Or => ir::AtomicRmwOp::Or,
            AtomicOp::And => ir::AtomicRmwOp::And,
            AtomicOp::Xor => ir::AtomicRmwOp::Xor,
            AtomicOp::Xchg => ir::AtomicRmwOp::Xchg,
            AtomicOp::CmpXchg => return self.b.ins().atomic_cas(flags, address, expected, operand),
        };
        let ty = self.b.func.dfg.value_type(operand);
        self.b.ins().atomic_rmw(ty, flags, op, address, operand)
    }

    /// What `access`, which reads no variable, gives, or `otherwise` where the address is not a multiple of the size.
    fn where_aligned(
        &mut self,
        size: Size,
        flags: MemFlagsData,
        address: Value,
        otherwise: Value,
        access: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        // An access that may fault is the handler's.
        if size == Size::B || flags.trap_code().is_some() {
            return access(self);
        }
        let (aligned, done) = (self.b.create_block(), self.b.create_block());
        let ty = self.b.func.dfg.value_type(otherwise);
        let result = self.b.append_block_param(done, ty);
        let low = self.b.ins().band_imm_u(address, i64::from(size.bytes()) - 1);
        self.b.ins().brif(low, done, &[BlockArg::Value(otherwise)], aligned, &[]);
        self.b.switch_to_block(aligned);
        let value = access(self);
        self.b.ins().jump(done, &[BlockArg::Value(value)]);
        self.b.switch_to_block(done);
        result
    }
}
