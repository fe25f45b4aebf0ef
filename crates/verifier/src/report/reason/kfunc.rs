//! What is wrong with a call of a kernel function, or with an access to memory that BTF describes.

use isa::Reg;

use super::{EACCES, EFAULT, EINVAL, Reason, TypeName};
use crate::kernel_types::WalkFault;
use crate::plan::hook::HookFault;

/// What is wrong with a call of a kernel function, or with an access to memory that BTF describes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum KfuncFault {
    // Who may call.
    #[error("calling kernel function {name} is not allowed")]
    NotAllowed { name: String },
    #[error("kernel function {name} is not in the kernel's BTF")]
    NotInKernel { name: String },
    #[error("cannot call kernel function from non-GPL compatible program")]
    License,
    #[error("metadata kfuncs require device-bound program")]
    NotDeviceBound,
    #[error("too many different kernel function calls")]
    TooMany,
    #[error("the kernel has nothing that programs of this kind could be attached to of name '{target}'")]
    NoHook { target: String },
    #[error("{0}")]
    Hook(HookFault),
    #[error("unexpected __bpf_trap() due to uninitialized variable?")]
    Trap,
    #[error("program must be sleepable to call sleepable kfunc {name}")]
    NotSleepable { name: String },
    #[error("kernel func {name} requires RCU critical section protection")]
    OutsideRcu { name: String },

    // Arguments.
    #[error("Function {name} has {count} > 5 args")]
    TooManyArguments { name: String, count: usize },
    #[error("Unrecognized arg#{index} type {kind}")]
    UnknownArgument { index: usize, kind: &'static str },
    #[error("R{} is not a scalar", reg.number())]
    NotScalar { reg: Reg },
    #[error("R{} must be a known constant", reg.number())]
    NotConstant { reg: Reg },
    #[error("R{} is not a const", reg.number())]
    SizeNotConstant { reg: Reg },
    #[error("R{} rdonly/rdwr_buf_size exceeds u32 max", reg.number())]
    SizeTooLarge { reg: Reg },
    #[error("Possibly NULL pointer passed to trusted arg{index}")]
    PossiblyNull { index: usize, reg: Reg },
    #[error("R{} must be referenced or trusted", reg.number())]
    NotTrusted { reg: Reg },
    #[error("R{} must be a rcu pointer", reg.number())]
    NotRcu { reg: Reg },
    #[error("R{} must have zero offset when passed to release func or trusted arg to kfunc", reg.number())]
    ReleaseOffset { reg: Reg },
    #[error("release kernel function {name} expects refcounted PTR_TO_BTF_ID")]
    NothingToRelease { name: String },
    #[error("arg#{index} expected pointer to ctx, but got {found}")]
    NotContext { index: usize, reg: Reg, found: TypeName },
    #[error("arg#{index} doesn't point to a const string")]
    NotConstString { index: usize, reg: Reg },
    #[error("arg{index} expected pointer to func")]
    NotFunction { index: usize, reg: Reg },
    #[error("pointer in R{} isn't map pointer", reg.number())]
    NotMap { reg: Reg },
    #[error("arg#{index} is {found} expected {expected} or socket")]
    NotKernelPointer { index: usize, reg: Reg, found: TypeName, expected: TypeName },
    #[error("kernel function {name} args#{index} pointer type {kind} {target} is not supported")]
    PointerType { name: String, index: usize, kind: &'static str, target: String },
    #[error(
        "arg#{index} pointer type {kind} {target} must point to {}scalar, or struct with scalar",
        if *sized { "void, " } else { "" }
    )]
    NotMemory { index: usize, kind: &'static str, target: String, sized: bool },
    #[error("{0}")]
    OtherStruct(Box<OtherStruct>),
    #[error("arg#{index} arg#{} memory, len pair leads to invalid memory access", index + 1)]
    MemoryAndSize { index: usize, cause: Box<Reason> },

    // Iterators.
    #[error("arg#{index} expected pointer to an iterator on stack")]
    IteratorNotOnStack { index: usize, reg: Reg },
    #[error("expected valid iter pointer as arg #{index}")]
    NotIterator { index: usize, reg: Reg },
    #[error("expected an RCU CS when using {name}")]
    IteratorOutsideRcu { name: String, reg: Reg },
    #[error("css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs")]
    CssTaskIterator,

    // Results.
    #[error("kernel function {name} returns pointer type {kind} {target} is not supported")]
    ResultType { name: String, kind: &'static str, target: String },
    #[error("Unknown type ID {id} passed to kfunc bpf_rdonly_cast")]
    CastUnknownType { id: u64 },
    #[error("kfunc bpf_rdonly_cast type ID argument must be of a struct or void")]
    CastType { id: u64 },

    #[error("kern ctx type id {id} is not a struct")]
    ContextType { id: u32 },

    // Memory that BTF describes.
    #[error("Cannot access kernel 'struct {name}' from non-GPL compatible program")]
    StructLicense { name: String },
    #[error("R{} is ptr_{name} invalid negative access: off={offset}", reg.number())]
    NegativeOffset { reg: Reg, name: String, offset: i64 },
    #[error("R{} is ptr_{name} invalid variable offset: off={offset}, var_off={variable}", reg.number())]
    VariableOffset { reg: Reg, name: String, offset: i64, variable: String },
    #[error("R{} is ptr_{name} access {what} memory: off={offset}", reg.number())]
    OtherMemory { reg: Reg, name: String, what: &'static str, offset: i64 },
    #[error("only read is supported")]
    ReadOnly { reg: Reg },
    #[error("direct access to {field} is disallowed")]
    OwnedField { reg: Reg, field: &'static str },
    #[error("{fault}")]
    Walk { reg: Reg, fault: WalkFault },
    #[error("no write support to {name} at off {offset}")]
    NoSuchWrite { reg: Reg, name: String, offset: u32 },
    #[error("write access at off {offset} with size {size} beyond the member of {name} ended at {end}")]
    WriteEnd { reg: Reg, name: String, offset: u32, size: u32, end: u32 },

    // Variables of the kernel.
    #[error("ldimm64 unable to resolve the size of type '{name}': -22")]
    VariableSize { name: String },
}

impl KfuncFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::MemoryAndSize { cause, .. } => cause.errno(),
            Self::Walk { fault: WalkFault::NoSize { .. }, .. } | Self::Trap => EFAULT,
            Self::Walk { fault: WalkFault::NotStruct { .. } | WalkFault::NoField { .. }, .. } => EINVAL,
            Self::IteratorOutsideRcu { .. } => EPROTO,
            Self::TooMany => super::E2BIG,
            Self::NoHook { .. } => ESRCH,
            Self::NotAllowed { .. }
            | Self::NotSleepable { .. }
            | Self::OutsideRcu { .. }
            | Self::PossiblyNull { .. }
            | Self::NegativeOffset { .. }
            | Self::VariableOffset { .. }
            | Self::OtherMemory { .. }
            | Self::ReadOnly { .. }
            | Self::OwnedField { .. }
            | Self::Walk { .. }
            | Self::NoSuchWrite { .. }
            | Self::WriteEnd { .. } => EACCES,
            _ => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match self {
            Self::NotScalar { reg }
            | Self::NotConstant { reg }
            | Self::SizeNotConstant { reg }
            | Self::SizeTooLarge { reg }
            | Self::PossiblyNull { reg, .. }
            | Self::NotTrusted { reg }
            | Self::NotRcu { reg }
            | Self::ReleaseOffset { reg }
            | Self::NotContext { reg, .. }
            | Self::NotConstString { reg, .. }
            | Self::NotFunction { reg, .. }
            | Self::NotMap { reg }
            | Self::NotKernelPointer { reg, .. }
            | Self::IteratorNotOnStack { reg, .. }
            | Self::NotIterator { reg, .. }
            | Self::IteratorOutsideRcu { reg, .. }
            | Self::NegativeOffset { reg, .. }
            | Self::VariableOffset { reg, .. }
            | Self::OtherMemory { reg, .. }
            | Self::ReadOnly { reg }
            | Self::OwnedField { reg, .. }
            | Self::Walk { reg, .. }
            | Self::NoSuchWrite { reg, .. }
            | Self::WriteEnd { reg, .. } => Some(*reg),
            Self::OtherStruct(other) => Some(other.reg),
            _ => None,
        }
    }
}

const EPROTO: i32 = 71;
const ESRCH: i32 = 3;

/// A pointer to another structure than a kernel function wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "kernel function {function} args#{index} expected pointer to {kind} {expected} but R{} has a pointer to {found_kind} {found}",
    reg.number()
)]
#[allow(missing_docs, reason = "fields are the register, names and so on that the message gives")]
#[non_exhaustive]
pub struct OtherStruct {
    pub function: &'static str,
    pub index: usize,
    pub kind: &'static str,
    pub expected: String,
    pub reg: Reg,
    pub found_kind: &'static str,
    pub found: String,
}
