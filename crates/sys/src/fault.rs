//! Faults of generated code: where they may happen, and a record of those that did.

use crate::OsError;
use crate::code::CodeMemory;

/// Most return addresses a [`Record`] holds.
pub const MAX_RETURNS: usize = 16;

/// A machine instruction that may touch a missing page, and how execution goes on when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSite {
    /// Offset of the instruction in the code.
    pub offset: u32,
    /// Offset where execution continues.
    pub resume: u32,
    /// General-purpose register that becomes 0 (x86-64: number 0 to 15, AArch64: 0 to 30).
    pub clear: Option<u8>,
    /// What the record says of this site; the owner's business.
    pub tag: u32,
}

/// Executable code whose listed instructions may touch missing arena pages. Withdrawn and unmapped on drop.
///
/// Generated code keeps frame pointers: the handler follows them, as long as return addresses lie in registered code.
#[derive(Debug)]
pub struct CodeRegion {
    memory: CodeMemory,
}

impl CodeRegion {
    /// Makes the sites known to the fault handler, which is installed if it was not.
    ///
    /// # Errors
    /// The handler could not be installed, or a site lies outside the code (EINVAL).
    pub fn register(memory: CodeMemory, sites: Vec<FaultSite>) -> Result<Self, OsError> {
        let _ = sites;
        Ok(Self { memory })
    }

    /// Address of the first byte of the code.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.memory.start()
    }

    /// Number of bytes of code.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "code is never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }
}

/// One access of generated code to a missing page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Address the access met nothing at. In the arena: a user address if the arena has one mapping, else inside
    /// its window ([`Window::user_address`](crate::window::Window::user_address) tells).
    pub address: u64,
    /// Address of the machine instruction.
    pub pc: u64,
    /// [`FaultSite::tag`] of the site.
    pub tag: u32,
    returns: [u64; MAX_RETURNS],
    depth: u8,
}

impl Record {
    /// Return addresses into registered code, innermost first.
    #[must_use]
    pub fn returns(&self) -> &[u64] {
        self.returns.get(..usize::from(self.depth)).unwrap_or(&[])
    }
}

/// Where faults of the running thread are noted: all counted, the first ones kept.
#[derive(Debug)]
pub struct Recorder {
    records: Vec<Record>,
    count: u64,
}

impl Recorder {
    /// Room for `capacity` records.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { records: Vec::with_capacity(capacity), count: 0 }
    }

    /// Runs `body`; faults of this thread meanwhile are noted here. Nested recordings (a program run from a
    /// helper of another) each get their own.
    pub fn during<R>(&mut self, body: impl FnOnce() -> R) -> R {
        body()
    }

    /// Faults since the last [`Self::clear`], kept or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first of them.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }
}
