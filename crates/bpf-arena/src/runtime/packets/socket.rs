//! Sockets in memory, in the form in which programs know them.

use std::sync::Arc;

use crate::access::Block;

/// Bytes of a socket's block: `struct bpf_sock`, and at [`TCP`] `struct bpf_tcp_sock`.
pub(crate) const BLOCK_BYTES: usize = 256;

/// Where `struct bpf_tcp_sock` lies in the block of a socket.
pub(crate) const TCP: u64 = 128;

/// Address families.
pub(crate) const AF_INET: u32 = 2;
pub(crate) const AF_INET6: u32 = 10;

/// `TCP_CLOSE`: the state of a socket that has none.
pub(crate) const CLOSED: u32 = 7;

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

    /// The socket in a block of its own.
    pub(crate) fn to_block(self) -> Option<Arc<Block>> {
        let block = Block::new(BLOCK_BYTES)?;
        block.place(0, 80)?.write(&self.to_bytes());
        Some(Arc::new(block))
    }
}
