//! What others made or left behind is cleared away.
//!
//! - Numbers and copies are put where they are read, within a block and from a block into those that only it leads to; branches
//!   that numbers decide are jumps.
//! - A way through an empty block leads to where that goes.
//! - A block that only one other goes to, and surely, is joined to it.
//! - Pure operations whose results nobody reads are dropped, as are blocks that nothing leads to.
//!
//! Nothing is assumed. Ends that count iterations stay, once each.

mod values;

use crate::analysis::{self, Edges, Liveness};
use crate::flow::{Block, BlockId, Body, End, Op};

/// Clears a body; the result is how much was changed.
pub(super) fn run(body: &mut Body) -> u32 {
    let changes = values::propagate(body) + thread(body) + join(body) + drop_unread(body);
    analysis::drop_unreached(body);
    changes
}

/// Leads edges past empty blocks.
fn thread(body: &mut Body) -> u32 {
    /// Blocks that are passed at most: some lead round in circles.
    const PASSED: usize = 16;
    let mut changes = 0;
    for index in 0..body.blocks.len() {
        let id = BlockId::new(index);
        let Some(mut end) = body.block(id).map(|block| block.end) else { continue };
        end.each_successor_mut(|to| {
            for _ in 0..PASSED {
                match body.block(*to) {
                    Some(Block { steps, end: End::Jump(next), .. }) if steps.is_empty() && next != to => {
                        *to = *next;
                        changes += 1;
                    }
                    _ => break,
                }
            }
        });
        if let End::Branch { taken, next, .. } = end
            && taken == next
        {
            end = End::Jump(next);
        }
        if let Some(block) = body.block_mut(id) {
            block.end = end;
        }
    }
    changes
}

/// Joins blocks with the only ones that lead to them.
fn join(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let mut changes = 0;
    for &id in edges.order() {
        while let Some(Block { end: End::Jump(to), .. }) = body.block(id) {
            let to = *to;
            if to == id || edges.single_predecessor(to).is_none() {
                break;
            }
            let Some(other) = body.block_mut(to) else { break };
            // Nothing leads there any more.
            let (steps, at, end) = (std::mem::take(&mut other.steps), other.at, other.end);
            other.end = End::Trap;
            let Some(block) = body.block_mut(id) else { break };
            block.steps.extend(steps);
            (block.at, block.end) = (at, end);
            changes += 1;
        }
    }
    changes
}

/// Drops pure operations that nobody needs.
fn drop_unread(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let live = Liveness::of(body, &edges);
    let mut changes = 0;
    for &id in edges.order() {
        let mut needed = live.before_end(body, id);
        let Some(block) = body.block_mut(id) else { continue };
        let before = block.steps.len();
        let mut keep: Vec<_> = block
            .steps
            .iter()
            .rev()
            .map(|step| {
                let is_read = step.op.result().is_none_or(|var| needed.contains(var));
                let keep = !step.op.is_pure() || is_read && !is_idle(&step.op);
                if keep {
                    needed.step_back(&step.op);
                }
                keep
            })
            .collect();
        block.steps.retain(|_| keep.pop().unwrap_or(true));
        changes += u32::try_from(before - block.steps.len()).unwrap_or(u32::MAX);
    }
    changes
}

/// Whether an operation leaves everything as it is.
fn is_idle(op: &Op) -> bool {
    use crate::flow::Src;
    matches!(*op, Op::Mov { width: isa::Width::W64, dst, src: Src::Var(src) } if dst == src)
}
