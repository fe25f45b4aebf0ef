//! Captured packets: files in the formats pcap and pcapng are read, pcap is written.

use std::io::{self, Read, Write};

use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};

/// The only link layer that programs on packets know.
const ETHERNET: Linktype = Linktype(1);

/// Bytes of the buffer for a file, and so of the longest packet or block.
const BUFFER: usize = 1 << 20;

const NANOSECONDS: u64 = 1_000_000_000;

/// One packet of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Captured {
    /// Seconds since 1970.
    pub(crate) seconds: u64,
    /// And nanoseconds.
    pub(crate) nanoseconds: u32,
    /// Bytes it had on the wire.
    pub(crate) original: usize,
    /// What was captured of it.
    pub(crate) bytes: Vec<u8>,
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// Neither format.
    #[error("this is no capture: neither pcap nor pcapng")]
    Unknown,
    /// The file ends too early.
    #[error("packet {packet}: the file ends in the middle of it")]
    Truncated {
        /// Number of the packet, from 1.
        packet: u64,
    },
    /// Something between the packets, or a packet's frame, that cannot be.
    #[error("packet {packet}: {what}")]
    Malformed {
        /// Number of the packet that was to come.
        packet: u64,
        /// What it is.
        what: &'static str,
    },
    /// Not Ethernet.
    #[error("packet {packet}: link type {linktype} is not Ethernet (1)")]
    Link {
        /// Number of the packet.
        packet: u64,
        /// Its link layer.
        linktype: i32,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An interface of a pcapng file, or the one of a pcap file.
#[derive(Clone, Copy, Debug)]
struct Interface {
    linktype: Linktype,
    /// Units of its timestamps in a second; 0 if that is no number.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
}

/// Reads the packets of a capture one after the other.
pub(crate) struct Capture {
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
    /// Packets read so far.
    count: u64,
    failed: bool,
}

impl Capture {
    /// A capture in either format.
    pub(crate) fn new(input: impl Read + Send + 'static) -> Result<Self, CaptureError> {
        let reader = create_reader(BUFFER, input).map_err(|error| match error {
            PcapError::ReadError => CaptureError::Io(io::ErrorKind::Other.into()),
            _ => CaptureError::Unknown,
        })?;
        Ok(Self { reader, interfaces: Vec::new(), count: 0, failed: false })
    }

    /// The next packet; `None` at the end.
    fn read(&mut self) -> Result<Option<Captured>, CaptureError> {
        let packet = self.count + 1;
        let malformed = |what| CaptureError::Malformed { packet, what };
        loop {
            let (bytes, found) = match self.reader.next() {
                Ok((bytes, block)) => (bytes, take(&mut self.interfaces, block, packet)?),
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => {
                    self.reader.refill().map_err(|_| CaptureError::Io(io::ErrorKind::Other.into()))?;
                    continue;
                }
                Err(PcapError::UnexpectedEof) => return Err(CaptureError::Truncated { packet }),
                Err(PcapError::BufferTooSmall) => {
                    return Err(malformed("it says that it is longer than 1 MiB"));
                }
                Err(PcapError::ReadError) => return Err(CaptureError::Io(io::ErrorKind::Other.into())),
                Err(_) => return Err(malformed("what comes next is no block of a capture")),
            };
            self.reader.consume(bytes);
            if found.is_some() {
                self.count = packet;
                return Ok(found);
            }
        }
    }
}

impl Iterator for Capture {
    type Item = Result<Captured, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// The packet in a block, or what the block says of those to come.
fn take(
    interfaces: &mut Vec<Interface>,
    block: PcapBlockOwned<'_>,
    packet: u64,
) -> Result<Option<Captured>, CaptureError> {
    let malformed = |what| CaptureError::Malformed { packet, what };
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution = if header.is_nanosecond_precision() { NANOSECONDS } else { 1_000_000 };
            interfaces.push(Interface { linktype: header.network, resolution, offset: 0 });
            Ok(None)
        }
        PcapBlockOwned::Legacy(block) => {
            let interface = ethernet(interfaces, 0, packet)?;
            if block.caplen > block.origlen {
                return Err(malformed("more of it was captured than there was"));
            }
            let scale = NANOSECONDS / interface.resolution.max(1);
            let nanoseconds = u64::from(block.ts_usec).saturating_mul(scale);
            Ok(Some(captured(
                u64::from(block.ts_sec) + nanoseconds / NANOSECONDS,
                nanoseconds % NANOSECONDS,
                block.origlen,
                block.data,
            )))
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            Ok(None)
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
            let (resolution, offset) = (block.ts_resolution().unwrap_or(0), block.ts_offset());
            interfaces.push(Interface { linktype: block.linktype, resolution, offset });
            Ok(None)
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
            let interface = ethernet(interfaces, block.if_id, packet)?;
            if block.caplen as usize > block.data.len() || block.caplen > block.origlen {
                return Err(malformed("more of it was captured than there is"));
            }
            let units = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
            if interface.resolution == 0 {
                return Err(malformed("its time has a resolution that is no number"));
            }
            let seconds = (units / interface.resolution).saturating_add_signed(interface.offset);
            let part = u128::from(units % interface.resolution) * u128::from(NANOSECONDS);
            let nanoseconds = u64::try_from(part / u128::from(interface.resolution)).unwrap_or(0);
            Ok(Some(captured(seconds, nanoseconds, block.origlen, block.packet_data())))
        }
        PcapBlockOwned::NG(Block::SimplePacket(block)) => {
            ethernet(interfaces, 0, packet)?;
            let bytes = block.data.get(..block.origlen as usize).unwrap_or(block.data);
            Ok(Some(captured(0, 0, block.origlen, bytes)))
        }
        // Statistics, names, secrets.
        PcapBlockOwned::NG(_) => Ok(None),
    }
}

/// The interface with this number, if its packets can be run.
fn ethernet(interfaces: &[Interface], index: u32, packet: u64) -> Result<Interface, CaptureError> {
    let interface = usize::try_from(index).ok().and_then(|index| interfaces.get(index)).copied();
    let what = "it was captured on an interface that the file does not describe";
    let interface = interface.ok_or(CaptureError::Malformed { packet, what })?;
    if interface.linktype != ETHERNET {
        return Err(CaptureError::Link { packet, linktype: interface.linktype.0 });
    }
    Ok(interface)
}

fn captured(seconds: u64, nanoseconds: u64, original: u32, bytes: &[u8]) -> Captured {
    let nanoseconds = u32::try_from(nanoseconds).unwrap_or(0);
    Captured { seconds, nanoseconds, original: original as usize, bytes: bytes.to_vec() }
}

/// Writes packets as a pcap file with times in nanoseconds.
pub(crate) struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        const MAGIC: u32 = 0xa1b2_3c4d;
        const VERSION: [u16; 2] = [2, 4];
        const LONGEST: u32 = 262_144;
        out.write_all(&MAGIC.to_le_bytes())?;
        VERSION.iter().try_for_each(|part| out.write_all(&part.to_le_bytes()))?;
        // Time zone and accuracy, which nobody uses.
        [0, 0, LONGEST, ETHERNET.0.cast_unsigned()]
            .iter()
            .try_for_each(|part| out.write_all(&part.to_le_bytes()))?;
        Ok(Self { out })
    }

    /// Writes one packet.
    pub(crate) fn write(&mut self, packet: &Captured) -> io::Result<()> {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let (original, len) = (number(packet.original as u64), number(packet.bytes.len() as u64));
        for part in [number(packet.seconds), packet.nanoseconds, len, original] {
            self.out.write_all(&part.to_le_bytes())?;
        }
        self.out.write_all(&packet.bytes)
    }

    /// Writes what is still in memory.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(packets: &[Captured]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        packets.iter().for_each(|packet| writer.write(packet).unwrap());
        writer.finish().unwrap();
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<Captured>, CaptureError> {
        Capture::new(Cursor::new(bytes))?.collect()
    }

    fn packets() -> Vec<Captured> {
        (1..4_u8)
            .map(|i| Captured {
                seconds: u64::from(i),
                nanoseconds: 5,
                original: 100,
                bytes: vec![i; 20 * usize::from(i)],
            })
            .collect()
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(file(&packets())).unwrap(), packets());
    }

    #[test]
    fn every_cut_names_the_packet_it_is_in() {
        let (bytes, ends) = (file(&packets()), [24, 60, 116, 192]);
        for cut in 0..bytes.len() {
            let result = read(bytes[..cut].to_vec());
            match ends.iter().position(|end| *end >= cut) {
                _ if ends.contains(&cut) => {
                    assert_eq!(result.unwrap().len(), ends.iter().position(|e| *e == cut).unwrap())
                }
                Some(0) => assert!(matches!(result, Err(CaptureError::Unknown)), "{cut}"),
                Some(packet) => {
                    let message = result.unwrap_err().to_string();
                    assert!(message.starts_with(&format!("packet {packet}: ")), "{cut}: {message}");
                }
                None => unreachable!(),
            }
        }
    }

    #[test]
    fn lengths_and_links_that_cannot_be_are_refused() {
        let mut long = file(&packets());
        long[60 + 8..60 + 12].copy_from_slice(&200_u32.to_le_bytes());
        assert!(read(long).unwrap_err().to_string().starts_with("packet 2: "));
        let mut wifi = file(&packets());
        wifi[20] = 105;
        assert_eq!(read(wifi).unwrap_err().to_string(), "packet 1: link type 105 is not Ethernet (1)");
        assert!(matches!(read(vec![0; 100]), Err(CaptureError::Unknown)));
    }

    #[test]
    fn any_bytes_end_in_packets_or_an_error() {
        let mut random = 1_u32;
        for _ in 0..2000 {
            let mut bytes = file(&packets());
            for _ in 0..3 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = random as usize % bytes.len();
                bytes[at] = (random >> 16 & 0xff) as u8;
            }
            let _ = read(bytes);
        }
    }

    /// A section, an interface with times in milliseconds, a packet, and a packet without a time.
    #[test]
    fn pcapng() {
        let block = |kind: u32, body: &[u8]| {
            let len = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
            [&kind.to_le_bytes()[..], &len, body, &len].concat()
        };
        let section =
            block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        let interface = block(1, &[1, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        let header: Vec<u8> = [0, 0, 5500, 14, 60].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        let packet = block(6, &[&header[..], &[7; 14], &[0, 0]].concat());
        let simple = block(3, &[&4_u32.to_le_bytes()[..], &[8; 4]].concat());
        let all = [section.clone(), interface.clone(), packet.clone(), simple].concat();
        let found = read(all).unwrap();
        let first = Captured { seconds: 5, nanoseconds: 500_000_000, original: 60, bytes: vec![7; 14] };
        let second = Captured { original: 4, bytes: vec![8; 4], ..Captured::default() };
        assert_eq!(found, [first, second]);
        let lost = read([section, packet].concat()).unwrap_err().to_string();
        assert!(lost.starts_with("packet 1: it was captured on an interface"), "{lost}");
    }
}
