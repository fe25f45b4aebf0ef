//! States saved along the paths: a tree that remembers which of them have been walked to the end.

use std::collections::HashMap;

use isa::InsnIdx;

use crate::state::{NodeId, State};
use crate::walk::equal::same_callsites;
use crate::walk::stack_live::ChainId;

/// A loop as one chain of calls gets to it: the chain, and the component of the function.
pub(crate) type LoopKey = (ChainId, u32);

/// A saved state.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: InsnIdx,
    callsite: InsnIdx,
    /// `None` once it can no longer serve.
    pub(crate) state: Option<State>,
    parent: Option<NodeId>,
    /// Paths from here that are not yet walked to the end.
    branches: u32,
    /// The loop the state is in.
    in_loop: Option<LoopKey>,
    /// Still compared with states that come by.
    listed: bool,
    /// What does not matter any more has been taken out of it.
    pub(crate) cleaned: bool,
    hits: u32,
    misses: u32,
}

/// Paths through a loop, from the first state saved in it until all paths from that have been walked.
#[derive(Debug, Default)]
struct Visit {
    entry: Option<NodeId>,
    /// Whether a path has been cut off at a state of the loop that was still being walked: until the visit is over, what is
    /// known of the loop's states is not complete.
    closed: bool,
}

/// The tree, with the states of each instruction.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    nodes: Vec<Node>,
    /// For each slot, the states that are compared with what comes by outside of calls, newest last.
    lists: Vec<Vec<NodeId>>,
    /// The same in functions, by the call they were entered by.
    called: HashMap<(InsnIdx, InsnIdx), Vec<NodeId>>,
    loops: HashMap<LoopKey, Visit>,
    bytes: usize,
    /// Most states held at once.
    peak: u64,
    held: u64,
}

impl Saved {
    /// For a program of so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self { lists: vec![Vec::new(); slots], ..Self::default() }
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// States saved at an instruction in a function entered by the same call, newest last.
    pub(crate) fn at(&self, at: InsnIdx, like: &State) -> &[NodeId] {
        let list = match callsite(like) {
            InsnIdx(0) => self.lists.get(at.index()),
            callsite => self.called.get(&(at, callsite)),
        };
        list.map_or(&[], Vec::as_slice)
    }

    fn list_mut(&mut self, at: InsnIdx, callsite: InsnIdx) -> Option<&mut Vec<NodeId>> {
        match callsite {
            InsnIdx(0) => self.lists.get_mut(at.index()),
            callsite => Some(self.called.entry((at, callsite)).or_default()),
        }
    }

    /// Saves a state under `parent`; one path goes on from it.
    pub(crate) fn save(&mut self, at: InsnIdx, state: State, in_loop: Option<LoopKey>) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.bytes += state.bytes();
        let callsite = callsite(&state);
        self.held += 1;
        self.peak = self.peak.max(self.held);
        if let Some(key) = in_loop {
            self.loops.entry(key).or_default().entry.get_or_insert(id);
        }
        self.nodes.push(Node {
            at,
            callsite,
            parent: state.parent,
            state: Some(state),
            branches: 1,
            in_loop,
            listed: true,
            cleaned: false,
            hits: 0,
            misses: 0,
        });
        if let Some(list) = self.list_mut(at, callsite) {
            list.push(id);
        }
        id
    }

    /// One more path goes on from `parent`.
    pub(crate) fn fork(&mut self, parent: Option<NodeId>) {
        if let Some(node) = parent.and_then(|p| self.node_mut(p)) {
            node.branches += 1;
        }
    }

    /// A path below `parent` has ended.
    pub(crate) fn end_path(&mut self, parent: Option<NodeId>) {
        let mut next = parent;
        while let Some(id) = next {
            let Some(node) = self.node_mut(id) else { return };
            node.branches = node.branches.saturating_sub(1);
            if node.branches > 0 {
                return;
            }
            next = node.parent;
            let (in_loop, listed) = (node.in_loop, node.listed);
            if let Some(visit) = in_loop.and_then(|key| self.loops.get_mut(&key))
                && visit.entry == Some(id)
            {
                *visit = Visit::default();
            }
            if !listed {
                self.forget(id);
            }
        }
    }

    /// Whether paths from this state are still to be walked.
    pub(crate) fn in_progress(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|n| n.branches > 0)
    }

    /// Whether paths were cut off in the loop the state is in, before all of the loop has been walked.
    #[doc(alias = "incomplete_read_marks")]
    pub(crate) fn is_incomplete(&self, id: NodeId) -> bool {
        let in_loop = self.node(id).and_then(|n| n.in_loop);
        in_loop.and_then(|key| self.loops.get(&key)).is_some_and(|visit| visit.closed)
    }

    /// A path was cut off at `id`, and what is known of that one is not complete.
    #[doc(alias = "add_scc_backedge")]
    pub(crate) fn close_loop(&mut self, id: NodeId) {
        let in_loop = self.node(id).and_then(|n| n.in_loop);
        if let Some(visit) = in_loop.and_then(|key| self.loops.get_mut(&key)) {
            visit.closed = true;
        }
    }

    /// The last state saved at this place on this path; with `skip`, not the nearest saved one. What is still being walked
    /// is on this path: the walk is depth first.
    pub(crate) fn previous(
        &self,
        parent: Option<NodeId>,
        at: InsnIdx,
        like: &State,
        skip: bool,
    ) -> Option<&State> {
        let candidates = self.at(at, like).iter().rev().filter(|id| !(skip && Some(**id) == parent));
        candidates
            .filter_map(|id| self.node(*id))
            .filter(|node| node.branches > 0)
            .filter_map(|node| node.state.as_ref())
            .find(|state| same_callsites(state, like))
    }

    /// The state was compared in vain; those that hardly ever match are no longer compared (the kernel's rule).
    pub(crate) fn missed(&mut self, id: NodeId, count: bool, forced: bool) {
        let Some(node) = self.node_mut(id) else { return };
        node.misses += u32::from(count);
        let patience = if forced && node.branches > 0 { 64 } else { 3 };
        if node.misses <= node.hits.saturating_mul(patience).saturating_add(patience) {
            return;
        }
        node.listed = false;
        let (at, callsite, done) = (node.at, node.callsite, node.branches == 0);
        if let Some(ids) = self.list_mut(at, callsite) {
            ids.retain(|i| *i != id);
        }
        if done {
            self.forget(id);
        }
    }

    pub(crate) fn hit(&mut self, id: NodeId) {
        if let Some(node) = self.node_mut(id) {
            node.hits += 1;
        }
    }

    /// Puts another state, which takes no more room, in the place of a saved one.
    pub(crate) fn replace(&mut self, id: NodeId, with: State) {
        let new = with.bytes();
        let Some(node) = self.node_mut(id) else { return };
        node.cleaned = true;
        let old = node.state.replace(with).map_or(0, |s| s.bytes());
        self.bytes = (self.bytes + new).saturating_sub(old);
    }

    fn forget(&mut self, id: NodeId) {
        if let Some(state) = self.node_mut(id).and_then(|n| n.state.take()) {
            self.bytes = self.bytes.saturating_sub(state.bytes());
            self.held = self.held.saturating_sub(1);
        }
    }

    /// Bytes of the states held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.nodes.len() * size_of::<Node>()
    }

    /// States saved in all, and most held at once.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.nodes.len() as u64, self.peak)
    }
}

fn callsite(state: &State) -> InsnIdx {
    state.frame().map_or(InsnIdx(0), |f| f.callsite)
}
