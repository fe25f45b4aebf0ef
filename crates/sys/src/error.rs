//! Errors: which call failed, and why.

use rustix::io::Errno;

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {errno}")]
pub struct OsError {
    /// Name of the call, and for ioctls of the request.
    pub call: &'static str,
    /// What it answered.
    pub errno: Errno,
}

impl OsError {
    /// Pairs a call with its answer; for `map_err(OsError::of("mmap"))`.
    pub(crate) fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { call, errno }
    }

    /// The error that libc left in `errno`.
    pub(crate) fn last(call: &'static str) -> Self {
        let errno =
            std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        Self { call, errno }
    }
}

/// Why an arena's memory could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// Something of this process already lies in the range the arena must have.
    #[error("addresses {start:#x}..{end:#x} of this process are already in use")]
    AddressTaken {
        /// First address.
        start: u64,
        /// Address after the last.
        end: u64,
    },
    /// The number of pages is 0 or more than 4 GiB.
    #[error("an arena has 1 to 1048576 pages, not {pages}")]
    PageCount {
        /// What was asked.
        pages: u64,
    },
    /// The address is not aligned to a page or the arena would cross a 4 GiB boundary there.
    #[error("an arena of {pages} pages cannot be at address {address:#x}")]
    Address {
        /// What was asked.
        address: u64,
        /// Pages of the arena.
        pages: u32,
    },
    /// The descriptor given to attach to is not an arena of this version.
    #[error("not an arena: {reason}")]
    NotAnArena {
        /// What was found.
        reason: &'static str,
    },
    /// The file behind the arena could be cut short by another process.
    #[error("the arena's file is not sealed against shrinking")]
    NotSealed,
    /// The caller's file is not on tmpfs, so pages could not come and go.
    #[error("the arena's file must be on tmpfs")]
    NotTmpfs,
    /// The process may not make files that large (`RLIMIT_FSIZE`).
    #[error("an arena needs a file of {needed} bytes and RLIMIT_FSIZE is {limit}")]
    FileSizeLimit {
        /// Bytes needed.
        needed: u64,
        /// Bytes permitted.
        limit: u64,
    },
    /// The system's page size is not 4096 bytes.
    #[error("pages of {bytes} bytes are not supported")]
    PageSize {
        /// The system's page size.
        bytes: usize,
    },
    /// The operating system refused.
    #[error(transparent)]
    Os(#[from] OsError),
}

impl WindowError {
    /// The errno the kernel gives for the same failure of an arena map.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::AddressTaken { .. } => Errno::BUSY,
            Self::Address { address, .. } if address.is_multiple_of(crate::PAGE_SIZE) => Errno::RANGE,
            Self::PageCount { pages: 0 } | Self::Address { .. } | Self::NotAnArena { .. } => Errno::INVAL,
            Self::PageCount { .. } => Errno::TOOBIG,
            Self::NotSealed => Errno::PERM,
            Self::NotTmpfs | Self::PageSize { .. } => Errno::OPNOTSUPP,
            Self::FileSizeLimit { .. } => Errno::FBIG,
            Self::Os(error) => error.errno,
        }
    }
}

/// Why pages could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The address is unaligned or the range does not lie in the arena, or it is empty.
    #[error("not a range of pages of the arena")]
    BadRange,
    /// Some page of the range is allocated or reserved, or no range is long enough.
    #[error("no free pages there")]
    Taken,
    /// The limit of the arena is reached.
    #[error("the arena's limit of {limit} pages is reached")]
    Limit {
        /// Pages.
        limit: u32,
    },
    /// A page that host code may not populate: reserved, or of an arena with `BPF_F_SEGV_ON_FAULT`.
    #[error("the page is missing and a touch may not populate it")]
    NotPopulated,
    /// The page allocator of this arena is in the hands of the kernel.
    #[error("the arena belongs to the kernel, which alone allocates its pages")]
    KernelArena,
    /// The operating system has no memory, or refused.
    #[error(transparent)]
    Os(#[from] OsError),
}

impl PageError {
    /// The errno the kernel gives for the same failure.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::BadRange => Errno::INVAL,
            Self::Taken => Errno::BUSY,
            Self::Limit { .. } => Errno::NOMEM,
            Self::NotPopulated => Errno::FAULT,
            Self::KernelArena => Errno::OPNOTSUPP,
            Self::Os(error) => error.errno,
        }
    }
}
