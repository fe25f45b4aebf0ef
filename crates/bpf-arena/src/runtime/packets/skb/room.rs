//! Making packets longer and shorter, at both ends and in the middle.

use super::super::checksum::Sum;
use super::super::context::skb as field;
use super::super::{EALREADY, EFAULT, EINVAL, ENOMEM, ENOTSUPP, Errno};
use super::{Blocks, ETH_P_IP, ETH_P_IPV6, ETHERNET_BYTES, MAX_BYTES, Skb, Summed, low16, signed};

/// Bytes of an IPv4 header without options.
const IPV4_BYTES: usize = 20;

/// Bytes of an IPv6 header.
const IPV6_BYTES: usize = 40;

/// Most bytes that `bpf_skb_adjust_room` adds or removes.
const MOST_ROOM: u32 = 0xfff;

/// Flags of `bpf_skb_adjust_room` (`BPF_F_ADJ_ROOM_*`).
mod flag {
    pub(super) const FIXED_GSO: u64 = 1 << 0;
    pub(super) const ENCAP_L3_IPV4: u64 = 1 << 1;
    pub(super) const ENCAP_L3_IPV6: u64 = 1 << 2;
    pub(super) const ENCAP_L4_GRE: u64 = 1 << 3;
    pub(super) const ENCAP_L4_UDP: u64 = 1 << 4;
    pub(super) const NO_CSUM_RESET: u64 = 1 << 5;
    pub(super) const ENCAP_L2_ETH: u64 = 1 << 6;
    pub(super) const DECAP_L3_IPV4: u64 = 1 << 7;
    pub(super) const DECAP_L3_IPV6: u64 = 1 << 8;
    /// The length of an inner Ethernet header lies in the highest byte.
    pub(super) const ENCAP_L2_SHIFT: u32 = 56;

    pub(super) const ENCAP_L3: u64 = ENCAP_L3_IPV4 | ENCAP_L3_IPV6;
    pub(super) const DECAP_L3: u64 = DECAP_L3_IPV4 | DECAP_L3_IPV6;
    pub(super) const ALL: u64 = FIXED_GSO
        | ENCAP_L3
        | ENCAP_L4_GRE
        | ENCAP_L4_UDP
        | NO_CSUM_RESET
        | ENCAP_L2_ETH
        | DECAP_L3
        | 0xff << ENCAP_L2_SHIFT;
}

/// Where `bpf_skb_adjust_room` makes room (`enum bpf_adj_room_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Behind the network header.
    Network,
    /// Behind the Ethernet header.
    Mac,
}

impl<'r> Skb<'r> {
    /// Makes the packet `new_len` bytes long, with zeroes or by cutting off (`bpf_skb_change_tail`).
    pub(crate) fn change_tail(
        &mut self,
        new_len: u32,
        flags: u64,
        blocks: &dyn Blocks<'r>,
    ) -> Result<(), Errno> {
        let new_len = new_len as usize;
        if flags != 0 || new_len > MAX_BYTES || new_len < self.least_len() {
            return Err(Errno(EINVAL));
        }
        if self.encapsulated {
            return Err(Errno(ENOTSUPP));
        }
        let old_len = self.len;
        let more = new_len.saturating_sub(old_len);
        self.make_tail(more, blocks)?;
        if new_len != old_len && self.summed == Summed::Complete {
            self.summed = Summed::None;
        }
        self.len = new_len;
        self.clear(old_len, more);
        if self.is_gso() {
            self.image.set(field::GSO_SIZE, 0_u32);
            self.image.set(field::GSO_SEGS, 0_u32);
            self.gso_typed = false;
        }
        Ok(())
    }

    /// Makes room of zeroes in front, which becomes the Ethernet header (`bpf_skb_change_head`).
    pub(crate) fn change_head(
        &mut self,
        room: u32,
        flags: u64,
        blocks: &dyn Blocks<'r>,
    ) -> Result<(), Errno> {
        let new_len = u32::try_from(self.len).ok().and_then(|len| len.checked_add(room));
        let fits = new_len.is_some_and(|len| self.is_gso() || len as usize <= MAX_BYTES);
        if flags != 0 || !fits {
            return Err(Errno(EINVAL));
        }
        let room = room as usize;
        self.push(room, blocks)?;
        self.clear(0, room);
        self.mac_header = self.data;
        self.mac_len = self.mac_header_len();
        Ok(())
    }

    /// Turns IPv4 into IPv6 or back, as far as lengths go (`bpf_skb_change_proto`).
    pub(crate) fn change_protocol(
        &mut self,
        protocol: u16,
        flags: u64,
        blocks: &dyn Blocks<'r>,
    ) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno(EINVAL));
        }
        let (at, difference) = (self.mac_header_len(), IPV6_BYTES - IPV4_BYTES);
        match (self.protocol(), protocol) {
            (ETH_P_IP, ETH_P_IPV6) => self.insert(at, difference, blocks)?,
            (ETH_P_IPV6, ETH_P_IP) => self.remove(at, difference)?,
            _ => return Err(Errno(ENOTSUPP)),
        }
        self.gso_typed |= self.is_gso();
        self.set_protocol(protocol);
        self.clear_hash();
        Ok(())
    }

    /// Makes or removes room behind one of the first headers (`bpf_skb_adjust_room` of traffic control).
    pub(crate) fn adjust_room(
        &mut self,
        difference: i32,
        mode: Option<Mode>,
        flags: u64,
        blocks: &dyn Blocks<'r>,
    ) -> Result<(), Errno> {
        if flags & !flag::ALL != 0 {
            return Err(Errno(EINVAL));
        }
        if difference.unsigned_abs() > MOST_ROOM {
            return Err(Errno(EFAULT));
        }
        let header = network_header_bytes(self.protocol()).ok_or(Errno(ENOTSUPP))?;
        let at = self.mac_header_len()
            + match mode {
                Some(Mode::Network) => header,
                Some(Mode::Mac) => 0,
                None => return Err(Errno(ENOTSUPP)),
            };
        let shrink = difference < 0;
        let least = match flags & flag::DECAP_L3 {
            0 => header,
            _ if !shrink => return Err(Errno(EINVAL)),
            flag::DECAP_L3_IPV4 => IPV4_BYTES,
            flag::DECAP_L3_IPV6 => IPV6_BYTES,
            _ => return Err(Errno(EINVAL)),
        };
        let bytes = difference.unsigned_abs() as usize;
        let current = signed(self.len) - self.network_offset();
        let too_short = shrink && current - signed(bytes) < signed(least).max(1);
        let too_long = !shrink && self.len + bytes > MAX_BYTES && !self.is_gso();
        if too_short || too_long {
            return Err(Errno(ENOTSUPP));
        }
        if shrink {
            self.shrink(at, bytes, flags)?
        } else {
            self.grow(at, bytes, flags, blocks)?
        }
        if flags & flag::NO_CSUM_RESET == 0 && matches!(self.summed, Summed::Unnecessary { .. }) {
            self.summed = Summed::None;
        }
        Ok(())
    }

    /// Makes or removes room in front (`bpf_skb_adjust_room` of programs on stream sockets).
    pub(crate) fn adjust_front(&mut self, difference: i32, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        let bytes = difference.unsigned_abs();
        if bytes > MOST_ROOM {
            return Err(Errno(EFAULT));
        }
        let bytes = bytes as usize;
        if difference < 0 {
            return self.pull(bytes);
        }
        self.push(bytes, blocks)?;
        self.clear(0, bytes);
        Ok(())
    }

    fn grow(&mut self, at: usize, bytes: usize, flags: u64, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        // Segments have no type that this could be done with.
        if self.is_gso() {
            return Err(Errno(ENOTSUPP));
        }
        self.make_head(bytes, blocks)?;
        if flags & flag::ENCAP_L3 == 0 {
            return self.insert(at, bytes, blocks);
        }
        let protocol = self.protocol();
        if network_header_bytes(protocol).is_none() {
            return Err(Errno(ENOTSUPP));
        }
        let both = |a, b| flags & (a | b) == a | b;
        let inner_mac_bytes = (flags >> flag::ENCAP_L2_SHIFT) as usize;
        if both(flag::ENCAP_L3_IPV4, flag::ENCAP_L3_IPV6)
            || both(flag::ENCAP_L4_GRE, flag::ENCAP_L4_UDP)
            || flags & flag::ENCAP_L2_ETH != 0 && inner_mac_bytes < ETHERNET_BYTES
        {
            return Err(Errno(EINVAL));
        }
        if self.encapsulated {
            return Err(Errno(EALREADY));
        }
        if inner_mac_bytes > bytes {
            return Err(Errno(EINVAL));
        }
        let mac_bytes = self.mac_header_len();
        self.insert(at, bytes, blocks)?;
        self.encapsulated = true;
        self.network_header = self.data + mac_bytes;
        let outer = if flags & flag::ENCAP_L3_IPV6 != 0 { ETH_P_IPV6 } else { ETH_P_IP };
        if flags & (flag::ENCAP_L4_GRE | flag::ENCAP_L4_UDP) != 0 {
            let header = network_header_bytes(outer).unwrap_or(IPV4_BYTES);
            self.transport_header = low16(self.data + mac_bytes + header);
        }
        self.set_protocol(outer);
        Ok(())
    }

    fn shrink(&mut self, at: usize, bytes: usize, flags: u64) -> Result<(), Errno> {
        if flags & !(flag::FIXED_GSO | flag::DECAP_L3 | flag::NO_CSUM_RESET) != 0 {
            return Err(Errno(EINVAL));
        }
        if self.is_gso() {
            return Err(Errno(ENOTSUPP));
        }
        self.remove(at, bytes)?;
        match (self.protocol(), flags & flag::DECAP_L3) {
            (ETH_P_IP, flag::DECAP_L3_IPV6) => self.set_protocol(ETH_P_IPV6),
            (ETH_P_IPV6, flag::DECAP_L3_IPV4) => self.set_protocol(ETH_P_IP),
            _ => {}
        }
        Ok(())
    }

    /// Puts zeroes behind the first `at` bytes, which move forward with their headers (`bpf_skb_net_hdr_push`).
    fn insert(&mut self, at: usize, bytes: usize, blocks: &dyn Blocks<'r>) -> Result<(), Errno> {
        let same = usize::from(self.transport_header) == self.network_header;
        self.push(bytes, blocks)?;
        self.copy_within(bytes, 0, at);
        self.clear(at, bytes);
        self.mac_header = self.mac_header.saturating_sub(bytes);
        self.network_header = self.network_header.saturating_sub(bytes);
        if same {
            self.transport_header = low16(self.network_header);
        }
        Ok(())
    }

    /// Takes bytes away behind the first `at` (`bpf_skb_net_hdr_pop`).
    fn remove(&mut self, at: usize, bytes: usize) -> Result<(), Errno> {
        let same = usize::from(self.transport_header) == self.network_header;
        let removed = self.part(at, bytes).ok_or(Errno(ENOMEM))?.to_vec();
        self.pull_sum(&removed);
        self.copy_within(0, bytes, at);
        self.pull(bytes)?;
        self.mac_header += bytes;
        self.network_header += bytes;
        if same {
            self.transport_header = low16(self.network_header);
        }
        Ok(())
    }

    /// Takes bytes that were removed at an even place out of the sum (`skb_postpull_rcsum`).
    pub(super) fn pull_sum(&mut self, removed: &[u8]) {
        if self.summed == Summed::Complete {
            // Subtracted as the kernel does, by negating twice.
            let negated = Sum(self.sum.0.wrapping_neg());
            self.sum = Sum(Sum::of(removed, negated).0.wrapping_neg());
        }
    }

    /// The shortest that the packet may become: its headers stay.
    fn least_len(&self) -> usize {
        let transport = i64::from(self.transport_header) - signed(self.data);
        let found = self.has_transport_header() && transport > 0;
        let from = if found { transport } else { self.network_offset() };
        usize::try_from(from).unwrap_or(0)
    }

    /// Bytes of the Ethernet header, tags included.
    pub(super) fn mac_header_len(&self) -> usize {
        self.network_header.saturating_sub(self.mac_header)
    }
}

/// Bytes of a network header without options; `None` for other protocols.
fn network_header_bytes(protocol: u16) -> Option<usize> {
    match protocol {
        ETH_P_IP => Some(IPV4_BYTES),
        ETH_P_IPV6 => Some(IPV6_BYTES),
        _ => None,
    }
}
