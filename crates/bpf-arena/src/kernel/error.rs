//! What can go wrong between an object and programs in the kernel.

use std::fmt;

use bpf_object::{BtfError, ExternKind, LineInfo, LinkError};
use isa::InsnIdx;
use sys::bpf::{BpfError, Capability, Errno, VerifierLog};

/// Why the kernel engine could not load an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// This process may not use bpf(2).
    #[error(
        "the kernel engine needs {capability}, which this process lacks; run as root, or use the user engine"
    )]
    MissingCapability {
        /// The first capability that is missing.
        capability: Capability,
    },
    /// The kernel has no arena, or not something else that every program needs.
    #[error(transparent)]
    Feature(BpfError),
    /// The kernel's type information cannot be read.
    #[error("the kernel's BTF cannot be read (CONFIG_DEBUG_INFO_BTF): {0}")]
    NoKernelBtf(#[source] std::io::Error),
    /// The kernel's type information cannot be understood.
    #[error("the kernel's BTF: {0}")]
    KernelBtf(#[source] BtfError),
    /// A program could not be linked.
    #[error("program `{program}`: {source}")]
    Link {
        /// Name of the program.
        program: String,
        /// Why.
        source: LinkError,
    },
    /// `extern ... __kconfig` variables could not be filled in.
    #[error(transparent)]
    Kconfig(LinkError),
    /// The kernel refuses the object's type information.
    #[error("the object's BTF was refused: {0}")]
    Btf(#[source] BpfError),
    /// A map could not be created or filled.
    #[error("map `{map}`: {source}")]
    Map {
        /// Name of the map.
        map: String,
        /// Why.
        source: BpfError,
    },
    /// An initial entry of a map names something that is not there.
    #[error("map `{map}`: entry {index} is to hold `{target}`, which was not loaded")]
    NoSlotTarget {
        /// Name of the map.
        map: String,
        /// Key of the entry.
        index: u32,
        /// The name.
        target: String,
    },
    /// A `struct_ops` table of a type that the running kernel does not have.
    #[error("map `{map}`: the kernel has no struct_ops type `{c_type}`")]
    NoStructOps {
        /// Name of the map.
        map: String,
        /// Name of the C type.
        c_type: String,
    },
    /// A data section could not be mapped into this process.
    #[error("map `{map}` could not be mapped: {errno}")]
    Mapping {
        /// Name of the map.
        map: String,
        /// What mmap(2) answered.
        errno: Errno,
    },
    /// An arena could not be mapped, or its globals do not fit.
    #[error("map `{map}`: {source}")]
    Arena {
        /// Name of the map.
        map: String,
        /// Why.
        source: crate::arena::ArenaError,
    },
    /// The section's name does not say what type the program has.
    #[error("program `{program}`: section `{section}` names no program type")]
    UnknownSection {
        /// Name of the program.
        program: String,
        /// Name of the section.
        section: String,
    },
    /// A kernel function or variable that the running kernel does not have.
    #[error("program `{program}`: the kernel has no {} `{name}`", extern_kind(*.kind))]
    MissingExtern {
        /// Name of the program.
        program: String,
        /// Name of the symbol.
        name: String,
        /// What it should be.
        kind: ExternKind,
    },
    /// What the program attaches to is not in the running kernel, or the section does not name it.
    #[error("program `{program}`: the kernel has no `{target}` to attach to")]
    NoAttachTarget {
        /// Name of the program.
        program: String,
        /// The kernel function or type.
        target: String,
    },
    /// The verifier refuses a program.
    #[error("{0}")]
    Rejected(Box<KernelRejection>),
    /// A program could not be loaded, for a reason that is not the verifier's.
    #[error("program `{program}`: {source}")]
    Program {
        /// Name of the program.
        program: String,
        /// Why.
        source: BpfError,
    },
    /// No such program in the object.
    #[error("no program `{0}`")]
    NoSuchProgram(String),
}

impl KernelError {
    /// The kernel's error number, where the kernel was asked and refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::MissingCapability { .. } => Some(Errno::PERM),
            Self::Feature(error) | Self::Btf(error) => error.errno(),
            Self::Map { source, .. } | Self::Program { source, .. } => source.errno(),
            Self::Mapping { errno, .. } => Some(*errno),
            Self::Arena { source, .. } => Some(source.errno()),
            Self::Rejected(rejection) => Some(rejection.errno),
            _ => None,
        }
    }

    /// The verifier's log, where there is one.
    #[must_use]
    pub fn log(&self) -> Option<&VerifierLog> {
        match self {
            Self::Rejected(rejection) => Some(&rejection.log),
            Self::Btf(error) => error.log(),
            _ => None,
        }
    }
}

/// The verifier's refusal of a program: where it stopped and what it said.
#[derive(Clone, Debug)]
pub struct KernelRejection {
    /// Name of the program.
    pub program: String,
    /// The verdict.
    pub errno: Errno,
    /// The instruction it was looking at, if the log tells.
    pub insn: Option<InsnIdx>,
    /// That instruction as the log shows it.
    pub instruction: Option<String>,
    /// That instruction's source line.
    pub line: Option<LineInfo>,
    /// The whole log.
    pub log: VerifierLog,
}

impl KernelRejection {
    /// Whether the kernel refused before it verified anything, for lack of permission although no capability is
    /// missing: a policy of the host (lockdown, a seccomp filter, a hypervisor's kernel).
    #[must_use]
    pub fn is_policy(&self) -> bool {
        matches!(self.errno, Errno::PERM | Errno::ACCESS) && self.log.text().is_empty()
    }
}

impl fmt::Display for KernelRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.log.last_line().unwrap_or("no reason given");
        write!(f, "the kernel refuses program `{}`: {reason} ({})", self.program, self.errno)?;
        if let Some(insn) = self.insn {
            write!(f, "\n  at instruction {insn}")?;
            if let Some(instruction) = &self.instruction {
                write!(f, ": {instruction}")?;
            }
        }
        if let Some(line) = &self.line {
            write!(f, "\n  at {}:{}: {}", line.file, line.line, line.source.trim())?;
        }
        Ok(())
    }
}

fn extern_kind(kind: ExternKind) -> &'static str {
    match kind {
        ExternKind::Function => "function",
        ExternKind::TypedVariable => "variable with the type of",
        ExternKind::Address => "symbol",
    }
}
