//! Sockets in memory, in the form in which programs know them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::super::Invocation;
use crate::access::{Block, Place};

/// Bytes of a socket's block: `struct bpf_sock`, and at [`TCP`] `struct bpf_tcp_sock`.
pub(crate) const BLOCK_BYTES: usize = 256;

/// Where `struct bpf_tcp_sock` lies in the block of a socket.
pub(crate) const TCP: u64 = 128;

/// Address families.
pub(crate) const AF_INET: u32 = 2;
pub(crate) const AF_INET6: u32 = 10;

/// `TCP_CLOSE`: the state of a socket that has none.
pub(crate) const CLOSED: u32 = 7;

pub(crate) const TCP_LISTEN: u64 = 10;

pub(crate) const IPPROTO_TCP: u32 = 6;
pub(crate) const IPPROTO_UDP: u32 = 17;

/// `struct bpf_sock`, before it is laid out. Addresses and `dst_port` are as in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SockImage {
    pub(crate) bound_dev_if: u32,
    pub(crate) family: u32,
    pub(crate) kind: u32,
    pub(crate) protocol: u32,
    pub(crate) mark: u32,
    pub(crate) priority: u32,
    /// Four bytes of an IPv4 address or all of an IPv6 one.
    pub(crate) src: [u8; 16],
    /// In host order.
    pub(crate) src_port: u16,
    pub(crate) dst: [u8; 16],
    pub(crate) dst_port: u16,
    pub(crate) state: u32,
    /// -1 if there is none.
    pub(crate) rx_queue_mapping: i32,
}

impl SockImage {
    /// The first 80 bytes of a socket's block.
    pub(crate) fn to_bytes(self) -> [u8; 80] {
        let mut bytes = [0; 80];
        let mut put = |at: usize, value: &[u8]| {
            bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
        };
        let words = [
            (0, self.bound_dev_if),
            (4, self.family),
            (8, self.kind),
            (12, self.protocol),
            (16, self.mark),
            (20, self.priority),
            (44, u32::from(self.src_port)),
            (72, self.state),
            (76, self.rx_queue_mapping.cast_unsigned()),
        ];
        for (at, value) in words {
            put(at, &value.to_le_bytes());
        }
        put(48, &self.dst_port.to_be_bytes());
        match self.family {
            AF_INET6 => {
                put(28, &self.src);
                put(56, &self.dst);
            }
            _ => {
                put(24, self.src.get(..4).unwrap_or_default());
                put(52, self.dst.get(..4).unwrap_or_default());
            }
        }
        bytes
    }
}

/// Where words of `struct bpf_sock` lie.
pub(crate) const BOUND_DEV_IF: usize = 0;
pub(crate) const FAMILY: usize = 4;
pub(crate) const PROTOCOL: usize = 12;
pub(crate) const SRC_PORT: usize = 44;
pub(crate) const DST_PORT: usize = 48;
pub(crate) const STATE: usize = 72;

/// Bytes of both structures.
pub(crate) const IMAGE_BYTES: usize = 240;

/// Where a socket's block has its own address, by which it is known to be one, and its cookie.
const OWN_ADDRESS: usize = 240;
const COOKIE: usize = 248;

/// The next socket's cookie.
static COOKIES: AtomicU64 = AtomicU64::new(1);

impl<'r> Invocation<'r> {
    /// Makes a socket of `struct bpf_sock` for this run; its address.
    pub(crate) fn new_socket(&self, image: &[u8]) -> Option<u64> {
        Some(self.add_socket(&make(image)?))
    }

    /// Gives the run a socket; its address.
    pub(crate) fn add_socket(&self, block: &Arc<Block>) -> u64 {
        self.add_block(Arc::clone(block), true).address()
    }

    /// The block of the socket at this address: that of its `struct bpf_sock` or of its `struct bpf_tcp_sock`.
    pub(crate) fn socket_at(&self, address: u64) -> Option<Place<'r>> {
        [Some(address), address.checked_sub(TCP)].into_iter().flatten().find_map(|start| {
            let place = self.regions.find(start, BLOCK_BYTES as u64, true)?;
            let own = place.at(OWN_ADDRESS)?.load(Size::DW, Relaxed);
            (own == start).then_some(place)
        })
    }
}

/// A socket's cookie: a number that no other has, never 0.
pub(crate) fn cookie(socket: Place<'_>) -> u64 {
    socket.at(COOKIE).map_or(0, |place| place.load(Size::DW, Relaxed))
}

/// A socket of `struct bpf_sock`, and perhaps [`TCP`] bytes in `struct bpf_tcp_sock`, in a block of its own.
pub(crate) fn make(image: &[u8]) -> Option<Arc<Block>> {
    let block = Block::new(BLOCK_BYTES)?;
    block.place(0, IMAGE_BYTES as u64)?.write(image);
    block.place(OWN_ADDRESS as u64, 8)?.store(Size::DW, block.address(), Relaxed);
    block.place(COOKIE as u64, 8)?.store(Size::DW, COOKIES.fetch_add(1, Relaxed), Relaxed);
    Some(Arc::new(block))
}

/// Which socket a packet would go to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    family: u32,
    protocol: u32,
    device: u32,
    /// As in packets, the rest zero.
    source: [u8; 16],
    destination: [u8; 16],
    source_port: u16,
    destination_port: u16,
}

impl Question {
    /// A `struct bpf_sock_tuple` of this length; `None` if there is none so long.
    pub(crate) fn new(tuple: &[u8], protocol: u32, device: u32) -> Option<Self> {
        let (family, bytes) = match tuple.len() {
            12 => (AF_INET, 4),
            36 => (AF_INET6, 16),
            _ => return None,
        };
        let (source, rest) = tuple.split_at_checked(bytes)?;
        let (destination, ports) = rest.split_at_checked(bytes)?;
        let [a, b, c, d] = *ports.first_chunk()?;
        let [mut from, mut to] = [[0; 16]; 2];
        from.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        to.iter_mut().zip(destination).for_each(|(to, from)| *to = *from);
        Some(Self {
            family,
            protocol,
            device,
            source: from,
            destination: to,
            source_port: u16::from_be_bytes([a, b]),
            destination_port: u16::from_be_bytes([c, d]),
        })
    }

    /// How well a socket fits: 0 not at all, more for a connection than for one that waits, more for an address than for any.
    pub(crate) fn fit(&self, socket: Place<'_>) -> u32 {
        let word = |at| socket.at(at).map_or(0, |place| place.load(Size::W, Relaxed));
        let bound = word(BOUND_DEV_IF);
        let of_kind = word(FAMILY) == u64::from(self.family) && word(PROTOCOL) == u64::from(self.protocol);
        let here = bound == 0 || bound == u64::from(self.device);
        if !of_kind || !here || word(SRC_PORT) != u64::from(self.destination_port) {
            return 0;
        }
        let (local, remote) = self.addresses(socket);
        let mut remote_port = [0; 2];
        if let Some(place) = socket.at(DST_PORT) {
            place.read(&mut remote_port);
        }
        let remote_port = u16::from_be_bytes(remote_port);
        let mine = local == self.destination;
        if remote_port != 0 {
            let connected = mine && remote == self.source && remote_port == self.source_port;
            return if connected { 3 } else { 0 };
        }
        let waits = self.protocol != IPPROTO_TCP || word(STATE) == TCP_LISTEN;
        match (waits, mine, local == [0; 16]) {
            (true, true, _) => 2,
            (true, _, true) => 1,
            _ => 0,
        }
    }

    /// The socket's local and remote address.
    fn addresses(&self, socket: Place<'_>) -> ([u8; 16], [u8; 16]) {
        let (bytes, places) = if self.family == AF_INET6 { (16, [28, 56]) } else { (4, [24, 52]) };
        let [local, remote] = places.map(|at| {
            let mut address = [0; 16];
            if let (Some(place), Some(part)) = (socket.at(at), address.get_mut(..bytes)) {
                place.read(part);
            }
            address
        });
        (local, remote)
    }
}
