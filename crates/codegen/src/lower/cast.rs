//! Casts between address spaces, and addresses known when a program is loaded.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value, types};
use isa::{Imm64, InsnIdx};

use super::{Lower, constant_memory, field};
use crate::CompileError;
use crate::abi::VmContext;
use crate::flow::Var;

impl Lower<'_, '_> {
    /// To the arena's space: a user address, the high half put above a low half that is not 0.
    pub(super) fn user_address(&mut self, dst: Var, src: Var) {
        let value = self.get(src);
        let low = self.b.ins().ireduce(types::I32, value);
        let low = self.b.ins().uextend(types::I64, low);
        let high = self.constant_field(offset_of!(VmContext, user_vm_high));
        let address = self.b.ins().bor(low, high);
        let address = self.b.ins().select(low, address, low);
        self.set(dst, address);
    }

    pub(super) fn load_address(&mut self, at: InsnIdx, dst: Var, of: Imm64) -> Result<(), CompileError> {
        let bad = || CompileError::BadAddress { at };
        let value = match of {
            Imm64::Const(value) => self.b.ins().iconst(types::I64, value.cast_signed()),
            Imm64::MapIdx(map) => self.map_entry(offset_of!(VmContext, maps), map).ok_or_else(bad)?,
            Imm64::MapIdxValue { map, offset } => {
                let base = self.map_entry(offset_of!(VmContext, map_values), map).ok_or_else(bad)?;
                self.b.ins().iadd_imm_s(base, i64::from(offset))
            }
            Imm64::Func(offset) => {
                // A callback that no path enters (a loop of no iterations) has no code.
                match self.subprogram_at(at, offset) {
                    Ok(subprogram) => {
                        let function = self.function(subprogram);
                        self.b.ins().func_addr(types::I64, function)
                    }
                    Err(CompileError::BadTarget { .. }) => self.b.ins().iconst(types::I64, 0),
                    Err(other) => return Err(other),
                }
            }
            Imm64::BtfVar { btf_id, .. } => {
                let externs = &self.unit.source.program().externs;
                let index = usize::try_from(btf_id).ok().filter(|index| *index < externs.len());
                let index = index.and_then(|index| u32::try_from(index).ok()).ok_or_else(bad)?;
                self.map_entry(offset_of!(VmContext, variables), index).ok_or_else(bad)?
            }
            Imm64::MapFd(_) | Imm64::MapValue { .. } => return Err(bad()),
        };
        self.set(dst, value);
        Ok(())
    }

    /// An entry of one of the context's tables: of maps, or of variables.
    pub(super) fn map_entry(&mut self, table: usize, map: u32) -> Option<Value> {
        let offset = i32::try_from(map).ok()?.checked_mul(8)?;
        let table = self.constant_field(table);
        Some(self.b.ins().load(types::I64, constant_memory(), table, offset))
    }

    fn constant_field(&mut self, offset: usize) -> Value {
        self.b.ins().load(types::I64, constant_memory(), self.context, field(offset))
    }
}
