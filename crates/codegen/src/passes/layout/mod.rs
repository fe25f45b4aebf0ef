//! The order of blocks, as far as the backend can be led to it.
//!
//! The backend lays blocks out in reverse post-order: what a branch goes to where its test does not hold comes directly behind, the
//! other way after all that can be reached from there. So
//! - where one way of a branch stays in the loop, that is the one behind;
//! - a loop that tests at its top, briefly, tests at its bottom as well: an iteration has one jump less;
//! - edges that leave loops get blocks of their own, so that what they have to move is not in the middle of the loop, and the backend
//!   gets to see all of a loop before it sees what is behind it ([`whole`]);
//! - what ends where execution never comes is cold;
//! - blocks that nothing leads to are gone.
//!
//! Nothing is assumed. A test that is there twice is made as often as before.

mod whole;

use isa::{AluOp, Cond};

use crate::analysis::{self, Dominators, Edges, Loops};
use crate::flow::{Block, BlockId, Body, End, Op, Src, Step, Test};

/// The most operations before the test of a loop that are worth having twice.
const HEADER_STEPS: usize = 4;

/// Leads the backend to a good order; the result is how many branches and edges were changed.
pub(super) fn run(body: &mut Body) -> u32 {
    let inverted = invert_loops(body);
    mark_cold(body);
    let changed = Shape::of(body).improve(body) + whole::keep(body);
    analysis::drop_unreached(body);
    inverted + changed
}

/// How blocks are connected, and the loops they are in.
struct Shape {
    edges: Edges,
    loops: Loops,
}

impl Shape {
    fn of(body: &Body) -> Self {
        let edges = Edges::of(body);
        let loops = Loops::of(body, &edges, &Dominators::of(&edges));
        Self { edges, loops }
    }

    /// Turns branches round.
    fn improve(&self, body: &mut Body) -> u32 {
        let mut changes = 0;
        for &id in self.edges.order() {
            changes += u32::from(self.turn(body, id).is_some());
        }
        changes
    }

    /// Whether the way from a block to another leaves the innermost loop that the block is in.
    fn leaves(&self, from: BlockId, to: BlockId) -> bool {
        self.loops.innermost(from).is_some_and(|id| !self.loops.contains(id, to))
    }

    /// Makes the likelier way of a branch the one for which its test does not hold.
    fn turn(&self, body: &mut Body, id: BlockId) -> Option<()> {
        let End::Branch { test, taken, next } = body.block(id)?.end else { return None };
        let is_cold = |to| body.block(to).is_some_and(|block| block.cold);
        let wrong = match (self.leaves(id, taken), self.leaves(id, next)) {
            (true, false) => false,
            (false, true) => true,
            _ => is_cold(next) && !is_cold(taken),
        };
        if !wrong {
            return None;
        }
        let test = match test.negated() {
            Some(test) => test,
            None => {
                let Test { width, a, b, .. } = test;
                let dst = body.new_var()?;
                let block = body.block_mut(id)?;
                block.steps.push(Step { at: block.at, op: Op::Alu { width, op: AluOp::And, dst, a, b } });
                Test { width, cond: Cond::Eq, a: dst, b: Src::Imm(0) }
            }
        };
        body.block_mut(id)?.end = End::Branch { test, taken: next, next: taken };
        Some(())
    }
}

/// Puts a copy of the test at the top of a loop behind the block that leads back there.
fn invert_loops(body: &mut Body) -> u32 {
    let shape = Shape::of(body);
    let mut changes = 0;
    for (id, found) in shape.loops.iter() {
        let &[latch] = found.latches.as_slice() else { continue };
        let Some(header) = body.block(found.header) else { continue };
        let End::Branch { taken, next, .. } = header.end else { continue };
        // The way in must not lead to the beginning of another loop: that and this would become one.
        let stays = |to: BlockId| shape.loops.innermost(to) == Some(id) && to != found.header;
        let leaves = |to: BlockId| !shape.loops.contains(id, to);
        let one_way_out = stays(taken) && leaves(next) || stays(next) && leaves(taken);
        let is_brief = header.steps.len() <= HEADER_STEPS && header.steps.iter().all(|s| is_brief(&s.op));
        let jumps =
            latch != found.header && body.block(latch).is_some_and(|b| b.end == End::Jump(found.header));
        if one_way_out && is_brief && jumps {
            let Block { steps, at, end, .. } = header.clone();
            if let Some(latch) = body.block_mut(latch) {
                latch.steps.extend(steps);
                (latch.at, latch.end) = (at, end);
                changes += 1;
            }
        }
    }
    changes
}

fn is_brief(op: &Op) -> bool {
    op.is_pure() || matches!(op, Op::Load { .. })
}

/// Marks what leads nowhere but to where execution never comes, and what only is reached from there or when a run has to give up.
fn mark_cold(body: &mut Body) {
    let edges = Edges::of(body);
    for &id in edges.order().iter().skip(1) {
        // What leads back comes behind.
        let earlier = |from: &&BlockId| edges.place(**from) < edges.place(id);
        let rarely = |from: &BlockId| {
            body.block(*from).is_some_and(|block| {
                let gives_up = matches!(block.end, End::MayGoto { taken, next, .. } | End::Look { taken, next } if taken == id && next != id);
                block.cold || gives_up
            })
        };
        let is_cold = edges.predecessors(id).iter().filter(earlier).all(rarely);
        if let Some(block) = body.block_mut(id) {
            block.cold |= is_cold;
        }
    }
    for &id in edges.order().iter().rev() {
        let Some(block) = body.block(id) else { continue };
        let never = match block.end {
            End::Trap => true,
            End::Exit(_) => false,
            end => end.successors().all(|to| body.block(to).is_some_and(|block| block.cold)),
        };
        if never && let Some(block) = body.block_mut(id) {
            block.cold = true;
        }
    }
}
