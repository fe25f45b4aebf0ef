//! Operations on 16 bytes at once.
//!
//! A wide load stays where it is and is folded into nothing, as narrow ones (see [`mem`](super::mem)): sequence points before and behind
//! it see to that. In an arena it is a probe: where the page is missing, it is skipped, and the run's word says so.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Endianness, InstBuilder, MemFlagsData, Value, types};
use isa::{AluOp, InsnIdx, Size, Width};

use super::mem::Way;
use super::{Lower, PROBE_TRAP, constant_memory, context_memory, field, memory_type};
use crate::CompileError;
use crate::abi::VmContext;
use crate::flow::{Op, Place, Var};

impl Lower<'_, '_> {
    /// One of the operations that passes make for wide accesses.
    pub(super) fn wide(&mut self, at: InsnIdx, op: Op) -> Result<(), CompileError> {
        match op {
            Op::WideLoad { dst, place } => return self.wide_load(at, dst, place),
            Op::WideStore { place, src } => return self.wide_store(at, place, src),
            Op::Spread { lanes, dst, src } => {
                let value = self.operand(Width::W64, src);
                let value = self.truncate(lanes, value);
                let spread = self.b.ins().splat(lane_type(lanes), value);
                self.set_wide(dst, spread);
            }
            Op::WideAlu { lanes, op, dst, a, b } => {
                let [a, b] = [a, b].map(|var| self.get_lanes(lanes, var));
                let result = match op {
                    AluOp::Sub => self.b.ins().isub(a, b),
                    op => self.combine(op, a, b),
                };
                self.set_wide(dst, result);
            }
            Op::WideEqual { lanes, dst, a, b } => {
                let [a, b] = [a, b].map(|var| self.get_lanes(lanes, var));
                let equal = self.b.ins().icmp(IntCC::Equal, a, b);
                self.set_wide(dst, equal);
            }
            Op::Bits { dst, src } => {
                let src = self.get(src);
                let bits = self.b.ins().vhigh_bits(types::I32, src);
                self.set_low(Width::W32, dst, bits);
            }
            Op::Fold { lanes, op, dst, src } => {
                let folded = self.fold(lanes, op, src);
                self.set(dst, folded);
            }
            Op::TrailingZeros { dst, src } => {
                let src = self.get(src);
                let zeros = self.b.ins().ctz(src);
                self.set(dst, zeros);
            }
            Op::MissedWord { dst } => {
                let offset = field(offset_of!(VmContext, missed));
                let context = self.cold_context();
                let word = self.b.ins().load(types::I64, constant_memory(), context, offset);
                self.set(dst, word);
            }
            Op::Missed { dst, word } => {
                let word = self.get(word);
                let missed = self.b.ins().atomic_load(types::I64, context_memory(), word);
                self.set(dst, missed);
            }
            Op::ForgetMissed { word } => {
                let word = self.get(word);
                let zero = self.b.ins().iconst(types::I64, 0);
                self.native_store(context_memory(), zero, word);
            }
            _ => {}
        }
        Ok(())
    }

    fn wide_load(&mut self, at: InsnIdx, dst: Var, place: Place) -> Result<(), CompileError> {
        let (address, flags) = self.wide_place(at, place)?;
        let flags = if place.is_in_arena() { flags.with_trap_code(Some(PROBE_TRAP)) } else { flags };
        self.b.ins().sequence_point();
        let value = self.b.ins().load(types::I8X16, flags, address, 0);
        self.b.ins().sequence_point();
        self.set(dst, value);
        Ok(())
    }

    fn wide_store(&mut self, at: InsnIdx, place: Place, src: Var) -> Result<(), CompileError> {
        let (address, flags) = self.wide_place(at, place)?;
        let value = self.get(src);
        self.native_store(flags, value, address);
        Ok(())
    }

    /// No pass makes wide accesses of anything but an arena that has a signal handler, and memory that is proven to be there.
    fn wide_place(&mut self, at: InsnIdx, place: Place) -> Result<(Value, MemFlagsData), CompileError> {
        match self.way(at, place, self.unit.options.checked_arena)? {
            Way::Native { address, flags } => Ok((address, flags)),
            Way::Stack | Way::Runtime { .. } | Way::Guarded { .. } => Err(CompileError::UnknownMemory { at }),
        }
    }

    /// A wide variable as lanes.
    fn get_lanes(&mut self, lanes: Size, var: Var) -> Value {
        let value = self.get(var);
        self.as_type(lane_type(lanes), value)
    }

    fn set_wide(&mut self, var: Var, value: Value) {
        let value = self.as_type(types::I8X16, value);
        self.set(var, value);
    }

    fn as_type(&mut self, ty: ir::Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == ty {
            return value;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
    }

    fn combine(&mut self, op: AluOp, a: Value, b: Value) -> Value {
        match op {
            AluOp::And => self.b.ins().band(a, b),
            AluOp::Or => self.b.ins().bor(a, b),
            AluOp::Xor => self.b.ins().bxor(a, b),
            _ => self.b.ins().iadd(a, b),
        }
    }

    /// All lanes combined, as a number of 64 bits. Sums are of lanes that are as wide as they must be to hold them.
    fn fold(&mut self, lanes: Size, op: AluOp, src: Var) -> Value {
        let mut value = self.get_lanes(lanes, src);
        if op == AluOp::Add {
            let mut ty = lane_type(lanes);
            while ty != types::I64X2 {
                let low = self.b.ins().uwiden_low(value);
                let high = self.b.ins().uwiden_high(value);
                value = self.b.ins().iadd(low, high);
                ty = self.b.func.dfg.value_type(value);
            }
        }
        let value = self.as_type(types::I64X2, value);
        let [low, high] = [0, 1].map(|lane| self.b.ins().extractlane(value, lane));
        let mut folded = self.combine(op, low, high);
        if op == AluOp::Add {
            return folded;
        }
        let mut bits = 64;
        while bits > lanes.bits() {
            bits /= 2;
            let above = self.b.ins().ushr_imm_u(folded, i64::from(bits));
            folded = self.combine(op, folded, above);
        }
        let folded = self.truncate(lanes, folded);
        self.extend(lanes, false, folded)
    }
}

/// 16 bytes as lanes.
fn lane_type(lanes: Size) -> ir::Type {
    let lane = memory_type(lanes);
    lane.by(16 / lane.bytes()).unwrap_or(types::I8X16)
}
