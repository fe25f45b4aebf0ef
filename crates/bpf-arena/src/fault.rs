//! Arena accesses that found no page: what the program touched, and where in its source.

use std::fmt;
use std::sync::Arc;

use bpf_object::{LineInfo, Program};
use codegen::AccessKind;
use isa::InsnIdx;

use crate::arena::UserAddr;

/// An access to an arena page that does not exist. The load gave 0, the store or atomic was dropped, and the program
/// went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Load, store or atomic.
    pub kind: AccessKind,
    /// The first byte that has no page: not where the access began, if that is on a page that is there. Outside of the
    /// arena if an offset led there.
    pub address: UserAddr,
    /// Bytes accessed.
    pub size: u8,
    /// Name of the program.
    pub program: Arc<str>,
    /// Call chain, the faulting function first. A chain deeper than the record can hold is cut at the outer end.
    /// Where compiled code has the runtime make the access (see
    /// [`Arena::faults_in_hardware`](crate::arena::Arena::faults_in_hardware); fetching `and`, `or` and `xor` always) it is the
    /// faulting function alone.
    pub frames: Vec<Frame>,
}

impl Fault {
    /// The faulting instruction.
    #[must_use]
    pub fn insn(&self) -> Option<InsnIdx> {
        self.frames.first().map(|frame| frame.insn)
    }

    /// The faulting source line.
    #[must_use]
    pub fn line(&self) -> Option<&LineInfo> {
        self.frames.first().and_then(|frame| frame.line.as_ref())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            AccessKind::Load => "load",
            AccessKind::Store => "store",
            AccessKind::Atomic => "atomic",
        };
        write!(f, "arena fault: {}-byte {kind} at {:#x} (page not allocated)", self.size, self.address)?;
        match self.frames.split_first() {
            None => write!(f, " in {}", self.program),
            Some((innermost, callers)) => {
                write!(f, " in {innermost}")?;
                callers.iter().try_for_each(|frame| write!(f, "\n  called from {frame}"))
            }
        }
    }
}

/// A function on the call chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Name of the function.
    pub function: String,
    /// The instruction being executed: the access itself, or the call.
    pub insn: InsnIdx,
    /// Its source line.
    pub line: Option<LineInfo>,
}

impl Frame {
    pub(crate) fn new(program: &Program, insn: InsnIdx) -> Self {
        let function = program.subprogram_at(insn).map_or_else(|| program.name.clone(), |s| s.name.clone());
        Self { function, insn, line: program.line_at(insn).cloned() }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.line {
            Some(line) => {
                write!(f, "{} at {}:{}: {}", self.function, line.file, line.line, line.source.trim())
            }
            None => write!(f, "{} at instruction {}", self.function, self.insn),
        }
    }
}

/// The faults of one run: the first ones in full, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    // Most runs have none: nothing to allocate, and little to hand around.
    found: Option<Box<Found>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    records: Vec<Fault>,
    total: u64,
}

impl Faults {
    /// `total` faults, of which these are the first.
    pub(crate) fn new(records: Vec<Fault>, total: u64) -> Self {
        Self { found: (total > 0).then(|| Box::new(Found { records, total })) }
    }

    /// Number of faults, recorded in full or not.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.found.as_ref().map_or(0, |found| found.total)
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_none()
    }

    /// The faults recorded in full, in the order in which they happened.
    #[must_use]
    pub fn records(&self) -> &[Fault] {
        self.found.as_ref().map_or(&[], |found| &found.records)
    }

    /// The faults recorded in full, in the order in which they happened.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.records().iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
