//! What can go wrong with an arena from the host's side.

use sys::bpf::BpfError;
use sys::{Errno, PageError, WindowError};

use super::{PageCount, SpecError, UserAddr};

/// Why an operation on an arena failed. [`ArenaError::errno`] is what the kernel would answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The attributes are not those of an arena.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The memory could not be set up.
    #[error("the arena's memory cannot be set up")]
    Memory(#[from] WindowError),
    /// Pages could not be had.
    #[error(transparent)]
    Pages(#[from] PageError),
    /// `bytes` bytes at `at` do not all lie in the arena.
    #[error("{bytes} bytes at {at} are not all in the arena")]
    OutOfBounds {
        /// First byte.
        at: UserAddr,
        /// Number of bytes.
        bytes: u64,
    },
    /// The page does not exist and may not be populated by a touch: it is reserved, or the arena has
    /// `BPF_F_SEGV_ON_FAULT`. For host code that holds a raw pointer this is SIGSEGV.
    #[error("no page at {at}")]
    Missing {
        /// An address in the page.
        at: UserAddr,
    },
    /// An atomic operation needs an address that is a multiple of its width.
    #[error("{at} is not a multiple of {width}, as an atomic operation needs")]
    Misaligned {
        /// Address.
        at: UserAddr,
        /// Bytes.
        width: u8,
    },
    /// The kernel refused.
    #[error("the arena in the kernel")]
    Kernel(#[from] BpfError),
    /// An arena that was handed over is not like the one that the object declares.
    #[error("the arena of {} pages at {at}, with flags {flags:#x}{}, is not what the object declares",
        pages.get(), if *in_kernel { ", in the kernel" } else { "" })]
    OtherArena {
        /// Its pages.
        pages: PageCount,
        /// Its flags.
        flags: u32,
        /// Its address.
        at: UserAddr,
        /// Whether it is in the kernel.
        in_kernel: bool,
    },
    /// Something else has the name.
    #[error("what is pinned there is a map of type {map_type}, no arena")]
    NoArena {
        /// Its type.
        map_type: u32,
    },
    /// Arenas have no elements.
    #[error("an arena has no elements: {operation:?} does not apply")]
    NoElements {
        /// What was tried.
        operation: ElementOp,
    },
}

impl ArenaError {
    /// What the kernel answers in the same place.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Spec(error) => error.errno(),
            Self::Memory(error) => error.errno(),
            Self::Pages(error) => error.errno(),
            Self::Kernel(error) => error.errno().unwrap_or(Errno::INVAL),
            Self::OutOfBounds { .. } | Self::Missing { .. } => Errno::FAULT,
            Self::OtherArena { .. }
            | Self::NoArena { .. }
            | Self::Misaligned { .. }
            | Self::NoElements { operation: ElementOp::Lookup } => Errno::INVAL,
            Self::NoElements { .. } => Errno::OPNOTSUPP,
        }
    }
}

/// Operations on elements that maps have and arenas have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the map operations")]
pub enum ElementOp {
    Lookup,
    Update,
    Delete,
    NextKey,
    Push,
    Pop,
    Peek,
}
