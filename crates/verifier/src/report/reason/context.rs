//! What is wrong with a use of the context, of packets or of sockets.

use isa::Reg;

use super::{EACCES, EINVAL, KnownBits, TypeName};

/// What is wrong with a use of the context, of packets or of sockets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum ContextFault {
    #[error("BPF_LD_[ABS|IND] instructions not allowed for this program type")]
    NoPacketLoads,
    #[error("at the time of BPF_LD_ABS|IND R6 != pointer to skb")]
    PacketLoadContext,
    /// Bytes of a packet that no comparison proved to be there. `range` bytes are; below 0 none, the pointer being at the
    /// packet's end or behind it.
    #[error("R{} offset is outside of the packet", reg.number())]
    PacketBounds { reg: Reg, id: u32, offset: i64, size: u32, range: i32 },
    #[error("cannot write into packet")]
    PacketWrite,
    #[error("helper access to the packet is not allowed")]
    PacketForHelper,
    #[error("R{} min value is negative, either use unsigned index or do a if (index >=0) check.", reg.number())]
    NegativeIndex { reg: Reg },
    #[error("negative offset {found} ptr R{} off={offset} disallowed", reg.number())]
    NegativeOffset { reg: Reg, found: TypeName, offset: i64 },
    #[error("variable {found} access var_off={bits} disallowed")]
    VariableOffset { reg: Reg, found: TypeName, bits: KnownBits },
    #[error("R{} invalid {found} access off={offset} size={size}", reg.number())]
    SocketAccess { reg: Reg, found: TypeName, offset: i64, size: u32 },
    #[error("invalid access to flow keys off={offset} size={size}")]
    FlowKeys { offset: i64, size: u32 },
    #[error("R{} invalid {what} buffer access: off={offset}, size={size}", reg.number())]
    BufferBounds { reg: Reg, what: &'static str, offset: i64, size: u32 },
    #[error("R{} invalid variable buffer offset: off={offset}, var_off={bits}", reg.number())]
    BufferVariable { reg: Reg, offset: i64, bits: KnownBits },
    #[error("write to change key R{} not allowed", reg.number())]
    MapKeyWrite { reg: Reg },
}

impl ContextFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            // A pointer behind the packet's end has no bounds to be outside of.
            Self::PacketBounds { range, .. } if *range < 0 => EINVAL,
            Self::NoPacketLoads | Self::PacketLoadContext => EINVAL,
            _ => EACCES,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match *self {
            Self::PacketBounds { reg, .. }
            | Self::NegativeIndex { reg }
            | Self::MapKeyWrite { reg }
            | Self::NegativeOffset { reg, .. }
            | Self::VariableOffset { reg, .. }
            | Self::SocketAccess { reg, .. }
            | Self::BufferBounds { reg, .. }
            | Self::BufferVariable { reg, .. } => Some(reg),
            _ => None,
        }
    }
}
