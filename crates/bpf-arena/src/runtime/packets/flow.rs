//! The flow that a packet belongs to.

use super::skb::{ETH_P_IP, ETH_P_IPV6};

/// A hash of the packet's flow: addresses, protocol and ports of what begins at the network header. Never 0.
///
/// A kernel hashes the same with a key that it makes up when it starts, so that no value can be relied on but that packets
/// of a flow have the same.
pub(crate) fn hash(ethertype: u16, network: &[u8]) -> u32 {
    let mut hash = Fnv::new();
    hash.add(&ethertype.to_be_bytes());
    let (addresses, protocol, transport) = match ethertype {
        ETH_P_IP => {
            let header = network.first().map_or(0, |first| usize::from(first & 0xf) * 4);
            (network.get(12..20), network.get(9), network.get(header..))
        }
        ETH_P_IPV6 => (network.get(8..40), network.get(6), network.get(40..)),
        _ => (None, None, None),
    };
    hash.add(addresses.unwrap_or_default());
    hash.add(protocol.map_or(&[], std::slice::from_ref));
    if protocol.is_some_and(|protocol| has_ports(*protocol)) {
        hash.add(transport.and_then(|transport| transport.get(..4)).unwrap_or_default());
    }
    hash.finish()
}

/// Whether packets of this protocol begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// FNV-1a of 32 bits.
struct Fnv(u32);

impl Fnv {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn finish(self) -> u32 {
        self.0.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, ports: [u8; 4], payload: u8) -> Vec<u8> {
        let mut packet = vec![0; 32];
        (packet[0], packet[9]) = (0x45, protocol);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&ports);
        packet[28] = payload;
        packet
    }

    #[test]
    fn packets_of_a_flow_share_a_hash() {
        let tcp = |ports, payload| hash(ETH_P_IP, &ipv4(6, ports, payload));
        assert_eq!(tcp([0, 80, 1, 2], 1), tcp([0, 80, 1, 2], 9));
        assert_ne!(tcp([0, 80, 1, 2], 1), tcp([0, 81, 1, 2], 1));
        // ICMP has no ports.
        assert_eq!(hash(ETH_P_IP, &ipv4(1, [8, 0, 1, 2], 0)), hash(ETH_P_IP, &ipv4(1, [0, 0, 3, 4], 0)));
    }

    #[test]
    fn any_bytes_have_one() {
        for len in 0..64 {
            for protocol in [0, ETH_P_IP, ETH_P_IPV6] {
                assert_ne!(hash(protocol, &vec![0xff; len]), 0);
            }
        }
    }
}
