//! Helpers that are an instruction where they are called (the number of the CPU) or a shorter call (what programs do most with
//! maps that the code knows), and values of arrays.
//!
//! What they know of a map is its specification, which is part of the program; where its values lie is the context's.

use std::mem::offset_of;

use bpf_object::MapType;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use isa::{CallTarget, InsnIdx};

use super::{Lower, Unit, constant_memory, field};
use crate::abi::{self, VmContext};
use crate::flow::Var;
use crate::{CompileError, Import};

/// Numbers of helpers (`enum bpf_func_id`).
pub(crate) const MAP_LOOKUP_ELEM: u32 = 1;
pub(crate) const MAP_UPDATE_ELEM: u32 = 2;
pub(crate) const MAP_DELETE_ELEM: u32 = 3;
const GET_SMP_PROCESSOR_ID: u32 = 8;
const RINGBUF_OUTPUT: u32 = 130;
const RINGBUF_RESERVE: u32 = 131;

/// What stands in the place of a helper's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InPlace {
    /// The number of the CPU.
    Cpu,
    /// A call that says which map of the program it is of, and passes these of the helper's five arguments.
    OnMap { helper: u32, map: u32, args: [usize; 3] },
}

/// What stands in the place of a call, if it is not the helper that is called.
pub(crate) fn in_place(unit: &Unit<'_>, target: CallTarget, map: Option<u32>) -> Option<InPlace> {
    if unit.options.calls_all {
        return None;
    }
    let on_map = |helper, args| Some(InPlace::OnMap { helper, map: map?, args });
    match target {
        CallTarget::Helper(GET_SMP_PROCESSOR_ID) => Some(InPlace::Cpu),
        CallTarget::Helper(MAP_LOOKUP_ELEM) => {
            let map = unit.source.program().maps.get(map? as usize)?;
            let has_values = matches!(
                map.map_type,
                MapType::Array
                    | MapType::PercpuArray
                    | MapType::Hash
                    | MapType::PercpuHash
                    | MapType::LruHash
                    | MapType::LruPercpuHash
            );
            if has_values { on_map(MAP_LOOKUP_ELEM, [1; 3]) } else { None }
        }
        CallTarget::Helper(number @ MAP_DELETE_ELEM) => on_map(number, [1; 3]),
        CallTarget::Helper(number @ RINGBUF_RESERVE) => on_map(number, [1, 2, 2]),
        CallTarget::Helper(number @ (MAP_UPDATE_ELEM | RINGBUF_OUTPUT)) => on_map(number, [1, 2, 3]),
        _ => None,
    }
}

impl Lower<'_, '_> {
    /// The result of a call that needs no function of the runtime, or a shorter call; `None` if it does.
    pub(super) fn inlined_call(
        &mut self,
        target: CallTarget,
        map: Option<u32>,
        args: [Var; 5],
    ) -> Option<Value> {
        match in_place(self.unit, target, map)? {
            InPlace::Cpu => Some(self.cpu()),
            InPlace::OnMap { helper, map, args: chosen } => {
                let args = chosen.map(|index| args.get(index).copied().unwrap_or(Var::FRAME));
                Some(self.call_on_map(helper, map, args))
            }
        }
    }

    /// The CPU that the run has leased.
    fn cpu(&mut self) -> Value {
        self.imports.uses_cpu = true;
        self.b.ins().load(types::I64, constant_memory(), self.context, field(offset_of!(VmContext, cpu)))
    }

    /// The result of a helper on a map that need not be looked for, with the arguments behind the map.
    fn call_on_map(&mut self, helper: u32, index: u32, args: [Var; 3]) -> Value {
        let index = self.b.ins().iconst(types::I64, i64::from(index));
        let [b, c, d] = args.map(|var| self.get(var));
        self.runtime_call(Import::OnMap(helper), [index, b, c, d, d])
    }

    /// The address of a value of an array.
    pub(super) fn element(
        &mut self,
        at: InsnIdx,
        dst: Var,
        index: u32,
        key: Var,
    ) -> Result<(), CompileError> {
        let bad = CompileError::BadTarget { at };
        let map = self.unit.source.program().maps.get(index as usize).ok_or_else(|| bad.clone())?;
        let per_cpu = map.map_type == MapType::PercpuArray;
        let stride = i64::try_from(abi::value_stride(map.value_size)).map_err(|_| bad.clone())?;
        let area =
            i64::try_from(abi::per_cpu_area(map.value_size, map.max_entries)).map_err(|_| bad.clone())?;
        let mut base = self.map_entry(offset_of!(VmContext, map_values), index).ok_or(bad)?;
        if per_cpu {
            let cpu = self.cpu();
            let offset = self.b.ins().imul_imm_s(cpu, area);
            base = self.b.ins().iadd(base, offset);
        }
        let key = self.get(key);
        let offset = self.b.ins().imul_imm_s(key, stride);
        let address = self.b.ins().iadd(base, offset);
        self.set(dst, address);
        Ok(())
    }
}
