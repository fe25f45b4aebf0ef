//! What nodes of lists and of trees have in common: an owner, and links that cannot be trusted.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use isa::{AtomicOp, Size};
use verifier::fields::Tag;

use super::heap::Object;
use crate::access::Place;

/// Owner of a node that is being put into a list or tree. No root has this address.
const BUSY: u64 = 1;

/// A node of an object that is alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) object: Object,
    place: Place<'static>,
}

impl Node {
    /// The node at this address.
    pub(super) fn find(address: u64, tag: Tag) -> Option<Self> {
        let object = Object::find(address)?;
        Some(Self { object, place: object.field(address, tag)? })
    }

    /// Where it lies.
    pub(super) fn address(&self) -> u64 {
        self.place.address()
    }

    /// The link at this offset.
    pub(super) fn get(&self, offset: usize) -> u64 {
        get(&self.place, offset)
    }

    /// Sets the link at this offset.
    pub(super) fn set(&self, offset: usize, value: u64) {
        set(&self.place, offset, value);
    }

    /// The root of the list or tree it is in; 0 if it is in none. The owner lies behind the links.
    pub(super) fn owner(&self) -> u64 {
        self.owner_word().map_or(0, |word| word.load(Size::DW, Acquire))
    }

    /// Reserves a node that is in no list or tree; `false` if it is in one.
    pub(super) fn reserve(&self) -> bool {
        self.owner_word().and_then(|word| word.fetch(Size::DW, AtomicOp::CmpXchg, BUSY, 0)) == Some(0)
    }

    /// Says which list or tree it is in; 0 for none.
    pub(super) fn set_owner(&self, root: u64) {
        if let Some(word) = self.owner_word() {
            word.store(Size::DW, root, Release);
        }
    }

    fn owner_word(&self) -> Option<Place<'static>> {
        self.place.at(self.place.len().checked_sub(8)?)
    }
}

/// The link at an offset of a node or root.
pub(super) fn get(place: &Place<'_>, offset: usize) -> u64 {
    place.at(offset).map_or(0, |word| word.load(Size::DW, Relaxed))
}

/// Sets the link at an offset of a node or root.
pub(super) fn set(place: &Place<'_>, offset: usize, value: u64) {
    if let Some(word) = place.at(offset) {
        word.store(Size::DW, value, Relaxed);
    }
}
