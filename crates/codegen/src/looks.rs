//! How many iterations of a program's loops may go by between two looks at the stop word.
//!
//! What goes by between two looks is what ending a run may take. That is short but for accesses of missing arena pages, each of
//! which takes two to three microseconds instead of a part of a nanosecond. So it is accesses that are counted: a loop with many of
//! them looks more often, and the looks cost it no larger part of its time.

use isa::{CallTarget, Cond, Width};

use crate::abi::{ACCESSES_PER_LOOK, LOOPS_PER_LOOK, LOOPS_PER_LOOK_LEAST};
use crate::analysis::{Dominators, Edges, Loop, Loops};
use crate::flow::{Block, Body, End, Op, Src, Test, Var};
use crate::limits;
use crate::machine::Effort;
use crate::source::Source;

/// The most functions that call one another (`MAX_CALL_FRAMES`).
const CALL_DEPTH: usize = 8;

/// The iterations between two looks, of every loop of a program.
pub(crate) fn iterations(bodies: &[Body], source: Source<'_>) -> u64 {
    if bodies.iter().all(|body| body.budgets == 0) {
        return LOOPS_PER_LOOK;
    }
    let callees = callees(bodies, source);
    let counted = bodies.iter().filter(|body| body.budgets > 0);
    let most = counted.map(|body| most_accesses(body, source, &callees)).max();
    (ACCESSES_PER_LOOK / most.unwrap_or(1).max(1)).clamp(LOOPS_PER_LOOK_LEAST, LOOPS_PER_LOOK)
}

/// That no look is due at a number of those that are counted up from one that a look was taken at.
pub(crate) fn not_due(number: Var) -> Test {
    const { assert!(LOOPS_PER_LOOK_LEAST.is_power_of_two(), "the low bits tell") };
    let low_bits = (LOOPS_PER_LOOK_LEAST - 1).cast_signed();
    Test { width: Width::W32, cond: Cond::Set, a: number, b: Src::Imm(low_bits) }
}

/// Accesses of the arena in each subprogram, by its index, with those in what it calls.
fn callees(bodies: &[Body], source: Source<'_>) -> Vec<u64> {
    let mut counts = vec![0; source.frames().len()];
    for _ in 0..CALL_DEPTH {
        for body in bodies {
            let count = body.blocks.iter().map(|block| accesses(block, source, &counts)).sum();
            if let Some(entry) = counts.get_mut(body.subprogram) {
                *entry = count;
            }
        }
    }
    counts
}

/// Accesses of the arena in a block, and in what it calls.
fn accesses(block: &Block, source: Source<'_>, callees: &[u64]) -> u64 {
    let count = |op: &Op, at| match *op {
        Op::Call { target: CallTarget::Local(offset), .. } => {
            let callee = source.subprogram_at(at, offset);
            callee.and_then(|callee| callees.get(callee)).copied().unwrap_or(0)
        }
        _ => op.accesses_arena().into(),
    };
    block.steps.iter().map(|step| count(&step.op, step.at.insn)).fold(0, u64::saturating_add)
}

/// The most accesses in one iteration of a loop that counts.
fn most_accesses(body: &Body, source: Source<'_>, callees: &[u64]) -> u64 {
    // Its loops would take too long to find.
    if limits::effort(body) == Effort::Linear {
        return u64::MAX;
    }
    let edges = Edges::of(body);
    let loops = Loops::of(body, &edges, &Dominators::of(&edges));
    // Inner loops come first. Those that count themselves look themselves.
    let mut totals = Vec::new();
    let mut most = 0;
    for (_, l) in loops.iter() {
        let own = l.own.iter().filter_map(|id| body.block(*id));
        let own = own.map(|block| accesses(block, source, callees)).fold(0, u64::saturating_add);
        let inner =
            l.inner.iter().filter_map(|id| totals.get(id.index())).fold(0, |a: u64, b| a.saturating_add(*b));
        let total = own.saturating_add(inner);
        let counted = counted(body, l);
        most = most.max(counted.map_or(0, |iterations| total.div_ceil(iterations)));
        totals.push(if counted.is_some() { 0 } else { total });
    }
    most
}

/// How many iterations a loop takes from its budget each time round; `None` if it does not.
fn counted(body: &Body, l: &Loop) -> Option<u64> {
    let ends = l.own.iter().filter_map(|id| body.block(*id)).map(|block| block.end);
    ends.filter_map(|end| match end {
        End::MayGoto { .. } => Some(1),
        End::Afford { iterations, .. } => Some(u64::from(iterations.max(1))),
        _ => None,
    })
    .max()
}
