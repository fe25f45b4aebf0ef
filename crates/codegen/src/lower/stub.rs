//! Stubs: functions that keep every machine register, for what hardly ever happens.
//!
//! In the midst of a loop, an ordinary call would make the backend keep what the loop works with in the few registers that calls
//! preserve, or move it there and back in each iteration. What a stub does is also compiled once, and not in every loop.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, ExternalName, InstBuilder, Signature, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::{Imports, STUBS, Unit, context_memory, field, proven_memory};
use crate::Import;
use crate::abi::{LOOPS_AFTER_FAULTS, LOOPS_MASK, LOOPS_PER_LOOK, VmContext};

/// What a stub does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StubOf {
    /// Calls this function of the runtime with two arguments. The answer is in [`VmContext::answer`].
    Call(Import),
    /// Takes iterations of those that the runtime has given, which the first argument says; asks for more if there are none, or the run is
    /// to end. [`VmContext::answer`] is how many they are, 0 if there are no more; [`VmContext::loops_left`] what the first argument is to
    /// be the next time.
    Loops,
}

impl StubOf {
    /// The function of the runtime that it may call.
    pub(crate) fn import(self) -> Import {
        match self {
            Self::Call(import) => import,
            Self::Loops => Import::LoopBudget,
        }
    }
}

/// How a stub is called: with the context and two arguments. The result is in the context.
pub(super) fn signature() -> Signature {
    let mut signature = Signature::new(CallConv::PreserveAll);
    signature.params = vec![AbiParam::new(types::I64); 3];
    signature
}

/// A reference to a stub in a function.
pub(super) fn reference(b: &mut FunctionBuilder<'_>, number: usize) -> ir::FuncRef {
    let index = u32::try_from(number).unwrap_or(u32::MAX);
    let name = b.func.declare_imported_user_function(ir::UserExternalName::new(STUBS, index));
    let signature = b.import_signature(signature());
    let name = ExternalName::user(name);
    b.import_function(ir::ExtFuncData { name, signature, colocated: true, patchable: false })
}

/// Lowers a stub into `func`, which is empty.
pub(crate) fn function(
    unit: &Unit<'_>,
    stub: StubOf,
    imports: &mut Imports,
    func: &mut ir::Function,
    scratch: &mut FunctionBuilderContext,
) {
    func.name = UserFuncName::default();
    func.signature = signature();
    let mut b = FunctionBuilder::new(func, scratch);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    if let &[context, first, second] = b.block_params(entry) {
        match stub {
            StubOf::Call(import) => call(&mut b, imports, import, [context, first, second]),
            StubOf::Loops => loops(&mut b, imports, [context, first, second]),
        }
    }
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(unit.frontend);
}

fn call(b: &mut FunctionBuilder<'_>, imports: &mut Imports, import: Import, arguments: [Value; 3]) {
    let [context, first, second] = arguments;
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); 6];
    signature.returns = vec![AbiParam::new(types::I64)];
    let signature = b.import_signature(signature);
    let memory = proven_memory();
    let table = b.ins().load(types::I64, memory, context, field(offset_of!(VmContext, imports)));
    let callee = b.ins().load(types::I64, memory, table, imports.table_offset(import));
    let zero = b.ins().iconst(types::I64, 0);
    let call = b.ins().call_indirect(signature, callee, &[context, first, second, zero, zero, zero]);
    if let Some(&answer) = b.inst_results(call).first() {
        b.ins().store(context_memory(), answer, context, field(offset_of!(VmContext, answer)));
    }
}

/// The runtime is asked through the other stub, so that this one need keep but a few registers.
fn loops(b: &mut FunctionBuilder<'_>, imports: &mut Imports, arguments: [Value; 3]) {
    let [context, state, _] = arguments;
    let [answer, left] = [offset_of!(VmContext, answer), offset_of!(VmContext, loops_left)].map(field);
    let [ask, refused, take] = [(); 3].map(|()| b.create_block());
    let before = b.append_block_param(take, types::I64);
    let given = b.ins().band_imm_s(state, LOOPS_MASK.cast_signed());
    let word = super::stop_word(b, context);
    let go_on = b.ins().icmp(IntCC::UnsignedGreaterThan, given, word);
    b.ins().brif(go_on, take, &[state.into()], ask, &[]);

    b.switch_to_block(ask);
    b.set_cold_block(ask);
    let number = imports.stub(StubOf::Call(Import::LoopBudget));
    let function = reference(b, number);
    b.ins().call(function, arguments.as_slice());
    let answered = b.ins().load(types::I64, context_memory(), context, answer);
    b.ins().brif(answered, take, &[answered.into()], refused, &[]);

    // The answer is 0 already.
    b.switch_to_block(refused);
    b.set_cold_block(refused);
    b.ins().store(context_memory(), state, context, left);
    b.ins().return_(&[]);

    b.switch_to_block(take);
    let given = b.ins().band_imm_s(before, LOOPS_MASK.cast_signed());
    let faulted = field(offset_of!(VmContext, faulted));
    let word = b.ins().load(types::I64, context_memory(), context, faulted);
    let faulted = b.ins().atomic_load(types::I64, context_memory(), word);
    let zero = b.ins().iconst(types::I64, 0);
    b.ins().store(context_memory(), zero, word, 0);
    let [most, fewer] = [LOOPS_PER_LOOK, LOOPS_AFTER_FAULTS]
        .map(|iterations| b.ins().iconst(types::I64, iterations.cast_signed()));
    let most = b.ins().select(faulted, fewer, most);
    let taking = b.ins().umin(given, most);
    b.ins().store(context_memory(), taking, context, answer);
    let after = b.ins().isub(before, taking);
    b.ins().store(context_memory(), after, context, left);
}
