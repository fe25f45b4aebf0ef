//! Branches around a few pure operations become selections.
//!
//! BPF has no conditional move: whatever picks one of two values is a branch around an assignment, and costs a
//! misprediction every so often. Where both ways from a branch do nothing but compute values and soon meet, both
//! are computed, and the results that are needed behind are selected by the condition.
//!
//! What is assumed: pure operations may be done in vain ([`Op::is_pure`](crate::flow::Op::is_pure)). Nothing else is ever
//! done on a way that would not have done it, loads of proven memory included: they may be proven by the very condition.
//! Stores to the same place on both sides stay apart as well, for a fault names the instruction.
//!
//! Inner branches come first, so that what is left of them can be part of a side. A block that others lead to as well may be
//! part of a side if it is tiny: that makes selections of `a || b`.

mod assign;
mod cost;
mod side;

use crate::analysis::{Edges, Liveness};
use crate::flow::{BlockId, Body, End, Op, Src, Step, Var};
use assign::Choice;
use side::{Meeting, Side};

/// Converts branches; the result is how many.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let mut selects = Selects::new(body, &edges);
    edges.order().iter().rev().filter(|id| selects.convert(body, **id).is_some()).fold(0, |n, _| n + 1)
}

struct Selects {
    live: Liveness,
    /// Per block: how many edges lead to it.
    incoming: Vec<u32>,
    /// Per block: whether an edge leads back to it.
    headers: Vec<bool>,
    /// Variables that hold something within one block only, so that every conversion can use them again.
    scratch: Vec<Var>,
}

/// What is computed on a way that may not be gone, and what it gives.
#[derive(Debug, Default)]
struct Speculation {
    /// Operations on scratch variables.
    steps: Vec<Step>,
    /// Variables that have another value at the end of the side.
    values: Vec<(Var, Src)>,
}

impl Selects {
    fn new(body: &Body, edges: &Edges) -> Self {
        let mut incoming: Vec<_> = body
            .each_block()
            .map(|(id, _)| u32::try_from(edges.predecessors(id).len()).unwrap_or(u32::MAX))
            .collect();
        if let Some(entry) = incoming.first_mut() {
            *entry = entry.saturating_add(1);
        }
        let leads_back = |id| edges.predecessors(id).iter().any(|from| edges.place(*from) >= edges.place(id));
        let headers = body.each_block().map(|(id, _)| leads_back(id)).collect();
        Self { live: Liveness::of(body, edges), incoming, headers, scratch: Vec::new() }
    }

    /// Makes a straight line of a block's branch and its sides; `None` if that cannot or should not be.
    fn convert(&mut self, body: &mut Body, id: BlockId) -> Option<()> {
        let head = body.block(id)?;
        let End::Branch { test, taken, next } = head.end else { return None };
        let at = head.at;
        let (yes, no, meeting) = side::meet(body, self, taken, next)?;
        let mut scratch = Scratch { used: 0 };
        let mut yes = self.speculate(body, &mut scratch, &yes)?;
        let mut no = self.speculate(body, &mut scratch, &no)?;
        let choices = self.choices(body, id, meeting, &yes, &no);
        let needed: Vec<_> = choices.iter().flat_map(|choice| [choice.yes, choice.no]).collect();
        yes.keep(&needed);
        no.keep(&needed);
        let steps = || yes.steps.iter().chain(&no.steps);
        if !cost::is_worth_it(steps().map(|step| &step.op), &choices) {
            return None;
        }
        let assignments = assign::sequence(test, &choices, at, || self.temporary(body, &mut scratch))?;
        let end = match meeting {
            Meeting::Block(to) => End::Jump(to),
            Meeting::Exit(value) => End::Exit(value),
        };
        let head = body.block_mut(id)?;
        head.steps.extend(steps().copied());
        head.steps.extend(assignments);
        head.end = end;
        self.lead(body, end.successors().next(), [taken, next]);
        Some(())
    }

    /// What the variables that still matter behind the sides get there.
    fn choices(
        &self,
        body: &Body,
        head: BlockId,
        meeting: Meeting,
        yes: &Speculation,
        no: &Speculation,
    ) -> Vec<Choice> {
        let matters = |var: &Var| match meeting {
            Meeting::Block(to) => self.live.at(to).contains(*var),
            Meeting::Exit(value) => value == *var,
        };
        let assigned = yes.values.iter().chain(&no.values).map(|(var, _)| *var);
        let mut vars: Vec<_> = assigned.filter(matters).collect();
        vars.sort_unstable();
        vars.dedup();
        let choice = |dst| {
            let before = || constant_before(body, head, dst).map_or(Src::Var(dst), Src::Imm);
            let value = |side: &Speculation| side.value(dst).unwrap_or_else(before);
            let mut choice = Choice { dst, yes: value(yes), no: value(no), onto: None };
            choice.simplify(yes, no);
            choice
        };
        vars.into_iter().map(choice).collect()
    }

    /// Carries out a side on scratch variables.
    fn speculate(&mut self, body: &mut Body, scratch: &mut Scratch, side: &Side) -> Option<Speculation> {
        let mut made = Speculation::default();
        for step in side.steps(body) {
            made.step(step, || self.temporary(body, scratch))?;
        }
        Some(made)
    }

    fn temporary(&mut self, body: &mut Body, scratch: &mut Scratch) -> Option<Var> {
        if scratch.used == self.scratch.len() {
            self.scratch.push(body.new_var()?);
        }
        scratch.used += 1;
        self.scratch.get(scratch.used - 1).copied()
    }

    /// Counts edges anew after those of a block have changed. What nothing leads to any more is emptied.
    fn lead(&mut self, body: &mut Body, to: Option<BlockId>, before: [BlockId; 2]) {
        if let Some(count) = to.and_then(|to| self.incoming.get_mut(to.index())) {
            *count += 1;
        }
        let mut work = before.to_vec();
        while let Some(id) = work.pop() {
            let Some(count) = self.incoming.get_mut(id.index()) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0
                && let Some(block) = body.block_mut(id)
            {
                work.extend(block.end.successors());
                block.steps.clear();
                block.end = End::Trap;
            }
        }
    }
}

/// How many scratch variables one conversion uses.
struct Scratch {
    used: usize,
}

/// The number that a block leaves in a variable, if one of its last operations put it there.
fn constant_before(body: &Body, id: BlockId, var: Var) -> Option<i64> {
    const LOOK_BACK: usize = 8;
    let steps = body.block(id)?.steps.iter().rev().take(LOOK_BACK);
    let written = |op: &Op| {
        let mut written = false;
        op.writes(|v| written |= v == var);
        written
    };
    match steps.map(|step| step.op).find(written)? {
        Op::Mov { width, src: Src::Imm(imm), .. } => Some(side::truncated(width, imm)),
        _ => None,
    }
}
