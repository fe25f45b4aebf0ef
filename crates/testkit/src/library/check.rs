//! What must be true of the structures while no program runs.

use std::collections::BTreeSet;

use bpf_arena::App;
use bpf_arena::arena::ArenaError;
use bpf_arena::error::UnknownName;
use bpf_arena::typed::{ArenaPtr, ArenaType, GlobalError};

use super::types::{MAX_THREADS, ThreadState};
use super::{Library, Part, allocators, queues, trees};

/// Something that is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// An invariant that does not hold.
    #[error("{part}: {invariant}: expected {expected:#x}, found {found:#x}")]
    Rule {
        /// Where.
        part: Part,
        /// What should be.
        invariant: Invariant,
        /// The number that should be.
        expected: u64,
        /// The number that is.
        found: u64,
    },
    /// A pointer leads out of the arena.
    #[error("{part}: {source}")]
    Memory {
        /// Where.
        part: Part,
        /// What the arena says.
        source: ArenaError,
    },
    /// A variable cannot be read.
    #[error(transparent)]
    Global(#[from] GlobalError),
    /// The object has no arena.
    #[error(transparent)]
    Arena(#[from] UnknownName),
}

/// What must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
#[non_exhaustive]
pub enum Invariant {
    #[error("the lock is free")]
    LockFree,
    #[error("objects that are not free are those that are held")]
    HeldObjects,
    #[error("no object is given twice")]
    Distinct,
    #[error("what is counted is what is there")]
    Count,
    #[error("free objects lie inside their page")]
    InsidePage,
    #[error("links lead back")]
    LinkedBack,
    #[error("lists come to an end")]
    Ends,
    #[error("blocks cover the chunk")]
    Covered,
    #[error("halves that are both free are joined")]
    Joined,
    #[error("keys ascend")]
    Ordered,
    #[error("values belong to their keys")]
    Values,
    #[error("the root is black, and so is what stands for no node")]
    BlackRoot,
    #[error("a red node has black children")]
    RedHasBlack,
    #[error("every way down has as many black nodes")]
    BlackHeight,
    #[error("all leaves are as deep")]
    LeafDepth,
    #[error("nodes are neither too full nor too empty")]
    Fill,
    #[error("no item is smaller than the one above it")]
    HeapOrder,
    #[error("what went in and did not come out is there")]
    Balance,
    #[error("cells are in turn")]
    Turn,
    #[error("bits that are set are those that are held")]
    HeldBits,
    #[error("a domain's idle CPUs are its children's")]
    IdleSum,
    #[error("CPUs that are not idle are those that are held")]
    HeldCpus,
    #[error("every task has one record")]
    OneRecord,
    #[error("the last arming of a timer fires")]
    Fires,
}

/// Longest list that is followed.
pub(super) const MAX_LIST: usize = 1 << 20;

/// The view of one part that checks have.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) app: &'a App,
    pub(super) part: Part,
    pub(super) threads: &'a [ThreadState],
}

impl View<'_> {
    /// Refuses a number that is not what it must be.
    pub(super) fn expect(&self, invariant: Invariant, expected: u64, found: u64) -> Result<(), Broken> {
        if expected == found {
            return Ok(());
        }
        Err(Broken::Rule { part: self.part, invariant, expected, found })
    }

    /// Refuses what is not so.
    pub(super) fn ensure(&self, invariant: Invariant, holds: bool) -> Result<(), Broken> {
        self.expect(invariant, 1, u64::from(holds))
    }

    /// Reads what a pointer leads to.
    pub(super) fn read<T: ArenaType>(&self, at: ArenaPtr<T>) -> Result<T, Broken> {
        let part = self.part;
        self.app.arena()?.read(at).map_err(|source| Broken::Memory { part, source })
    }

    /// Refuses two sets that differ.
    pub(super) fn same_set(
        &self,
        invariant: Invariant,
        expected: &BTreeSet<u64>,
        found: &BTreeSet<u64>,
    ) -> Result<(), Broken> {
        match expected.symmetric_difference(found).next() {
            None => Ok(()),
            Some(&odd) => self.expect(invariant, odd, 0),
        }
    }

    /// What all threads hold in slots like these; a slot of 0 holds nothing.
    pub(super) fn held<'t>(
        &'t self,
        slots: impl Fn(&'t ThreadState) -> &'t [u64],
    ) -> Result<BTreeSet<u64>, Broken> {
        let mut all = BTreeSet::new();
        for &held in self.threads.iter().flat_map(slots).filter(|h| **h != 0) {
            self.ensure(Invariant::Distinct, all.insert(held))?;
        }
        Ok(all)
    }

    /// A sum over all threads, wrapping.
    pub(super) fn sum(&self, of: impl Fn(&ThreadState) -> u64) -> u64 {
        self.threads.iter().map(of).fold(0, u64::wrapping_add)
    }
}

impl Library {
    /// Checks every structure that is used. No program may run meanwhile.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub fn check(&self) -> Result<(), Broken> {
        let threads = self.app.global::<[ThreadState; MAX_THREADS]>("threads")?;
        for &part in &self.parts {
            let view = View { app: &self.app, part, threads: &threads };
            match part {
                Part::Slab => allocators::slab(&view)?,
                Part::Stack => allocators::stack(&view)?,
                Part::Buddy => allocators::buddy(&view)?,
                Part::RbTree => trees::rb_tree(&view)?,
                Part::Btree => trees::btree(&view)?,
                Part::Heap => queues::heap(&view)?,
                Part::Queue => queues::queue(&view)?,
                Part::Bitmap => queues::bitmap(&view)?,
                Part::Topology => trees::topology(&view)?,
                Part::Tasks => queues::tasks(&view)?,
                Part::Timers => queues::timers(&view)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bpf_arena::Engine;

    use super::super::{Plan, stress};
    use super::*;

    /// Every check fails when what it is about is wrong.
    #[test]
    fn what_is_broken_is_found() {
        let parts = Part::ALL.into_iter().filter(|p| *p != Part::Tasks);
        let library = Library::load(Engine::user(), &parts.collect::<Vec<_>>()).expect("loads");
        let (time, interval) = (Duration::from_millis(100), Duration::from_millis(50));
        stress(&library, &Plan { threads: 2, time, interval, seed: 7 }).expect("sound");
        let app = &library.app;
        let root = app.global::<super::super::types::RbTree>("rb_tree").expect("readable").root;
        let node = app.global::<super::super::types::Btree>("btree").expect("readable").root;
        let arena = app.arena().expect("there is one");
        let mut broken = Vec::new();
        let mut breaks = |name: &str, change: &dyn Fn(u64) -> u64| {
            let before = app.global::<u64>(name).expect("readable");
            app.set_global(name, change(before)).expect("writable");
            broken.push((name.to_owned(), library.check()));
            app.set_global(name, before).expect("writable");
        };
        for name in ["slab.live", "slab.pages", "slab.object_size", "stack.created", "stack.live"] {
            breaks(name, &|v| v + 8);
        }
        for name in ["buddy.base", "buddy.live", "buddy.live_blocks", "rb_tree.count", "btree.count"] {
            breaks(name, &|v| v + 64);
        }
        for name in ["heap.count", "queue.head", "queue.tail", "topology.cpus", "topology.domains"] {
            breaks(name, &|v| v + 1);
        }
        breaks("heap.items[0].key", &|_| u64::MAX);
        breaks("queue.cells[3].sequence", &|v| v + 1);
        breaks("timer_states[0].armed", &|v| v + 1);
        breaks("timer_states[1].count", &|v| v + 1_000_000);
        breaks("bitmap.words[15]", &|v| v ^ 1 << 63);
        breaks("threads[0].slab[0]", &|v| if v == 0 { 4096 } else { 0 });
        breaks("threads[1].buddy[3]", &|v| if v == 0 { 4096 } else { 0 });
        breaks("threads[1].cpus[0]", &|v| if v == 0 { 1 } else { 0 });
        let mut breaks_node = |what: &str, at: ArenaPtr<u64>, value: u64| {
            let before = arena.read(at).expect("readable");
            arena.write(at, value).expect("writable");
            broken.push((what.to_owned(), library.check()));
            arena.write(at, before).expect("writable");
        };
        breaks_node("a red root", root.field(super::super::types::RbNode::red), 1);
        breaks_node("a key too large", root.field(super::super::types::RbNode::key), u64::MAX);
        breaks_node("another value", root.field(super::super::types::RbNode::value), 0);
        breaks_node("a parent of the root", root.field(super::super::types::RbNode::parent).cast(), 8);
        breaks_node("an empty node", node.field(super::super::types::BtreeNode::count), 0);
        breaks_node("a full node", node.field(super::super::types::BtreeNode::count), 9);
        breaks_node("no child", node.field(super::super::types::BtreeNode::children).cast(), root.raw());
        library.check().expect("as it was before");
        for (what, result) in broken {
            assert!(result.is_err(), "{what} was not found");
        }
    }
}
