//! Takes the iterations of counted loops from the budget ahead of time.
//!
//! ```text
//!     refill: may_goto, as it was: takes one
//!             m = all that are left; paid = var + (m + 1) * step
//!             end = the bound or paid, whichever comes first
//!     body ...
//!     test:   var < end?     yes: body      no: spent
//!     spent:  gives back what was not used
//!             var < bound?   yes: refill    no: behind the loop
//! ```
//!
//! In the loop itself nothing is counted any more: what tells that it is done tells that the budget is, too. That saves a register, a
//! test and a subtraction in each iteration. Whoever leaves in its midst gives back what was taken and not used, which the variable
//! tells. So every iteration is counted exactly once, and the run is looked after as often as before.
//!
//! **Assumes** that a `may_goto` follows the test directly, so that both together are what an iteration costs, and that the budget never
//! holds so many iterations that their steps together would not be a small number ([`End::Afford`]).

use isa::{AluOp, Cond, Width};

use crate::analysis::{Counted, Dominators, Edges, Inductions, Loop, Loops, Shape};
use crate::flow::{At, Block, BlockId, Body, End, Op, Src, Step, Test, Var};
use crate::limits;

/// More blocks than are made for a loop, but for those on its ways out.
const BLOCKS: usize = 8;

/// Does it; the result is for how many loops.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let dominators = Dominators::of(&edges);
    let loops = Loops::of(body, &edges, &dominators);
    let mut changes = 0;
    let mut chosen: Vec<_> = loops.iter().map(|(_, l)| l).filter(|l| l.inner.is_empty()).collect();
    // What is deepest is executed most often. Elsewhere more values around the loops would cost more than is gained.
    let deepest = chosen.iter().map(|l| l.depth).max().unwrap_or(0);
    chosen.retain(|l| l.depth == deepest);
    for l in chosen {
        if body.blocks.len() + BLOCKS + 2 * l.own.len() > limits::FULL_EFFORT_BLOCKS {
            break;
        }
        if body.settled.contains(&l.header) {
            continue;
        }
        let Some(tally) = find(body, &edges, &dominators, l) else { continue };
        if rewrite(body, &tally).is_some() {
            changes += 1;
        }
    }
    changes
}

/// A loop and its test.
struct Tally {
    shape: Shape,
    /// The block that the test ends, and where it leads to when the loop is done.
    test: BlockId,
    behind: BlockId,
    /// The block of the `may_goto`.
    pays: BlockId,
    /// The loop goes on while this holds.
    width: Width,
    cond: Cond,
    var: Var,
    bound: Src,
    by: i64,
    /// The other ways out: from a block, to another, and whether the variable has grown since the iteration was paid.
    ways_out: Vec<(BlockId, BlockId, bool)>,
}

fn find(body: &Body, edges: &Edges, dominators: &Dominators, l: &Loop) -> Option<Tally> {
    let shape = Shape::of(body, edges, l).filter(|shape| shape.iterations == 1)?;
    // What mostly ends early is not worth the preparation.
    if shape.exits > 2 || shape.exits == 2 && shape.loads > 1 {
        return None;
    }
    let pays = *shape.blocks.iter().find(|id| is_may_goto(body, **id))?;
    let next = body.block(pays)?.end.successors().find(|to| shape.contains(*to))?;
    if next == pays {
        return None;
    }
    // Of those that lead to it, one is in the loop.
    let mut leading = edges.predecessors(pays).iter().copied().filter(|from| shape.contains(*from));
    let (test, None) = (leading.next()?, leading.next()) else { return None };
    if shape.header() != pays && shape.header() != test {
        return None;
    }
    let inductions = Inductions::of(body, edges, dominators, &shape.blocks, &shape.latches);
    let block = body.block(test)?;
    let End::Branch { test: condition, taken, next } = block.end else { return None };
    let (stay, behind) = match (taken == pays, next == pays) {
        (true, false) if !shape.contains(next) => (condition, next),
        (false, true) if !shape.contains(taken) => (condition.negated()?, taken),
        _ => return None,
    };
    let Counted { induction, cond, bound } = inductions.counted(stay)?;
    let (var, by) = (induction.var, induction.by);
    let (cond, bound) = strict(stay.width, cond, bound, by)?;
    // What has been tested and paid is the same value in all of an iteration's blocks, or has grown before all of those in question.
    let from_header = shape.header() != pays && induction.is_done(edges, dominators, test, block.steps.len());
    let mut ways_out = Vec::new();
    for &id in shape.blocks.iter().filter(|id| **id != test && **id != pays) {
        let leaving = body.block(id)?;
        for to in leaving.end.successors().filter(|to| !shape.contains(*to)) {
            let grown = !from_header && induction.is_done(edges, dominators, id, leaving.steps.len());
            ways_out.push((id, to, grown));
        }
    }
    Some(Tally { test, behind, pays, width: stay.width, cond, var, bound, by, ways_out, shape })
}

/// Whether a block is nothing but a `may_goto`.
fn is_may_goto(body: &Body, id: BlockId) -> bool {
    body.block(id).is_some_and(|b| b.steps.is_empty() && matches!(b.end, End::MayGoto { .. }))
}

/// The comparison without equality; `None` if the variable does not run towards the bound, or in steps that are no power of two.
fn strict(width: Width, cond: Cond, bound: Src, by: i64) -> Option<(Cond, Src)> {
    if !by.unsigned_abs().is_power_of_two() {
        return None;
    }
    let most = match width {
        Width::W64 => i64::MAX,
        Width::W32 => i64::from(i32::MAX),
    };
    // One more is one more with and without sign.
    let beyond = |by: i64| match bound {
        Src::Imm(bound) if (0..most).contains(&bound) && bound + by >= 0 => Some(Src::Imm(bound + by)),
        _ => None,
    };
    match (cond, by > 0) {
        (Cond::Lt | Cond::SLt, true) | (Cond::Gt | Cond::SGt, false) => Some((cond, bound)),
        (Cond::Le, true) => Some((Cond::Lt, beyond(1)?)),
        (Cond::SLe, true) => Some((Cond::SLt, beyond(1)?)),
        (Cond::Ge, false) => Some((Cond::Gt, beyond(-1)?)),
        (Cond::SGe, false) => Some((Cond::SGt, beyond(-1)?)),
        (Cond::Ne, _) if by.abs() == 1 => Some((cond, bound)),
        _ => None,
    }
}

fn rewrite(body: &mut Body, tally: &Tally) -> Option<()> {
    let Tally { test, behind, pays, width, cond, var, bound, .. } = *tally;
    let budget = tally.shape.budget;
    let (at, paid_at) = (body.block(test)?.at, body.block(pays)?.at);
    let End::MayGoto { next: first, .. } = body.block(pays)?.end else { return None };
    let [taken, paid, end] = [body.new_var()?, body.new_var()?, body.new_var()?];
    let [scratch, distance] = [body.new_var()?, body.new_var()?];

    // Everything that is left is taken at once.
    let mut ops = vec![Op::TakeAll { budget, dst: taken }];
    ops.extend(tally.ahead(taken, paid, end, [scratch, distance]));
    let steps = ops.into_iter().map(|op| Step { at: paid_at, op }).collect();
    let takes = body.push(Block { steps, at: paid_at, end: End::Jump(first), cold: false });

    // Where the loop tested for its end alone.
    let steps = tally.give_back(at, paid, scratch, true);
    let again = Test { width, cond, a: var, b: bound };
    let spent = End::Branch { test: again, taken: pays, next: behind };
    let spent = body.push(Block { steps, at, end: spent, cold: false });

    for &(from, to, grown) in &tally.ways_out {
        let at = body.block(from)?.at;
        let steps = tally.give_back(at, paid, scratch, grown);
        let gives_back = body.push(Block { steps, at, end: End::Jump(to), cold: false });
        body.block_mut(from)?.end.redirect(to, gives_back);
    }

    // In the loop the other bound is tested. If that is done at its head, what leads into the loop keeps the test as it was.
    let inside =
        End::Branch { test: Test { width, cond, a: var, b: Src::Var(end) }, taken: first, next: spent };
    if tally.shape.header() == pays {
        body.block_mut(test)?.end = inside;
    } else {
        let around = Block { end: inside, ..body.block(test)?.clone() };
        let around = body.push(around);
        for latch in &tally.shape.latches {
            body.block_mut(*latch)?.end.redirect(test, around);
        }
    }
    if let End::MayGoto { next, .. } = &mut body.block_mut(pays)?.end {
        *next = takes;
    }
    body.refills.push(pays);
    Some(())
}

impl Tally {
    /// What computes `paid`, the value that has not been paid any more if `taken` iterations are, and `end`, where the loop is to stop.
    ///
    /// Whatever the numbers are, the loop stops at `paid`, and goes on nowhere where it would not if it tested the bound.
    fn ahead(&self, taken: Var, paid: Var, end: Var, [steps, distance]: [Var; 2]) -> Vec<Op> {
        let Self { width, cond, var, bound, by, .. } = *self;
        let alu = |op, dst, a, b| Op::Alu { width, op, dst, a, b };
        let test = |cond, a, b| Test { width, cond, a, b };
        let mut ops = Vec::new();
        let steps = match self.shift() {
            0 => taken,
            shift => {
                ops.push(alu(AluOp::Lsh, steps, taken, Src::Imm(shift)));
                steps
            }
        };
        let along = if by > 0 { AluOp::Add } else { AluOp::Sub };
        ops.push(alu(along, paid, var, Src::Var(steps)));
        ops.push(alu(AluOp::Add, paid, paid, Src::Imm(by)));
        let mut otherwise = Src::Var(paid);
        // Down to 0 `paid` is often beyond the end of the numbers, and large again; and no order tells what comes before what a variable
        // is to be equal to. Then the distance does.
        if matches!(cond, Cond::Ne | Cond::Gt) {
            let (from, to) = if by > 0 { (bound, Src::Var(var)) } else { (Src::Var(var), bound) };
            ops.push(Op::Mov { width, dst: distance, src: from });
            ops.push(alu(AluOp::Sub, distance, distance, to));
            ops.push(alu(AluOp::Sub, distance, distance, Src::Imm(by.abs())));
            let farther = test(Cond::Gt, distance, Src::Var(steps));
            ops.push(Op::Select { dst: end, test: farther, yes: otherwise, no: bound });
            otherwise = Src::Var(end);
        }
        if cond != Cond::Ne {
            ops.push(Op::Select { dst: end, test: test(cond, paid, bound), yes: otherwise, no: bound });
        }
        ops
    }

    /// What gives back the iterations that were paid and not begun, where the variable has grown since one was, or has not.
    fn give_back(&self, at: At, paid: Var, count: Var, grown: bool) -> Vec<Step> {
        let Self { width, var, by, .. } = *self;
        let alu = |op, dst, a, b| Op::Alu { width, op, dst, a, b };
        let (from, to) = if by > 0 { (paid, var) } else { (var, paid) };
        let mut ops = vec![alu(AluOp::Sub, count, from, Src::Var(to))];
        if self.shift() > 0 {
            ops.push(alu(AluOp::Rsh, count, count, Src::Imm(self.shift())));
        }
        if !grown {
            ops.push(alu(AluOp::Add, count, count, Src::Imm(-1)));
        }
        ops.push(Op::Credit { budget: self.shape.budget, iterations: Src::Var(count) });
        ops.into_iter().map(|op| Step { at, op }).collect()
    }

    /// By how many bits the number of iterations is shifted to get the distance.
    fn shift(&self) -> i64 {
        self.by.unsigned_abs().trailing_zeros().into()
    }
}
