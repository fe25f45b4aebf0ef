//! Reading, without locks.

use super::Store;
use super::api::Meta;
use super::hash::low;
use super::item::{self, Head};
use super::table::Entry;
use super::{header, mem::Mem};
use crate::layout::Header;

/// Attempts before a reader whom writers keep overtaking takes the stripe's lock.
const ATTEMPTS: u32 = 64;

/// Attempts with that lock: more than any number of changes elsewhere explains, so that damaged contents end, too.
const LOCKED_ATTEMPTS: u32 = 100_000;

/// An item that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) head: Head,
}

impl Found {
    pub(super) fn place(&self) -> u32 {
        self.entry.place()
    }
}

/// What came of one attempt.
enum Attempt<T> {
    Hit(T),
    Miss,
    /// A writer changed what was looked at.
    Again,
}

impl Store {
    /// Appends the value of `key` to `value`; counts as a use.
    pub fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Option<Meta> {
        self.read(key, Some(value)).map(|found| self.used(&found))
    }

    /// What is known of an item, which does not count as a use.
    pub fn peek(&self, key: &[u8]) -> Option<Meta> {
        let found = self.read(key, None)?;
        Some(found.head.meta(self.mem.u32(crate::layout::touch_place(found.place())), self.epoch))
    }

    /// Counts a use of an item; what was known of it before.
    pub(super) fn used(&self, found: &Found) -> Meta {
        found.head.meta(item::touch(&self.mem, found.place(), self.second()), self.epoch)
    }

    /// Finds an item that has not ended, and appends its value.
    pub(super) fn read(&self, key: &[u8], mut value: Option<&mut Vec<u8>>) -> Option<Found> {
        let hash = self.hash(key);
        for _ in 0..ATTEMPTS {
            match self.attempt(key, hash, value.as_deref_mut()) {
                Attempt::Hit(found) => return Some(found),
                Attempt::Miss => return None,
                Attempt::Again => std::hint::spin_loop(),
            }
        }
        let _stripe = self.table.lock(low(hash));
        self.read_locked(key, hash, value)
    }

    /// The same for who holds the stripe's lock.
    pub(super) fn read_locked(
        &self,
        key: &[u8],
        hash: u64,
        mut value: Option<&mut Vec<u8>>,
    ) -> Option<Found> {
        for _ in 0..LOCKED_ATTEMPTS {
            match self.attempt(key, hash, value.as_deref_mut()) {
                Attempt::Hit(found) => return Some(found),
                Attempt::Miss => return None,
                // Only memory that changes its role can be the reason now, or a table that grows elsewhere.
                Attempt::Again => std::thread::yield_now(),
            }
        }
        None
    }

    fn attempt(&self, key: &[u8], hash: u64, value: Option<&mut Vec<u8>>) -> Attempt<Found> {
        let (layout, extent) = (self.layout(), self.table.extent());
        let candidates = self.table.entries(extent.bucket(low(hash)));
        for entry in candidates.filter(|entry| entry.word >> 32 == hash >> 32) {
            let head = Head::load(&self.mem, entry.place());
            let is_it = head.hash == low(hash) && head.has_key(&self.mem, entry.place(), key);
            if !head.holds(&self.mem, entry.place()) {
                return Attempt::Again;
            }
            if !is_it {
                continue;
            }
            if head.version <= self.flushed() || head.expired(self.now()) {
                return Attempt::Miss;
            }
            if let Some(value) = value {
                let before = value.len();
                copy_value(&self.mem, &head, entry.place(), value);
                if !head.holds(&self.mem, entry.place()) {
                    value.truncate(before);
                    return Attempt::Again;
                }
                if self.mem.acquire(entry.at) != entry.word || self.layout() != layout {
                    value.truncate(before);
                    return Attempt::Again;
                }
            } else if self.mem.acquire(entry.at) != entry.word || self.layout() != layout {
                return Attempt::Again;
            }
            return Attempt::Hit(Found { entry, head });
        }
        if self.table.extent() == extent && self.layout() == layout { Attempt::Miss } else { Attempt::Again }
    }

    /// Finds an item, ended or not. The caller holds the stripe's lock, so that nothing of it changes.
    pub(super) fn find_locked(&self, key: &[u8], hash: u64) -> Option<Found> {
        let bucket = self.table.extent().bucket(low(hash));
        let candidates = self.table.entries(bucket).filter(|entry| entry.word >> 32 == hash >> 32);
        candidates
            .map(|entry| Found { entry, head: Head::load(&self.mem, entry.place()) })
            .find(|found| found.head.hash == low(hash) && found.head.has_key(&self.mem, found.place(), key))
    }

    /// Whether an item is there for clients.
    pub(super) fn is_live(&self, head: &Head) -> bool {
        head.version > self.flushed() && !head.expired(self.now())
    }

    fn layout(&self) -> u64 {
        self.mem.acquire(header(Header::layout))
    }
}

/// Appends the value of an item. It is no longer than memory goes, and may be anything unless the item holds.
fn copy_value(mem: &Mem, head: &Head, place: u32, value: &mut Vec<u8>) {
    let before = value.len();
    value.resize(before + head.size as usize, 0);
    mem.read(head.value_place(place), value.get_mut(before..).unwrap_or_default());
}
