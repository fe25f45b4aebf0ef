//! The store: items by key, wholly in an arena.
//!
//! Threads of this process write it; they, the program and whoever else maps the arena read it at the same moment. Readers take no
//! lock and nobody waits for them: how that goes is said in `table` (finding) and `item` (reading). Writers lock the stripe
//! of a key among themselves; those locks, like the list of what is free, are this process's own, so that one that is killed
//! leaves nothing locked.

mod api;
mod classes;
mod evict;
pub mod hash;
mod heap;
mod item;
mod mem;
mod open;
mod read;
mod table;
mod update;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bpf_arena::arena::Arena;
use bpf_arena::typed::Field;

pub use api::{Decision, Expiry, KEY_MAX, Meta, Mode, Options, Outcome, Removal, StoreError, StoreStats};
pub use open::{ITEM_MAX, MEMORY_MAX, MEMORY_MIN, OpenError, Recovered};

use self::heap::Heap;
use self::mem::Mem;
use self::table::Table;
use crate::layout::{ADDRESSES, Address, CPUS, Counters, Header, PAGE, PATHS};

/// The store. Every method works from any number of threads at once.
#[derive(Debug)]
pub struct Store {
    mem: Mem,
    heap: Heap,
    table: Table,
    /// What the header says, which does not change while the store is open.
    seed: u64,
    epoch: u32,
    options: Options,
    counts: Counts,
}

/// What is counted.
#[derive(Debug, Default)]
struct Counts {
    items: AtomicU64,
    bytes: AtomicU64,
    stored: AtomicU64,
    evictions: AtomicU64,
    evicted_unfetched: AtomicU64,
    reclaimed: AtomicU64,
    /// Of each class.
    evicted_of: Box<[AtomicU64]>,
    /// The class that the next call of [`Store::maintain`] begins with.
    next_class: AtomicUsize,
}

impl Store {
    /// The arena it lies in.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        self.mem.arena()
    }

    /// What it was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Tells the program what to answer: datagrams to this UDP port (0: none) and one of these addresses (none: any), with
    /// datagrams that are no longer than this.
    pub fn answer_for(&self, port: u16, addresses: &[Address], datagram_max: u32) {
        let bytes: Vec<u8> = addresses.iter().take(ADDRESSES).flat_map(|address| address.bytes).collect();
        let count = u32::try_from(bytes.len() / size_of::<Address>()).unwrap_or(0);
        self.mem.set_u32(header(Header::reply_max), datagram_max);
        let mut before = vec![0; bytes.len()];
        self.mem.read(header(Header::addresses), &mut before);
        let is = |field, value| self.mem.u32(header(field)) == value;
        if before == bytes && is(Header::address_count, count) && is(Header::port, port.into()) {
            // As an earlier server left it: its program goes on answering.
            return;
        }
        // No port while addresses change: the program would answer for what it was not asked for.
        self.mem.set_u32(header(Header::port), 0);
        self.mem.write(header(Header::addresses), &bytes);
        self.mem.set_u32(header(Header::address_count), count);
        self.mem.set_u32(header(Header::port), port.into());
    }

    /// Tells the program in traffic control whether it is alone (`false`), or answers only what XDP leaves to it.
    pub(crate) fn set_tc_behind(&self, behind: bool) {
        self.mem.set_u32(header(Header::tc_behind), behind.into());
    }

    /// What the program counted since the store was made or [`Store::reset_counters`], on all CPUs together: at XDP, and in
    /// traffic control.
    #[must_use]
    pub fn program_counters(&self) -> [Counters; PATHS] {
        let mut of_cpus =
            (header(Header::counters)..).step_by(size_of::<Counters>()).map(|at| self.mem.value(at));
        [(); PATHS].map(|()| of_cpus.by_ref().take(CPUS as usize).fold(Counters::default(), Counters::plus))
    }

    /// Has the program count from 0 again.
    pub fn reset_counters(&self) {
        let bytes = u32::try_from(size_of::<Counters>() * PATHS * CPUS as usize).unwrap_or(0);
        self.mem.clear(header(Header::counters), bytes);
    }

    /// The store's clock: seconds since 1970.
    #[must_use]
    #[allow(clippy::unused_self, reason = "whose clock it is")]
    pub fn now(&self) -> u32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        u32::try_from(now).unwrap_or(u32::MAX)
    }

    /// How full it is, and what it did.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StoreStats {
            items: count(&self.counts.items),
            bytes: count(&self.counts.bytes),
            stored: count(&self.counts.stored),
            evictions: count(&self.counts.evictions),
            evicted_unfetched: count(&self.counts.evicted_unfetched),
            reclaimed: count(&self.counts.reclaimed),
            limit: u64::from(self.heap.limit()) * u64::from(PAGE),
            memory: u64::from(self.heap.pages()) * u64::from(PAGE),
            buckets: self.table.extent().buckets.into(),
            slabs: self.heap.slab_count() as u64,
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        hash::key_hash(self.seed, key)
    }

    /// The second as touch words count it.
    fn second(&self) -> u32 {
        self.now().wrapping_sub(self.epoch)
    }

    /// Items up to this version are flushed.
    fn flushed(&self) -> u64 {
        self.mem.u64(header(Header::flushed))
    }
}

/// Where a field of the header is.
fn header<T>(field: Field<Header, T>) -> u32 {
    offset(field)
}

/// A field's offset in its structure.
fn offset<S, T>(field: Field<S, T>) -> u32 {
    u32::try_from(field.offset()).unwrap_or(u32::MAX)
}

/// Where the header says what a unit is.
fn unit_byte(unit: u32) -> u32 {
    header(Header::units) + unit
}

/// Nanoseconds of the monotonic clock, which programs have, too.
fn monotonic() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
