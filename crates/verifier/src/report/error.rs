//! The refusal of a program: which rule, where, and how it came to be.

use bpf_object::LineInfo;
use isa::{InsnIdx, Reg};

use crate::report::reason::Reason;
use crate::state::reg::RegState;
use crate::verified::Stats;

/// Why and where a program was refused.
///
/// `Display` is the final message Linux would print, with the instruction and the source line.
#[derive(Clone, Debug)]
pub struct Rejection {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) reason: Reason,
    pub(crate) at: Option<InsnIdx>,
    pub(crate) function: Option<String>,
    pub(crate) line: Option<LineInfo>,
    pub(crate) register: Option<Reg>,
    /// The registers in front of the instruction, as far as it has not changed them.
    pub(crate) registers: [RegState; Reg::ALL.len()],
    pub(crate) causes: Vec<Cause>,
    pub(crate) held: Vec<Held>,
    /// The function that was being verified on its own, if it is not the entry.
    pub(crate) alone: Option<u32>,
    pub(crate) stats: Stats,
}

/// An instruction that contributed to the value that broke the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Where.
    pub at: InsnIdx,
    /// The function it is in.
    pub function: String,
    /// Its source line, if the program has line information.
    pub line: Option<LineInfo>,
    /// For a load: what from.
    pub(crate) loaded: Option<LoadedFrom>,
}

/// What a value was loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadedFrom {
    Context,
    Arena,
    Stack,
    /// A map value, a packet, ...
    Memory,
}

/// Something that is held where it must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The instruction that took it.
    pub(crate) at: InsnIdx,
    /// What it is, with its article.
    pub(crate) what: &'static str,
}

impl Rejection {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Box::new(inner) }
    }

    /// The rule that was broken, with its data.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.inner.reason
    }

    /// The instruction that broke it; `None` if the program as a whole did.
    #[must_use]
    pub fn at(&self) -> Option<InsnIdx> {
        self.inner.at
    }

    /// The function that instruction is in.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        self.inner.function.as_deref()
    }

    /// The source line of that instruction, if the program has line information.
    #[must_use]
    pub fn line(&self) -> Option<&LineInfo> {
        self.inner.line.as_ref()
    }

    /// The register at fault, if there is one.
    #[must_use]
    pub fn register(&self) -> Option<Reg> {
        self.inner.register
    }

    /// The instructions that made the value at fault, the nearest first.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        &self.inner.causes
    }

    /// What a register held, if the fault is at an instruction.
    pub(crate) fn value(&self, reg: Reg) -> Option<&RegState> {
        self.inner.at?;
        self.inner.registers.get(reg.index())
    }

    /// What the value at fault was last loaded from.
    pub(crate) fn loaded_from(&self) -> Option<LoadedFrom> {
        self.inner.causes.iter().find_map(|cause| cause.loaded)
    }

    /// The function that was being verified on its own, if it is not the entry.
    pub(crate) fn alone(&self) -> Option<u32> {
        self.inner.alone
    }

    /// What is held where it must not be.
    pub(crate) fn held(&self) -> &[Held] {
        &self.inner.held
    }

    /// Instructions walked until then.
    #[must_use]
    pub fn insns_walked(&self) -> u64 {
        self.inner.stats.insns_walked
    }

    /// What verification cost until then.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats
    }

    /// The error number `bpf(BPF_PROG_LOAD)` would fail with.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.inner.reason.errno()
    }

    /// The name of that number.
    #[must_use]
    pub fn errno_name(&self) -> &'static str {
        errno_name(self.errno())
    }
}

/// The name of an error number that `bpf(BPF_PROG_LOAD)` fails with; `?` for others.
#[must_use]
pub fn errno_name(number: i32) -> &'static str {
    ERRNO_NAMES.iter().find(|(n, _)| *n == number).map_or("?", |(_, name)| name)
}

const ERRNO_NAMES: [(i32, &str); 12] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (7, "E2BIG"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (22, "EINVAL"),
    (28, "ENOSPC"),
    (34, "ERANGE"),
    (95, "EOPNOTSUPP"),
    (524, "ENOTSUPP"),
];

impl core::fmt::Display for Rejection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.inner.reason.fmt(f)?;
        if let Some(at) = self.inner.at {
            write!(f, " (insn {at}")?;
            if let Some(function) = &self.inner.function {
                write!(f, " in {function}()")?;
            }
            if let Some(line) = &self.inner.line {
                write!(f, ", {}:{}: {}", line.file, line.line, line.source.trim())?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl core::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.inner.reason.source()
    }
}
