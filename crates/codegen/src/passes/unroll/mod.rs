//! Several iterations of an innermost loop in a row.
//!
//! ```text
//!     gate:  enough iterations left to go, enough in the budget?   no: rolled
//!     four copies of the body, without may_goto                    back to gate
//!     rolled: the loop as it was
//! ```
//!
//! The loop budget is looked at once for all copies; who leaves in their midst gives back what was not used, so that every
//! iteration is counted exactly once. A test for the end of the loop that compares a variable which grows by a constant with
//! something that does not change is done once for all copies too. Everything else stays in each copy, in its order.
//!
//! Addresses of all copies are constant distances from those of the first (`rebase`), behind one test that none of them wraps
//! around. Loops with calls, long ones, and those that are likely to end at once are left alone: nothing would be gained.

mod copy;
mod count;
mod rebase;

use crate::analysis::{Dominators, Edges, Inductions, Loop, Loops, Shape};
use crate::flow::{Block, Body, End, Op};
use crate::limits;

/// Operations of the longest bodies that are laid out twice and four times.
const TWICE: usize = 32;
const FOUR_TIMES: usize = 16;
/// A function of fewer operations may grow as if it had so many.
const SMALL: usize = 128;

/// Unrolling a loop makes fewer blocks: each end of a block in each copy at most two, and a few in front.
const MOST_BLOCKS: usize = 256;

/// A loop that may be unrolled, and what is known of it.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    edges: &'a Edges,
    dominators: &'a Dominators,
    shape: &'a Shape,
    inductions: &'a Inductions,
    /// How often its body is to be laid out.
    copies: u32,
}

/// Unrolls; the result is how many loops.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let dominators = Dominators::of(&edges);
    let loops = Loops::of(body, &edges, &dominators);
    let mut chosen: Vec<&Loop> = loops.iter().map(|(_, l)| l).filter(|l| l.inner.is_empty()).collect();
    // What is deepest is executed most often, and what is short gains most; beside loops in loops, what is done once is not worth
    // the time to compile it.
    let steps_of =
        |l: &Loop| -> usize { l.own.iter().filter_map(|id| body.block(*id)).map(|b| b.steps.len()).sum() };
    chosen.sort_by_cached_key(|l| (core::cmp::Reverse(l.depth), steps_of(l)));
    if chosen.first().is_some_and(|l| l.depth > 1) {
        chosen.retain(|l| l.depth > 1);
    }
    // The function may become half as long again, but not so long that the backend would take less care.
    let steps = body.steps();
    let mut room = (steps / 2).max(SMALL).min(limits::FULL_EFFORT_INSNS.saturating_sub(steps));
    let mut changes = 0;
    for l in chosen {
        if body.blocks.len() + MOST_BLOCKS > limits::FULL_EFFORT_BLOCKS {
            break;
        }
        if body.settled.contains(&l.header) {
            continue;
        }
        let Some(shape) = Shape::of(body, &edges, l) else { continue };
        let Some(copies) = copies(body, &shape) else { continue };
        let growth = shape.size * copies as usize;
        let Some(left) = room.checked_sub(growth) else { continue };
        let inductions = Inductions::of(body, &edges, &dominators, &shape.blocks, &shape.latches);
        let (edges, dominators) = (&edges, &dominators);
        let l = Candidate { edges, dominators, shape: &shape, inductions: &inductions, copies };
        let exit = count::find(body, l);
        if !goes_on(&shape, exit.is_some()) {
            continue;
        }
        room = left;
        copy::unroll(body, l, exit);
        changes += 1;
    }
    changes
}

/// Whether a loop can be expected to have more than a few iterations, or those to be so short that counting them matters.
///
/// A counted loop that ends early when it has found something in an array can; one that ends where two things differ often does
/// so at once, and what is asked before several iterations would not pay. In a loop that is not counted each copy still tests
/// for its end, so that little is gained unless it is arithmetic alone.
fn goes_on(shape: &Shape, counted: bool) -> bool {
    match shape.exits {
        1 if counted => true,
        1 => shape.iterations > 0 && shape.loads == 0,
        2 => counted && shape.loads <= 1,
        _ => false,
    }
}

/// How many copies are worth it.
fn copies(body: &Body, shape: &Shape) -> Option<u32> {
    let mut blocks = shape.blocks.iter().filter_map(|id| body.block(*id));
    let worth = |block: &Block| {
        !block.cold
            && block.steps.iter().all(|step| !matches!(step.op, Op::Call { .. } | Op::LoadPacket { .. }))
            && !matches!(block.end, End::Trap | End::Exit(_))
    };
    match shape.size {
        _ if !blocks.all(worth) => None,
        size if size <= FOUR_TIMES => Some(4),
        size if size <= TWICE => Some(2),
        _ => None,
    }
}
