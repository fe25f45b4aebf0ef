//! The elements of a hash map that hold nothing, one list for each CPU.
//!
//! A map is full when its lists are empty, so there are exactly as many elements as entries. Replacing a value takes one
//! more for a moment, also in a full map: each CPU has a spare, and gives the replaced element in its place.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::table::{Element, Table};

/// Bytes in an element's header that the pool uses.
pub(super) const HEADER_BYTES: u64 = 8;

/// No element, where one plus its number stands for an element.
const NONE: u32 = 0;

/// The free elements of one map.
pub(super) struct Pool {
    lists: Box<[CachePadded<Mutex<List>>]>,
    spares: Box<[CachePadded<AtomicU32>]>,
}

/// The free elements of one CPU.
struct List {
    /// The one freed last; each is linked to the one freed before it.
    last: u32,
    /// Those never used, which are not touched before.
    fresh: Range<u32>,
}

/// The place of a spare that was taken. Nobody else puts anything there.
pub(super) struct Vacancy<'p> {
    spare: &'p AtomicU32,
}

impl Vacancy<'_> {
    /// Gives the replaced element for the spare.
    pub(super) fn fill(self, element: Element) {
        self.spare.store(element.0 + 1, Ordering::Release);
    }
}

impl Pool {
    /// A pool of `entries` elements for as many CPUs; with `spares`, the elements behind them are those of the CPUs.
    pub(super) fn new(entries: u32, cpus: u32, spares: bool) -> Self {
        let cpus = cpus.max(1);
        let (share, rest) = (entries / cpus, entries % cpus);
        let mut start = 0;
        let mut list = |cpu| {
            let fresh = start..start + share + u32::from(cpu < rest);
            start = fresh.end;
            CachePadded::new(Mutex::new(List { last: NONE, fresh }))
        };
        let lists = (0..cpus).map(&mut list).collect();
        let spare = |cpu| CachePadded::new(AtomicU32::new(entries + cpu + 1));
        Self { lists, spares: (0..if spares { cpus } else { 0 }).map(spare).collect() }
    }

    /// Takes a free element, one of this CPU's if it has any.
    pub(super) fn take(&self, table: &Table, cpu: u32) -> Option<Element> {
        let first = self.index(cpu);
        let (before, from) = self.lists.split_at_checked(first)?;
        from.iter().chain(before).find_map(|list| {
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(element) = list.last.checked_sub(1).map(Element) {
                list.last = link_of(table, element);
                return Some(element);
            }
            list.fresh.next().map(Element)
        })
    }

    /// Gives an element back.
    pub(super) fn give(&self, table: &Table, cpu: u32, element: Element) {
        let Some(list) = self.lists.get(self.index(cpu)) else { return };
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = table.header(element, 0) {
            link.store(list.last, Ordering::Relaxed);
        }
        list.last = element.0 + 1;
    }

    /// Takes a spare. Another thread may have this CPU's for the moment it takes to replace a value.
    pub(super) fn take_spare(&self, cpu: u32) -> Option<(Element, Vacancy<'_>)> {
        let first = self.index(cpu);
        let (before, from) = self.spares.split_at_checked(first)?;
        loop {
            let spare = from.iter().chain(before).find_map(|spare| {
                // Looked at first: an exchange takes the line from the CPU it belongs to.
                let known = spare.load(Ordering::Relaxed) != NONE;
                let number = if known { spare.swap(NONE, Ordering::Acquire) } else { NONE };
                Some((number.checked_sub(1).map(Element)?, Vacancy { spare }))
            });
            if spare.is_some() || self.spares.is_empty() {
                return spare;
            }
            std::thread::yield_now();
        }
    }

    fn index(&self, cpu: u32) -> usize {
        cpu as usize % self.lists.len().max(1)
    }
}

/// What is linked behind a free element.
fn link_of(table: &Table, element: Element) -> u32 {
    table.header(element, 0).map_or(NONE, |link| link.load(Ordering::Relaxed))
}
