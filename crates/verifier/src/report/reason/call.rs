//! What is wrong with a call of a helper.

use isa::Reg;

use super::{EACCES, EFAULT, EINVAL, ENOTSUPP, KnownBits, TypeName};

/// What is wrong with a call of a helper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum CallFault {
    // Where it may be called.
    #[error("invalid func {}#{number}", name_of(*number))]
    NoSuchHelper { number: i32 },
    #[error("program of this type cannot use helper {name}#{number}")]
    NotForProgram { name: &'static str, number: u32 },
    #[error("cannot call GPL-restricted function from non-GPL compatible program")]
    NotGpl { function: &'static str },
    #[error("helper call is not allowed in probe")]
    NotInProbe { function: &'static str },
    #[error("helper call might sleep in a non-sleepable prog")]
    MightSleep { function: &'static str },
    #[error("sleepable helper {function}#{number} in {region}")]
    SleepsHere { function: &'static str, number: u32, region: &'static str },
    #[error("func {function}#{number} supported only for fentry/fexit/fmod_ret programs")]
    OnlyTrampolines { function: &'static str, number: u32 },
    #[error("func {function}#{number} not supported for program type {prog_type}")]
    NotSupported { function: &'static str, number: u32, prog_type: u32 },
    #[error("BPF_LSM_CGROUP that attach to void LSM hooks can't modify return value!")]
    VoidHook,

    // Types and offsets of arguments.
    #[error("{function}() may write into memory pointed by R{} type={found}", reg.number())]
    MayWrite { function: &'static str, reg: Reg, found: TypeName },
    #[error("Possibly NULL pointer passed to helper arg{}", reg.number())]
    PossiblyNull { reg: Reg },
    #[error("R{} is of type {found} but {expected} is expected", reg.number())]
    WrongStructure { reg: Reg, found: String, expected: &'static str },
    #[error("R{} must have zero offset when passed to release func or trusted arg to kfunc", reg.number())]
    ReleaseOffset { reg: Reg },
    #[error("more than one arg with ref_obj_id R{} {second} {first}", reg.number())]
    TwoReferences { reg: Reg, second: u32, first: u32 },

    // Memory.
    #[error("invalid zero-sized read")]
    ZeroRead { reg: Reg },
    #[error("{}", stack_read_text(*reg, *start, *byte, *size, *variable))]
    StackRead { reg: Reg, start: i64, byte: i64, size: u64, variable: Option<KnownBits> },
    #[error("R{} is not a known constant'", reg.number())]
    SizeNotConstant { reg: Reg },
    #[error("unable to resolve the size of type '{name}': -22")]
    UnknownSize { name: String },

    #[error("R{} does not point to a readonly map'", reg.number())]
    StringNotReadOnly { reg: Reg },
    #[error("R{} is not a constant address'", reg.number())]
    StringVariable { reg: Reg },
    #[error("no direct value access support for this map type")]
    NoDirectString,
    #[error("string is not zero-terminated")]
    StringEnd { reg: Reg },

    // Maps.
    #[error("cannot pass map_type {map_type} into func {function}#{number}")]
    MapForFunction { map_type: u32, function: &'static str, number: u32 },
    #[error("expected prog array map for tail call")]
    NotProgArray,
    #[error("write into map forbidden")]
    MapReadOnly { function: &'static str },
    #[error("invalid arg_type for sockmap/sockhash")]
    SocketMapValue,
    #[error("timer pointer in R1 map_uid={timer} doesn't match map pointer in R2 map_uid={map}")]
    TimerMap { timer: u32, map: u32 },
    #[error("callback function not allowed for map")]
    NoCallbackForMap,

    // What single helpers ask for.
    #[error("get_local_storage() doesn't support non-zero flags")]
    StorageFlags,
    #[error("Invalid format string")]
    Format,
    /// The kernel says nothing of its own.
    #[error("the data of a format are not a whole number of 64-bit values")]
    FormatData,
}

impl CallFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::OnlyTrampolines { .. } | Self::NotSupported { .. } | Self::NoCallbackForMap => ENOTSUPP,
            Self::TwoReferences { .. } => EFAULT,
            Self::MayWrite { .. }
            | Self::PossiblyNull { .. }
            | Self::WrongStructure { .. }
            | Self::ZeroRead { .. }
            | Self::StackRead { .. }
            | Self::SizeNotConstant { .. }
            | Self::MapReadOnly { .. }
            | Self::StringNotReadOnly { .. }
            | Self::StringVariable { .. }
            | Self::NoDirectString => EACCES,
            _ => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match self {
            Self::MayWrite { reg, .. }
            | Self::PossiblyNull { reg }
            | Self::WrongStructure { reg, .. }
            | Self::ReleaseOffset { reg }
            | Self::TwoReferences { reg, .. }
            | Self::ZeroRead { reg }
            | Self::StackRead { reg, .. }
            | Self::SizeNotConstant { reg }
            | Self::StringNotReadOnly { reg }
            | Self::StringVariable { reg }
            | Self::StringEnd { reg } => Some(*reg),
            _ => None,
        }
    }
}

fn name_of(number: i32) -> &'static str {
    u32::try_from(number).ok().and_then(isa::helper_name).unwrap_or("unknown")
}

fn stack_read_text(reg: Reg, start: i64, byte: i64, size: u64, variable: Option<KnownBits>) -> String {
    let r = reg.number();
    match variable {
        None => format!("invalid read from stack R{r} off {start}+{byte} size {size}"),
        Some(bits) => format!("invalid read from stack R{r} var_off {bits}+{byte} size {size}"),
    }
}
