//! Helpers that are a few instructions where they are called (lookups in arrays, and the number of the CPU), or a shorter call
//! (what programs do most with maps that the code knows).
//!
//! What they know of a map is its specification, which is part of the program; where its values lie is the context's.

use std::mem::offset_of;

use bpf_object::{MapSpec, MapType};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use isa::{CallTarget, Size};

use super::{Lower, constant_memory, field, proven_memory};
use crate::Import;
use crate::abi::{self, VmContext};
use crate::flow::Var;

/// Numbers of helpers (`enum bpf_func_id`).
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const GET_SMP_PROCESSOR_ID: u32 = 8;
const RINGBUF_OUTPUT: u32 = 130;
const RINGBUF_RESERVE: u32 = 131;

impl Lower<'_, '_> {
    /// The result of a call that needs no function of the runtime; `None` if it does.
    pub(super) fn inlined_call(
        &mut self,
        target: CallTarget,
        map: Option<u32>,
        args: [Var; 5],
    ) -> Option<Value> {
        if self.unit.options.calls_all {
            return None;
        }
        let [_, key, third, fourth, _] = args;
        match target {
            CallTarget::Helper(GET_SMP_PROCESSOR_ID) => Some(self.cpu()),
            CallTarget::Helper(MAP_LOOKUP_ELEM) => {
                let index = map?;
                let program = self.unit.source.program();
                let map = program.maps.get(index as usize)?;
                match map.map_type {
                    MapType::Array if map.key_size == 4 => self.array_lookup(index, map, key, false),
                    MapType::PercpuArray if map.key_size == 4 => self.array_lookup(index, map, key, true),
                    MapType::Hash | MapType::PercpuHash | MapType::LruHash | MapType::LruPercpuHash => {
                        Some(self.call_on_map(MAP_LOOKUP_ELEM, index, [key, key, key]))
                    }
                    _ => None,
                }
            }
            CallTarget::Helper(number @ MAP_DELETE_ELEM) => {
                Some(self.call_on_map(number, map?, [key, key, key]))
            }
            CallTarget::Helper(number @ RINGBUF_RESERVE) => {
                Some(self.call_on_map(number, map?, [key, third, third]))
            }
            CallTarget::Helper(number @ (MAP_UPDATE_ELEM | RINGBUF_OUTPUT)) => {
                Some(self.call_on_map(number, map?, [key, third, fourth]))
            }
            _ => None,
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

    /// The address of a value of an array, 0 past its end.
    fn array_lookup(&mut self, index: u32, map: &MapSpec, key: Var, per_cpu: bool) -> Option<Value> {
        let stride = i64::try_from(abi::value_stride(map.value_size)).ok()?;
        let area = i64::try_from(abi::per_cpu_area(map.value_size, map.max_entries)).ok()?;
        let mut base = self.map_entry(offset_of!(VmContext, map_values), index)?;
        if per_cpu {
            let cpu = self.cpu();
            let offset = self.b.ins().imul_imm_s(cpu, area);
            base = self.b.ins().iadd(base, offset);
        }
        let key = self.get(key);
        let key = self.native_load(Size::W, false, proven_memory(), key);
        let inside = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, key, i64::from(map.max_entries));
        let offset = self.b.ins().imul_imm_s(key, stride);
        let address = self.b.ins().iadd(base, offset);
        let null = self.b.ins().iconst(types::I64, 0);
        Some(self.b.ins().select(inside, address, null))
    }
}
