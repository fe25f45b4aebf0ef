//! What is wrong with a function: how it is declared, called or left.

use isa::Reg;

use super::EINVAL;

/// What is wrong with a function: how it is declared, called or left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum FunctionFault {
    #[error("tail_call is not allowed in callbacks")]
    TailCallInCallback,
    /// The end of what the kernel says: that it may sleep, and where that is not allowed.
    #[error("a non-sleepable BPF program context")]
    SleepingGlobal { name: String },
    #[error("arg#{argument} type doesn't have a name")]
    CtxWithoutName { argument: usize },
    #[error("arg#{argument} should be void pointer")]
    CtxNotVoid { argument: usize },
    #[error("arg#{argument} should be `struct {expected} *`")]
    CtxNotStruct { argument: usize, expected: &'static str },
}

impl FunctionFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::TailCallInCallback
            | Self::SleepingGlobal { .. }
            | Self::CtxWithoutName { .. }
            | Self::CtxNotVoid { .. }
            | Self::CtxNotStruct { .. } => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        None
    }
}
