//! Why programs are refused: one variant per rule, with the data it was broken with.
//!
//! `Display` gives the final message Linux prints for the same fault, so that it can be searched for.

mod call;
mod context;
mod function;
mod kfunc;
mod load;
mod memory;
mod object;

use isa::{InsnIdx, Reg};

pub use call::CallFault;
pub use context::ContextFault;
pub use function::FunctionFault;
pub use kfunc::{KfuncFault, OtherStruct};
pub use load::LoadFault;
pub use memory::MemoryFault;
pub use object::ObjectFault;

/// The name of a register's type as the kernel prints it, e.g. `map_value_or_null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeName {
    pub(crate) base: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) maybe_null: bool,
}

impl TypeName {
    /// The name without what modifies it.
    #[must_use]
    pub fn base(self) -> &'static str {
        self.base
    }

    /// Whether the pointer may still be NULL.
    #[must_use]
    pub fn maybe_null(self) -> bool {
        self.maybe_null
    }
}

impl core::fmt::Display for TypeName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.prefix)?;
        f.write_str(self.base)?;
        match (self.maybe_null, self.base.ends_with('_')) {
            (false, _) => Ok(()),
            // The name of a structure follows.
            (true, true) => f.write_str("or_null_"),
            (true, false) => f.write_str("_or_null"),
        }
    }
}

/// Which way memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Load.
    Read,
    /// Store or atomic.
    Write,
}

impl core::fmt::Display for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Read => "read from",
            Self::Write => "write to",
        })
    }
}

/// What is known of the bits of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KnownBits {
    /// Bits known to be 1.
    pub value: u64,
    /// Bits of which nothing is known.
    pub mask: u64,
}

impl core::fmt::Display for KnownBits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self { value, mask: 0 } if *value <= u64::from(u16::MAX) => value.fmt(f),
            Self { value, mask: 0 } => write!(f, "{value:#x}"),
            Self { value, mask } => write!(f, "({value:#x}; {mask:#x})"),
        }
    }
}

/// Where something is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnPlace {
    /// By the program.
    Program,
    /// By a function that a helper calls.
    Callback,
    /// By a function that runs later, on its own.
    AsyncCallback,
}

impl core::fmt::Display for ReturnPlace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Program => "At program exit",
            Self::Callback => "At callback return",
            Self::AsyncCallback => "At async callback return",
        })
    }
}

/// How the bounds of a variable offset failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoundsFault {
    /// The offset may be negative.
    Negative,
    /// The lowest address is outside.
    Min,
    /// The highest address is outside.
    Max,
    /// The offset has no useful bound.
    Unbounded,
}

/// How an access to the structure of a map failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapStructFault {
    /// It begins before the structure.
    Negative,
    /// It writes.
    Write,
    /// It ends behind the structure.
    Beyond,
    /// It begins in a member and ends behind it.
    MemberEnd {
        /// The member.
        member: String,
        /// Where the member ends.
        end: u32,
    },
    /// No member is there.
    NoMember,
}

/// Things the verifier knows it does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The section name is none that a loader knows, or a type without rules here.
    #[error("programs of section \"{section}\" are not supported")]
    ProgramType {
        /// The section.
        section: String,
    },
    /// A helper without rules.
    #[error("helper #{number} ({}) is not supported", name.unwrap_or("unknown"))]
    Helper {
        /// Its number.
        number: u32,
        /// Its name, if the number is known.
        name: Option<&'static str>,
    },
    /// A kfunc without rules.
    #[error("kernel function {name} is not supported")]
    Kfunc {
        /// Its name.
        name: String,
    },
    /// A function of the host with a pointer to a structure that neither the kernel nor the host describes.
    #[error("function {function} of the host has a pointer to struct {structure}, whose layout is not known")]
    HostStructure {
        /// The function.
        function: String,
        /// The structure.
        structure: String,
    },
    /// A map type without rules.
    #[error("map {name} is of type {map_type}, which is not supported")]
    MapType {
        /// The map.
        name: String,
        /// Its type.
        map_type: &'static str,
    },
    /// A reference to a kernel variable.
    #[error("kernel variable {name} is not supported")]
    KernelVariable {
        /// Its name.
        name: String,
    },
    /// An instruction without rules.
    #[error("instruction '{what}' is not supported")]
    Instruction {
        /// What it is.
        what: &'static str,
    },
    /// An argument of a global subprogram without rules.
    #[error("argument {argument} of global function {function}: {what} is not supported")]
    Argument {
        /// The function.
        function: String,
        /// Argument, from 1.
        argument: usize,
        /// What the argument is.
        what: &'static str,
    },
    /// Anything else, named.
    #[error("{what} is not supported")]
    Feature {
        /// What.
        what: &'static str,
    },
}

/// Which rule a program breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum Reason {
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Of helpers, their arguments and what they are called in.
    #[error(transparent)]
    Call(#[from] CallFault),
    /// Of the context, packets and sockets.
    #[error(transparent)]
    Context(#[from] ContextFault),
    /// Of functions: global ones, callbacks, exceptions, what they return.
    #[error(transparent)]
    Function(#[from] FunctionFault),
    /// Of kernel functions and memory that BTF describes.
    #[error(transparent)]
    Kfunc(#[from] KfuncFault),
    /// Of the stack, and of alignment.
    #[error(transparent)]
    Memory(#[from] MemoryFault),
    /// Of how the program is to be loaded and the maps it refers to.
    #[error(transparent)]
    Load(#[from] LoadFault),
    /// Of objects with a life: references, locks, dynptrs, timers, lists and trees.
    #[error(transparent)]
    Object(#[from] ObjectFault),

    // Structure.
    #[error("no instructions")]
    Empty,
    #[error("program of {count} instructions is too large")]
    TooManyInsns { count: usize },
    #[error("too many subprograms")]
    TooManySubprogs,
    #[error("invalid subprogram layout")]
    SubprogLayout,
    #[error("jump out of range from insn {from} to {to}")]
    JumpOutOfRange { from: InsnIdx, to: i64 },
    #[error("jump into the middle of ldimm64 insn {lddw}")]
    JumpIntoLdImm64 { lddw: InsnIdx },
    #[error("last insn is not an exit or jmp")]
    FallsOffEnd,
    #[error("unreachable insn {at}")]
    Unreachable { at: InsnIdx },
    #[error("unknown opcode {opcode:02x}")]
    UnknownOpcode { opcode: u8 },
    #[error("call to invalid destination")]
    NoSuchSubprog { to: i64 },
    #[error("the call stack of {frames} frames is too deep")]
    TooManyFrames { frames: usize },
    #[error("combined stack size of {frames} calls is {bytes}. Too large")]
    StackTooDeep { frames: usize, bytes: u32 },

    // Limits of work.
    #[error("BPF program is too large. Processed {walked} insn")]
    TooComplex { walked: u64 },
    #[error("The sequence of {pending} jumps is too complex.")]
    TooManyBranches { pending: usize },
    #[error("explored states need more than {limit} bytes")]
    TooManyStates { limit: usize },
    #[error("infinite loop detected at insn {at}")]
    InfiniteLoop { at: InsnIdx },

    // Registers and arithmetic.
    #[error("R{} !read_ok", reg.number())]
    Uninitialised { reg: Reg },
    #[error("frame pointer is read only")]
    FramePointerWrite,
    #[error("div by zero")]
    DivisionByZero,
    #[error("invalid shift {count}")]
    InvalidShift { count: i32 },
    #[error("addr_space_cast insn can only convert between address space 1 and 0")]
    CastSpaces { dst: u16, src: u16 },
    #[error("addr_space_cast insn can only be used in a program that has an associated arena")]
    CastWithoutArena,
    #[error("R{} 32-bit pointer arithmetic prohibited", reg.number())]
    PointerArithmetic32 { reg: Reg },
    #[error("R{} pointer arithmetic on {found} prohibited", reg.number())]
    PointerArithmetic { reg: Reg, found: TypeName },
    #[error("R{} pointer arithmetic on {found} prohibited, null-check it first", reg.number())]
    PointerArithmeticMaybeNull { reg: Reg, found: TypeName },
    #[error("R{} pointer arithmetic with {op} operator prohibited", reg.number())]
    PointerOperator { reg: Reg, op: &'static str },
    #[error("R{} bitwise operator {op} on pointer prohibited", reg.number())]
    PointerBits { reg: Reg, op: &'static str },
    #[error("R{} pointer {op} pointer prohibited", reg.number())]
    PointerPointer { reg: Reg, op: &'static str },
    #[error("R{} tried to subtract pointer from scalar", reg.number())]
    ScalarMinusPointer { reg: Reg },
    #[error("R{} subtraction from stack pointer prohibited", reg.number())]
    StackSubtraction { reg: Reg },
    #[error("math between {found} pointer and {value} is not allowed")]
    OffsetTooLarge { found: TypeName, value: i64 },
    #[error("{found} pointer offset {offset} is not allowed")]
    FixedOffset { found: TypeName, offset: i64 },
    #[error("value {value} makes {found} pointer be out of bounds")]
    OffsetOutOfBounds { found: TypeName, value: i64 },
    #[error("math between {found} pointer and register with unbounded min value is not allowed")]
    OffsetUnbounded { found: TypeName },

    // Memory.
    #[error("R{} invalid mem access '{found}'", reg.number())]
    InvalidAccess { reg: Reg, found: TypeName },
    #[error("same insn cannot be used with different pointers")]
    MixedPointers,
    #[error("invalid bpf_context access off={offset} size={size}")]
    CtxAccess { offset: i64, size: u32 },
    #[error("variable {found} access off={offset} disallowed")]
    VariableOffset { found: TypeName, offset: i64 },
    #[error("dereference of modified {found} ptr R{} off={offset} disallowed", reg.number())]
    ModifiedPointer { reg: Reg, found: TypeName, offset: i64 },
    #[error("{}", bounds_text(*reg, *fault))]
    Bounds { reg: Reg, fault: BoundsFault, found: TypeName, region: u32, offset: i64, size: u64 },
    #[error("{} map forbidden, value_size={value_size} off={offset} size={size}", if *access == Access::Write { "write into" } else { "read from" })]
    MapPermission { access: Access, map: String, value_size: u32, offset: i64, size: u64 },
    #[error("{}", map_struct_text(*reg, fault, name, *offset, *size))]
    MapStruct { reg: Reg, fault: MapStructFault, name: String, offset: i64, size: u32 },
    #[error("R{} cannot write into {found}", reg.number())]
    ReadOnly { reg: Reg, found: TypeName },
    #[error("BPF_ATOMIC stores into R{} {found} is not allowed", reg.number())]
    AtomicTarget { reg: Reg, found: TypeName },
    #[error("{field} cannot be accessed directly by load/store")]
    SpecialField { field: &'static str, reg: Reg, map: String },

    // Calls.
    #[error("R{} type={found} expected={expected}", reg.number())]
    ArgumentType { reg: Reg, found: TypeName, expected: &'static str },
    #[error("arg#{} expected pointer to {expected}, found {found}", reg.number().saturating_sub(1))]
    KfuncArgument { reg: Reg, found: TypeName, expected: &'static str },
    #[error("R{} must be a known constant", reg.number())]
    NotConstant { reg: Reg },
    #[error("R{} min value is negative, either use unsigned or 'var &= const'", reg.number())]
    NegativeSize { reg: Reg },
    #[error("R{} invalid zero-sized read: u64=[{min},{max}]", reg.number())]
    ZeroSize { reg: Reg, min: u64, max: u64 },
    #[error("R{} unbounded memory access, use 'var &= const' or 'if (var < const)'", reg.number())]
    UnboundedSize { reg: Reg },
    #[error("cannot pass map_type {map_type} into func {function}")]
    MapForFunction { function: &'static str, map_type: &'static str },
    #[error("{function} can only be called from sleepable programs")]
    NotSleepable { function: &'static str },
    #[error("{what} are not allowed {region}")]
    NotAllowedHere { what: &'static str, region: &'static str },
    #[error("kernel func {function} is sleepable within {region}")]
    SleepsHere { function: &'static str, region: &'static str },
    #[error("R{} is not a pointer to a read-only string of constant size", reg.number())]
    NotConstString { reg: Reg },
    #[error("expected uninitialized iter_{iter} as arg #0")]
    IteratorInUse { iter: &'static str },
    #[error("expected an initialized iter_{iter} as arg #0")]
    IteratorNotInitialised { iter: &'static str },
    #[error("R{} is not a pointer to arena or scalar.", reg.number())]
    NotArena { reg: Reg },
    #[error("R{} is not a scalar", reg.number())]
    NotScalar { reg: Reg },
    #[error("R{} expected to be a pointer to func", reg.number())]
    NotFunction { reg: Reg, found: TypeName },
    #[error("callback function not static")]
    GlobalCallback { name: String },
    #[error("{}", return_text(*place, *reg, (*smin, *smax), (*min, *max)))]
    Return { place: ReturnPlace, reg: Reg, smin: i64, smax: i64, min: i32, max: i32 },
    #[error("{place} the register R{} is not a known value ({found})", reg.number())]
    ReturnType { place: ReturnPlace, reg: Reg, found: TypeName },
    #[error("At subprogram exit the register R{} is not a scalar value ({found})", reg.number())]
    SubprogReturn { reg: Reg, found: TypeName },
    #[error("R0 not a scalar value")]
    CallbackReturnType { found: TypeName },
    #[error("cannot return stack pointer to the caller")]
    ReturnsStackPointer,

    // Locks and references.
    #[error("{by} would lead to reference leak")]
    UnreleasedReference { id: u32, at: InsnIdx, by: &'static str },
    #[error("{by} cannot be used inside {region}-ed region")]
    StillHeld { region: &'static str, by: &'static str },
    #[error("unmatched attempt to enable preemption (kernel function bpf_preempt_enable)")]
    PreemptUnbalanced,
    #[error("unmatched rcu read unlock (kernel function bpf_rcu_read_unlock)")]
    RcuUnbalanced,

    #[error("REG INVARIANTS VIOLATION: bounds of a register contradict each other")]
    Invariants,
    #[error("verifier fault: {what}")]
    Internal { what: &'static str },
}

impl Reason {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Unsupported(_) => EOPNOTSUPP,
            Self::Call(fault) => fault.errno(),
            Self::Context(fault) => fault.errno(),
            Self::Function(fault) => fault.errno(),
            Self::Kfunc(fault) => fault.errno(),
            Self::Memory(fault) => fault.errno(),
            Self::Load(fault) => fault.errno(),
            Self::Object(fault) => fault.errno(),
            Self::MapStruct { fault: MapStructFault::NoMember, .. } => EINVAL,
            Self::TooManyInsns { .. } | Self::TooManySubprogs => E2BIG,
            Self::TooComplex { .. } | Self::TooManyFrames { .. } => E2BIG,
            Self::TooManyStates { .. } => ENOMEM,
            Self::Internal { .. } | Self::Invariants | Self::TooManyBranches { .. } => EFAULT,
            Self::StackTooDeep { .. }
            | Self::Uninitialised { .. }
            | Self::FramePointerWrite
            | Self::PointerArithmetic32 { .. }
            | Self::PointerArithmetic { .. }
            | Self::PointerArithmeticMaybeNull { .. }
            | Self::PointerBits { .. }
            | Self::PointerOperator { .. }
            | Self::PointerPointer { .. }
            | Self::ScalarMinusPointer { .. }
            | Self::StackSubtraction { .. }
            | Self::InvalidAccess { .. }
            | Self::CtxAccess { .. }
            | Self::VariableOffset { .. }
            | Self::ModifiedPointer { .. }
            | Self::Bounds { .. }
            | Self::MapPermission { .. }
            | Self::MapStruct { .. }
            | Self::ReadOnly { .. }
            | Self::AtomicTarget { .. }
            | Self::SpecialField { .. }
            | Self::ArgumentType { .. }
            | Self::NegativeSize { .. }
            | Self::ZeroSize { .. }
            | Self::UnboundedSize { .. }
            | Self::NotConstant { .. }
            | Self::SleepsHere { .. }
            | Self::NotSleepable { .. } => EACCES,
            _ => EINVAL,
        }
    }
}

pub(crate) const E2BIG: i32 = 7;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EFAULT: i32 = 14;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EOPNOTSUPP: i32 = 95;
/// `ENOTSUPP`, which has no name in user space.
pub(crate) const ENOTSUPP: i32 = 524;

fn return_text(place: ReturnPlace, reg: Reg, (smin, smax): (i64, i64), (min, max): (i32, i32)) -> String {
    let mut text = format!("{place} the register R{} has", reg.number());
    if smin > i64::MIN {
        text += &format!(" smin={smin}");
    }
    if smax < i64::MAX {
        text += &format!(" smax={smax}");
    }
    if smin == i64::MIN && smax == i64::MAX {
        text += " unknown scalar value";
    }
    text + &format!(" should have been in [{min}, {max}]")
}

fn bounds_text(reg: Reg, fault: BoundsFault) -> String {
    let r = reg.number();
    match fault {
        BoundsFault::Negative => {
            format!("R{r} min value is negative, either use unsigned index or do a if (index >=0) check.")
        }
        BoundsFault::Min => format!("R{r} min value is outside of the allowed memory range"),
        BoundsFault::Max => format!("R{r} max value is outside of the allowed memory range"),
        BoundsFault::Unbounded => {
            format!("R{r} unbounded memory access, make sure to bounds check any such access")
        }
    }
}

fn map_struct_text(reg: Reg, fault: &MapStructFault, name: &str, offset: i64, size: u32) -> String {
    match fault {
        MapStructFault::Negative => {
            format!("R{} is {name} invalid negative access: off={offset}", reg.number())
        }
        MapStructFault::Write => format!("only read from {name} is supported"),
        MapStructFault::Beyond => format!("access beyond struct {name} at off {offset} size {size}"),
        MapStructFault::MemberEnd { member, end } => format!(
            "access beyond the end of member {member} (mend:{end}) in struct {name} with off {offset} size {size}"
        ),
        MapStructFault::NoMember => format!("struct {name} doesn't have field at offset {offset}"),
    }
}
