//! Calls: subprograms, helpers, kfuncs, and the runtime's own functions.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use isa::{CallTarget, InsnIdx};

use super::stub::{self, StubOf};
use super::{Leaving, Lower, context_memory, field, proven_memory};
use crate::abi::{self, VmContext};
use crate::flow::Var;
use crate::{CompileError, Import};

/// Number of `bpf_tail_call`.
pub(crate) const TAIL_CALL: u32 = 12;
/// Number of `bpf_spin_lock`.
pub(crate) const SPIN_LOCK: u32 = 93;

impl Lower<'_, '_> {
    /// The result of a call.
    pub(super) fn call(
        &mut self,
        at: InsnIdx,
        target: CallTarget,
        map: Option<u32>,
        stack: u32,
        args: [Var; 5],
    ) -> Result<Value, CompileError> {
        if let Some(result) = self.inlined_call(target, map, args) {
            return Ok(result);
        }
        let tail_call = target == CallTarget::Helper(TAIL_CALL);
        let result = match target {
            CallTarget::Helper(number) => self.external_call(Import::Helper(number), stack, args),
            CallTarget::Kfunc { btf_id, .. } => {
                let index = u32::try_from(btf_id).map_err(|_| CompileError::BadTarget { at })?;
                self.external_call(Import::Kfunc(index), stack, args)
            }
            CallTarget::Local(offset) => self.local_call(at, offset, stack, args)?,
            CallTarget::Register(_) => return Err(CompileError::BadTarget { at }),
        };
        if tail_call || self.may_leave(target) {
            self.leave(result);
        }
        Ok(result)
    }

    /// Whether a call that is no tail call may end more than itself.
    fn may_leave(&self, target: CallTarget) -> bool {
        match (self.unit.leaving, target) {
            (Leaving::Never, _) => false,
            (Leaving::Exceptions, _) | (_, CallTarget::Local(_) | CallTarget::Helper(SPIN_LOCK)) => true,
            (Leaving::Locks, _) => self.has_callbacks,
        }
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
    pub(super) fn clobber(&mut self, vars: [Var; 5]) {
        for var in vars {
            self.set(var, self.frame);
        }
    }

    /// The reached subprogram that begins `offset` slots after the next instruction.
    pub(super) fn subprogram_at(&self, at: InsnIdx, offset: i32) -> Result<usize, CompileError> {
        self.unit.source.subprogram_at(at, offset).ok_or(CompileError::BadTarget { at })
    }

    fn local_call(
        &mut self,
        at: InsnIdx,
        offset: i32,
        stack: u32,
        args: [Var; 5],
    ) -> Result<Value, CompileError> {
        let subprogram = self.subprogram_at(at, offset)?;
        let function = self.function(subprogram);
        let frame = self.callee_frame(stack);
        let mut arguments = vec![self.context];
        // The entry has fewer parameters; nothing can call it, but verification is not to be relied on for that.
        let passed = if subprogram == 0 { 1 } else { args.len() };
        for var in args.into_iter().take(passed) {
            arguments.push(self.get(var));
        }
        arguments.push(frame);
        let call = self.b.ins().call(function, &arguments);
        Ok(self.first_result(call))
    }

    /// A helper or kfunc, which may enter callbacks.
    fn external_call(&mut self, import: Import, stack: u32, args: [Var; 5]) -> Value {
        if self.has_callbacks {
            let frame = self.callee_frame(stack);
            let offset = field(offset_of!(VmContext, callback_frame));
            self.b.ins().store(context_memory(), frame, self.context, offset);
        }
        let arguments = args.map(|var| self.get(var));
        self.runtime_call(import, arguments)
    }

    /// `r10` of a function that this one calls.
    fn callee_frame(&mut self, stack: u32) -> Value {
        self.b.ins().iadd_imm_s(self.frame, -i64::from(stack))
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

    /// Calls a stub, for what hardly ever happens: nothing that the function keeps in machine registers is lost. The answer is in
    /// [`VmContext::answer`].
    pub(super) fn cold_call(&mut self, stub: StubOf, [first, second]: [Value; 2]) -> Value {
        let number = self.imports.stub(stub);
        let b = &mut self.b;
        let function = *self.stubs.entry(number).or_insert_with(|| stub::reference(b, number));
        let context = self.cold_context();
        self.b.ins().call(function, &[context, first, second]);
        self.b.ins().load(types::I64, context_memory(), context, field(offset_of!(VmContext, answer)))
    }

    fn first_result(&mut self, call: cranelift_codegen::ir::Inst) -> Value {
        match self.b.inst_results(call).first() {
            Some(&value) => value,
            // Every signature here has one result.
            None => self.b.ins().iconst(types::I64, 0),
        }
    }
}
