//! Loops: blocks that lead back to a block which every way into them goes through.

use super::{Dominators, Edges};
use crate::flow::{BlockId, Body};

/// Number of a loop in [`Loops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LoopId(usize);

/// One loop.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    /// The block that every way into it goes through.
    pub(crate) header: BlockId,
    /// The loop directly around it.
    pub(crate) parent: Option<LoopId>,
    /// The blocks that lead back to the header.
    pub(crate) latches: Vec<BlockId>,
    /// Its blocks but for those of loops inside of it; the header is the first.
    pub(crate) own: Vec<BlockId>,
    /// The loops directly inside of it.
    pub(crate) inner: Vec<LoopId>,
    /// How many loops are around a block of it, this one included.
    pub(crate) depth: usize,
}

/// The natural loops of a body. Loops that can be entered in more than one place are none.
#[derive(Clone, Debug)]
pub(crate) struct Loops {
    loops: Vec<Loop>,
    /// Per block: the innermost loop it is in.
    innermost: Vec<Option<LoopId>>,
}

impl Loops {
    /// Of a body. Inner loops have smaller numbers than those around them.
    pub(crate) fn of(body: &Body, edges: &Edges, dominators: &Dominators) -> Self {
        let mut loops = Self { loops: Vec::new(), innermost: vec![None; body.blocks.len()] };
        for &header in edges.order().iter().rev() {
            let back = |from: &BlockId| dominators.dominates(edges, header, *from);
            let mut latches: Vec<_> = edges.predecessors(header).iter().copied().filter(back).collect();
            latches.sort_unstable();
            latches.dedup();
            if !latches.is_empty() {
                loops.add(header, latches, edges);
            }
        }
        for index in (0..loops.loops.len()).rev() {
            let around = loops.loops.get(index).and_then(|l| l.parent).and_then(|p| loops.get(p));
            let depth = around.map_or(0, |l| l.depth) + 1;
            if let Some(l) = loops.loops.get_mut(index) {
                l.depth = depth;
            }
        }
        loops
    }

    /// Walks from the latches back to the header. An inner loop that is met was found before, and is passed in one step.
    fn add(&mut self, header: BlockId, latches: Vec<BlockId>, edges: &Edges) {
        let id = LoopId(self.loops.len());
        self.loops.push(Loop {
            header,
            parent: None,
            latches,
            own: vec![header],
            inner: Vec::new(),
            depth: 0,
        });
        // The header may be the header of no other loop, and is in none that was found.
        self.put(header, id);
        let mut work = self.loops.last().map(|l| l.latches.clone()).unwrap_or_default();
        while let Some(block) = work.pop() {
            match self.outermost(block) {
                Some(found) if found == id => {}
                Some(found) => {
                    let Some(inner) = self.loops.get_mut(found.0) else { continue };
                    inner.parent = Some(id);
                    work.extend(edges.predecessors(inner.header));
                    if let Some(new) = self.loops.get_mut(id.0) {
                        new.inner.push(found);
                    }
                }
                None => {
                    self.put(block, id);
                    if let Some(new) = self.loops.get_mut(id.0) {
                        new.own.push(block);
                    }
                    work.extend(edges.predecessors(block));
                }
            }
        }
    }

    fn put(&mut self, block: BlockId, id: LoopId) {
        if let Some(entry) = self.innermost.get_mut(block.index()) {
            *entry = Some(id);
        }
    }

    fn outermost(&self, block: BlockId) -> Option<LoopId> {
        let mut found = self.innermost(block)?;
        while let Some(parent) = self.get(found).and_then(|l| l.parent) {
            found = parent;
        }
        Some(found)
    }

    /// The loop with this number.
    pub(crate) fn get(&self, id: LoopId) -> Option<&Loop> {
        self.loops.get(id.0)
    }

    /// All loops, inner ones before those around them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LoopId, &Loop)> {
        self.loops.iter().enumerate().map(|(index, l)| (LoopId(index), l))
    }

    /// The innermost loop that a block is in.
    pub(crate) fn innermost(&self, block: BlockId) -> Option<LoopId> {
        self.innermost.get(block.index()).copied().flatten()
    }

    /// How many loops a block is in.
    pub(crate) fn depth(&self, block: BlockId) -> usize {
        self.innermost(block).and_then(|id| self.get(id)).map_or(0, |l| l.depth)
    }

    /// Whether a block is in a loop or in one inside of it.
    pub(crate) fn contains(&self, id: LoopId, block: BlockId) -> bool {
        let mut at = self.innermost(block);
        while let Some(found) = at.filter(|found| *found != id) {
            at = self.get(found).and_then(|l| l.parent);
        }
        at.is_some()
    }
}
