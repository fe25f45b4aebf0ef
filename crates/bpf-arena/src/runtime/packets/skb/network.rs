//! What the network header says.

use super::super::checksum::Sum;
use super::{ETH_P_IP, ETH_P_IPV6, ETHERNET_BYTES, Skb, Summed, vlan};

/// Explicit Congestion Notification: the low bits of the traffic class.
const ECN_MASK: u32 = 3;

/// Most VLAN tags that are skipped.
const MAX_TAGS: usize = 8;

impl Skb<'_> {
    /// Says in the network header that the packet met congestion, if it takes part in that (`bpf_skb_ecn_set_ce`); whether it
    /// does.
    pub(crate) fn mark_congestion(&mut self) -> bool {
        match self.network_protocol() {
            Some(ETH_P_IP) => self.mark_ipv4(),
            Some(ETH_P_IPV6) => self.mark_ipv6(),
            _ => false,
        }
    }

    fn mark_ipv4(&mut self) -> bool {
        let header = (self.len >= 20).then(|| self.around(self.network_offset(), 20)).flatten();
        let Some(place) = header else { return false };
        let mut header = [0; 20];
        place.read(&mut header);
        let [_, tos, _, _, _, _, _, _, _, _, check @ .., _, _, _, _, _, _, _, _] = &mut header;
        let next = (u32::from(*tos) + 1) & ECN_MASK;
        // Taking no part becomes 1, having met congestion already 0.
        if next & 2 == 0 {
            return next == 0;
        }
        *tos |= 3;
        let added = 0xfffb_u16.to_be().wrapping_add(if next == 2 { 2_u16 } else { 3 }.to_be());
        let (sum, carry) = u16::from_le_bytes(*check).overflowing_add(added);
        *check = sum.wrapping_add(u16::from(carry)).to_le_bytes();
        place.write(&header);
        true
    }

    fn mark_ipv6(&mut self) -> bool {
        let header = (self.len >= 40).then(|| self.around(self.network_offset(), 40)).flatten();
        let Some(place) = header else { return false };
        let mut first = [0; 4];
        place.read(&mut first);
        let from = u32::from_be_bytes(first);
        if from >> 20 & ECN_MASK == 0 {
            return false;
        }
        let to = from | ECN_MASK << 20;
        place.write(&to.to_be_bytes());
        if self.summed == Summed::Complete {
            self.sum = self.sum.sub(Sum(from.to_be())).add(Sum(to.to_be()));
        }
        true
    }

    /// The ethertype behind the tags; `None` if the packet ends among them.
    fn network_protocol(&self) -> Option<u16> {
        let mut protocol = self.protocol();
        let mut at = match self.mac_len {
            0 => ETHERNET_BYTES,
            len => len.saturating_sub(vlan::TAG_BYTES),
        };
        for _ in 0..MAX_TAGS {
            if !vlan::TAGS.contains(&protocol) {
                return Some(protocol);
            }
            let mut tag = [0; vlan::TAG_BYTES];
            self.part(at, vlan::TAG_BYTES)?.read(&mut tag);
            let [_, _, inner @ ..] = tag;
            protocol = u16::from_be_bytes(inner);
            at += vlan::TAG_BYTES;
        }
        None
    }
}
