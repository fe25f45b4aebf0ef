//! Address ranges that a signal handler can look up while other threads add and remove them.
//!
//! Slots never move and are never freed. A slot counts while its `end` is not 0; that is stored last when it is filled
//! and cleared first when it is removed. A removal then waits until every handler that may have seen the slot has left
//! ([`Reading`]), so whoever finds a value under a `Reading` may use it until that ends.

use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const SLOTS: usize = 32;

/// Handlers in progress, by the phase they began in. Two phases, so that waiting ends even if handlers never do.
static READERS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
static PHASE: AtomicUsize = AtomicUsize::new(0);

/// Removals wait this many yields (seconds), then leave the value alive for good: after a fork, handlers of threads that
/// do not exist in the child seem in progress.
const PATIENCE: u32 = 1_000_000;

/// One handler in progress.
#[derive(Debug)]
pub(super) struct Reading {
    readers: &'static AtomicUsize,
}

impl Reading {
    pub(super) fn begin() -> Self {
        let [even, odd] = &READERS;
        let readers = if PHASE.load(Ordering::SeqCst) & 1 == 0 { even } else { odd };
        readers.fetch_add(1, Ordering::SeqCst);
        Self { readers }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until all handlers that are in progress now have ended; `false` if that takes too long.
fn wait_for_readers() -> bool {
    let [even, odd] = &READERS;
    // Twice: a handler may have read the phase before it changed and count itself after the first wait.
    (0..2).all(|_| {
        let before = PHASE.fetch_xor(1, Ordering::SeqCst) & 1;
        let readers = if before == 0 { even } else { odd };
        (0..PATIENCE).any(|_| {
            let gone = readers.load(Ordering::SeqCst) == 0;
            if !gone {
                std::thread::yield_now();
            }
            gone
        })
    })
}

/// Ranges of addresses, each with a value.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// Held while the table is changed; never by a handler.
    writer: Mutex<()>,
    first: Chunk<T>,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: [Slot<T>; SLOTS],
    next: AtomicPtr<Chunk<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    start: AtomicU64,
    end: AtomicU64,
    /// From `Arc::into_raw` while `end` is not 0.
    value: AtomicPtr<T>,
}

impl<T> Slot<T> {
    const fn empty() -> Self {
        let value = AtomicPtr::new(core::ptr::null_mut());
        Self { start: AtomicU64::new(0), end: AtomicU64::new(0), value }
    }
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Self { slots: [const { Slot::empty() }; SLOTS], next: AtomicPtr::new(core::ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Self> {
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: null, or a chunk that was leaked.
        unsafe { next.as_ref() }
    }
}

impl<T: 'static> Table<T> {
    pub(super) const fn new() -> Self {
        Self { writer: Mutex::new(()), first: Chunk::new() }
    }

    /// The value whose range holds an address.
    pub(super) fn find<'r>(&'static self, address: u64, _: &'r Reading) -> Option<&'r T> {
        for slot in self.slots() {
            let end = slot.end.load(Ordering::SeqCst);
            if address < end && address >= slot.start.load(Ordering::Relaxed) {
                // SAFETY: the slot was filled before `end` was, and is not emptied while we are reading.
                return unsafe { slot.value.load(Ordering::Relaxed).as_ref() };
            }
        }
        None
    }

    /// Adds `[start, end)`; `end` is not 0. The value is kept until the range is removed.
    pub(super) fn insert(&'static self, start: u64, end: u64, value: Arc<T>) -> Entry<T> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.slots().find(|slot| slot.end.load(Ordering::Relaxed) == 0);
        let slot = free.unwrap_or_else(|| self.grow());
        slot.start.store(start, Ordering::Relaxed);
        slot.value.store(Arc::into_raw(value).cast_mut(), Ordering::Relaxed);
        slot.end.store(end, Ordering::SeqCst);
        Entry { table: self, slot }
    }

    fn slots(&'static self) -> impl Iterator<Item = &'static Slot<T>> {
        core::iter::successors(Some(&self.first), |chunk| chunk.next()).flat_map(|chunk| &chunk.slots)
    }

    /// A slot of a new chunk. The caller holds `writer`.
    fn grow(&'static self) -> &'static Slot<T> {
        let chunk: &'static Chunk<T> = Box::leak(Box::new(Chunk::new()));
        let mut last = &self.first;
        while let Some(next) = last.next() {
            last = next;
        }
        let [slot, ..] = &chunk.slots;
        last.next.store(core::ptr::from_ref(chunk).cast_mut(), Ordering::Release);
        slot
    }
}

/// A range in a table. Removed on drop, which waits for handlers in progress.
#[derive(Debug)]
pub(super) struct Entry<T: 'static> {
    table: &'static Table<T>,
    slot: &'static Slot<T>,
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let writer = self.table.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.slot.end.store(0, Ordering::SeqCst);
        let value = self.slot.value.load(Ordering::Relaxed);
        // The slot is not filled anew before the lock is given back.
        let unseen = wait_for_readers();
        drop(writer);
        if unseen {
            // SAFETY: from `Arc::into_raw` in `insert`, and nobody else can reach it any more.
            drop(unsafe { Arc::from_raw(value) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_no_more() {
        static TABLE: Table<u32> = Table::new();
        let entries: Vec<_> = (1..100_u32)
            .map(|n| TABLE.insert(u64::from(n) * 100, u64::from(n) * 100 + 50, Arc::new(n)))
            .collect();
        let reading = Reading::begin();
        for n in 1..100_u32 {
            let start = u64::from(n) * 100;
            assert_eq!(TABLE.find(start, &reading), Some(&n));
            assert_eq!(TABLE.find(start + 49, &reading), Some(&n));
            assert_eq!(TABLE.find(start + 50, &reading), None);
        }
        drop(reading);
        drop(entries);
        let reading = Reading::begin();
        assert_eq!(TABLE.find(150, &reading), None);
        drop(reading);
        let _again = TABLE.insert(7, 8, Arc::new(3));
        assert_eq!(TABLE.find(7, &Reading::begin()), Some(&3));
    }

    #[test]
    fn a_value_lives_while_it_is_read() {
        static TABLE: Table<Vec<u32>> = Table::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let reading = Reading::begin();
                        if let Some(value) = TABLE.find(15, &reading) {
                            assert_eq!(value.as_slice(), [1, 2, 3]);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..2000 {
                    drop(TABLE.insert(10, 20, Arc::new(vec![1, 2, 3])));
                }
            });
        });
    }
}
