//! Stubs: functions that call the runtime and keep every machine register.
//!
//! A call that hardly ever happens, in the midst of a loop, would otherwise make the backend keep what the loop works with in
//! the few registers that calls preserve, or move it there and back in each iteration.

use std::mem::offset_of;

use cranelift_codegen::ir::{self, AbiParam, InstBuilder, Signature, UserFuncName, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::{Imports, Unit, context_memory, field, proven_memory};
use crate::Import;
use crate::abi::VmContext;

/// How a stub is called: with the context and two arguments. The result is in the context.
pub(super) fn signature() -> Signature {
    let mut signature = Signature::new(CallConv::PreserveAll);
    signature.params = vec![AbiParam::new(types::I64); 3];
    signature
}

/// Lowers the stub of an import into `func`, which is empty.
pub(crate) fn function(
    unit: &Unit<'_>,
    import: Import,
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
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(unit.frontend);
}
