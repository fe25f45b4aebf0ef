//! What an analysis still has to look at.

use super::Edges;
use crate::flow::{BlockId, Body};

/// Blocks that wait to be looked at, each once; at first all that can be reached.
#[derive(Debug)]
pub(crate) struct Worklist {
    waiting: Vec<BlockId>,
    /// Per block: whether it is among them.
    waits: Vec<bool>,
}

impl Worklist {
    /// For what goes from a block to those it leads to.
    pub(crate) fn forwards(body: &Body, edges: &Edges) -> Self {
        Self::new(body, edges.order().iter().rev().copied().collect())
    }

    /// For what goes from a block to those that lead to it.
    pub(crate) fn backwards(body: &Body, edges: &Edges) -> Self {
        Self::new(body, edges.order().to_vec())
    }

    /// The last is looked at first.
    fn new(body: &Body, waiting: Vec<BlockId>) -> Self {
        Self { waiting, waits: vec![true; body.blocks.len()] }
    }

    /// The next block to look at.
    pub(crate) fn next(&mut self) -> Option<BlockId> {
        let id = self.waiting.pop()?;
        if let Some(waits) = self.waits.get_mut(id.index()) {
            *waits = false;
        }
        Some(id)
    }

    /// Has a block be looked at once more.
    pub(crate) fn add(&mut self, id: BlockId) {
        if let Some(waits) = self.waits.get_mut(id.index())
            && !std::mem::replace(waits, true)
        {
            self.waiting.push(id);
        }
    }
}
