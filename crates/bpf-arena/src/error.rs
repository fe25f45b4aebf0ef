//! What can go wrong between an object and the end of a run, one enum per stage.

use std::fmt;
use std::path::PathBuf;

use bpf_object::LineInfo;
use isa::InsnIdx;

use crate::arena::ArenaError;
use crate::fault::Frame;

/// Why an object could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The verifier refuses a program.
    #[error("program `{program}` was refused: {source}")]
    Rejected {
        /// Name of the program.
        program: String,
        /// The verifier's reason.
        source: Box<verifier::Rejection>,
    },
    /// No machine code could be made of a verified program.
    #[error("program `{program}` could not be compiled: {source}")]
    Compile {
        /// Name of the program.
        program: String,
        /// The code generator's reason.
        source: codegen::CompileError,
    },
    /// A program could not be linked, or the kernel configuration lacks a value.
    #[error(transparent)]
    Link(#[from] bpf_object::LinkError),
    /// Executable memory cannot be had.
    #[error("program `{program}`: no executable memory: {source}")]
    CodeMemory {
        /// Name of the program.
        program: String,
        /// What the system answered.
        source: sys::OsError,
    },
    /// Tools that are to know the machine code's names cannot be told.
    #[error("program `{program}`: no symbols: {source}")]
    Symbols {
        /// Name of the program.
        program: String,
        /// What went wrong.
        source: Box<crate::symbols::SymbolsError>,
    },
    /// A program declares a function of the host otherwise than the host provides it, or the host a function of the kernel otherwise
    /// than the kernel has it.
    #[error("program `{program}`: {source}")]
    Signature {
        /// Name of the program.
        program: String,
        /// The first difference.
        source: Box<crate::host::SignatureError>,
    },
    /// A variable of the host that is smaller than the kernel's.
    #[error("the kernel's variable `{name}` has {expected} bytes, the host's {given}")]
    Variable {
        /// Its name.
        name: String,
        /// Bytes of the kernel's.
        expected: u32,
        /// Bytes of the host's.
        given: usize,
    },
    /// The host provides a function under a name that is taken.
    #[error("`{name}` is a function of the engine; to take its place, register it as a mock")]
    FunctionExists {
        /// The name.
        name: &'static str,
    },
    /// The engine cannot execute something that the object uses. All of it is listed.
    #[error("the engine lacks what the object uses:{}{}", List(.0), Remedies(.0))]
    Unsupported(Vec<Unsupported>),
    /// A map could not be created.
    #[error("map `{map}`: {source}")]
    Map {
        /// Name of the map.
        map: String,
        /// What the map's type refuses.
        source: MapError,
    },
    /// The kernel engine could not load it.
    #[error(transparent)]
    Kernel(#[from] Box<crate::kernel::KernelError>),
    /// The arena could not be created.
    #[error("arena `{map}`: {source}")]
    Arena {
        /// Name of the map.
        map: String,
        /// What was refused.
        source: ArenaError,
    },
    /// Maps that were created from other specifications than the program was verified with.
    #[error("the maps were not created for program `{program}`")]
    OtherMaps {
        /// Name of the program.
        program: String,
    },
    /// Code that relies on fault signals, and an arena that has none.
    #[error("program `{program}` was compiled without checks, which this arena needs")]
    UncheckedCode {
        /// Name of the program.
        program: String,
    },
    /// An object with several arenas: a program can address one.
    #[error("maps `{first}` and `{second}` are both arenas; a program can use one")]
    SeveralArenas {
        /// Name of the one found first.
        first: String,
        /// Name of the other.
        second: String,
    },
}

/// Something a program uses that an engine cannot execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Program that uses it; `None` for what belongs to the whole object.
    pub program: Option<String>,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: UnsupportedKind,
    /// First instruction that uses it.
    pub insn: Option<InsnIdx>,
    /// C source line of that instruction.
    pub line: Option<LineInfo>,
}

/// What an [`Unsupported`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnsupportedKind {
    /// A helper, by number (`enum bpf_func_id`).
    Helper(u32),
    /// A kfunc.
    Kfunc,
    /// A kernel variable.
    KernelVariable,
    /// A map type.
    Map(bpf_object::MapType),
    /// A program type.
    ProgramType,
    /// A `__kconfig` variable without a value.
    Kconfig,
    /// An instruction.
    Instruction,
    /// An access to memory that only a kernel has: sockets, tasks, packets' descriptions.
    KernelMemory,
    /// A CO-RE relocation that the types of the engine and of the caller do not answer.
    Relocation,
}

/// What the host can do about something that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Take the place of a function of the kernel: [`UserEngine::mock`](crate::UserEngine::mock).
    Mock,
    /// Provide a function of its own: [`UserEngine::kfunc`](crate::UserEngine::kfunc).
    Kfunc,
    /// Say what a kernel was configured with: [`UserEngine::kconfig`](crate::UserEngine::kconfig).
    Kconfig,
    /// Describe the kernel that the program is for: [`UserEngine::kernel_types`](crate::UserEngine::kernel_types).
    KernelTypes,
}

impl Unsupported {
    /// What the host can do about it; `None` for what only the engine itself could have.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self.kind {
            UnsupportedKind::Helper(number) => isa::helper_name(number).map(|_| Remedy::Mock),
            UnsupportedKind::Kfunc if verifier::kernel_functions().any(|name| name == self.name) => {
                Some(Remedy::Mock)
            }
            UnsupportedKind::Kfunc => Some(Remedy::Kfunc),
            UnsupportedKind::Kconfig => Some(Remedy::Kconfig),
            UnsupportedKind::Relocation => Some(Remedy::KernelTypes),
            UnsupportedKind::KernelVariable
            | UnsupportedKind::Map(_)
            | UnsupportedKind::ProgramType
            | UnsupportedKind::Instruction
            | UnsupportedKind::KernelMemory => None,
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mock => "takes the place of a helper or of a kernel's function: `UserEngine::mock`",
            Self::Kfunc => "provides functions of its own: `UserEngine::kfunc`",
            Self::Kconfig => "says what the kernel was configured with: `UserEngine::kconfig`",
            Self::KernelTypes => "describes the kernel's types: `UserEngine::kernel_types`",
        })
    }
}

/// What the host can do about a list of things that are missing, each once.
struct Remedies<'a>(&'a [Unsupported]);

impl fmt::Display for Remedies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [Remedy::Mock, Remedy::Kfunc, Remedy::Kconfig, Remedy::KernelTypes];
        let mut useful = all.iter().filter(|known| self.0.iter().any(|one| one.remedy() == Some(**known)));
        useful.try_for_each(|remedy| write!(f, "\n  help: a host {remedy}"))
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            UnsupportedKind::Helper(number) => write!(f, "helper `{}` (#{number})", self.name)?,
            UnsupportedKind::Kfunc => write!(f, "kfunc `{}`", self.name)?,
            UnsupportedKind::KernelVariable => write!(f, "kernel variable `{}`", self.name)?,
            UnsupportedKind::Map(kind) => write!(f, "map `{}` of type {}", self.name, kind.name())?,
            UnsupportedKind::ProgramType => write!(f, "programs of section `{}`", self.name)?,
            UnsupportedKind::Kconfig => write!(f, "kernel configuration value `{}`", self.name)?,
            UnsupportedKind::Instruction => write!(f, "instruction `{}`", self.name)?,
            UnsupportedKind::KernelMemory => write!(f, "access to a kernel's memory `{}`", self.name)?,
            UnsupportedKind::Relocation => f.write_str("a kernel type or member that is not known")?,
        }
        if let Some(program) = &self.program {
            write!(f, " in program `{program}`")?;
        }
        if let Some(line) = &self.line {
            write!(f, " at {}:{}: {}", line.file, line.line, line.source.trim())?;
        } else if let Some(insn) = self.insn {
            write!(f, " at instruction {insn}")?;
        }
        Ok(())
    }
}

/// A list in an error message, one item a line.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|item| write!(f, "\n  {item}"))
    }
}

/// Why a run did not reach the end of its program.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The context is smaller than the program's accesses to it.
    #[error("the program accesses {needed} bytes of context, {given} were given")]
    ContextTooSmall {
        /// Bytes the program accesses.
        needed: u32,
        /// Bytes given.
        given: usize,
    },
    /// The context is larger than a context can be.
    #[error("a context has at most {limit} bytes, {given} were given")]
    ContextTooLarge {
        /// Most bytes.
        limit: u32,
        /// Bytes given.
        given: usize,
    },
    /// The program did something that its verification should have excluded. The second line of defence caught it.
    #[error("{0}")]
    Trap(Box<Trap>),
    /// The instruction limit was reached (interpreter only).
    #[error("stopped after {limit} instructions")]
    InstructionLimit {
        /// The limit.
        limit: u64,
    },
    /// The host ended the run.
    #[error("{0}")]
    Stopped(Box<Stopped>),
    /// The kernel refused to run the program, or the run was interrupted.
    #[error("program `{program}`: {source}")]
    Kernel {
        /// Name of the program.
        program: String,
        /// What the kernel answered.
        source: sys::bpf::BpfError,
    },
    /// The packet or its context does not fit.
    #[error(transparent)]
    Packet(#[from] crate::packet::PacketError),
    /// No memory for the run's stack.
    #[error("no memory for the stack of a run")]
    NoMemory,
    /// Arguments that are not the program's.
    #[error(transparent)]
    Arguments(#[from] Box<crate::host::SignatureError>),
    /// Arguments for a program that takes none, or of an engine whose programs are not called by their host.
    #[error("program `{program}` is not called with arguments")]
    NotCalled {
        /// Name of the program.
        program: String,
    },
    /// The program is not run with such a socket.
    #[error(transparent)]
    Socket(#[from] crate::socket::SocketError),
    /// A function of the host ended the run.
    #[error("function `{function}` of the host: {message}")]
    Host {
        /// The function.
        function: &'static str,
        /// Its reason.
        message: String,
    },
    /// A function of the runtime panicked: a bug of this crate or of an output sink.
    #[error("runtime function `{function}` panicked: {message}")]
    Panicked {
        /// Helper or kfunc.
        function: &'static str,
        /// The panic's message.
        message: String,
    },
}

/// A run that its host ended early.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Why.
    pub reason: StopReason,
    /// Name of the program.
    pub program: String,
    /// Where it was when it noticed, innermost function first. Compiled code knows it of loops that it asks for (`may_goto`),
    /// otherwise this is empty.
    pub frames: Vec<Frame>,
}

/// Why a run was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// By its [`Cancel`](crate::Cancel) token.
    Cancelled,
    /// By its time limit, which was this.
    TimeLimit(std::time::Duration),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            StopReason::Cancelled => write!(f, "cancelled: {}", self.program)?,
            StopReason::TimeLimit(limit) => write!(f, "stopped after {limit:?}: {}", self.program)?,
        }
        self.frames.iter().try_for_each(|frame| write!(f, "\n  {frame}"))
    }
}

/// An execution that verification should have excluded.
#[derive(Clone, Debug)]
pub struct Trap {
    /// What happened.
    pub kind: TrapKind,
    /// Name of the program.
    pub program: String,
    /// Where, innermost function first. Empty when only compiled code knows.
    pub frames: Vec<Frame>,
}

/// What a [`Trap`] was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// A memory access outside of the run's memory.
    OutOfBounds {
        /// Address.
        address: u64,
        /// Bytes.
        size: u64,
        /// Whether it was a write.
        write: bool,
    },
    /// An atomic access to an address that is not a multiple of its size.
    Misaligned {
        /// Address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// A helper or kfunc got an argument that it cannot use.
    BadArgument {
        /// The function.
        function: &'static str,
        /// Number of the argument, from 1.
        argument: u8,
        /// Its value.
        value: u64,
    },
    /// Control reached an instruction that does not exist, or that verification did not reach.
    BadJump,
    /// More nested calls than the run has stack for.
    StackOverflow,
    /// An instruction that no engine executes.
    BadInstruction,
    /// A run ended with a lock held; it was released.
    LockHeld,
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { address, size, write } => {
                let access = if *write { "write to" } else { "read of" };
                write!(f, "{size}-byte {access} {address:#x}, which is no memory of this run")
            }
            Self::Misaligned { address, size } => {
                write!(f, "{size}-byte atomic access to the misaligned address {address:#x}")
            }
            Self::BadArgument { function, argument, value } => {
                write!(f, "argument {argument} of `{function}` is {value:#x}")
            }
            Self::BadJump => f.write_str("control left the verified instructions"),
            Self::StackOverflow => f.write_str("too many nested calls"),
            Self::BadInstruction => f.write_str("an instruction that cannot be executed"),
            Self::LockHeld => f.write_str("the run ended with a spin lock held"),
        }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trap: {} in {}", self.kind, self.program)?;
        self.frames.iter().try_for_each(|frame| write!(f, "\n  {frame}"))
    }
}

/// Why a map operation failed. Each has the errno that the kernel's map would answer with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A key of the wrong length.
    #[error("a key has {expected} bytes, not {given}")]
    KeySize {
        /// The map's `key_size`.
        expected: u32,
        /// Bytes given.
        given: usize,
    },
    /// A value of the wrong length.
    #[error("a value has {expected} bytes, not {given}")]
    ValueSize {
        /// The map's `value_size`.
        expected: u32,
        /// Bytes given.
        given: usize,
    },
    /// No entry has this key (`ENOENT`).
    #[error("no such key")]
    NotFound,
    /// An entry has this key already (`EEXIST`).
    #[error("the key exists already")]
    Exists,
    /// The map is full, or the index is past its end (`E2BIG`).
    #[error("the map is full or the index is past its end")]
    TooBig,
    /// The map may not be written (`EPERM`).
    #[error("the map is read-only")]
    ReadOnly,
    /// Maps of this type do not have this operation (`EOPNOTSUPP`).
    #[error("maps of this type do not support this")]
    Unsupported,
    /// Maps of this type do not have this operation (`ENOTSUPP`, the kernel's own number for it: 524).
    #[error("maps of this type do not have this operation")]
    NoOperation,
    /// Maps of this type answer this operation as a bad argument (`EINVAL`).
    #[error("this cannot be done to maps of this type")]
    Invalid,
    /// The map's attributes are not allowed for its type (`EINVAL`).
    #[error("{attribute} = {value} is not allowed for this type of map")]
    BadAttribute {
        /// Name of the attribute.
        attribute: &'static str,
        /// Its value.
        value: u64,
    },
    /// An attribute is beyond what maps of its type may have (`E2BIG`).
    #[error("{attribute} = {value} is more than this type of map may have")]
    TooLarge {
        /// Name of the attribute.
        attribute: &'static str,
        /// Its value.
        value: u64,
    },
    /// Flags that maps of this type do not implement (`ENOTSUPP`, 524).
    #[error("maps of this type do not support the flags {flags:#x} together")]
    UnsupportedFlags {
        /// `map_flags`.
        flags: u32,
    },
    /// Every element is being used by others at the moment, so that none could be evicted (`ENOMEM`).
    #[error("no element could be evicted")]
    NoElement,
    /// The map is in use by another, or frozen already (`EBUSY`).
    #[error("the map is in use or frozen already")]
    Busy,
    /// The next elements of a batch do not fit: ask for more (`ENOSPC`).
    #[error("a batch of this size has no room for the next elements")]
    NoSpace,
    /// The map or program belongs to another engine (`EBADF`).
    #[error("what is to be stored belongs to another engine")]
    OtherEngine,
    /// A range outside of a value (`EINVAL`).
    #[error("bytes {offset}..{end} are outside of the value")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// Byte after the last.
        end: u64,
    },
    /// No memory (`ENOMEM`).
    #[error("no memory for {bytes} bytes")]
    NoMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// An operating system error.
    #[error("{}", std::io::Error::from_raw_os_error(*.errno))]
    Os {
        /// The error number.
        errno: i32,
    },
}

impl MapError {
    /// The error number (positive) with which the kernel's map operation would fail.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::TooBig | Self::TooLarge { .. } => 7,
            Self::NoMemory { .. } | Self::NoElement => 12,
            Self::Exists => 17,
            Self::ReadOnly => 1,
            Self::Busy => 16,
            Self::NoSpace => 28,
            Self::OtherEngine => 9,
            Self::Unsupported => 95,
            Self::NoOperation | Self::UnsupportedFlags { .. } => 524,
            Self::Invalid
            | Self::KeySize { .. }
            | Self::ValueSize { .. }
            | Self::BadAttribute { .. }
            | Self::OutOfRange { .. } => 22,
            Self::Os { errno } => *errno,
        }
    }
}

/// Why a callback was not called, or did not return.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackError {
    /// There is none of this name.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// It could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A name that the app does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} `{name}`; there is {}", Names(.known))]
pub struct UnknownName {
    /// What was looked for: `program`, `map`, `variable`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// The names there are.
    pub known: Vec<String>,
}

/// A comma-separated list of names, cut at ten.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, name) in self.0.iter().take(10).enumerate() {
            write!(f, "{}`{name}`", if i == 0 { "" } else { ", " })?;
        }
        if self.0.len() > 10 { write!(f, " and {} more", self.0.len() - 10) } else { Ok(()) }
    }
}

/// Why an object file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are no usable object.
    #[error("{}{source}", .path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default())]
    Parse {
        /// The file, if it was one.
        path: Option<PathBuf>,
        /// What is wrong.
        source: bpf_object::ObjectError,
    },
    /// Several objects do not go together.
    #[error(transparent)]
    Link(#[from] bpf_object::StaticLinkError),
}

/// Why a variable's initial value could not be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// There is no such variable.
    #[error("no variable `{name}`")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// It has another size.
    #[error("variable `{name}` has {expected} bytes, not {given}")]
    Size {
        /// Its name.
        name: String,
        /// Its size.
        expected: u32,
        /// Bytes given.
        given: usize,
    },
}
