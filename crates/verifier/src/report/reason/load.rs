//! What is wrong with how a program is to be loaded and with the maps it refers to: known before any path is walked.

use isa::Reg;

use super::{E2BIG, EINVAL};

/// What is wrong with how a program is to be loaded and with the maps it refers to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the map, offset and so on that the message names")]
#[non_exhaustive]
pub enum LoadFault {
    /// The kernel says nothing but that the argument is invalid.
    #[error("programs of this type cannot be loaded for attach type {attach}")]
    AttachType { attach: u32 },
    #[error("Syscall programs can only be sleepable")]
    MustSleep,
    #[error("Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable")]
    CannotSleep,
    #[error("struct ops programs must have a GPL compatible license")]
    TableLicense,
    #[error("attach to unsupported member {member} of struct {table}")]
    TableMember { table: String, member: String, errno: i32 },
    #[error("fd {fd} is not pointing to valid bpf_map")]
    NotAMap { fd: i32 },
    #[error("no map #{map}")]
    NoSuchMap { map: u32 },
    #[error("direct value offset of {offset} is not allowed")]
    ValueOffset { map: String, offset: u32 },
    #[error("no direct value access support for this map type")]
    NoDirectValue { map: String },
    /// `single`: the map has one value, but not at this offset.
    #[error("invalid access to map value pointer, value_size={value_size} off={offset}")]
    ValueAddress { map: String, value_size: u32, offset: u32, errno: i32 },
    #[error("The total number of maps per program has reached the limit of {limit}")]
    TooManyMaps { limit: usize },
    #[error("Only one arena per program")]
    TwoArenas { first: u32, second: u32 },
    #[error("only one cgroup storage of each type is allowed")]
    TwoCgroupStorages,
    #[error("{programs} progs cannot use {field} yet")]
    MapField { programs: &'static str, field: &'static str },
    #[error("bpf_struct_ops map cannot be used in prog")]
    StructOpsMap,
    #[error("Sleepable programs can only use array, hash, ringbuf and local storage maps")]
    SleepableMap,
}

const EBUSY: i32 = 16;

impl LoadFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::ValueAddress { errno, .. } | Self::TableMember { errno, .. } => *errno,
            Self::TooManyMaps { .. } => E2BIG,
            Self::TwoArenas { .. } | Self::TwoCgroupStorages => EBUSY,
            _ => EINVAL,
        }
    }

    /// The register at fault: none, no register has been written yet.
    pub(crate) fn register(&self) -> Option<Reg> {
        None
    }
}
