//! Subprograms in the place of their calls.
//!
//! Small ones are inlined everywhere, larger ones where the call is in a loop, large ones where there is but one call: bottom-up over
//! the calls, so that a callee has its own callees in it already, and only until the program has twice the operations it began with.
//!
//! The callee's variables become new ones of the caller, its stack lies where the call would have put it, its loop budget is begun
//! anew. What is inlined keeps the instructions it comes from, and says in the place of which call it stands.
//!
//! Not inlined is what returns without saying so: an operation whose lowering leaves the function (a load from a packet, a tail call,
//! any call of a program that throws exceptions). What is not called any more has no code, unless the runtime may enter it.

mod graph;
mod splice;

use isa::CallTarget;

use crate::analysis::{Dominators, Edges, Loops};
use crate::flow::{BlockId, Body, End, Op};
use crate::limits;
use crate::lower::call::TAIL_CALL;
use crate::machine::Effort;
use crate::source::Source;
use graph::Graph;
use splice::Splice;

/// A callee of no more operations is inlined wherever it is called: the call itself takes nearly as many.
const SMALL: usize = 30;
/// The same where the call is in a loop.
const SMALL_IN_LOOP: usize = 120;
/// The same where it is the only call.
const LARGEST: usize = 2_000;
/// A caller grows to no more operations than this: the backend's time for larger functions grows faster than they do.
const LARGEST_CALLER: usize = 6_000;
/// A caller grows to no more blocks than this.
const MOST_BLOCKS: usize = 1_000;
/// A caller grows to no more variables than this.
const MOST_VARS: u16 = 256;
/// What a program may grow by if it has fewer operations than this.
const LEAST_GROWTH: usize = 400;

/// Inlines; the result is how many calls.
pub(super) fn run(bodies: &mut Vec<Body>, source: Source<'_>) -> u32 {
    if bodies.len() < 2 || source.throws() {
        return 0;
    }
    let graph = Graph::of(bodies, source);
    // What a finished body can be used for; `None` before.
    let mut candidates: Vec<Option<Candidate>> = vec![None; bodies.len()];
    let mut growth = bodies.iter().map(size).sum::<usize>().max(LEAST_GROWTH);
    let mut changes = 0;
    for &index in graph.bottom_up() {
        let Some(body) = bodies.get_mut(index) else { continue };
        if graph.calls_any(index) && limits::effort(body) == Effort::Full {
            let caller = std::mem::replace(body, Body::empty(body.subprogram, body.start));
            let loops = Nesting::of(&caller);
            let mut splice = Splice::new(caller);
            splice.run(|caller, block, call| {
                let target = graph.callee(source, call)?;
                let candidate = candidates.get(target).copied().flatten()?;
                let callee = bodies.get(target)?;
                let sole = graph.is_sole_call_of(target);
                let growing = if sole { 0 } else { candidate.size };
                if !candidate.is_wanted(sole, loops.is_in_loop(block))
                    || growing > growth
                    || !fits(caller, callee)
                {
                    return None;
                }
                growth -= growing;
                Some(callee)
            });
            let (caller, count) = splice.finish();
            changes += count;
            if let Some(body) = bodies.get_mut(index) {
                *body = caller;
            }
        }
        if let (Some(body), Some(candidate)) = (bodies.get(index), candidates.get_mut(index)) {
            *candidate = Candidate::new(body);
        }
    }
    if changes > 0 {
        graph::drop_unused(bodies, source);
    }
    changes
}

/// A body that can be inlined.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    size: usize,
}

impl Candidate {
    fn new(body: &Body) -> Option<Self> {
        let leaves = |op: &Op| {
            let tail_call = CallTarget::Helper(TAIL_CALL);
            matches!(op, Op::LoadPacket { .. })
                || matches!(op, Op::Call { target, .. } if *target == tail_call)
        };
        let returns = body.blocks.iter().any(|block| matches!(block.end, End::Exit(_)));
        let possible = body.subprogram != 0
            && returns
            && !body.blocks.iter().any(|b| b.steps.iter().any(|s| leaves(&s.op)));
        possible.then(|| Self { size: size(body) })
    }

    fn is_wanted(self, sole: bool, in_loop: bool) -> bool {
        self.size <= SMALL || (in_loop && self.size <= SMALL_IN_LOOP) || (sole && self.size <= LARGEST)
    }
}

/// Operations, those that end blocks included.
fn size(body: &Body) -> usize {
    body.steps() + body.blocks.len()
}

/// Whether a caller may grow by a callee.
fn fits(caller: &Splice, callee: &Body) -> bool {
    caller.steps() + size(callee) <= LARGEST_CALLER
        && caller.blocks() + callee.blocks.len() <= MOST_BLOCKS
        && caller.first_var().saturating_add(callee.vars) <= MOST_VARS
        && caller.room_for(callee)
}

/// Which blocks are in loops.
struct Nesting(Loops);

impl Nesting {
    fn of(body: &Body) -> Self {
        let edges = Edges::of(body);
        Self(Loops::of(body, &edges, &Dominators::of(&edges)))
    }

    fn is_in_loop(&self, block: BlockId) -> bool {
        self.0.depth(block) > 0
    }
}
