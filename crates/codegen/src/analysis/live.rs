//! Which variables still matter.

use super::{Edges, VarSet, Worklist};
use crate::flow::{Block, BlockId, Body};

/// Per block, the variables whose values at its beginning may still be read.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    entries: Vec<VarSet>,
    none: VarSet,
}

impl Liveness {
    /// Of a body.
    pub(crate) fn of(body: &Body, edges: &Edges) -> Self {
        let none = VarSet::empty(body.vars);
        let mut live = Self { entries: vec![none.clone(); body.blocks.len()], none };
        // What a block needs of its own, and what it overwrites before anybody reads it.
        let local: Vec<_> = body.blocks.iter().map(|block| reads_and_writes(block, body.vars)).collect();
        let mut work = Worklist::backwards(body, edges);
        while let Some(id) = work.next() {
            let Some((reads, writes)) = local.get(id.index()) else { continue };
            let mut needed = live.behind(body, id);
            needed.subtract(writes);
            needed.extend(reads);
            if live.entries.get_mut(id.index()).is_some_and(|entry| entry.extend(&needed)) {
                edges.predecessors(id).iter().for_each(|from| work.add(*from));
            }
        }
        live
    }

    /// At the beginning of a block.
    pub(crate) fn at(&self, id: BlockId) -> &VarSet {
        self.entries.get(id.index()).unwrap_or(&self.none)
    }

    /// Behind the end of a block: where it may lead. What the end itself reads is not in it.
    pub(crate) fn behind(&self, body: &Body, id: BlockId) -> VarSet {
        union_behind(body, id, &self.entries)
    }

    /// Behind the last operation of a block, before its end.
    pub(crate) fn before_end(&self, body: &Body, id: BlockId) -> VarSet {
        let mut set = self.behind(body, id);
        if let Some(block) = body.block(id) {
            block.end.reads(|var| _ = set.insert(var));
        }
        set
    }
}

/// What is in the sets of the blocks that may come next, of sets for the beginning of each block.
pub(crate) fn union_behind(body: &Body, id: BlockId, entries: &[VarSet]) -> VarSet {
    let mut set = VarSet::empty(body.vars);
    for next in body.block(id).into_iter().flat_map(|block| block.end.successors()) {
        if let Some(entry) = entries.get(next.index()) {
            set.extend(entry);
        }
    }
    set
}

/// What a block reads before it writes it, and what it writes.
pub(crate) fn reads_and_writes(block: &Block, vars: u16) -> (VarSet, VarSet) {
    let (mut reads, mut writes) = (VarSet::empty(vars), VarSet::empty(vars));
    for step in &block.steps {
        step.op.reads(|var| {
            if !writes.contains(var) {
                reads.insert(var);
            }
        });
        step.op.writes(|var| _ = writes.insert(var));
    }
    block.end.reads(|var| {
        if !writes.contains(var) {
            reads.insert(var);
        }
    });
    (reads, writes)
}
