//! VLAN tags: the outermost one is kept beside the packet, as devices do that insert it, and others in it.

use super::super::checksum::Sum;
use super::super::context::skb as field;
use super::super::{EINVAL, ENOMEM, Errno};
use super::{Blocks, ETHERNET_BYTES, Skb, Summed, number};
use crate::access::Place;

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 4;

/// Bytes of both addresses, behind which tags are.
const ADDRESSES: usize = 12;

/// Ethertypes of tags.
pub(super) const TAGS: [u16; 2] = [0x8100, 0x88a8];

impl<'r> Skb<'r> {
    /// Puts a tag around the packet (`bpf_skb_vlan_push`). An ethertype that is none of a tag's counts as 802.1Q.
    pub(crate) fn push_vlan(
        &mut self,
        protocol: u16,
        tci: u16,
        blocks: &dyn Blocks<'r>,
    ) -> Result<(), Errno> {
        let protocol = if TAGS.contains(&protocol) { protocol } else { TAGS[0] };
        if let Some((protocol, tci)) = self.vlan() {
            self.at_ethernet()?;
            if self.len < ETHERNET_BYTES {
                return Err(Errno(EINVAL));
            }
            self.push(TAG_BYTES, blocks)?;
            self.copy_within(TAG_BYTES, 0, ADDRESSES);
            let ([a, b], [c, d]) = (protocol.to_be_bytes(), tci.to_be_bytes());
            let tag = [a, b, c, d];
            if let Some(place) = self.part(ADDRESSES, TAG_BYTES) {
                place.write(&tag);
            }
            self.mac_header = self.mac_header.saturating_sub(TAG_BYTES);
            self.network_header = self.network_header.saturating_sub(TAG_BYTES);
            self.set_protocol(protocol);
            if self.summed == Summed::Complete {
                self.sum = self.sum.add(Sum::of(&tag, Sum::default()));
            }
        }
        self.set_vlan(Some((protocol, tci)));
        self.mac_len = self.mac_header_len();
        Ok(())
    }

    /// Takes the outermost tag off (`bpf_skb_vlan_pop`); the next one takes its place.
    pub(crate) fn pop_vlan(&mut self) -> Result<(), Errno> {
        if self.vlan().is_some() {
            self.set_vlan(None);
        } else {
            if !TAGS.contains(&self.protocol()) {
                return Ok(());
            }
            self.take_tag()?;
        }
        let protocol = self.protocol();
        if TAGS.contains(&protocol) {
            let tci = self.take_tag()?;
            self.set_vlan(Some((protocol, tci)));
        }
        Ok(())
    }

    /// The tag beside the packet: ethertype and contents.
    fn vlan(&self) -> Option<(u16, u16)> {
        if self.image.get32(field::VLAN_PRESENT) == 0 {
            return None;
        }
        let tci = self.image.get32(field::VLAN_TCI);
        #[allow(clippy::cast_possible_truncation, reason = "16 bits")]
        Some((number(self.image.get32(field::VLAN_PROTO)), tci as u16))
    }

    fn set_vlan(&self, tag: Option<(u16, u16)>) {
        let (protocol, tci) = tag.unwrap_or_default();
        self.image.set(field::VLAN_PRESENT, tag.is_some());
        self.image.set(field::VLAN_PROTO, protocol.swap_bytes());
        self.image.set(field::VLAN_TCI, tci);
    }

    /// Takes the first tag out of the packet, and gives its contents.
    fn take_tag(&mut self) -> Result<u16, Errno> {
        self.at_ethernet()?;
        self.part(0, ETHERNET_BYTES + TAG_BYTES).ok_or(Errno(ENOMEM))?;
        let tag = self.part(ADDRESSES, TAG_BYTES).ok_or(Errno(ENOMEM))?.to_vec();
        self.pull_sum(&tag);
        self.copy_within(0, TAG_BYTES, ADDRESSES);
        self.pull(TAG_BYTES)?;
        self.mac_header += TAG_BYTES;
        let inner = self.part(ETHERNET_BYTES - 2, 4).map_or_else(Vec::new, Place::to_vec);
        self.set_protocol(super::ethertype(&inner));
        if self.network_offset() < ETHERNET_BYTES as i64 {
            self.network_header = self.data + ETHERNET_BYTES;
        }
        self.mac_len = self.mac_header_len();
        Ok(match tag.as_slice() {
            [_, _, a, b] => u16::from_be_bytes([*a, *b]),
            _ => 0,
        })
    }

    /// Tags are inserted and removed only where the packet begins with its Ethernet header.
    fn at_ethernet(&self) -> Result<(), Errno> {
        if self.mac_offset() == 0 { Ok(()) } else { Err(Errno(EINVAL)) }
    }
}
