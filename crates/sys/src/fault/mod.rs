//! Page faults: of generated code, of this crate's own accesses, and of host code that touches an arena.
//!
//! One handler for SIGBUS and SIGSEGV is installed once in a process. A fault is
//!
//! 1. **of a program**: the instruction is a [`FaultSite`] of registered code (or one of this crate's accesses) *and* the
//!    address lies in the window of an arena. The registers get what the site says, execution goes on at its resume
//!    offset, and the fault is noted in the thread's [`Recorder`].
//! 2. **a touch by host code** of a missing page of an arena, at its user address: the page is populated and the
//!    instruction runs again. That is how the kernel populates an arena lazily.
//! 3. **anybody else's**, which includes touches of reserved pages and of arenas with `BPF_F_SEGV_ON_FAULT`: the
//!    handler that was there before gets it, these touches as SIGSEGV, as the kernel raises it.
//!
//! The handler takes no lock and allocates nothing; it makes one system call, to populate a page.

mod handler;
mod record;
mod table;

use std::sync::Arc;

use crate::code::CodeMemory;
use crate::window::Memory;
use crate::{Errno, OsError, arch};

pub use record::{MAX_RETURNS, Record, Recorder, count_so_far, faulted_word, missed_word};

static CODE: table::Table<Code> = table::Table::new();
static WINDOWS: table::Table<Memory> = table::Table::new();

/// A machine instruction that may touch a missing page, and how execution goes on when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSite {
    /// Offset of the instruction in the code.
    pub offset: u32,
    /// Offset where execution continues.
    pub resume: u32,
    /// What the registers are to hold then.
    pub leaves: Leaves,
    /// What the record says of this site; the owner's business.
    pub tag: u32,
    /// Whether the fault is not recorded, but told to the code by [`missed_word`].
    pub probe: bool,
}

/// What an instruction that was skipped leaves in the general-purpose registers (x86-64: numbers 0 to 15, AArch64: 0 to 30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// What they hold.
    Registers,
    /// Zero in one of them.
    Zero(u8),
    /// What is in another, or its low half, zero-extended.
    Copy {
        /// The other.
        from: u8,
        /// The one that changes.
        to: u8,
        /// Whether it is the low 32 bits only.
        half: bool,
    },
}

impl Leaves {
    /// Whether this names registers that there are.
    fn is_valid(self) -> bool {
        let exists = |number: u8| number < arch::REGISTER_COUNT;
        match self {
            Self::Registers => true,
            Self::Zero(number) => exists(number),
            Self::Copy { from, to, .. } => exists(from) && exists(to),
        }
    }

    /// Writes it into the registers of a thread that is stopped.
    fn apply(self, context: &mut arch::Context<'_>) {
        match self {
            Self::Registers => {}
            Self::Zero(number) => context.set_register(number, 0),
            Self::Copy { from, to, half } => {
                let value = context.register(from);
                context.set_register(to, if half { value & 0xffff_ffff } else { value });
            }
        }
    }
}

/// Executable code and its sites.
#[derive(Debug)]
struct Code {
    memory: CodeMemory,
    /// By ascending offset.
    sites: Box<[FaultSite]>,
}

impl Code {
    fn site(&self, pc: u64) -> Option<&FaultSite> {
        let offset = u32::try_from(pc.checked_sub(self.memory.start())?).ok()?;
        let found = self.sites.binary_search_by_key(&offset, |site| site.offset).ok()?;
        self.sites.get(found)
    }
}

/// Executable code whose listed instructions may touch missing arena pages. Withdrawn and unmapped on drop.
///
/// Generated code keeps frame pointers: the handler follows them, as long as return addresses lie in registered code.
#[derive(Debug)]
pub struct CodeRegion {
    code: Arc<Code>,
    // Withdrawn before `code` is dropped, by the order of fields; the table holds a reference of its own.
    _entry: table::Entry<Code>,
}

impl CodeRegion {
    /// Makes the sites known to the fault handler, which is installed if it was not.
    ///
    /// # Errors
    /// The handler could not be installed, or a site lies outside the code or names no register (EINVAL).
    pub fn register(memory: CodeMemory, mut sites: Vec<FaultSite>) -> Result<Self, OsError> {
        handler::install()?;
        let inside = |offset: u32| u64::from(offset) < memory.len() as u64;
        let valid = |site: &FaultSite| inside(site.offset) && inside(site.resume) && site.leaves.is_valid();
        if !sites.iter().all(valid) {
            return Err(OsError { call: "registration of fault sites", errno: Errno::INVAL });
        }
        sites.sort_by_key(|site| site.offset);
        let (start, end) = (memory.start(), memory.start() + memory.len() as u64);
        let code = Arc::new(Code { memory, sites: sites.into_boxed_slice() });
        let entry = CODE.insert(start, end, Arc::clone(&code));
        Ok(Self { code, _entry: entry })
    }

    /// Address of the first byte of the code.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.code.memory.start()
    }

    /// Number of bytes of code.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "code is never empty")]
    pub fn len(&self) -> usize {
        self.code.memory.len()
    }
}

/// An arena whose faults the handler takes care of. Withdrawn on drop.
#[derive(Debug)]
pub(crate) struct Watched {
    _entry: table::Entry<Memory>,
}

impl Watched {
    /// Addresses `[start, end)` belong to this arena, pages or not.
    pub(crate) fn new(start: u64, end: u64, memory: Arc<Memory>) -> Result<Self, OsError> {
        handler::install()?;
        Ok(Self { _entry: WINDOWS.insert(start, end, memory) })
    }
}
