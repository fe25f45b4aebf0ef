//! Which elements of an LRU hash map were used lately, and which are taken from it when a new one is needed.
//!
//! The order is the kernel's, so that the same use of a map evicts the same elements. There is one *common* set of lists (active,
//! inactive, free), and each CPU keeps elements aside: some free ones, and those it handed out since it last came for more
//! (pending). With `BPF_F_NO_COMMON_LRU` each CPU has a set of its own, with its share of the elements, and nothing aside.
//!
//! A lookup by a program sets the element's mark. Lists are sorted by marks only when elements are short:
//! a marked element goes to the head of the active list and loses its mark; one without is demoted from active to
//! inactive, and evicted from the tail of inactive. At most [`Lru::scans`] elements are looked at in each of these steps.
//!
//! Locks are taken in the order: a CPU's lists, the common lists, a bucket.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use super::links::{Links, List};
use super::table::{Element, Table};

/// Most free elements that a CPU takes at once, and elements looked at in a step.
const COMMON_SCANS: u32 = 128;
/// The same where each CPU has its own lists.
const PER_CPU_SCANS: u32 = 4;

/// Where an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Active,
    Inactive,
    Free,
    /// Aside for a CPU, free.
    LocalFree,
    /// Aside for a CPU, handed out.
    Pending,
}

/// Takes an element out of its chain; `false` if it is in none, or no longer.
pub(super) trait Evict {
    /// See above.
    fn evict(&self, element: Element) -> bool;
}

/// The lists of one map.
pub(super) struct Lru {
    sets: Box<[CachePadded<Mutex<Set>>]>,
    /// Without them, each CPU has a set.
    locals: Box<[CachePadded<Mutex<Local>>]>,
    /// Elements a CPU takes aside at once.
    batch: u32,
    scans: u32,
}

/// Active, inactive and free elements.
struct Set {
    active: List,
    inactive: List,
    free: List,
    /// Those never used: the tail of the free list.
    fresh: Range<u32>,
    /// Where the next look through the inactive list begins; `None` is the place between its ends.
    hand: Option<Element>,
}

/// What one CPU has aside.
struct Local {
    free: List,
    pending: List,
    next_victim: u32,
}

impl Lru {
    /// Lists of `entries` free elements, common ones or for each CPU.
    pub(super) fn new(entries: u32, cpus: u32, common: bool) -> Self {
        let cpus = cpus.max(1);
        let set = |fresh| CachePadded::new(Mutex::new(Set::new(fresh)));
        if !common {
            let share = entries / cpus;
            let sets = (0..cpus).map(|cpu| set(share * cpu..share * (cpu + 1))).collect();
            return Self { sets, locals: Box::default(), batch: 0, scans: PER_CPU_SCANS };
        }
        let local = |cpu| Local { free: List::default(), pending: List::default(), next_victim: cpu };
        Self {
            sets: Box::new([set(0..entries)]),
            locals: (0..cpus).map(|cpu| CachePadded::new(Mutex::new(local(cpu)))).collect(),
            batch: (entries / cpus / 2).clamp(1, COMMON_SCANS),
            scans: COMMON_SCANS,
        }
    }

    /// An element for an entry with this hash, evicting others if need be; it belongs to this CPU. `None` if all are being used by
    /// others at the moment.
    pub(super) fn take(&self, table: &Table, evict: &impl Evict, cpu: u32, hash: u32) -> Option<Element> {
        let links = Links::of(table);
        if self.locals.is_empty() {
            return self.take_of_cpu(&links, evict, cpu, hash);
        }
        let cpu = u32::try_from(self.local_index(cpu)).unwrap_or(0);
        let mut local = self.local(cpu)?;
        let mut element = local.free.pop_front(&links);
        if element.is_none() {
            self.refill(&links, evict, &mut local);
            element = local.free.pop_front(&links);
        }
        if element.is_none() {
            let first = local.next_victim;
            drop(local);
            let (found, next) = self.steal(&links, evict, first);
            local = self.local(cpu)?;
            local.next_victim = next;
            element = found;
        }
        let element = element?;
        table.set_hash(element, hash);
        links.set_kind(element, Kind::Pending, cpu);
        links.set_mark(element, false);
        local.pending.push_front(&links, element);
        Some(element)
    }

    /// Takes back an element that is in no chain.
    pub(super) fn give(&self, table: &Table, element: Element) {
        let links = Links::of(table);
        let (kind, cpu) = links.kind(element);
        if kind == Kind::Pending
            && let Some(mut local) = self.local(cpu)
            // Once its lock is held, it stays where it is.
            && links.kind(element).0 == Kind::Pending
        {
            local.pending.remove(&links, element);
            links.set_kind(element, Kind::LocalFree, cpu);
            links.set_mark(element, false);
            local.free.push_front(&links, element);
            return;
        }
        if let Some(mut set) = self.set(cpu) {
            set.move_to(&links, element, Kind::Free);
        }
    }

    /// Notes that an entry was used.
    #[inline]
    pub(super) fn mark(table: &Table, element: Element) {
        Links::of(table).mark(element);
    }

    fn local_index(&self, cpu: u32) -> usize {
        cpu as usize % self.locals.len().max(1)
    }

    fn local(&self, cpu: u32) -> Option<MutexGuard<'_, Local>> {
        let local = self.locals.get(self.local_index(cpu))?;
        Some(local.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, cpu: u32) -> Option<MutexGuard<'_, Set>> {
        let set = self.sets.get(cpu as usize % self.sets.len().max(1))?;
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_of_cpu(&self, links: &Links<'_>, evict: &impl Evict, cpu: u32, hash: u32) -> Option<Element> {
        let cpu = u32::try_from(cpu as usize % self.sets.len().max(1)).unwrap_or(0);
        let mut set = self.set(cpu)?;
        set.rotate(links, self.scans);
        if set.is_out_of_free() {
            let mut evicted = set.shrink(links, evict, self.scans, self.scans);
            while let Some(element) = evicted.pop_front(links) {
                links.set_kind(element, Kind::Free, cpu);
                set.free.push_front(links, element);
            }
        }
        let element = set.pop_free(links)?;
        links.table().set_hash(element, hash);
        links.set_kind(element, Kind::Inactive, cpu);
        links.set_mark(element, false);
        set.inactive.push_front(links, element);
        Some(element)
    }

    /// Gets free elements for a CPU from the common lists, which learn what it has handed out.
    fn refill(&self, links: &Links<'_>, evict: &impl Evict, local: &mut Local) {
        let Some(mut set) = self.set(0) else { return };
        while let Some(element) = local.pending.pop_back(links) {
            let kind = if links.is_marked(element) { Kind::Active } else { Kind::Inactive };
            links.set_kind(element, kind, 0);
            links.set_mark(element, false);
            set.list(kind).push_front(links, element);
        }
        set.rotate(links, self.scans);
        let mut wanted = self.batch;
        let mut keep = |element| {
            links.set_kind(element, Kind::LocalFree, 0);
            local.free.push_front(links, element);
        };
        while wanted > 0
            && let Some(element) = set.pop_free(links)
        {
            keep(element);
            wanted -= 1;
        }
        if wanted > 0 {
            let mut evicted = set.shrink(links, evict, wanted, self.scans);
            while let Some(element) = evicted.pop_front(links) {
                keep(element);
            }
        }
    }

    /// Takes an element that a CPU, this one or another, has aside; and says who is to be asked next time.
    fn steal(&self, links: &Links<'_>, evict: &impl Evict, first: u32) -> (Option<Element>, u32) {
        let cpus = u32::try_from(self.locals.len()).unwrap_or(u32::MAX);
        let mut victim = first;
        loop {
            let found = self.local(victim).and_then(|mut local| {
                local.free.pop_front(links).or_else(|| local.pop_pending(links, evict))
            });
            victim = if victim + 1 >= cpus { 0 } else { victim + 1 };
            if found.is_some() || victim == first {
                return (found, victim);
            }
        }
    }
}

impl Local {
    /// The oldest pending element that can be evicted, one without a mark if there is any.
    fn pop_pending(&mut self, links: &Links<'_>, evict: &impl Evict) -> Option<Element> {
        let oldest_first = || self.pending.backwards(links);
        let unmarked = oldest_first().find(|element| !links.is_marked(*element) && evict.evict(*element));
        let element = unmarked.or_else(|| oldest_first().find(|element| evict.evict(*element)))?;
        self.pending.remove(links, element);
        Some(element)
    }
}

impl Set {
    fn new(fresh: Range<u32>) -> Self {
        let list = List::default;
        Self { active: list(), inactive: list(), free: list(), fresh, hand: None }
    }

    fn list(&mut self, kind: Kind) -> &mut List {
        match kind {
            Kind::Active => &mut self.active,
            Kind::Inactive => &mut self.inactive,
            _ => &mut self.free,
        }
    }

    fn is_out_of_free(&self) -> bool {
        self.free.is_empty() && self.fresh.is_empty()
    }

    fn pop_free(&mut self, links: &Links<'_>) -> Option<Element> {
        self.free.pop_front(links).or_else(|| self.fresh.next().map(Element))
    }

    /// Takes an element out of the list it is in.
    fn take_out(&mut self, links: &Links<'_>, element: Element) {
        if self.hand == Some(element) {
            self.hand = links.before(element);
        }
        let (kind, _) = links.kind(element);
        self.list(kind).remove(links, element);
    }

    /// Moves an element to the head of a list; its mark is gone.
    fn move_to(&mut self, links: &Links<'_>, element: Element, kind: Kind) {
        self.take_out(links, element);
        let (_, cpu) = links.kind(element);
        links.set_kind(element, kind, cpu);
        links.set_mark(element, false);
        self.list(kind).push_front(links, element);
    }

    /// Looks through the lists for marks.
    fn rotate(&mut self, links: &Links<'_>, scans: u32) {
        if self.inactive.len() < self.active.len() {
            self.rotate_active(links, scans);
        }
        self.rotate_inactive(links, scans);
    }

    /// From the tail of the active list: the marked to its head, the others to inactive.
    fn rotate_active(&mut self, links: &Links<'_>, scans: u32) {
        // As many as there are now: those that are moved to the head are not met again.
        for _ in 0..scans.min(self.active.len()) {
            let Some(element) = self.active.back() else { return };
            let kind = if links.is_marked(element) { Kind::Active } else { Kind::Inactive };
            self.move_to(links, element, kind);
        }
    }

    /// From the hand towards the head of the inactive list, around its ends: the marked become active.
    fn rotate_inactive(&mut self, links: &Links<'_>, scans: u32) {
        if self.inactive.is_empty() {
            return;
        }
        let around = |set: &Self, at: Option<Element>| at.or_else(|| set.inactive.back());
        let last = self.hand.and_then(|hand| links.behind(hand)).or_else(|| self.inactive.front());
        let mut at = self.hand;
        let mut next = None;
        for _ in 0..scans {
            let Some(element) = around(self, at) else { break };
            next = links.before(element);
            let is_last = Some(element) == last;
            if links.is_marked(element) {
                self.move_to(links, element, Kind::Active);
            }
            if is_last {
                break;
            }
            at = next;
        }
        self.hand = next;
    }

    /// Evicts up to `wanted` elements without marks from the tail of the inactive list, or else a single one, marked or not.
    /// They are in no other list then.
    fn shrink(&mut self, links: &Links<'_>, evict: &impl Evict, wanted: u32, scans: u32) -> List {
        let mut evicted = List::default();
        let mut at = self.inactive.back();
        for _ in 0..scans {
            let Some(element) = at else { break };
            at = links.before(element);
            if links.is_marked(element) {
                self.move_to(links, element, Kind::Active);
            } else if evict.evict(element) {
                self.take_out(links, element);
                evicted.push_back(links, element);
                if evicted.len() == wanted {
                    break;
                }
            }
        }
        if evicted.is_empty() {
            let list = if self.inactive.is_empty() { &self.active } else { &self.inactive };
            let forced = list.backwards(links).find(|element| evict.evict(*element));
            if let Some(element) = forced {
                self.take_out(links, element);
                evicted.push_back(links, element);
            }
        }
        evicted
    }
}
