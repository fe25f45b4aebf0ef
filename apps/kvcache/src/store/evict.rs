//! Making room: the clock, slabs that change hands, and what is done once a second.
//!
//! Each class has a clock. Its hand goes over the slots: an item that was used since the hand was there last stays, and is asked
//! again next time; one that was not is evicted. The program marks uses as threads do, by a word outside of the item (see
//! [`touch_place`]), which it may write even if the item is gone meanwhile.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::api::StoreError;
use super::classes::class_of;
use super::item::Head;
use super::open::check_options;
use super::read::Found;
use super::{Store, header};
use crate::layout::{Header, PAGE, TOUCH_FETCHED, TOUCH_USED, touch_place};

/// Slots that the hand passes at most because they were used: then the next goes anyhow, so that storing takes no longer.
const PATIENCE: u32 = 128;

/// Attempts to find memory for an item while other threads take what this one frees.
const ATTEMPTS: u32 = 256;

/// Slabs that are looked through for what has ended, in one call of [`Store::maintain`].
const SLABS_AT_ONCE: usize = 4096;

impl Store {
    /// A slot for so many bytes, evicting if need be.
    pub(super) fn reserve(&self, bytes: u32) -> Result<u32, StoreError> {
        let limit = self.options.item_max;
        let class = class_of(self.heap.classes(), bytes)
            .ok_or(StoreError::TooLarge { len: bytes as usize, limit })?;
        for _ in 0..ATTEMPTS {
            if let Some(place) = self.heap.alloc(class) {
                return Ok(place);
            }
            if self.heap.grow(class) {
                continue;
            }
            if !self.options.evict {
                break;
            }
            if let Some(place) = self.evict_of(class) {
                self.balance(class);
                return Ok(place);
            }
            if !self.empty_a_slab() {
                std::thread::yield_now();
            }
        }
        Err(StoreError::OutOfMemory)
    }

    /// Evicts an item of the class, whose slot is the caller's then.
    fn evict_of(&self, class: usize) -> Option<u32> {
        let slots = self.heap.slots(class);
        let (mut passed, flushed, now) = (0, self.flushed(), self.now());
        for _ in 0..slots.saturating_mul(2) {
            let place = self.heap.hand(class)?;
            let head = Head::load(&self.mem, place);
            if head.version == 0 {
                continue;
            }
            let touched = self.mem.u32(touch_place(place));
            let ended = head.version <= flushed || head.expired(now);
            if !ended && touched & TOUCH_USED != 0 && passed < PATIENCE {
                self.mem.set_u32(touch_place(place), touched & !TOUCH_USED);
                passed += 1;
                continue;
            }
            if self.take_away(place, head.version) {
                self.count_eviction(ended, touched);
                if self.keeps(class, place) {
                    return Some(place);
                }
            }
        }
        None
    }

    /// Whether a slot that was just taken away is one of the class; if not, it is freed. Between the hand's coming to a slot and
    /// a look at its item the slab may go, and another class's begin there: whoever took its slot for a larger one would write
    /// into the next. Now that the slot is the caller's, its slab stays what it is.
    pub(super) fn keeps(&self, class: usize, place: u32) -> bool {
        let is_of_class = self.heap.locate(place).is_some_and(|(found, ..)| found == class);
        if !is_of_class {
            self.heap.free(place);
        }
        is_of_class
    }

    /// Lets a class that evicted a slab's worth of items grow at the cost of the largest, if that has more than twice as much.
    fn balance(&self, class: usize) {
        let Some((evicted, shape)) = self.counts.evicted_of.get(class).zip(self.heap.classes().get(class))
        else {
            return;
        };
        let count = evicted.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(u64::from(shape.slots)) {
            let largest = (0..self.heap.classes().len()).map(|other| self.heap.units_in(other)).max();
            if largest.is_some_and(|largest| largest > 2 * self.heap.units_in(class)) {
                self.empty_a_slab();
            }
        }
    }

    /// Takes the item with this version out of the table. Whether it was there; its slot is the caller's then.
    pub(super) fn take_away(&self, place: u32, version: u64) -> bool {
        let hash = Head::hash_of(&self.mem, place);
        let _stripe = self.table.lock(hash);
        let head = Head::load(&self.mem, place);
        if head.version != version || head.hash != hash {
            return false;
        }
        let bucket = self.table.extent().bucket(hash);
        // What is being stored is not in the table yet, and belongs to who stores it.
        let Some(entry) = self.table.entries(bucket).find(|entry| entry.place() == place) else {
            return false;
        };
        self.unlink(&Found { entry, head });
        true
    }

    fn count_eviction(&self, ended: bool, touched: u32) {
        if ended {
            self.counts.reclaimed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counts.evictions.fetch_add(1, Ordering::Relaxed);
        if touched & TOUCH_FETCHED == 0 {
            self.counts.evicted_unfetched.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Evicts everything from one slab and gives its memory back, for another class or the table. It is taken from the class
    /// with the most, where its clock's hand would come next.
    pub(super) fn empty_a_slab(&self) -> bool {
        let classes = 0..self.heap.classes().len();
        let Some(class) = classes.max_by_key(|class| self.heap.units_in(*class)) else { return false };
        let units = self.heap.units_of(class);
        let next =
            self.heap.hand(class).and_then(|place| self.heap.locate(place)).map_or(0, |(_, unit, _)| unit);
        let from = units.iter().position(|unit| *unit == next).unwrap_or(0);
        units.iter().cycle().skip(from).take(units.len().min(16)).any(|unit| {
            self.heap.leave(class, *unit);
            self.clean(class, *unit, true);
            self.heap.release(class, *unit)
        })
    }

    /// Removes from a slab what has ended, or everything. Whether nothing is left.
    fn clean(&self, class: usize, unit: u32, everything: bool) -> bool {
        let (flushed, now) = (self.flushed(), self.now());
        let mut left = false;
        for place in self.heap.places(class, unit) {
            let head = Head::load(&self.mem, place);
            if head.version == 0 {
                continue;
            }
            let ended = head.version <= flushed || head.expired(now);
            let touched = self.mem.u32(touch_place(place));
            if (ended || everything) && self.take_away(place, head.version) {
                self.count_eviction(ended, touched);
                self.heap.free(place);
            } else {
                left = true;
            }
        }
        !left
    }

    /// Does what is due: sets the clock by which the program sees what has ended, flushes if the time has come, removes what
    /// has ended, gives memory back. To be called about once a second, by one thread.
    pub fn maintain(&self) {
        self.set_clock();
        let flush_at = self.mem.u32(header(Header::flush_at));
        if flush_at != 0 && flush_at <= self.now() {
            self.mem.set_u32(header(Header::flush_at), 0);
            self.flush_now();
        }
        self.heap.sweep();
        let mut left = SLABS_AT_ONCE;
        let classes = self.heap.classes().len();
        let start = self.counts.next_class.fetch_add(1, Ordering::Relaxed);
        for class in (0..classes).map(|n| start.wrapping_add(n) % classes.max(1)) {
            for unit in self.heap.units_of(class) {
                if left == 0 {
                    return;
                }
                left -= 1;
                if self.clean(class, unit, false) {
                    self.heap.leave(class, unit);
                    self.heap.release(class, unit);
                }
            }
        }
        if self.counts.items.load(Ordering::Relaxed) == 0 {
            let _all = self.table.lock_all();
            if self.counts.items.load(Ordering::Relaxed) == 0 {
                self.table.shrink(&self.heap);
            }
        }
    }

    /// Sets most bytes of memory. What is over the new limit is evicted, if the store evicts at all. Whether the limit can be.
    pub fn set_memory(&self, bytes: u64) -> bool {
        let Ok(pages) = u32::try_from(bytes / u64::from(PAGE)) else { return false };
        if check_options(&self.options.memory(bytes)).is_err() {
            return false;
        }
        self.heap.set_limit(pages);
        self.mem.set_u32(header(Header::limit), pages);
        while self.options.evict && self.heap.pages() > pages && self.empty_a_slab() {}
        true
    }

    /// Tells the program what time it is.
    pub(super) fn set_clock(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let base = u64::try_from(now.as_nanos()).unwrap_or(0).wrapping_sub(super::monotonic());
        self.mem.set_u64(header(Header::clock), base);
        self.mem.set_u32(header(Header::now), self.now());
    }
}
