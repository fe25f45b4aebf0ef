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
use std::sync::Arc;

use crate::access::Block;
use crate::runtime::packets::socket::Question;

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
    sockets: Vec<Arc<Block>>,
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

    /// Where copies of packets go. Called on the thread that runs the program, while it waits.
    #[must_use]
    pub fn on_clone(mut self, sink: impl Fn(&Clone<'_>) + Send + Sync + 'static) -> Self {
        self.on_clone = Some(Arc::new(sink));
        self
    }

    pub(crate) fn find_device(&self, index: u32) -> Option<Device> {
        self.devices.iter().find(|device| device.index == index).copied()
    }

    /// The socket that would receive such a packet: the first of those that fit best.
    pub(crate) fn find_socket(&self, question: &Question) -> Option<&Arc<Block>> {
        let fit = |block: &Block| block.place(0, block.len() as u64).map_or(0, |place| question.fit(place));
        let fits = self.sockets.iter().map(|block| (fit(block), block)).filter(|(fit, _)| *fit > 0);
        fits.rev().max_by_key(|(fit, _)| *fit).map(|(_, block)| block)
    }

    /// Whether a socket is one that the host describes.
    pub(crate) fn has_socket(&self, address: u64) -> bool {
        self.sockets.iter().any(|block| block.address() == address)
    }

    pub(crate) fn clone_to(&self, clone: &Clone<'_>) {
        if let Some(sink) = &self.on_clone {
            sink.take(clone);
        }
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
