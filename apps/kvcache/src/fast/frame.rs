//! The packet that a datagram would have been: what the program looks at, in front of what a socket gives.

/// Ethernet, IPv4 and UDP headers.
pub(super) const HEADERS: usize = 14 + 20 + 8;

/// Room for any answer.
pub(super) const FRAME_MAX: usize = 2048;

/// The port that the program in this process answers for.
pub(super) const PORT: u16 = 11211;

/// The program looks at no longer packets.
const DATAGRAM_MAX: usize = 1400;

/// Headers without lengths: from and to 127.0.0.1 and locally administered addresses; the port of the sender is never sent to.
const TEMPLATE: [u8; HEADERS] = {
    let [high, low] = PORT.to_be_bytes();
    [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, // IPv4
        high, low, high, low, 0, 0, 0, 0, // UDP
    ]
};

/// The sum of the template's IPv4 header.
#[allow(clippy::indexing_slicing, reason = "the compiler computes it, and would say so")]
const SUM: u32 = {
    let (mut sum, mut at) = (0, 14);
    while at < 34 {
        sum += u16::from_be_bytes([TEMPLATE[at], TEMPLATE[at + 1]]) as u32;
        at += 2;
    }
    sum
};

/// Puts headers in front of a datagram. `false` if it is longer than what the program looks at.
pub(super) fn wrap(datagram: &[u8], packet: &mut Vec<u8>) -> bool {
    if datagram.len() > DATAGRAM_MAX {
        return false;
    }
    packet.clear();
    packet.extend_from_slice(&TEMPLATE);
    packet.extend_from_slice(datagram);
    let udp = u16::try_from(datagram.len() + 8).unwrap_or(u16::MAX);
    let total = udp.saturating_add(20);
    let sum = SUM + u32::from(total);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (!sum).to_be_bytes();
    put(packet, 16, total.to_be_bytes());
    put(packet, 24, [high, low]);
    put(packet, 38, udp.to_be_bytes());
    true
}

fn put(packet: &mut [u8], at: usize, bytes: [u8; 2]) {
    packet.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
}
