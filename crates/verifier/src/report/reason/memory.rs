//! What is wrong with an access to memory that every program has: the stack, and the alignment of anything.

use isa::Reg;

use super::{Access, EACCES, EINVAL, KnownBits};

/// What is wrong with an access to the stack, or with the alignment of an access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum MemoryFault {
    #[error("misaligned {area}access off {bits}+{fixed}+{offset} size {size}")]
    Misaligned { reg: Reg, area: &'static str, bits: KnownBits, fixed: i64, offset: i64, size: u32 },
    /// Packets begin two bytes after an aligned address.
    #[error("misaligned packet access off 2+{bits}+{fixed}+{offset} size {size}")]
    MisalignedPacket { reg: Reg, bits: KnownBits, fixed: i64, offset: i64, size: u32 },
    #[error("invalid {access} stack R{} off={offset} size={size}", reg.number())]
    StackBounds { access: Access, reg: Reg, offset: i64, size: i64, above: bool },
    #[error("invalid variable-offset {access} stack R{} var_off={bits} off={offset} size={size}", reg.number())]
    StackVariableBounds { access: Access, reg: Reg, bits: KnownBits, offset: i64, size: i64, above: bool },
    #[error("invalid unbounded variable-offset {access} stack R{}", reg.number())]
    StackUnbounded { access: Access, reg: Reg },
    #[error(
        "variable offset stack pointer cannot be passed into helper function; var_off={bits} off={offset} size={size}"
    )]
    StackVariableAtomic { reg: Reg, bits: KnownBits, offset: i64, size: u32 },
    #[error("invalid read from stack off {offset}+{byte} size {size}")]
    StackRead { reg: Reg, offset: i64, byte: i64, size: u32 },
    #[error("invalid read from stack R{} var_off {bits}+{byte} size {size}", reg.number())]
    StackVariableRead { reg: Reg, bits: KnownBits, byte: i64, size: u32 },
    #[error("invalid size of register {}", if *fill { "fill" } else { "spill" })]
    SpillSize { fill: bool },
    #[error("cannot spill pointers to stack into stack frame of the caller")]
    SpillToCaller { reg: Reg },
}

impl MemoryFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::StackBounds { above: true, .. }
            | Self::StackVariableBounds { above: true, .. }
            | Self::SpillToCaller { .. } => EINVAL,
            _ => EACCES,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match *self {
            Self::Misaligned { reg, .. }
            | Self::MisalignedPacket { reg, .. }
            | Self::StackBounds { reg, .. }
            | Self::StackVariableBounds { reg, .. }
            | Self::StackUnbounded { reg, .. }
            | Self::StackVariableAtomic { reg, .. }
            | Self::StackRead { reg, .. }
            | Self::StackVariableRead { reg, .. }
            | Self::SpillToCaller { reg } => Some(reg),
            Self::SpillSize { .. } => None,
        }
    }
}
