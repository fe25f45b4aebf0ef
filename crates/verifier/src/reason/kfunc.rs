//! What is wrong with a call of a kernel function, or with an access to memory that BTF describes.

use isa::Reg;

use super::EACCES;

/// What is wrong with a call of a kernel function, or with an access to memory that BTF describes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum KfuncFault {
    #[error("calling kernel function {name} is not allowed")]
    NotAllowed { name: String },
}

impl KfuncFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotAllowed { .. } => EACCES,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        None
    }
}
