//! What is wrong with a function: how it is declared, called or left.

use isa::{InsnIdx, Reg};

use super::{EACCES, EFAULT, EINVAL, Reason};

/// What is wrong with a function: how it is declared, called or left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum FunctionFault {
    // Declared.
    #[error("Global functions need valid BTF")]
    WithoutBtf { name: String },
    #[error("Global function {name}() with {count} > 5 args. Buggy compiler.")]
    TooManyArguments { name: String, count: usize },
    #[error("Global function {name}() doesn't return scalar. Only those are supported.")]
    ReturnType { name: String },
    #[error("arg#{argument} has unsupported set of tags")]
    UnknownTag { argument: usize },
    #[error("arg#{argument} has invalid combination of tags")]
    Tags { argument: usize },
    #[error("arg#{argument} arena cannot be combined with any other tags")]
    ArenaTags { argument: usize },
    #[error("arg#{argument} untrusted cannot be combined with any other tags")]
    UntrustedTags { argument: usize },
    #[error("arg#{argument} has type {kind} '{name}', but only struct or primitive types are allowed")]
    UntrustedType { argument: usize, kind: &'static str, name: String },
    #[error("arg#{argument} has pointer tag, but is not a pointer type")]
    TagOfNumber { argument: usize },
    #[error("Arg#{argument} type {kind} in {name}() is not supported yet.")]
    ArgumentType { argument: usize, kind: &'static str, name: String },
    #[error("arg#{argument} reference type('{kind} {name}') size cannot be determined: -22")]
    ArgumentSize { argument: usize, kind: &'static str, name: String },
    #[error("arg#{argument} reference type('{kind} {name}') has no matches")]
    NotInKernel { argument: usize, kind: &'static str, name: String },
    #[error("arg#{argument} type doesn't have a name")]
    CtxWithoutName { argument: usize },
    #[error("arg#{argument} should be void pointer")]
    CtxNotVoid { argument: usize },
    #[error("arg#{argument} should be `struct {expected} *`")]
    CtxNotStruct { argument: usize, expected: &'static str },
    #[error("{what} is only allowed in functions that return 'int'.")]
    AbnormalReturn { what: &'static str },
    #[error("{what} is not allowed in subprogs without BTF")]
    AbnormalWithoutBtf { what: &'static str },
    #[error("multiple exception callback tags for main subprog")]
    TwoExceptionCallbacks,
    #[error("exception callback '{name}' could not be found in BTF")]
    ExceptionCallbackMissing { name: String },
    #[error("exception callback '{name}' must have global linkage")]
    ExceptionCallbackStatic { name: String },
    #[error("exception cb only supports single integer argument")]
    ExceptionCallbackArguments,
    #[error("callback function cannot be the main program")]
    MainAsCallback,

    // Called.
    /// A global function gets something else than it is declared to take.
    #[error("Caller passes invalid args into func#{index} ('{name}')")]
    Arguments { index: u32, name: String, cause: Box<Reason> },
    /// The memory a pointer is to is not there.
    #[error("{cause}")]
    Memory { reg: Reg, cause: Box<Reason> },
    #[error("arg#{argument} expects pointer to ctx")]
    NotCtx { argument: usize },
    #[error("arg#{argument} is expected to be non-NULL")]
    MaybeNull { argument: usize },
    /// The end of what the kernel says: that it may sleep, and where that is not allowed.
    #[error("a non-sleepable BPF program context")]
    SleepingGlobal { name: String },
    /// The end of what the kernel says of calls while holding a lock.
    #[error("use static function instead")]
    GlobalUnderLock { name: String },
    #[error("tail_call is not allowed in callbacks")]
    TailCallInCallback,

    // Call chains.
    #[error("the call stack of {frames} frames is too deep !")]
    TooManyFrames { frames: usize },
    #[error("tail_calls are not allowed when call stack of previous frames is {bytes} bytes. Too large")]
    TailCallStack { bytes: u32 },
    #[error("cannot tail call within exception cb")]
    TailCallInHandler,
    #[error("cannot use BPF_LD_[ABS|IND] within callback")]
    PacketLoadInCallback,
    #[error("bpf_throw kfunc (insn {at}) cannot be called from callback subprog {subprog}")]
    ThrowInCallback { at: InsnIdx, subprog: u32 },
    #[error("insn {at} cannot call exception cb directly")]
    CallsHandler { at: InsnIdx },
}

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EEXIST: i32 = 17;
const EOPNOTSUPP: i32 = 95;

impl FunctionFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::WithoutBtf { .. } => EFAULT,
            Self::UnknownTag { .. } => EOPNOTSUPP,
            Self::NotInKernel { .. } | Self::ExceptionCallbackMissing { .. } => ENOENT,
            Self::TwoExceptionCallbacks => EEXIST,
            Self::TooManyFrames { .. } => E2BIG,
            Self::TailCallStack { .. } => EACCES,
            Self::Arguments { cause, .. } => cause.errno(),
            _ => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match self {
            Self::Arguments { cause, .. } => crate::report::diagnose::register_of(cause),
            Self::Memory { reg, .. } => Some(*reg),
            Self::NotCtx { argument } | Self::MaybeNull { argument } => Reg::ARGS.get(*argument).copied(),
            _ => None,
        }
    }
}
