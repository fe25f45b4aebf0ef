//! What is wrong with a reference, a lock, a dynptr, or another object with a life.

use isa::{InsnIdx, Reg};

use super::{EACCES, EINVAL, TypeName};

/// What is wrong with a reference, a lock, a dynptr, or another object with a life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum ObjectFault {
    #[error("R{} must be referenced when passed to release function", reg.number())]
    ReleaseUnowned { reg: Reg },
    #[error("{function}#{number} reference has not been acquired before")]
    NotAcquired { function: String, number: u32 },

    // Fields of maps and objects.
    #[error("{field} cannot be accessed indirectly by helper")]
    PointerIndirect { field: &'static str, reg: Reg },
    #[error("{field} access cannot have variable offset")]
    PointerVariable { field: &'static str, reg: Reg },
    #[error("{field} access misaligned expected={expected} off={offset}")]
    PointerMisaligned { field: &'static str, reg: Reg, expected: u32, offset: i64 },
    #[error("{field} access size must be BPF_DW")]
    PointerSize { field: &'static str, reg: Reg },
    #[error("R{} doesn't have constant offset. {field} has to be at the constant offset", reg.number())]
    FieldVariable { field: &'static str, reg: Reg },
    #[error("map '{map}' has to have BTF in order to use {field}")]
    FieldWithoutBtf { field: &'static str, map: String },
    #[error("{place} has no valid {field}")]
    NoField { field: &'static str, place: String },
    #[error("off {offset} doesn't point to 'struct {field}' that is at {expected}")]
    FieldOffset { field: &'static str, offset: i64, expected: u32 },

    // Locks and sections.
    #[error("Locking two bpf_spin_locks are not allowed")]
    LockNested,
    #[error("Acquiring the same lock again, AA deadlock detected")]
    LockAgain,
    #[error("{function} without taking a lock")]
    UnlockWithoutLock { function: &'static str },
    #[error("{function} of different lock")]
    UnlockOther { function: &'static str },
    #[error("{function} cannot be out of order")]
    UnlockOrder { function: &'static str, held: InsnIdx },
    #[error("can't spin_{{lock,unlock}} in rbtree cb")]
    LockInCallback,
    #[error("Calling bpf_rcu_read_{{lock,unlock}} in unnecessary rbtree callback")]
    RcuInCallback,
    #[error("arg#{argument} doesn't point to map value or allocated object")]
    LockPlace { argument: usize, reg: Reg, found: TypeName },
}

impl ObjectFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::PointerIndirect { .. }
            | Self::PointerVariable { .. }
            | Self::PointerMisaligned { .. }
            | Self::PointerSize { .. }
            | Self::LockInCallback
            | Self::RcuInCallback => EACCES,
            _ => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match self {
            Self::ReleaseUnowned { reg }
            | Self::PointerIndirect { reg, .. }
            | Self::PointerVariable { reg, .. }
            | Self::PointerMisaligned { reg, .. }
            | Self::PointerSize { reg, .. }
            | Self::FieldVariable { reg, .. }
            | Self::LockPlace { reg, .. } => Some(*reg),
            _ => None,
        }
    }
}
