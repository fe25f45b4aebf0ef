//! The hash table: buckets of seven entries and a place to overflow to, in segments that are added one bucket at a time
//! (linear hashing), so that growing never stops anybody.
//!
//! Readers take no lock. What they rely on:
//! - an entry is one word: a store to it is seen whole;
//! - a bucket's chain only gets longer, and a bucket stays in its chain until the table is emptied, when
//!   [`Header::layout`] changes;
//! - when a bucket is split, entries are in the new bucket before [`Header::table`] says that it exists, and leave the old one
//!   afterwards. Who misses something and finds that word changed looks again.
//!
//! Writers hold the lock of the key's stripe. All that share a bucket share a stripe, for a table has at least as many buckets as
//! there are stripes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::header;
use super::heap::Heap;
use super::item::Head;
use super::mem::Mem;
use crate::layout::{
    BUCKET_BYTES, Bucket, ENTRIES, Header, SEGMENT_BUCKETS, SEGMENTS, UNIT, UNIT_OVERFLOW, UNIT_SEGMENT,
};

/// Buckets of an empty table, and locks.
pub(super) const STRIPES: u32 = SEGMENT_BUCKETS;

/// Items for each bucket, on average, beyond which the table grows.
const LOAD: u64 = 4;

/// Items for each bucket beyond which memory is taken from items so that the table can grow.
const URGENT: u64 = 5;

/// Longest chain that is followed: damaged contents could lead in a circle.
const CHAIN: usize = 64;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    mem: Mem,
    stripes: Box<[Mutex<()>]>,
    /// Buckets to overflow to that are in no chain. Held while the table grows, too.
    spare: Mutex<Vec<u32>>,
}

/// How many buckets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) buckets: u32,
    mask: u32,
}

impl Extent {
    pub(super) fn of(buckets: u32) -> Self {
        Self { buckets, mask: buckets.next_power_of_two().wrapping_sub(1) }
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self { buckets: (word >> 32) as u32, mask: super::hash::low(word) }
    }

    pub(super) fn word(self) -> u64 {
        u64::from(self.buckets) << 32 | u64::from(self.mask)
    }

    /// The bucket of a hash.
    #[inline]
    pub(super) fn bucket(self, hash: u32) -> u32 {
        let bucket = hash & self.mask;
        if bucket < self.buckets { bucket } else { bucket & (self.mask >> 1) }
    }
}

/// An entry in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where the entry is.
    pub(super) at: u32,
    /// What it is.
    pub(super) word: u64,
}

impl Entry {
    pub(super) fn of(hash: u64, place: u32) -> u64 {
        hash & !0xffff_ffff | u64::from(place)
    }

    /// Where its item is.
    pub(super) fn place(self) -> u32 {
        super::hash::low(self.word)
    }
}

impl Table {
    pub(super) fn new(mem: Mem) -> Self {
        Self { mem, stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), spare: Mutex::default() }
    }

    /// Makes an empty table. Whether there is memory for it.
    pub(super) fn format(&self, heap: &Heap) -> bool {
        let Some(segment) = heap.take_unit(UNIT_SEGMENT) else { return false };
        self.mem.set_u32(segment_word(0), segment);
        self.mem.release(header(Header::table), Extent::of(STRIPES).word());
        true
    }

    /// Keeps other writers away from all keys with this low half of a hash.
    pub(super) fn lock(&self, hash: u32) -> Option<MutexGuard<'_, ()>> {
        let stripe = self.stripes.get((hash % STRIPES) as usize)?;
        Some(stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps all other writers away.
    pub(super) fn lock_all(&self) -> Vec<MutexGuard<'_, ()>> {
        self.stripes.iter().map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    pub(super) fn extent(&self) -> Extent {
        Extent::from_word(self.mem.acquire(header(Header::table)))
    }

    /// Where a bucket is; 0 if its segment is not there.
    pub(super) fn bucket_place(&self, bucket: u32) -> u32 {
        let segment = self.mem.u32(segment_word(bucket / SEGMENT_BUCKETS));
        if segment == 0 { 0 } else { segment.wrapping_add(bucket % SEGMENT_BUCKETS * BUCKET_BYTES) }
    }

    /// The buckets of a chain.
    pub(super) fn chain(&self, bucket: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.bucket_place(bucket);
        let follow = |place: &u32| Some(self.mem.u32(place.wrapping_add(next_offset())));
        std::iter::successors(Some(first), follow).take_while(|place| *place != 0).take(CHAIN)
    }

    /// All entries of a chain, those in use and those that are not.
    #[inline]
    pub(super) fn slots(&self, bucket: u32) -> impl Iterator<Item = Entry> + '_ {
        self.chain(bucket).flat_map(|place| {
            (0..ENTRIES)
                .map(move |n| place.wrapping_add(n * 8))
                .map(|at| Entry { at, word: self.mem.acquire(at) })
        })
    }

    /// The entries of a chain that lead to items.
    #[inline]
    pub(super) fn entries(&self, bucket: u32) -> impl Iterator<Item = Entry> + '_ {
        self.slots(bucket).filter(|entry| entry.word != 0)
    }

    /// Puts an entry where there is room for it. The caller holds the stripe's lock. Whether there was memory.
    pub(super) fn insert(&self, heap: &Heap, hash: u64, word: u64) -> bool {
        let bucket = self.extent().bucket(super::hash::low(hash));
        let Some(at) = self.room(heap, bucket) else { return false };
        self.mem.release(at, word);
        true
    }

    /// Replaces an entry; 0 removes it.
    pub(super) fn replace(&self, entry: Entry, word: u64) {
        self.mem.release(entry.at, word);
    }

    /// Adds a bucket if there are many items for those that are there. `false` if memory for a segment is needed urgently.
    pub(super) fn grow(&self, heap: &Heap, items: u64) -> bool {
        let before = self.extent();
        if items <= u64::from(before.buckets) * LOAD {
            return true;
        }
        // Somebody else who does this is enough.
        let new = before.buckets;
        let old = Extent::of(new + 1).bucket(new) & (Extent::of(new + 1).mask >> 1);
        let _stripe = self.lock(old);
        if self.extent() != before {
            return true;
        }
        if !self.make_segment(heap, new / SEGMENT_BUCKETS) {
            return items <= u64::from(before.buckets) * URGENT || new / SEGMENT_BUCKETS >= SEGMENTS;
        }
        self.clear_bucket(new);
        let after = Extent::of(new + 1);
        let moving: Vec<Entry> = self
            .entries(old)
            .filter(|entry| after.bucket(Head::hash_of(&self.mem, entry.place())) == new)
            .collect();
        for entry in &moving {
            let Some(at) = self.room(heap, new) else {
                // Without memory the new bucket does not come into being; what is in it is cleared next time.
                return true;
            };
            self.mem.release(at, entry.word);
        }
        // The stripes of all buckets are different locks: another bucket may have been added meanwhile.
        if self.swap_extent(before, after) {
            moving.iter().for_each(|entry| self.replace(*entry, 0));
        }
        true
    }

    /// Shrinks a table that is empty to its first segment. The caller holds all locks.
    pub(super) fn shrink(&self, heap: &Heap) {
        let extent = self.extent();
        if extent.buckets <= STRIPES && self.spare().is_empty() && !self.overflows() {
            return;
        }
        self.mem.release(header(Header::table), Extent::of(STRIPES).word());
        let mut overflows = std::collections::BTreeSet::new();
        overflows.extend(self.spare().drain(..).map(|place| place / UNIT));
        for bucket in 0..extent.buckets {
            overflows.extend(self.chain(bucket).skip(1).map(|place| place / UNIT));
            if bucket < STRIPES {
                self.clear_bucket(bucket);
            }
        }
        for segment in 1..=extent.buckets / SEGMENT_BUCKETS {
            let place = self.mem.u32(segment_word(segment));
            if place != 0 {
                self.mem.set_u32(segment_word(segment), 0);
                heap.give_unit(place);
            }
        }
        self.spare().clear();
        overflows.into_iter().for_each(|unit| heap.give_unit(unit * UNIT));
    }

    /// Takes a table over that an earlier server left: buckets that overflowed to and are in no chain are spare.
    pub(super) fn adopt_overflow(&self, unit: u32, used: &std::collections::HashSet<u32>) {
        let places = (0..SEGMENT_BUCKETS).map(|n| unit * UNIT + n * BUCKET_BYTES);
        self.spare().extend(places.filter(|place| !used.contains(place)));
    }

    fn overflows(&self) -> bool {
        (0..self.extent().buckets).any(|bucket| self.chain(bucket).nth(1).is_some())
    }

    /// Where an entry can go in a bucket, which may get longer.
    fn room(&self, heap: &Heap, bucket: u32) -> Option<u32> {
        if let Some(free) = self.slots(bucket).find(|entry| entry.word == 0) {
            return Some(free.at);
        }
        let last = self.chain(bucket).last()?;
        let more = self.spare_bucket(heap)?;
        self.mem.clear(more, BUCKET_BYTES);
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        self.mem.set_u32(last.wrapping_add(next_offset()), more);
        Some(more)
    }

    fn spare_bucket(&self, heap: &Heap) -> Option<u32> {
        let mut spare = self.spare();
        if spare.is_empty() {
            let unit = heap.take_unit(UNIT_OVERFLOW)?;
            spare.extend((0..SEGMENT_BUCKETS).rev().map(|n| unit + n * BUCKET_BYTES));
        }
        spare.pop()
    }

    fn make_segment(&self, heap: &Heap, segment: u32) -> bool {
        if segment >= SEGMENTS {
            return false;
        }
        // Under this lock, lest two threads with different stripes make the same segment.
        let guard = self.spare();
        if self.mem.u32(segment_word(segment)) != 0 {
            return true;
        }
        let made = heap.take_unit(UNIT_SEGMENT);
        if let Some(place) = made {
            self.mem.set_u32(segment_word(segment), place);
        }
        drop(guard);
        made.is_some()
    }

    /// Empties a bucket that no reader looks into, or that has nothing in it. What it had overflowed to stays in its chain.
    fn clear_bucket(&self, bucket: u32) {
        let first = self.bucket_place(bucket);
        let chain: Vec<u32> = self.chain(bucket).skip(1).collect();
        if first != 0 {
            self.mem.clear(first, BUCKET_BYTES);
        }
        self.spare().extend(chain);
    }

    fn swap_extent(&self, before: Extent, after: Extent) -> bool {
        let _guard = self.spare();
        if self.extent() != before {
            return false;
        }
        self.mem.release(header(Header::table), after.word());
        true
    }

    fn spare(&self) -> MutexGuard<'_, Vec<u32>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the header has the place of a segment.
pub(super) fn segment_word(segment: u32) -> u32 {
    header(Header::segments) + segment.min(SEGMENTS - 1) * 4
}

fn next_offset() -> u32 {
    super::offset(Bucket::next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_has_one_bucket_and_growing_moves_only_what_it_splits() {
        for buckets in STRIPES..STRIPES * 4 + 3 {
            let (now, next) = (Extent::of(buckets), Extent::of(buckets + 1));
            assert_eq!(Extent::from_word(now.word()), now);
            for hash in (0..u32::MAX).step_by(40_000_003) {
                let (at, then) = (now.bucket(hash), next.bucket(hash));
                assert!(at < buckets);
                assert_eq!(at % STRIPES, hash % STRIPES, "a bucket has one stripe");
                assert!(then == at || (then == buckets && at == split_from(buckets)), "{at} {then}");
            }
        }
    }

    fn split_from(new: u32) -> u32 {
        new & (Extent::of(new + 1).mask >> 1)
    }
}
