//! What is wrong with a use of the context, of packets or of sockets.

use isa::Reg;

use super::EACCES;

/// What is wrong with a use of the context, of packets or of sockets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum ContextFault {
    #[error("invalid access to packet, off={offset} size={size}, R{}(id={id},off={fixed},r={range})", reg.number())]
    PacketBounds { reg: Reg, id: u32, offset: i64, fixed: i32, size: u32, range: i32 },
}

impl ContextFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::PacketBounds { .. } => EACCES,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        None
    }
}
