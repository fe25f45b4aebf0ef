//! The blocks of loops, and those in front of them.

use std::collections::HashMap;

use crate::analysis::{Edges, Loop, LoopId, Loops};
use crate::flow::{Block, BlockId, Body, End, Step};

/// The blocks of loops, with those that were put in front of loops inside.
#[derive(Debug, Default)]
pub(super) struct Preheaders {
    /// Per loop: all its blocks. Those of a loop whose outer loop had its turn are gone.
    blocks: HashMap<LoopId, Vec<BlockId>>,
    /// By new block: the header it is in front of.
    headers: HashMap<BlockId, BlockId>,
}

impl Preheaders {
    /// Turns to a loop; those inside of it had their turns.
    pub(super) fn enter(&mut self, id: LoopId, l: &Loop) {
        let mut blocks = l.own.clone();
        for inner in &l.inner {
            blocks.extend(self.blocks.remove(inner).unwrap_or_default());
        }
        self.blocks.insert(id, blocks);
    }

    /// All blocks of a loop that had its turn, or has.
    pub(super) fn all(&self, id: LoopId) -> &[BlockId] {
        self.blocks.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The blocks of a loop that are in none inside of it, each behind those that lead to it.
    pub(super) fn own(&self, edges: &Edges, loops: &Loops, id: LoopId, l: &Loop) -> Vec<BlockId> {
        let inner = l.inner.iter().filter_map(|inner| loops.get(*inner)).map(|inner| inner.header);
        let inner: Vec<_> = inner.collect();
        let in_front = |block: &BlockId| self.headers.get(block).is_some_and(|header| inner.contains(header));
        let made = self.all(id).iter().copied().filter(in_front);
        let mut own: Vec<_> = l.own.iter().copied().chain(made).collect();
        own.sort_by_key(|block| (edges.place(self.stands_for(*block)), !self.headers.contains_key(block)));
        own
    }

    /// The block itself, or that which it is in front of.
    pub(super) fn stands_for(&self, block: BlockId) -> BlockId {
        self.headers.get(&block).copied().unwrap_or(block)
    }

    /// Puts operations in front of a loop; the result is the block, if it is a new one.
    pub(super) fn add(
        &mut self,
        body: &mut Body,
        edges: &Edges,
        id: LoopId,
        l: &Loop,
        steps: Vec<Step>,
    ) -> Option<BlockId> {
        let outside = edges.predecessors(l.header).iter().copied().filter(|from| !l.latches.contains(from));
        let outside: Vec<_> = outside.collect();
        if let [only] = outside.as_slice()
            && let Some(block) = body.block_mut(*only).filter(|block| block.end == End::Jump(l.header))
        {
            block.steps.extend(steps);
            return None;
        }
        let is_cold = |from: &BlockId| body.block(*from).is_some_and(|block| block.cold);
        let (at, cold) = (body.block(l.header)?.at, outside.iter().all(is_cold));
        let made = body.push(Block { steps, at, end: End::Jump(l.header), cold });
        for from in outside {
            body.block_mut(from)?.end.redirect(l.header, made);
        }
        self.headers.insert(made, l.header);
        // It is in the loop around this one.
        self.blocks.get_mut(&id)?.push(made);
        Some(made)
    }
}
