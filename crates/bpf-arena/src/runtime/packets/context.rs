//! The contexts of programs on packets: structures of `uapi/linux/bpf.h` at the start of a block, and behind them the pointers
//! for which their fields of 4 bytes stand.

use std::sync::atomic::Ordering::Relaxed;

use codegen::abi;
use isa::Size;

use crate::access::Place;

/// Bytes of a context block: the structure, and room for its pointers.
pub(crate) const BLOCK_BYTES: usize = 1024;

/// Where a field lies, and its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// From the structure's start, in bytes.
    pub(crate) offset: u16,
    /// Bytes of each element.
    pub(crate) size: Size,
}

const fn word(offset: u16) -> Field {
    Field { offset, size: Size::W }
}

const fn long(offset: u16) -> Field {
    Field { offset, size: Size::DW }
}

/// `struct __sk_buff`.
pub(crate) mod skb {
    use super::{Field, long, word};

    /// Bytes of the structure.
    pub(crate) const BYTES: usize = 192;

    pub(crate) const LEN: Field = word(0);
    pub(crate) const PKT_TYPE: Field = word(4);
    /// In network order, like all protocols and ports unless they say otherwise.
    pub(crate) const PROTOCOL: Field = word(16);
    pub(crate) const VLAN_PRESENT: Field = word(20);
    pub(crate) const VLAN_TCI: Field = word(24);
    pub(crate) const VLAN_PROTO: Field = word(28);
    pub(crate) const IFINDEX: Field = word(40);
    /// Five words.
    pub(crate) const CB: std::ops::Range<usize> = 48..68;
    pub(crate) const HASH: Field = word(68);
    pub(crate) const DATA: Field = word(76);
    pub(crate) const DATA_END: Field = word(80);
    pub(crate) const FAMILY: Field = word(88);
    pub(crate) const REMOTE_IP4: Field = word(92);
    pub(crate) const LOCAL_IP4: Field = word(96);
    /// Four words.
    pub(crate) const REMOTE_IP6: u16 = 100;
    /// Four words.
    pub(crate) const LOCAL_IP6: u16 = 116;
    pub(crate) const DATA_META: Field = word(140);
    pub(crate) const FLOW_KEYS: Field = long(144);
    pub(crate) const TSTAMP: Field = long(152);
    pub(crate) const WIRE_LEN: Field = word(160);
    pub(crate) const GSO_SEGS: Field = word(164);
    pub(crate) const SK: Field = long(168);
    pub(crate) const GSO_SIZE: Field = word(176);
    pub(crate) const TSTAMP_TYPE: Field = Field { offset: 180, size: isa::Size::B };
}

/// `struct xdp_md`.
pub(crate) mod xdp {
    use super::{Field, word};

    /// Bytes of the structure.
    pub(crate) const BYTES: usize = 24;

    pub(crate) const DATA: Field = word(0);
    pub(crate) const DATA_END: Field = word(4);
    pub(crate) const DATA_META: Field = word(8);
    pub(crate) const INGRESS_IFINDEX: Field = word(12);
    pub(crate) const RX_QUEUE_INDEX: Field = word(16);
    pub(crate) const EGRESS_IFINDEX: Field = word(20);
}

/// `struct bpf_flow_keys`.
pub(crate) mod flow_keys {
    use super::{Field, word};
    use isa::Size;

    /// Bytes of the structure.
    pub(crate) const BYTES: usize = 56;

    pub(crate) const NHOFF: Field = Field { offset: 0, size: Size::H };
    pub(crate) const THOFF: Field = Field { offset: 2, size: Size::H };
    pub(crate) const N_PROTO: Field = Field { offset: 10, size: Size::H };
    pub(crate) const FLAGS: Field = word(48);
}

/// A context in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'r> {
    memory: Place<'r>,
}

impl<'r> Image<'r> {
    /// The context in this block.
    pub(crate) fn new(memory: Place<'r>) -> Self {
        Self { memory }
    }

    /// The field's value.
    pub(crate) fn get(self, field: Field) -> u64 {
        self.memory.at(usize::from(field.offset)).map_or(0, |place| place.load(field.size, Relaxed))
    }

    /// The low half of the field's value.
    pub(crate) fn get32(self, field: Field) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "asked for")]
        let low = self.get(field) as u32;
        low
    }

    /// Sets a field.
    pub(crate) fn set(self, field: Field, value: impl Into<u64>) {
        if let Some(place) = self.memory.at(usize::from(field.offset)) {
            place.store(field.size, value.into(), Relaxed);
        }
    }

    /// Sets the pointer for which a field of 4 bytes stands.
    pub(crate) fn set_pointer(self, field: Field, address: u64) {
        let at = i16::try_from(field.offset).map(abi::context_pointer);
        if let Some(place) = at.ok().and_then(|at| self.memory.at(usize::try_from(at).ok()?)) {
            place.store(Size::DW, address, Relaxed);
        }
    }

    /// Copies bytes out.
    pub(crate) fn read(self, offset: usize, bytes: &mut [u8]) {
        if let Some(place) = self.memory.at(offset) {
            place.read(bytes);
        }
    }

    /// Copies bytes in.
    pub(crate) fn write(self, offset: usize, bytes: &[u8]) {
        if let Some(place) = self.memory.at(offset) {
            place.write(bytes);
        }
    }
}
