//! Items: writing them where nobody looks yet, and reading them while others may write.
//!
//! **Writing.** A slot that was given out has version 0. Everything else is written, then the version, then the table leads to it.
//! What was replaced or removed gets version 0 before its slot is given out again.
//!
//! **Reading.** Read the version, then the rest, then the version again: if it is the same and not 0, and
//! [`Header::layout`](crate::layout::Header::layout) is what it was before the table was looked at, then all that was read belongs
//! to that one item. Versions are never used twice. A slot's place holds a version whatever is stored there, as long as the
//! layout is the same; no value that a client chooses can pass for one.

use std::sync::atomic::{Ordering, fence};

use super::api::{Expiry, Meta};
use super::mem::Mem;
use super::offset;
use crate::layout::{
    ITEM_BYTES, ITEM_STALE, ITEM_WON, Item, TOUCH_FETCHED, TOUCH_SECONDS, TOUCH_USED, touch_place,
    value_offset,
};

/// The words that an item begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: u64,
    pub(super) cas: u64,
    pub(super) flags: u32,
    pub(super) expires: u32,
    pub(super) size: u32,
    pub(super) hash: u32,
    pub(super) stored: u32,
    pub(super) key_size: u8,
    pub(super) state: u8,
}

impl Head {
    /// Reads it. The version comes first, so that the rest is no older.
    pub(super) fn load(mem: &Mem, place: u32) -> Self {
        let version = mem.acquire(place.wrapping_add(offset(Item::version)));
        let word = |at: u32| mem.u64(place.wrapping_add(at)).to_le_bytes();
        let halves = |word: [u8; 8]| {
            let [a, b, c, d, e, f, g, h] = word;
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
        };
        let (flags, expires) = halves(word(offset(Item::flags)));
        let (size, hash) = halves(word(offset(Item::size)));
        let (stored, rest) = halves(word(offset(Item::stored)));
        let [key_size, state, _, _] = rest.to_le_bytes();
        let cas = mem.u64(place.wrapping_add(offset(Item::cas)));
        Self { version, cas, flags, expires, size, hash, stored, key_size, state }
    }

    /// The low half of the hash of the item's key.
    pub(super) fn hash_of(mem: &Mem, place: u32) -> u32 {
        mem.u32(place.wrapping_add(offset(Item::hash)))
    }

    /// Its version at this moment, before what follows.
    pub(super) fn version_of(mem: &Mem, place: u32) -> u64 {
        mem.acquire(place.wrapping_add(offset(Item::version)))
    }

    /// Whether everything that was read of it before now belongs to this version.
    pub(super) fn holds(&self, mem: &Mem, place: u32) -> bool {
        fence(Ordering::Acquire);
        self.version != 0 && Self::version_of(mem, place) == self.version
    }

    /// Bytes of the item.
    pub(super) fn bytes(&self) -> u32 {
        value_offset(self.key_size).saturating_add(self.size)
    }

    /// Where the value is.
    pub(super) fn value_place(&self, place: u32) -> u32 {
        place.wrapping_add(value_offset(self.key_size))
    }

    /// Whether the item at `place` has this key.
    pub(super) fn has_key(&self, mem: &Mem, place: u32, key: &[u8]) -> bool {
        let mut bytes = [0; 256];
        let Some(bytes) = bytes.get_mut(..usize::from(self.key_size)) else { return false };
        if bytes.len() != key.len() {
            return false;
        }
        mem.read(key_place(place), bytes);
        bytes == key
    }

    /// Whether it ended by this second.
    pub(super) fn expired(&self, now: u32) -> bool {
        self.expires != 0 && self.expires <= now
    }

    /// What clients may know of it.
    pub(super) fn meta(&self, touched: u32, epoch: u32) -> Meta {
        Meta {
            flags: self.flags,
            cas: self.cas,
            expires: if self.expires == 0 { Expiry::Never } else { Expiry::At(self.expires) },
            size: self.size,
            fetched: touched & TOUCH_FETCHED != 0,
            last_access: epoch.wrapping_add(touched & TOUCH_SECONDS),
            stale: self.state & ITEM_STALE != 0,
            won: self.state & ITEM_WON != 0,
        }
    }
}

/// Where an item has its key.
pub(super) fn key_place(place: u32) -> u32 {
    place.wrapping_add(ITEM_BYTES)
}

/// The bits of [`Item::state`].
pub(super) fn state(stale: bool, won: bool) -> u8 {
    let bit = |set, bit| if set { bit } else { 0 };
    bit(stale, ITEM_STALE) | bit(won, ITEM_WON)
}

/// The second of an expiry as items have it. One that never comes is 0, so second 0 is the second after.
pub(super) fn seconds(expires: Expiry) -> u32 {
    match expires {
        Expiry::Never => 0,
        Expiry::At(second) => second.max(1),
    }
}

/// Writes an item into a slot that was given out. Nobody can read it before its version is set, which is done last.
pub(super) fn write(mem: &Mem, place: u32, head: &Head, key: &[u8], value: [&[u8]; 2]) {
    let at = |offset: u32| place.wrapping_add(offset);
    // A late reader of what the slot had before must not take new bytes for old ones.
    fence(Ordering::Release);
    mem.set_u64(at(offset(Item::cas)), head.cas);
    mem.set_u32(at(offset(Item::flags)), head.flags);
    mem.set_u32(at(offset(Item::expires)), head.expires);
    mem.set_u32(at(offset(Item::size)), head.size);
    mem.set_u32(at(offset(Item::hash)), head.hash);
    mem.set_u32(at(offset(Item::stored)), head.stored);
    mem.set_u8(at(offset(Item::key_size)), head.key_size);
    mem.set_u8(at(offset(Item::state)), head.state);
    // The key's last word is filled up: it is compared by words.
    mem.set_u64(at(value_offset(head.key_size) - 8), 0);
    mem.write(key_place(place), key);
    let [first, second] = value;
    let value = head.value_place(place);
    mem.write(value, first);
    mem.write(value.wrapping_add(u32::try_from(first.len()).unwrap_or(u32::MAX)), second);
    mem.set_u32(touch_place(place), head.stored & TOUCH_SECONDS);
    mem.release(at(offset(Item::version)), head.version);
}

/// Makes what was an item none. Its slot may be used again once this is done.
pub(super) fn retire(mem: &Mem, place: u32) {
    mem.release(place.wrapping_add(offset(Item::version)), 0);
    // Not only after what was before, but also before what comes.
    fence(Ordering::SeqCst);
}

/// Marks an item as used now; gives what its touch word was.
pub(super) fn touch(mem: &Mem, place: u32, second: u32) -> u32 {
    let at = touch_place(place);
    let (old, new) = (mem.u32(at), TOUCH_USED | TOUCH_FETCHED | second & TOUCH_SECONDS);
    // Most uses of an item that is used much find it as they would leave it.
    if old != new {
        mem.set_u32(at, new);
    }
    old
}
