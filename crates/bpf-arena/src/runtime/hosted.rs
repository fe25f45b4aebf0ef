//! Calls of functions of the host: which of them a program calls, and how generated code reaches a closure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bpf_object::Program;
use codegen::abi::RuntimeFn;
use isa::{CallTarget, Insn};

use super::Invocation;
use crate::enter::{self, Callee, Trapped};
use crate::error::{RunError, TrapKind};
use crate::host::{Call, HostCode, HostFunctions, Role};

/// Functions of the host that one program can call: as many as it may call kfuncs.
const MAX_FUNCTIONS: usize = 256;

/// The functions of the host that a program calls, each in a slot of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosted {
    slots: Vec<(CallTarget, Arc<HostCode>)>,
}

impl Hosted {
    /// What the program calls of `functions`.
    pub(crate) fn new(program: &Program, functions: &HostFunctions) -> Self {
        let mut slots: Vec<(CallTarget, Arc<HostCode>)> = Vec::new();
        for (_, insn) in program.code.iter() {
            let Insn::Call { target } = insn else { continue };
            if slots.len() < MAX_FUNCTIONS && !slots.iter().any(|(known, _)| *known == target) {
                slots.extend(find(program, functions, target).map(|code| (target, Arc::clone(code))));
            }
        }
        Self { slots }
    }

    /// Whether any of them takes the place of a function that the engine or a kernel has.
    pub(crate) fn replaces(&self) -> bool {
        self.slots.iter().any(|(_, code)| code.role != Role::Own)
    }

    /// The slot of what is called.
    pub(crate) fn slot(&self, target: CallTarget) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots.iter().position(|(known, _)| *known == target)
    }
}

/// The function of the host that a call is for.
pub(crate) fn find<'f>(
    program: &Program,
    functions: &'f HostFunctions,
    target: CallTarget,
) -> Option<&'f Arc<HostCode>> {
    match target {
        CallTarget::Helper(number) => functions.helper(number),
        CallTarget::Kfunc { btf_id, .. } => {
            functions.kfunc(&program.externs.get(usize::try_from(btf_id).ok()?)?.name)
        }
        CallTarget::Local(_) | CallTarget::Register(_) => None,
    }
}

/// Calls the function in a slot; 0 once the run has been ended.
pub(crate) fn call(run: &mut Invocation<'_>, slot: usize, args: [u64; 5]) -> Result<u64, TrapKind> {
    let loaded = run.loaded;
    let Some((_, code)) = loaded.image.hosted.slots.get(slot) else {
        return Err(TrapKind::BadInstruction);
    };
    let function = code.name();
    let mut call = Call::new(run, function);
    match catch_unwind(AssertUnwindSafe(|| code.call(&mut call, args))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            run.stop(RunError::Host { function, message: error.to_string() });
            Ok(0)
        }
        Err(panic) => {
            run.stop(RunError::Panicked { function, message: enter::panic_message(&*panic) });
            Ok(0)
        }
    }
}

/// What generated code calls for the function in a slot.
pub(crate) fn entry(slot: usize) -> Option<RuntimeFn> {
    ENTRIES.get(slot / 16)?.get(slot % 16).copied()
}

/// The function in slot `N` of the program that runs: generated code passes no more than registers.
struct Slot<const N: usize>;

impl<const N: usize> Callee for Slot<N> {
    const NAME: &'static str = "function of the host";

    fn call(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, Trapped> {
        call(invocation, N, args).map_err(Trapped::new)
    }
}

macro_rules! entries {
    ($($row:literal)*) => { [$(entries!(@row $row, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)),*] };
    (@row $row:literal, $($column:literal)*) => { [$(enter::trampoline::<Slot<{ 16 * $row + $column }>>),*] };
}

static ENTRIES: [[RuntimeFn; 16]; MAX_FUNCTIONS / 16] = entries!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
