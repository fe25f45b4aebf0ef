//! States saved along the paths: a tree that remembers which of them have been walked to the end.

use std::collections::HashMap;

use isa::InsnIdx;

use crate::equal::same_callsites;
use crate::state::{NodeId, State};

/// A saved state.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: InsnIdx,
    /// `None` once it can no longer serve.
    pub(crate) state: Option<State>,
    parent: Option<NodeId>,
    /// Distance from the root.
    depth: u32,
    /// Paths from here that are not yet walked to the end.
    branches: u32,
    /// A saved state further up that a path from here was cut off at, while that one was still being walked: what is known
    /// of this state is complete only when that one is.
    loop_entry: Option<NodeId>,
    hits: u32,
    misses: u32,
}

/// The tree, with the states of each instruction.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    nodes: Vec<Node>,
    by_insn: HashMap<InsnIdx, Vec<NodeId>>,
    bytes: usize,
    /// Most states held at once.
    peak: u64,
    held: u64,
}

impl Saved {
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// States saved at an instruction, newest first.
    pub(crate) fn at(&self, at: InsnIdx) -> Vec<NodeId> {
        self.by_insn.get(&at).map_or_else(Vec::new, |ids| ids.iter().rev().copied().collect())
    }

    /// Saves a state under `parent`; one path goes on from it.
    pub(crate) fn save(&mut self, at: InsnIdx, state: State) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let parent = state.parent;
        let depth = parent.and_then(|p| self.node(p)).map_or(0, |p| p.depth + 1);
        self.bytes += state.bytes();
        self.held += 1;
        self.peak = self.peak.max(self.held);
        self.nodes.push(Node {
            at,
            state: Some(state),
            parent,
            depth,
            branches: 1,
            loop_entry: None,
            hits: 0,
            misses: 0,
        });
        self.by_insn.entry(at).or_default().push(id);
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
            let listed = self.by_insn.get(&self.nodes.get(id.0 as usize).map_or(InsnIdx(0), |n| n.at));
            if !listed.is_some_and(|ids| ids.contains(&id)) {
                self.forget(id);
            }
        }
    }

    /// Whether paths from this state are still to be walked.
    pub(crate) fn in_progress(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|n| n.branches > 0)
    }

    /// The state further up that must be done before this (walked) one is complete, if any is left.
    pub(crate) fn open_loop(&self, id: NodeId) -> Option<NodeId> {
        let mut next = self.node(id)?.loop_entry;
        while let Some(entry) = next {
            let node = self.node(entry)?;
            if node.branches > 0 {
                return Some(entry);
            }
            next = node.loop_entry;
        }
        None
    }

    /// The path below `from` was cut off at `entry`, which is still being walked.
    pub(crate) fn close_loop(&mut self, from: Option<NodeId>, entry: NodeId) {
        let Some(entry_depth) = self.node(entry).map(|n| n.depth) else { return };
        let mut next = from;
        while let Some(id) = next {
            let outer = self.node(id).and_then(|n| n.loop_entry).and_then(|l| self.node(l)).map(|n| n.depth);
            let Some(node) = self.node_mut(id) else { return };
            if node.depth <= entry_depth {
                return;
            }
            if outer.is_some_and(|depth| depth <= entry_depth) {
                // So have all between here and there.
                return;
            }
            node.loop_entry = Some(entry);
            next = node.parent;
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
        let ids = self.by_insn.get(&at)?;
        let candidates = ids.iter().rev().filter(|id| !(skip && Some(**id) == parent));
        candidates
            .filter_map(|id| self.node(*id))
            .filter(|node| node.branches > 0)
            .filter_map(|node| node.state.as_ref())
            .find(|state| same_callsites(state, like))
    }

    /// The state was compared in vain; those that never match are dropped from the list (the kernel's rule).
    pub(crate) fn miss(&mut self, id: NodeId, forced: bool) {
        let Some(node) = self.node_mut(id) else { return };
        node.misses += 1;
        let patience = if forced && node.branches > 0 { 64 } else { 3 };
        if node.misses <= node.hits.saturating_mul(patience).saturating_add(patience) {
            return;
        }
        let (at, done) = (node.at, node.branches == 0);
        if let Some(ids) = self.by_insn.get_mut(&at) {
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

    /// States held now, and most at once.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.held, self.peak)
    }
}
