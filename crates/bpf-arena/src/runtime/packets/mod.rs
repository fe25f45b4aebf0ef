//! Packets in memory, and the functions of programs that look at them or change them.
//!
//! [`Skb`] and [`Xdp`] are what the kernel's `struct sk_buff` and `struct xdp_buff` are to programs. Contexts are structures of
//! `uapi/linux/bpf.h` that lie in memory as such ([`context`]); the kernel translates each access to them instead.

mod about;
mod bytes;
pub(crate) mod checksum;
pub(crate) mod context;
mod dynptr;
mod flow;
mod frame;
mod lookup;
mod redirect;
mod shape;
pub(crate) mod skb;
pub(crate) mod socket;
pub(crate) mod xdp;

use std::sync::Arc;

use isa::Size;

pub(crate) use skb::{Blocks, ETH_P_IP, ETH_P_IPV6, Skb};
pub(crate) use xdp::Xdp;

use super::registry::Row;
use super::{EFAULT, EINVAL, Invocation, errno};
use crate::access::Block;
use crate::error::TrapKind;

/// The rooms of functions on packets.
pub(super) static ROOMS: [&[Row]; 7] =
    [about::ROWS, bytes::ROWS, dynptr::ROWS, frame::ROWS, lookup::ROWS, redirect::ROWS, shape::ROWS];

pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
const ENODEV: i32 = 19;
const ERANGE: i32 = 34;
const EOPNOTSUPP: i32 = 95;
pub(crate) const EALREADY: i32 = 114;
/// The kernel's own, which user space does not know by name.
pub(crate) const ENOTSUPP: i32 = 524;

/// A function's error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// The packet of a run.
#[derive(Clone, Debug)]
pub(crate) enum Packet<'r> {
    /// As the network stack has it.
    Skb(Skb<'r>),
    /// As a driver has it.
    Xdp(Xdp<'r>),
}

impl Packet<'_> {
    /// Bytes of the packet.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Skb(skb) => skb.len(),
            Self::Xdp(xdp) => xdp.len(),
        }
    }

    /// Copies bytes of the packet, from `offset` on; nothing unless it has them all.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        if offset.checked_add(bytes.len())? > self.len() {
            return None;
        }
        match self {
            Self::Skb(skb) => skb.part(offset, bytes.len())?.read(bytes),
            Self::Xdp(xdp) => {
                let mut rest = bytes;
                for piece in xdp.pieces(offset, rest.len()) {
                    let (head, tail) = rest.split_at_mut_checked(piece.len())?;
                    piece.read(head);
                    rest = tail;
                }
            }
        }
        Some(())
    }
}

impl<'r> Blocks<'r> for Invocation<'r> {
    fn block(&self, bytes: usize) -> Option<&'r Block> {
        Some(self.add_block(Arc::new(Block::new(bytes)?), true))
    }
}

impl<'r> Invocation<'r> {
    /// The packet that the program's context stands for, which is argument 1 of `function`.
    fn skb(&self, function: &'static str, context: u64) -> Result<Skb<'r>, TrapKind> {
        match &self.packet {
            Some(Packet::Skb(skb)) => Ok(*skb),
            _ => Err(TrapKind::BadArgument { function, argument: 1, value: context }),
        }
    }

    /// Bytes of the packet, for `ld_abs` and `ld_ind`: the value in host order, `None` where there are none.
    pub(crate) fn packet_load(&self, offset: i64, size: Size) -> Option<u64> {
        /// Offsets from the network and from the link layer's header (`SKF_NET_OFF`, `SKF_LL_OFF`).
        const NETWORK: i64 = -0x10_0000;
        const LINK: i64 = -0x20_0000;
        let Some(Packet::Skb(skb)) = &self.packet else { return None };
        let offset = match offset {
            0.. => offset,
            NETWORK.. => offset - NETWORK + skb.network_offset(),
            LINK.. => offset - LINK + skb.mac_offset(),
            _ => return None,
        };
        let len = usize::from(size.bytes());
        let mut bytes = [0; 4];
        skb.around(offset, len)?.read(bytes.get_mut(..len)?);
        Some(u64::from(u32::from_be_bytes(bytes)) >> (32 - 8 * len))
    }
}

/// What a function gives: 0 or a negative error number.
fn answer(result: Result<(), Errno>) -> u64 {
    result.map_or_else(|Errno(number)| errno(number), |()| 0)
}
