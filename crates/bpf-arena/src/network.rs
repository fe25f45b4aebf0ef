//! What programs on packets find around them: devices and sockets.
//!
//! ```
//! use bpf_arena::network::{Device, Network};
//! use bpf_arena::Engine;
//!
//! let network = Network::new()
//!     .device(Device { index: 2, mtu: 1500 })
//!     .on_clone(|clone| println!("{} bytes to device {}", clone.packet.len(), clone.device.index));
//! let engine = Engine::user().network(network);
//! ```

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::access::Block;
use crate::runtime::packets::socket::{IMAGE_BYTES, Question, TCP, make};
use crate::socket::Socket;
use crate::typed::{ArenaType, Bytes};

/// A network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index, from 1.
    pub index: u32,
    /// Most bytes of a packet behind the Ethernet header.
    pub mtu: u32,
}

impl Device {
    /// The device that every network has, and on which packets arrive unless they say otherwise.
    pub const LOOPBACK: Self = Self { index: 1, mtu: 65536 };

    /// Bytes of the header that devices put in front.
    pub(crate) const HEADER_BYTES: u32 = 14;
}

/// A copy of a packet that a program sends to a device (`bpf_clone_redirect`).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Clone<'a> {
    /// The device.
    pub device: Device,
    /// To its receiving side.
    pub ingress: bool,
    /// The packet, from its Ethernet header on.
    pub packet: &'a [u8],
}

/// What programs on packets find around them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    devices: Vec<Device>,
    sockets: Vec<Arc<Mock>>,
    on_clone: Option<Arc<dyn Sink>>,
}

impl Network {
    /// The loopback device, and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self { devices: vec![Device::LOOPBACK], sockets: Vec::new(), on_clone: None }
    }

    /// Adds a device; one with the same index is replaced.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.devices.retain(|known| known.index != device.index);
        self.devices.push(device);
        self
    }

    /// Adds a socket, which programs find by `bpf_sk_lookup_tcp`, `bpf_skc_lookup_tcp` and `bpf_sk_lookup_udp` as a kernel would: a
    /// connection by both its addresses, one that waits (for TCP in state 10, `TCP_LISTEN`) by its own, which may be zero for any.
    ///
    /// ```
    /// use bpf_arena::network::{Network, TcpSocket};
    /// use bpf_arena::{Engine, Socket};
    ///
    /// let listening = Socket {
    ///     family: 2,   // AF_INET
    ///     protocol: 6, // IPPROTO_TCP
    ///     src_ip4: u32::from_ne_bytes([127, 0, 0, 1]),
    ///     src_port: 8080,
    ///     state: 10,
    ///     ..Socket::default()
    /// };
    /// let engine = Engine::user().network(Network::new().socket(listening, TcpSocket::default()));
    /// ```
    #[must_use]
    pub fn socket(mut self, socket: Socket, tcp: TcpSocket) -> Self {
        self.sockets.push(Arc::new(Mock { socket, tcp, block: OnceLock::new() }));
        self
    }

    /// Where copies of packets go. Called on the thread that runs the program, while it waits.
    #[must_use]
    pub fn on_clone(mut self, sink: impl Fn(&Clone<'_>) + Send + Sync + 'static) -> Self {
        self.on_clone = Some(Arc::new(sink));
        self
    }

    pub(crate) fn find_device(&self, index: u32) -> Option<Device> {
        self.devices.iter().find(|device| device.index == index).copied()
    }

    /// The socket that would receive such a packet: the first of those that fit best. `None` too if there is no memory.
    pub(crate) fn find_socket(&self, question: &Question) -> Option<&Arc<Block>> {
        let fit = |block: &Block| block.place(0, block.len() as u64).map_or(0, |place| question.fit(place));
        let blocks = self.sockets.iter().rev().filter_map(|mock| mock.block());
        let fits = blocks.map(|block| (fit(block), block)).filter(|(fit, _)| *fit > 0);
        fits.max_by_key(|(fit, _)| *fit).map(|(_, block)| block)
    }

    /// Whether a socket is one that the host describes.
    pub(crate) fn has_socket(&self, address: u64) -> bool {
        self.sockets.iter().any(|mock| mock.block.get().is_some_and(|block| block.address() == address))
    }

    pub(crate) fn clone_to(&self, clone: &Clone<'_>) {
        if let Some(sink) = &self.on_clone {
            sink.take(clone);
        }
    }
}

/// What programs see of a TCP connection: `struct bpf_tcp_sock` of `uapi/linux/bpf.h`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq, Eq)]
#[arena(name = "bpf_tcp_sock")]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub struct TcpSocket {
    pub snd_cwnd: u32,
    pub srtt_us: u32,
    pub rtt_min: u32,
    pub snd_ssthresh: u32,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
    pub snd_una: u32,
    pub mss_cache: u32,
    pub ecn_flags: u32,
    pub rate_delivered: u32,
    pub rate_interval_us: u32,
    pub packets_out: u32,
    pub retrans_out: u32,
    pub total_retrans: u32,
    pub segs_in: u32,
    pub data_segs_in: u32,
    pub segs_out: u32,
    pub data_segs_out: u32,
    pub lost_out: u32,
    pub sacked_out: u32,
    pub bytes_received: u64,
    pub bytes_acked: u64,
    pub dsack_dups: u32,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub icsk_retransmits: u32,
}

impl Default for TcpSocket {
    fn default() -> Self {
        Self::ZERO
    }
}

/// A socket of the host's making.
#[derive(Debug)]
struct Mock {
    socket: Socket,
    tcp: TcpSocket,
    /// It in memory, once somebody has looked for it.
    block: OnceLock<Arc<Block>>,
}

impl Mock {
    /// It in memory; `None` if there is none.
    fn block(&self) -> Option<&Arc<Block>> {
        if let Some(block) = self.block.get() {
            return Some(block);
        }
        let mut image = [0; IMAGE_BYTES];
        let bytes = Bytes::new(&mut image);
        self.socket.store_to(&bytes, 0).ok()?;
        self.tcp.store_to(&bytes, TCP).ok()?;
        let made = make(&image)?;
        Some(self.block.get_or_init(|| made))
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes copies of packets.
trait Sink: Send + Sync {
    fn take(&self, clone: &Clone<'_>);
}

impl<F: Fn(&Clone<'_>) + Send + Sync> Sink for F {
    fn take(&self, clone: &Clone<'_>) {
        self(clone);
    }
}

impl fmt::Debug for dyn Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}
