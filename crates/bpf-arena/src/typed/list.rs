//! Walking linked structures.

use std::ops::Deref;

use super::{ArenaPtr, ArenaType};
use crate::arena::{Arena, ArenaError};

/// A value found in an arena: a copy, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<T> {
    at: ArenaPtr<T>,
    value: T,
}

impl<T> Found<T> {
    /// Where it lies, to write it or to read it again.
    #[must_use]
    pub fn ptr(&self) -> ArenaPtr<T> {
        self.at
    }
}

impl<T> Deref for Found<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why a walk ended before the end of the list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// A link leads where nothing can be read.
    #[error("the link to {at} leads nowhere: {source}")]
    Unreadable {
        /// The link.
        at: ArenaPtr<()>,
        /// Why it cannot be read.
        source: ArenaError,
    },
    /// A link leads back, so that the list has no end.
    #[error("the list leads back to {at} after {nodes} nodes")]
    Cycle {
        /// A node that was met twice.
        at: ArenaPtr<()>,
        /// Nodes walked.
        nodes: u64,
    },
    /// More nodes than fit into the arena: others change the list while it is walked.
    #[error("the list is longer than the arena ({nodes} nodes)")]
    Endless {
        /// Nodes walked.
        nodes: u64,
    },
}

/// The nodes of a linked list: see [`Arena::list`].
#[derive(Debug)]
pub struct List<'a, T, F> {
    arena: &'a Arena,
    next: ArenaPtr<T>,
    link: F,
    nodes: u64,
    /// A node met before (Brent's algorithm): it moves to the current node whenever the number of nodes is a power of
    /// two, so that a cycle is noticed after at most three times its length and what leads to it.
    landmark: ArenaPtr<T>,
    ended: bool,
}

impl Arena {
    /// Walks a linked list whose links `link` picks, until a null link.
    ///
    /// Each node is copied when the walk comes to it. However programs and other processes change the list meanwhile,
    /// the walk ends: with an error if a link leads out of the arena or back to a node met before.
    ///
    /// ```no_run
    /// # use bpf_arena::{App, typed::{ArenaPtr, ArenaType}};
    /// # #[derive(ArenaType, Clone, Copy)]
    /// # #[repr(C)]
    /// # struct Node { next: ArenaPtr<Node>, value: u64 }
    /// # fn example(app: App) -> Result<(), Box<dyn std::error::Error>> {
    /// let head: ArenaPtr<Node> = app.global("head")?;
    /// for node in app.arena()?.list(head, |n| n.next) {
    ///     println!("{}", node?.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list<T, F>(&self, head: ArenaPtr<T>, link: F) -> List<'_, T, F>
    where
        T: ArenaType,
        F: FnMut(&T) -> ArenaPtr<T>,
    {
        List { arena: self, next: head, link, nodes: 0, landmark: ArenaPtr::NULL, ended: false }
    }
}

impl<T: ArenaType, F: FnMut(&T) -> ArenaPtr<T>> List<'_, T, F> {
    fn step(&mut self, at: ArenaPtr<T>) -> Result<Found<T>, WalkError> {
        let nodes = self.nodes;
        if at == self.landmark {
            return Err(WalkError::Cycle { at: at.cast(), nodes });
        }
        let size = u64::try_from(T::SHAPE.size()).unwrap_or(1).max(1);
        if nodes > self.arena.page_count().bytes() / size {
            return Err(WalkError::Endless { nodes });
        }
        let read = self.arena.read(at);
        let value = read.map_err(|source| WalkError::Unreadable { at: at.cast(), source })?;
        self.nodes += 1;
        if self.nodes.is_power_of_two() {
            self.landmark = at;
        }
        self.next = (self.link)(&value);
        Ok(Found { at, value })
    }
}

impl<T: ArenaType, F: FnMut(&T) -> ArenaPtr<T>> Iterator for List<'_, T, F> {
    type Item = Result<Found<T>, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.next.is_null() {
            return None;
        }
        let step = self.step(self.next);
        self.ended = step.is_err();
        Some(step)
    }
}
