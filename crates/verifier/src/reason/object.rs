//! What is wrong with a reference, a lock, a dynptr, or another object with a life.

use isa::Reg;

use super::EINVAL;

/// What is wrong with a reference, a lock, a dynptr, or another object with a life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum ObjectFault {
    #[error("release helper R{} expects referenced PTR_TO_BTF_ID", reg.number())]
    ReleaseUnowned { reg: Reg },
}

impl ObjectFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::ReleaseUnowned { .. } => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        None
    }
}
