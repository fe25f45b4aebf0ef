//! What is wrong with a call of a helper.

use isa::Reg;

use super::EINVAL;

/// What is wrong with a call of a helper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum CallFault {
    #[error("program of this type cannot use helper {name}#{number}")]
    NotForProgram { name: &'static str, number: u32 },
}

impl CallFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotForProgram { .. } => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        None
    }
}
