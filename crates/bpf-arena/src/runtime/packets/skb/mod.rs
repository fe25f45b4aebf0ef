//! A packet as programs of the socket layer and of traffic control see it: the parts of the kernel's `struct sk_buff` that
//! programs can observe.
//!
//! What `struct __sk_buff` shows is kept there alone, in the run's context, which the program may write; here is what it does
//! not show. A packet is linear, as it always is in a test run, and lies in a block with room in front and behind. When it
//! outgrows the block it moves to another one, and the old one stays until the run ends.

mod network;
mod room;
mod vlan;

use super::checksum::Sum;
use super::context::{Image, skb as field};
use super::{EFAULT, ENOMEM, Errno};
use crate::access::{Block, Place};

pub(crate) use room::Mode;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;

/// Ethertypes, as numbers.
pub(crate) const ETH_P_IP: u16 = 0x0800;
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;

/// Room in front that a new packet gets (`NET_SKB_PAD`), and by whose multiples it grows.
const PAD: usize = 64;

/// Most bytes of a packet that a helper makes longer (`SKB_MAX_ALLOC`): four pages without the kernel's own part.
const MAX_BYTES: usize = 4 * 4096 - 320;

/// Where a transport header is that nobody has found.
const UNSET: u16 = u16::MAX;

/// Most bytes of a block (`KMALLOC_MAX_SIZE`).
const MAX_BLOCK: usize = 4 << 20;

/// What is known of the packet's checksum (`ip_summed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summed {
    /// Nothing.
    None,
    /// That it is right, for this many headers beyond the first.
    Unnecessary { level: u8 },
    /// The sum of everything from the network header on.
    Complete,
}

/// Gives blocks that live as long as the run.
pub(crate) trait Blocks<'r> {
    /// A block of zeroes that the run's programs may access.
    fn block(&self, bytes: usize) -> Option<&'r Block>;
}

/// A packet. All offsets are from the start of its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skb<'r> {
    image: Image<'r>,
    block: &'r Block,
    data: usize,
    len: usize,
    mac_header: usize,
    network_header: usize,
    /// [`UNSET`] until somebody has found it; of 16 bits, as the kernel keeps it.
    transport_header: u16,
    /// Bytes of the Ethernet header, where somebody has counted them.
    mac_len: usize,
    pub(super) summed: Summed,
    /// The sum, or where it is not known any more what it was last.
    pub(crate) sum: Sum,
    /// Whether a tunnel's headers were put in front.
    encapsulated: bool,
    /// Whether segments have a type; those of a test run begin without.
    gso_typed: bool,
    /// Whether the hash that the context shows is one.
    hashed: bool,
}

/// Bytes of the block for a new packet.
pub(crate) fn block_bytes(len: usize) -> usize {
    PAD + len.next_multiple_of(PAD) + PAD
}

impl<'r> Skb<'r> {
    /// A packet of `len` bytes, from its Ethernet header on, in a block of [`block_bytes`]; `None` if the block is shorter. The
    /// packet begins at its network header, as the network stack hands it over.
    pub(crate) fn received(image: Image<'r>, block: &'r Block, bytes: &[u8]) -> Option<Self> {
        block.place(PAD as u64, bytes.len() as u64)?.write(bytes);
        let network_header = PAD + ETHERNET_BYTES;
        let len = bytes.len().checked_sub(ETHERNET_BYTES)?;
        Some(Self {
            image,
            block,
            data: network_header,
            len,
            mac_header: PAD,
            network_header,
            transport_header: UNSET,
            mac_len: 0,
            summed: Summed::None,
            sum: Sum::default(),
            encapsulated: false,
            gso_typed: false,
            hashed: false,
        })
    }

    /// What the program sees of it besides its bytes.
    pub(crate) fn image(&self) -> Image<'r> {
        self.image
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes from the packet's start to its network header; negative if that was pulled.
    pub(crate) fn network_offset(&self) -> i64 {
        signed(self.network_header) - signed(self.data)
    }

    /// Bytes from the packet's start to its Ethernet header.
    pub(crate) fn mac_offset(&self) -> i64 {
        signed(self.mac_header) - signed(self.data)
    }

    /// Where the transport header is, if that is known.
    pub(crate) fn has_transport_header(&self) -> bool {
        self.transport_header != UNSET
    }

    /// A part of the packet; `None` if it is not all there.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Option<Place<'r>> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        self.block.place((self.data + offset) as u64, len as u64)
    }

    /// Bytes at a signed offset from the packet's start, which may lie in front of it but not behind.
    pub(crate) fn around(&self, offset: i64, len: usize) -> Option<Place<'r>> {
        let start = usize::try_from(signed(self.data).checked_add(offset)?).ok()?;
        if start.checked_add(len)? > self.data + self.len {
            return None;
        }
        self.block.place(start as u64, len as u64)
    }

    /// A part of the packet that will be written (`skb_ensure_writable`).
    pub(crate) fn writable(&self, offset: usize, len: usize) -> Result<Place<'r>, Errno> {
        self.part(offset, len).ok_or(Errno(ENOMEM))
    }

    /// A copy of the packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.part(0, self.len).map_or_else(Vec::new, Place::to_vec)
    }

    /// A copy of everything from the Ethernet header on.
    pub(crate) fn ethernet_bytes(&self) -> Vec<u8> {
        let from = self.mac_offset();
        let bytes = usize::try_from(signed(self.len) - from).unwrap_or(0);
        self.around(from, bytes).map_or_else(Vec::new, Place::to_vec)
    }

    /// Overwrites bytes, keeping the sum of the whole where that is known and `recompute` asks for it.
    pub(crate) fn store(&mut self, offset: usize, bytes: &[u8], recompute: bool) -> Result<(), Errno> {
        let place = self.part(offset, bytes.len()).ok_or(Errno(EFAULT))?;
        let old = Sum::of(&place.to_vec(), Sum::default());
        place.write(bytes);
        if recompute && self.summed == Summed::Complete {
            let new = Sum::of(bytes, Sum::default());
            self.sum = self.sum.sub_block(old, offset).add_block(new, offset);
        }
        Ok(())
    }

    /// Shows the program where the packet is now.
    pub(crate) fn show(&self) {
        self.show_start();
        let start = self.block.address() + self.data as u64;
        self.image.set_pointer(field::DATA_END, start + self.len as u64);
        self.image.set_pointer(field::DATA_META, start);
    }

    /// Shows its length and start only: the kernel finds the end of packets for some program types, and leaves others
    /// without, whose `data_end` is NULL.
    pub(crate) fn show_start(&self) {
        self.image.set(field::LEN, self.len as u64);
        self.image.set_pointer(field::DATA, self.block.address() + self.data as u64);
    }

    /// The ethertype, as a number.
    pub(crate) fn protocol(&self) -> u16 {
        number(self.image.get32(field::PROTOCOL))
    }

    pub(crate) fn set_protocol(&self, protocol: u16) {
        self.image.set(field::PROTOCOL, protocol.swap_bytes());
    }

    /// Whether it stands for several packets.
    pub(crate) fn is_gso(&self) -> bool {
        self.image.get32(field::GSO_SIZE) != 0
    }

    /// Whether it stands for several of which nothing is known, which the network refuses.
    pub(crate) fn is_bad_gso(&self) -> bool {
        self.is_gso() && !self.gso_typed
    }

    /// The hash, of what identifies the packet's flow unless a program has set it.
    pub(crate) fn hash(&mut self) -> u32 {
        if !self.hashed {
            self.set_hash(super::flow::hash(self.protocol(), &self.network_bytes()));
        }
        self.image.get32(field::HASH)
    }

    pub(crate) fn set_hash(&mut self, hash: u32) {
        self.image.set(field::HASH, hash);
        self.hashed = true;
    }

    pub(crate) fn clear_hash(&mut self) {
        self.image.set(field::HASH, 0_u32);
        self.hashed = false;
    }

    /// Sums up the packet from its network header on, as a device that offloads checksums has done.
    pub(crate) fn sum_up(&mut self) {
        (self.summed, self.sum) = (Summed::Complete, self.sum_from_network());
    }

    /// The sum from the network header on.
    pub(crate) fn sum_from_network(&self) -> Sum {
        Sum::of(&self.network_bytes(), Sum::default())
    }

    /// A copy of everything from the network header on.
    fn network_bytes(&self) -> Vec<u8> {
        let from = self.network_offset();
        let bytes = usize::try_from(signed(self.len) - from).unwrap_or(0);
        self.around(from, bytes).map_or_else(Vec::new, Place::to_vec)
    }

    /// Makes the packet begin `bytes` earlier, at what was there before (`__skb_push`).
    pub(crate) fn push(&mut self, bytes: usize, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        self.make_head(bytes, blocks)?;
        self.data -= bytes;
        self.len += bytes;
        Ok(())
    }

    /// Makes it begin `bytes` later.
    fn pull(&mut self, bytes: usize) -> Result<(), Errno> {
        let len = self.len.checked_sub(bytes).ok_or(Errno(ENOMEM))?;
        (self.data, self.len) = (self.data + bytes, len);
        Ok(())
    }

    /// Sees to it that there is room in front (`skb_cow`).
    fn make_head(&mut self, bytes: usize, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        match bytes.checked_sub(self.data) {
            None | Some(0) => Ok(()),
            Some(missing) => self.expand(missing.next_multiple_of(PAD), 0, blocks),
        }
    }

    /// Sees to it that there is room behind.
    fn make_tail(&mut self, bytes: usize, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        let room = self.block.len() - self.data - self.len;
        match bytes.checked_sub(room) {
            None | Some(0) => Ok(()),
            Some(missing) => self.expand(0, missing, blocks),
        }
    }

    /// Moves the packet to a block with more room (`pskb_expand_head`).
    fn expand(&mut self, head: usize, tail: usize, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        let bytes = self.block.len().saturating_add(head).saturating_add(tail);
        let new = Some(bytes).filter(|bytes| *bytes <= MAX_BLOCK).and_then(|bytes| blocks.block(bytes));
        let new = new.ok_or(Errno(ENOMEM))?;
        let used = (self.data + self.len) as u64;
        if let (Some(from), Some(to)) = (self.block.place(0, used), new.place(head as u64, used)) {
            to.write(&from.to_vec());
        }
        self.block = new;
        self.data += head;
        self.mac_header += head;
        self.network_header += head;
        // The kernel does not ask whether it is set, and takes one that was not for set from now on.
        self.transport_header = self.transport_header.wrapping_add(low16(head));
        Ok(())
    }

    /// Zeroes a part of the packet.
    fn clear(&self, offset: usize, len: usize) {
        if let Some(place) = self.part(offset, len) {
            place.clear();
        }
    }

    /// Copies `len` bytes of the packet from one offset to another; they may overlap.
    fn copy_within(&self, from: usize, to: usize, len: usize) {
        if let (Some(from), Some(to)) = (self.part(from, len), self.part(to, len)) {
            to.write(&from.to_vec());
        }
    }
}

/// What a packet is whose bytes from the type or length of its Ethernet header on are these (`eth_type_trans`): the type, or
/// for a length one of the two types that stand for IEEE 802.
pub(crate) fn ethertype(bytes: &[u8]) -> u16 {
    const ETH_P_802_3_MIN: u16 = 0x0600;
    const ETH_P_802_3: u16 = 0x0001;
    const ETH_P_802_2: u16 = 0x0004;
    match bytes {
        [a, b, ..] if u16::from_be_bytes([*a, *b]) >= ETH_P_802_3_MIN => u16::from_be_bytes([*a, *b]),
        // Without a service access point: IPX as Novell once sent it.
        [_, _, 0xff, 0xff, ..] => ETH_P_802_3,
        _ => ETH_P_802_2,
    }
}

/// The low half of a field that holds 16 bits in network order, as a number.
fn number(field: u32) -> u16 {
    #[allow(clippy::cast_possible_truncation, reason = "such fields have 16 bits")]
    let low = field as u16;
    low.swap_bytes()
}

/// An offset as the kernel keeps those of headers.
fn low16(offset: usize) -> u16 {
    #[allow(clippy::cast_possible_truncation, reason = "the kernel keeps no more bits")]
    let low = offset as u16;
    low
}

/// Offsets in blocks are far below any limit.
fn signed(offset: usize) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
