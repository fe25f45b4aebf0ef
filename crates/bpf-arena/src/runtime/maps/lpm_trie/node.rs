//! Keys and nodes: bits in bytes, compared word by word.

use std::sync::atomic::Ordering;

use isa::Size;

use crate::access::Place;

/// Most bytes of a key behind its length.
pub(super) const MAX_DATA: usize = 256;

/// Bytes of a node before its key data: two children, the prefix length and whether the node is an entry.
pub(super) const NODE_HEADER: usize = 16;

/// Number of a slot; 0 is no node.
pub(super) type Slot = u32;

/// A key, copied once.
pub(super) struct Key {
    pub(super) prefix: u32,
    pub(super) data: [u8; MAX_DATA],
    pub(super) size: usize,
}

impl Key {
    pub(super) fn bytes(&self) -> &[u8] {
        self.data.get(..self.size).unwrap_or_default()
    }

    /// The bit at an index, the first byte's highest being number 0.
    pub(super) fn bit(&self, index: u32) -> bool {
        let byte = self.data.get(index as usize / 8).copied().unwrap_or(0);
        byte & (0x80 >> (index % 8)) != 0
    }
}

// Offsets of a node's members.
pub(super) const LEFT: usize = 0;
pub(super) const RIGHT: usize = 4;
pub(super) const PREFIX: usize = 8;
pub(super) const IS_ENTRY: usize = 12;

/// A node of the tree.
#[derive(Clone, Copy)]
pub(super) struct Node<'m> {
    pub(super) place: Place<'m>,
    pub(super) data_size: usize,
}

impl<'m> Node<'m> {
    pub(super) fn member(&self, offset: usize) -> u32 {
        self.place.at(offset).map_or(0, |place| low32(place.load(Size::W, Ordering::Acquire)))
    }

    pub(super) fn set(&self, offset: usize, value: u32) {
        if let Some(place) = self.place.at(offset) {
            place.store(Size::W, u64::from(value), Ordering::Release);
        }
    }

    pub(super) fn prefix(&self) -> u32 {
        self.member(PREFIX)
    }

    /// Whether it has a value, and does not only join two others.
    pub(super) fn is_entry(&self) -> bool {
        self.member(IS_ENTRY) != 0
    }

    pub(super) fn child(&self, side: bool) -> Slot {
        self.member(if side { RIGHT } else { LEFT })
    }

    /// Its key's bytes.
    pub(super) fn data(&self) -> Option<Place<'m>> {
        self.place.sub(NODE_HEADER, self.data_size)
    }

    pub(super) fn bit(&self, index: u32) -> bool {
        let byte = self.data().and_then(|data| data.at(index as usize / 8));
        byte.is_some_and(|byte| byte.load(Size::B, Ordering::Relaxed) & (0x80 >> (index % 8)) != 0)
    }

    /// How many bits its prefix and the key's have in common.
    pub(super) fn common(&self, key: &Key) -> u32 {
        let limit = self.prefix().min(key.prefix);
        let Some(data) = self.place.at(NODE_HEADER) else { return 0 };
        let mut bits = 0;
        // Node data is padded with zeroes to whole words, as the key's array is.
        for word in key.data.chunks_exact(8) {
            if bits >= limit {
                break;
            }
            let ours =
                data.at(bits as usize / 8).map_or(0, |at| at.load(Size::DW, Ordering::Relaxed)).swap_bytes();
            let theirs = <[u8; 8]>::try_from(word).map_or(0, u64::from_be_bytes);
            let same = (ours ^ theirs).leading_zeros();
            bits += same;
            if same < 64 {
                break;
            }
        }
        bits.min(limit)
    }
}

/// The low half of what was loaded.
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
pub(super) fn low32(value: u64) -> u32 {
    value as u32
}
