//! Runs of programs on packets, as `BPF_PROG_TEST_RUN` does them.

use std::time::Duration;

use crate::Faults;

/// What a program on packets is run with.
///
/// The rules are those of the kernel's `BPF_PROG_TEST_RUN`, in both engines. A packet begins with its Ethernet header, and a
/// context is the structure of the program's type (`struct __sk_buff`, `struct xdp_md`), of which only some fields may be
/// given; one that is shorter goes on with zeroes.
#[derive(Debug, Default)]
pub struct PacketRun<'a> {
    /// Context, in and out; may be empty.
    pub ctx: &'a mut [u8],
    /// The packet; for XDP its metadata first.
    pub data: &'a [u8],
    /// Where the packet goes afterwards, as far as it fits; may be empty.
    pub data_out: &'a mut [u8],
    /// How many times to run, each on what the last one left; 0 counts as 1.
    pub repeat: u32,
    /// `BPF_F_TEST_*`.
    pub flags: u32,
}

/// What a run on a packet gave.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PacketOutcome {
    /// What the program returned: its verdict.
    pub return_value: u32,
    /// Average time of one run.
    pub duration: Duration,
    /// Bytes of the packet afterwards; more than `data_out` holds if that was too short.
    pub data_len: usize,
    /// Arena accesses that found no page. The kernel does not tell.
    pub faults: Faults,
    /// Where the program said last that the packet is to go. It goes there if the verdict says so too. The kernel does not
    /// tell.
    pub redirect: Option<Redirect>,
}

/// Where a program redirects a packet to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redirect {
    /// The place.
    pub target: RedirectTarget,
    /// `BPF_F_*` of the helper.
    pub flags: u64,
}

/// The place that a packet is redirected to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectTarget {
    /// A network device (`bpf_redirect`).
    Device {
        /// Its index.
        ifindex: u32,
    },
    /// The other end of a pair of devices (`bpf_redirect_peer`).
    Peer {
        /// Index of this end.
        ifindex: u32,
    },
    /// A neighbour behind a device (`bpf_redirect_neigh`).
    Neighbor {
        /// Index of the device.
        ifindex: u32,
    },
    /// What a map has at a key (`bpf_redirect_map`).
    Map {
        /// Name of the map.
        map: String,
        /// The key.
        key: u32,
    },
}

/// Why a program cannot be run on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The packet lacks a whole header.
    #[error("a packet of {given} bytes is too short: it has at least {needed}")]
    TooShort {
        /// Fewest bytes.
        needed: usize,
        /// Bytes given.
        given: usize,
    },
    /// The packet does not fit a page.
    #[error("a packet of {given} bytes is too long: it has at most {limit}")]
    TooLong {
        /// Most bytes.
        limit: usize,
        /// Bytes given.
        given: usize,
    },
    /// The packet does not fit as many pages as it may have.
    #[error("a packet of {given} bytes needs more than {limit} pages")]
    TooManyPages {
        /// Most pages.
        limit: usize,
        /// Bytes given.
        given: usize,
    },
    /// Bytes behind the structure that are not zero.
    #[error("the context goes on behind its {limit} bytes")]
    ContextTooLong {
        /// Bytes of the structure.
        limit: usize,
    },
    /// A field of the context that must be zero.
    #[error("byte {offset} of the context is not zero, but cannot be given")]
    ContextField {
        /// The first such byte.
        offset: usize,
    },
    /// A field of the context whose value is not possible.
    #[error("`{field}` of the context cannot be {value}")]
    ContextValue {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A network device that does not exist.
    #[error("there is no network device {ifindex}")]
    NoDevice {
        /// Its index.
        ifindex: u32,
    },
    /// Flags that the program's type does not have.
    #[error("no program of this type is run with the flags {flags:#x}")]
    Flags {
        /// The flags.
        flags: u32,
    },
    /// The program left the packet's sum wrong, which `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` asks for.
    #[error("the program changed the packet without its checksum")]
    WrongChecksum,
    /// Programs of this type, or attached in this way, have no test run.
    #[error("programs of this type are not run on packets")]
    ProgramType,
}

impl PacketError {
    /// The kernel's error number for it, positive.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::ContextTooLong { .. } => 7,
            Self::TooManyPages { .. } => 12,
            Self::NoDevice { .. } => 19,
            Self::WrongChecksum => 74,
            Self::ProgramType => 524,
            Self::TooShort { .. }
            | Self::TooLong { .. }
            | Self::ContextField { .. }
            | Self::ContextValue { .. }
            | Self::Flags { .. } => 22,
        }
    }
}
