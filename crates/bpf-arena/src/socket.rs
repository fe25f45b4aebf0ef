//! Runs of programs that are about a socket: control groups' hooks on addresses and options, lookups, selections.

use crate::typed::ArenaType;

/// A socket as programs see it: `struct bpf_sock` of `uapi/linux/bpf.h`, which is also the context of `cgroup/sock_create` and its
/// like. Addresses and `dst_port` are in network order, everything else in the machine's.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq, Eq)]
#[arena(name = "bpf_sock")]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub struct Socket {
    pub bound_dev_if: u32,
    pub family: u32,
    #[arena(name = "type")]
    pub kind: u32,
    pub protocol: u32,
    pub mark: u32,
    pub priority: u32,
    pub src_ip4: u32,
    pub src_ip6: [u32; 4],
    pub src_port: u32,
    pub dst_port: u16,
    pub padding: u16,
    pub dst_ip4: u32,
    pub dst_ip6: [u32; 4],
    pub state: u32,
    pub rx_queue_mapping: i32,
}

impl Default for Socket {
    fn default() -> Self {
        Self { rx_queue_mapping: -1, ..Self::ZERO }
    }
}

/// What a program about a socket is run with: `cgroup/bind4` and its like (`struct bpf_sock_addr`), `cgroup/getsockopt` and
/// `setsockopt` (`struct bpf_sockopt`), `sockops`, `sk_lookup`, `sk_reuseport`, `sk_msg`.
///
/// The context is the structure of the program's type. Pointers in it are set for the run and read as 0 afterwards; one that is
/// shorter goes on with zeroes.
#[derive(Debug, Default)]
pub struct SocketRun<'a> {
    /// Context, in and out.
    pub ctx: &'a mut [u8],
    /// The socket in question. Without it the program sees NULL where there may be none, and an unused socket elsewhere.
    pub socket: Option<Socket>,
    /// What `data` or `optval` of the context lead to, in and out.
    pub data: &'a mut [u8],
}

/// Why a program is not run with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Bytes behind the structure that are not zero.
    #[error("the context goes on behind its {limit} bytes")]
    ContextTooLong {
        /// Bytes of the structure.
        limit: usize,
    },
    /// A field of the context that the run sets.
    #[error("byte {offset} of the context is not zero, but cannot be given")]
    ContextField {
        /// The first such byte.
        offset: usize,
    },
    /// A port of more than 16 bits.
    #[error("port {port} has more than 16 bits")]
    Port {
        /// The port.
        port: u32,
    },
    /// A family without lookups.
    #[error("no sockets of family {family} are looked up")]
    Family {
        /// The family.
        family: u16,
    },
    /// Data for a program that has none.
    #[error("programs of this type have no data")]
    NoData,
    /// Programs of another type.
    #[error("programs of this type are not about a socket")]
    ProgramType,
}

impl SocketError {
    /// The kernel's error number for it, positive.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::ContextTooLong { .. } => 7,
            Self::Port { .. } => 34,
            Self::Family { .. } => 97,
            Self::ContextField { .. } | Self::NoData => 22,
            Self::ProgramType => 524,
        }
    }
}
