//! Loops that the backend sees as a whole.
//!
//! The backend moves out of a loop what is the same in each of its iterations. It finds such operations on a walk down the tree of
//! dominators, and forgets the loop with the first block outside of it that it meets: what is met later is not improved any
//! more, and what was computed before the loop may be computed in it. A block outside of a loop is below the loop's blocks in that
//! tree if there is no other way to it.
//!
//! So there is one: before the loop, a way there that nothing ever takes ([`End::Pretend`]). Then the values that leave the loop
//! are those that it goes on with, too, and are not computed once more behind it.
//!
//! What an edge out of a loop has to move is in a block of its own if its target has other ways in. That of an edge that is taken
//! when the runtime was asked is cold.

use std::collections::HashMap;

use crate::analysis::{Dominators, Edges, LoopId, Loops};
use crate::flow::{Block, BlockId, Body, End};

/// More ways out of a loop are not worth as many tests before it.
const WAYS_OUT: usize = 4;

/// In functions with more loops there are no such ways: the backend's time for each grows with the number of all.
const LOOPS: usize = 64;

/// Adds such blocks and ways; the result is how many.
pub(super) fn keep(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let loops = Loops::of(body, &edges, &Dominators::of(&edges));
    let exits = Exits { edges: &edges, loops: &loops, apart: HashMap::new(), ways: HashMap::new() };
    exits.find(body).lead_past(body)
}

/// The ways out of loops.
struct Exits<'a> {
    edges: &'a Edges,
    loops: &'a Loops,
    /// The blocks of edges that leave a loop, by the outermost loop they leave, whether they are cold, and where they lead.
    apart: HashMap<(LoopId, bool, BlockId), BlockId>,
    /// Per loop: the blocks behind it that there is no way around the loop to.
    ways: HashMap<LoopId, Vec<BlockId>>,
}

impl Exits<'_> {
    /// Finds the ways out, and gives edges blocks.
    fn find(mut self, body: &mut Body) -> Self {
        for &from in self.edges.order() {
            let Some(&Block { mut end, at, cold, .. }) = body.block(from) else { continue };
            let is_branch = matches!(end, End::Branch { .. });
            end.each_successor_mut(|to| {
                let Some(outer) = self.outermost_left(from, *to) else { return };
                let is_shared = self.edges.single_predecessor(*to).is_none();
                if is_shared || !is_branch {
                    let cold = cold || !is_branch || body.block(*to).is_some_and(|block| block.cold);
                    let end = End::Jump(*to);
                    *to = *self
                        .apart
                        .entry((outer, cold, *to))
                        .or_insert_with(|| body.push(Block { steps: Vec::new(), at, end, cold }));
                }
                let ways = self.ways.entry(outer).or_default();
                if !ways.contains(to) {
                    ways.push(*to);
                }
            });
            if let Some(block) = body.block_mut(from) {
                block.end = end;
            }
        }
        self
    }

    /// The outermost loop that the way from a block to another leaves.
    fn outermost_left(&self, from: BlockId, to: BlockId) -> Option<LoopId> {
        let parent = |id: &LoopId| self.loops.get(*id).and_then(|l| l.parent);
        let around = std::iter::successors(self.loops.innermost(from), parent);
        around.take_while(|id| !self.loops.contains(*id, to)).last()
    }

    /// Before each loop, adds ways to the blocks behind it.
    fn lead_past(mut self, body: &mut Body) -> u32 {
        let mut changes = self.apart.len();
        if self.loops.iter().count() > LOOPS {
            return u32::try_from(changes).unwrap_or(u32::MAX);
        }
        let edges = Edges::of(body);
        for (id, l) in self.loops.iter() {
            let ways = self.ways.remove(&id).unwrap_or_default();
            let Some(header) = body.block(l.header) else { continue };
            if ways.len() > WAYS_OUT || l.header == BlockId::ENTRY {
                continue;
            }
            changes += ways.len();
            let at = header.steps.first().map_or(header.at, |step| step.at);
            // One test for all; what it seems to lead to is cold, and leads on.
            let mut push = |end, cold| body.push(Block { steps: Vec::new(), at, end, cold });
            let mut leads: Vec<_> = ways.into_iter().map(|to| push(End::Jump(to), true)).collect();
            let Some(mut never) = leads.pop() else { continue };
            for lead in leads {
                never = push(End::Pretend { never, next: lead }, true);
            }
            let first = push(End::Pretend { never, next: l.header }, false);
            for &from in edges.predecessors(l.header) {
                if self.loops.contains(id, from) {
                    continue;
                }
                if let Some(block) = body.block_mut(from) {
                    block.end.redirect(l.header, first);
                }
            }
        }
        u32::try_from(changes).unwrap_or(u32::MAX)
    }
}
