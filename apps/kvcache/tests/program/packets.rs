//! Packets made by hand, and what a plain reader makes of them: nothing here is shared with the program or its host.

use kvcache::store::Store;

/// What a packet is made of.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// From and to.
    pub(crate) macs: [[u8; 6]; 2],
    pub(crate) tags: Vec<[u8; 4]>,
    pub(crate) v6: bool,
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) ports: (u16, u16),
    pub(crate) request: u16,
    pub(crate) text: Vec<u8>,
    /// Bytes behind the packet, as short frames have.
    pub(crate) padding: usize,
}

impl Packet {
    pub(crate) fn new(text: &[u8]) -> Self {
        Self {
            macs: [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8]],
            tags: Vec::new(),
            v6: false,
            source: [10, 0, 0, 2, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 1],
            destination: [10, 0, 0, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 2],
            ports: (40_000, 11211),
            request: 7,
            text: text.to_vec(),
            padding: 0,
        }
    }

    pub(crate) fn datagram(&self) -> Vec<u8> {
        let mut bytes = self.request.to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 1, 0, 0]);
        bytes.extend(&self.text);
        bytes
    }

    /// The packet on the wire, with this datagram in it and all sums right.
    fn around(&self, datagram: &[u8], back: bool) -> Vec<u8> {
        let [from, to] = self.macs;
        let (mut source, mut destination, mut ports) = (self.source, self.destination, self.ports);
        let mut bytes = if back { [from, to] } else { [to, from] }.concat();
        if back {
            std::mem::swap(&mut source, &mut destination);
            std::mem::swap(&mut ports.0, &mut ports.1);
        }
        self.tags.iter().for_each(|tag| bytes.extend(tag));
        let mut udp = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        let size = u16::try_from(datagram.len() + 8).unwrap();
        udp.extend(size.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(datagram);
        if self.v6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend(size.to_be_bytes());
            bytes.extend([17, 64]);
            bytes.extend([source, destination].concat());
            let pseudo =
                [&source[..], &destination, &[0, 0, 0, 17], &u32::from(size).to_be_bytes(), &udp].concat();
            let sum = match !sum(&pseudo) {
                0 => 0xffff,
                sum => sum,
            };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
        } else {
            bytes.extend([8, 0]);
            let mut header = vec![0x45, 0];
            header.extend((size + 20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            header.extend(&source[..4]);
            header.extend(&destination[..4]);
            let sum = !sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend(header);
        }
        bytes.extend(udp);
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.around(&self.datagram(), false);
        bytes.resize(bytes.len() + self.padding, 0xee);
        bytes
    }

    /// The packet that answers with this text.
    pub(crate) fn answer(&self, text: &[u8]) -> Vec<u8> {
        self.around(&Packet { text: text.to_vec(), ..self.clone() }.datagram(), true)
    }
}

/// The Internet checksum's sum (RFC 1071), word by word.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// What memcached would answer to the text of a request, if that is a plain `get` or `gets` whose keys are all there, and room
/// is left for the longest numbers that a line could have.
pub(crate) fn rendered(store: &Store, text: &[u8]) -> Option<Vec<u8>> {
    let line = text.strip_suffix(b"\r\n")?;
    let (with_cas, keys) = match (line.strip_prefix(b"get "), line.strip_prefix(b"gets ")) {
        (Some(keys), _) => (false, keys),
        (_, Some(keys)) => (true, keys),
        _ => return None,
    };
    let mut out = Vec::new();
    for key in keys.split(|byte| *byte == b' ') {
        if key.is_empty() || key.len() > 250 || key.iter().any(|byte| b"\0\r\n".contains(byte)) {
            return None;
        }
        let mut value = Vec::new();
        let meta = store.get(key, &mut value)?;
        if meta.stale || meta.won || out.len() + key.len() + value.len() + 58 > 1400 - 8 {
            return None;
        }
        let cas = if with_cas { format!(" {}", meta.cas) } else { String::new() };
        out.extend([b"VALUE ", key].concat());
        out.extend(format!(" {} {}{cas}\r\n", meta.flags, value.len()).as_bytes());
        out.extend(value);
        out.extend(b"\r\n");
    }
    out.extend(b"END\r\n");
    Some(out)
}

/// The request in a packet, if it is one that the program may answer: read by the book, header after header.
pub(crate) fn read(bytes: &[u8]) -> Option<Packet> {
    if !(57..=1536).contains(&bytes.len()) {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let mut packet = Packet::new(b"");
    packet.macs = [bytes[6..12].try_into().unwrap(), bytes[..6].try_into().unwrap()];
    if packet.macs.iter().any(|mac| mac[0] & 1 == 1) {
        return None;
    }
    let (mut at, mut kind) = (14, word(12)?);
    while packet.tags.len() < 2 && matches!(kind, 0x8100 | 0x88a8) {
        packet.tags.push(bytes[at - 2..at + 2].try_into().unwrap());
        (at, kind) = (at + 4, word(at + 2)?);
    }
    let header = &bytes[at..];
    let udp = match kind {
        0x0800 => {
            let total = usize::from(word(at + 2)?);
            let plain = *header.first()? == 0x45 && *header.get(9)? == 17 && word(at + 6)? & 0x3fff == 0;
            if !plain || total < 28 || total > header.len() || sum(&header[..20]) != 0xffff {
                return None;
            }
            packet.source[..4].copy_from_slice(&header[12..16]);
            packet.destination[..4].copy_from_slice(&header[16..20]);
            &header[20..total]
        }
        0x86dd => {
            let size = usize::from(word(at + 4)?);
            if header[0] >> 4 != 6 || *header.get(6)? != 17 || header.len() < 40 + size || size < 8 {
                return None;
            }
            packet.v6 = true;
            packet.source.copy_from_slice(&header[8..24]);
            packet.destination.copy_from_slice(&header[24..40]);
            &header[40..40 + size]
        }
        _ => return None,
    };
    let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    packet.ports = (word(0), word(2));
    if packet.ports.0 == 0 || packet.ports.1 != 11211 || usize::from(word(4)) != udp.len() {
        return None;
    }
    if packet.v6 && word(6) == 0 || udp.len() < 16 || word(10) != 0 || word(12) != 1 {
        return None;
    }
    packet.request = word(8);
    packet.text = udp[16..].to_vec();
    Some(packet)
}
