//! Calls: subprograms, helpers, kfuncs, and the runtime's own functions.

use std::mem::offset_of;

use bpf_object::Program;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use isa::{CallTarget, InsnIdx, Reg};

use super::{Lower, context_memory, field, proven_memory};
use crate::abi::{self, VmContext};
use crate::flow::Step;
use crate::{CompileError, Import};

/// Number of `bpf_tail_call`.
const TAIL_CALL: u32 = 12;

impl Lower<'_, '_> {
    pub(super) fn call(&mut self, step: &Step, target: CallTarget) -> Result<(), CompileError> {
        if let Some(result) = self.inlined_call(step, target) {
            self.set(Reg::R0, result);
            self.clobber_arguments();
            return Ok(());
        }
        let tail_call = target == CallTarget::Helper(TAIL_CALL);
        let result = match target {
            CallTarget::Helper(number) => self.external_call(Import::Helper(number)),
            CallTarget::Kfunc { btf_id, .. } => {
                let index = u32::try_from(btf_id).map_err(|_| CompileError::BadTarget { at: step.at })?;
                self.external_call(Import::Kfunc(index))
            }
            CallTarget::Local(offset) => self.local_call(step.at, offset)?,
            CallTarget::Register(_) => {
                return Err(CompileError::UnsupportedInsn { at: step.at, insn: step.insn });
            }
        };
        if tail_call || self.throws {
            self.leave(result);
        }
        self.set(Reg::R0, result);
        self.clobber_arguments();
        Ok(())
    }

    /// Returns `result` from this function if the call that gave it ended more than itself.
    fn leave(&mut self, result: Value) {
        let offset = field(offset_of!(VmContext, leave));
        let leave = self.b.ins().load(types::I64, context_memory(), self.context, offset);
        let (done, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(leave, done, &[], go_on, &[]);
        self.b.switch_to_block(done);
        let function_only = self.b.ins().icmp_imm_s(IntCC::Equal, leave, abi::LEAVE_FUNCTION.cast_signed());
        let zero = self.b.ins().iconst(types::I64, 0);
        let left = self.b.ins().select(function_only, zero, leave);
        self.b.ins().store(context_memory(), left, self.context, offset);
        self.b.ins().return_(&[result]);
        self.b.switch_to_block(go_on);
    }

    /// After a call the program cannot read its argument registers any more, but a later call passes all five: gives them
    /// something that is at hand anyway, or the backend keeps the old values alive.
    pub(super) fn clobber_arguments(&mut self) {
        for reg in Reg::ARGS {
            self.set(reg, self.frame);
        }
    }

    /// The reached subprogram that begins `offset` slots after the next instruction.
    pub(super) fn subprogram_at(&self, at: InsnIdx, offset: i32) -> Result<usize, CompileError> {
        let bad = CompileError::BadTarget { at };
        let Some(start) = at.offset(1 + i64::from(offset)) else { return Err(bad) };
        let program: &Program = self.unit.source.program();
        let found = program.subprograms.binary_search_by_key(&start, |s| s.start).ok();
        let reached = |i: &usize| *i == 0 || self.unit.source.frames().get(*i).is_some_and(|f| f.reached);
        found.filter(reached).ok_or(bad)
    }

    fn local_call(&mut self, at: InsnIdx, offset: i32) -> Result<Value, CompileError> {
        let subprogram = self.subprogram_at(at, offset)?;
        let function = self.function(subprogram);
        let frame = self.callee_frame();
        let mut arguments = vec![self.context];
        // The entry has fewer parameters; nothing can call it, but verification is not to be relied on for that.
        let registers = if subprogram == 0 { &[Reg::R1][..] } else { &Reg::ARGS[..] };
        for &reg in registers {
            arguments.push(self.get(reg));
        }
        arguments.push(frame);
        let call = self.b.ins().call(function, &arguments);
        Ok(self.first_result(call))
    }

    /// A helper or kfunc, which may enter callbacks.
    fn external_call(&mut self, import: Import) -> Value {
        if self.has_callbacks {
            let frame = self.callee_frame();
            let offset = field(offset_of!(VmContext, callback_frame));
            self.b.ins().store(context_memory(), frame, self.context, offset);
        }
        let arguments = Reg::ARGS.map(|reg| self.get(reg));
        self.runtime_call(import, arguments)
    }

    /// `r10` of a function that this one calls.
    fn callee_frame(&mut self) -> Value {
        self.b.ins().iadd_imm_s(self.frame, -self.stack_bytes)
    }

    /// Calls a function of the runtime with `r1` to `r5`.
    pub(super) fn runtime_call(&mut self, import: Import, arguments: [Value; 5]) -> Value {
        let signature = match self.import_signature {
            Some(signature) => signature,
            None => {
                let mut signature = Signature::new(CallConv::SystemV);
                signature.params = vec![AbiParam::new(types::I64); 6];
                signature.returns = vec![AbiParam::new(types::I64)];
                *self.import_signature.insert(self.b.import_signature(signature))
            }
        };
        let entry = self.imports.table_offset(import);
        let imports = field(offset_of!(VmContext, imports));
        // Not `constant_memory`, which may be read anywhere: that would load the address of a function before a
        // loop that rarely calls it, and keep it in a register.
        let here = proven_memory().with_readonly();
        let table = self.b.ins().load(types::I64, here, self.context, imports);
        let function = self.b.ins().load(types::I64, here, table, entry);
        let [a, b, c, d, e] = arguments;
        let call = self.b.ins().call_indirect(signature, function, &[self.context, a, b, c, d, e]);
        self.first_result(call)
    }

    fn first_result(&mut self, call: cranelift_codegen::ir::Inst) -> Value {
        match self.b.inst_results(call).first() {
            Some(&value) => value,
            // Every signature here has one result.
            None => self.b.ins().iconst(types::I64, 0),
        }
    }
}
