//! Laying out the iterations.

use std::collections::HashMap;

use isa::AluOp;

use super::Candidate;
use super::count::{CountedExit, Enough};
use super::rebase::Rebase;
use crate::analysis::Limit;
use crate::flow::{At, Block, BlockId, Body, End, Op, Src, Step, Test};

/// Unrolls a loop. The header's number becomes that of what is in front of the copies, so that nobody who enters the loop
/// need be led elsewhere.
pub(super) fn unroll(body: &mut Body, l: Candidate<'_>, exit: Option<CountedExit>) {
    let header = l.shape.header();
    let Some(original) = body.block(header).cloned() else { return };
    let rebase = Rebase::of(body, l);
    let Some(front) = Front::of(body, &rebase, exit) else { return };
    let at = original.at;
    let block = |end| Block { steps: Vec::new(), at, end, cold: original.cold };
    let step = |op| Step { at, op };
    let rolled = body.push(original.clone());
    // In front of the loop, the test of the bound, the other tests, the first copy: the header's number goes to the first.
    let bounded = if front.once.is_empty() { header } else { body.push(block(End::Trap)) };
    let gate = if front.bound.is_some() { body.push(block(End::Trap)) } else { bounded };
    let around = Around { gate, bounded, rolled, bound: front.bound };
    let labels = HashMap::new();
    let mut copier = Copier { body, l, exit, rebase: &rebase, around, at, labels, work: Vec::new() };
    let mut enter = copier.label(Place { copy: 0, block: header });
    copier.work_off();
    if let Some(first) = body.block_mut(enter) {
        first.steps.splice(0..0, rebase.saves().into_iter().map(step));
    }
    let mut last = block(End::Jump(enter));
    if l.shape.iterations > 0 {
        let (budget, iterations) = (l.shape.budget, l.shape.iterations * l.copies);
        last.end = End::Afford { budget, iterations, asks: true, enough: enter, short: rolled };
        // Whoever is told where the run was ended is told of a may_goto.
        let mut blocks = l.shape.blocks.iter().filter_map(|id| body.block(*id));
        last.at = blocks.find(|b| matches!(b.end, End::MayGoto { .. })).map_or(at, |b| b.at);
    }
    for (ops, test) in front.each_round {
        enter = body.push(last);
        last = block(End::Branch { test, taken: enter, next: rolled });
        last.steps = ops.into_iter().map(step).collect();
    }
    // The header itself is overwritten now that it has been copied.
    set(body, gate, last);
    if let Some((ops, test)) = front.enter {
        let steps = ops.into_iter().map(step).collect();
        set(body, bounded, Block { steps, ..block(End::Branch { test, taken: gate, next: rolled }) });
    }
    if bounded != header {
        let steps = front.once.into_iter().map(step).collect();
        set(body, header, Block { steps, ..block(End::Jump(bounded)) });
    }
    // The rolled loop goes on until it is done: it has few iterations left.
    for id in l.shape.blocks.iter().skip(1).copied().chain([rolled]) {
        if let Some(block) = body.block_mut(id) {
            block.end.redirect(header, rolled);
            block.cold |= exit.is_none();
        }
    }
}

fn set(body: &mut Body, id: BlockId, block: Block) {
    if let Some(entry) = body.block_mut(id) {
        *entry = block;
    }
}

/// What is done before the copies.
struct Front {
    /// When the loop is entered.
    once: Vec<Op>,
    /// What tells that the loop has as many iterations as there are copies.
    enter: Option<(Vec<Op>, Test)>,
    /// What tells that it has as many left, behind a round.
    bound: Option<Test>,
    /// What else must hold for a round of all copies, the last one first.
    each_round: Vec<(Vec<Op>, Test)>,
}

impl Front {
    fn of(body: &mut Body, rebase: &Rebase, exit: Option<CountedExit>) -> Option<Self> {
        let mut front = Self { once: Vec::new(), enter: None, bound: None, each_round: rebase.tests(body)? };
        if let Some(CountedExit { enter, enough, .. }) = exit {
            let again = front.test(body, enough)?.1;
            front.bound = Some(again);
            front.enter = Some(if enter.add == 0 { (Vec::new(), again) } else { front.test(body, enter)? });
        }
        Some(front)
    }

    /// The test for something, and the operations directly before it.
    fn test(&mut self, body: &mut Body, enough: Enough) -> Option<(Vec<Op>, Test)> {
        let Enough { width, cond, var, add, limit } = enough;
        let b = match limit {
            Limit::Known(limit) => limit,
            Limit::Computed { .. } => {
                let (result, scratch) = (body.new_var()?, body.new_var()?);
                self.once.extend(limit.compute(width, result, scratch));
                Src::Var(result)
            }
        };
        if add == 0 {
            return Some((Vec::new(), Test { width, cond, a: var, b }));
        }
        let a = body.new_var()?;
        let op = Op::Alu { width, op: AluOp::Add, dst: a, a: var, b: Src::Imm(add) };
        Some((vec![op], Test { width, cond, a, b }))
    }
}

/// What is around the copies.
#[derive(Clone, Copy)]
struct Around {
    /// The tests before a round of all copies, but for that of the bound.
    gate: BlockId,
    /// All of them.
    bounded: BlockId,
    /// The loop as it was.
    rolled: BlockId,
    /// What holds behind the test of the bound.
    bound: Option<Test>,
}

/// A block of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    copy: u32,
    block: BlockId,
}

/// Makes the copies, block by block as they are needed.
struct Copier<'a> {
    body: &'a mut Body,
    l: Candidate<'a>,
    exit: Option<CountedExit>,
    rebase: &'a Rebase,
    around: Around,
    /// Of the header.
    at: At,
    labels: HashMap<Place, BlockId>,
    work: Vec<Place>,
}

impl Copier<'_> {
    /// The block of a place, which will be filled.
    fn label(&mut self, place: Place) -> BlockId {
        if let Some(&id) = self.labels.get(&place) {
            return id;
        }
        let (at, cold) = self.body.block(place.block).map_or((self.at, false), |b| (b.at, b.cold));
        let id = self.body.push(Block { steps: Vec::new(), at, end: End::Trap, cold });
        self.labels.insert(place, id);
        self.work.push(place);
        id
    }

    fn work_off(&mut self) {
        while let Some(place) = self.work.pop() {
            let id = self.label(place);
            if let Some(block) = self.fill(place) {
                set(self.body, id, block);
            }
        }
    }

    /// A block, and those that are always executed directly behind it.
    fn fill(&mut self, mut place: Place) -> Option<Block> {
        let mut filled = self.copy(place)?;
        while let Some(to) = self.only_successor(place)
            && let Some(next) = self.inside(place, to)
            && self.has_one_way_in(to)
        {
            let block = self.copy(next)?;
            filled.steps.extend(block.steps);
            filled.at = block.at;
            filled.end = block.end;
            place = next;
        }
        filled.end = match self.only_successor(place) {
            Some(to) => End::Jump(self.resolve(place, to)),
            None => {
                let mut end = filled.end;
                end.each_successor_mut(|to| *to = self.resolve(place, *to));
                self.straight_back(place, end)
            }
        };
        Some(filled)
    }

    /// The end of the last copy. If it tests whether the loop ends, it tests whether there is another round instead: that
    /// implies that the loop goes on.
    fn straight_back(&mut self, place: Place, end: End) -> End {
        let header = self.l.shape.header();
        let (Some(exit), Some(test)) = (self.exit, self.around.bound) else { return end };
        if exit.block != place.block || exit.inside != header {
            return end;
        }
        let Around { gate, bounded, rolled, .. } = self.around;
        let mut otherwise = end;
        otherwise.redirect(bounded, rolled);
        let at = self.body.block(place.block).map_or(self.at, |b| b.at);
        let next = self.body.push(Block { steps: Vec::new(), at, end: otherwise, cold: false });
        End::Branch { test, taken: gate, next }
    }

    /// A block of a copy, leading where the block of the loop does.
    fn copy(&self, place: Place) -> Option<Block> {
        let mut block = self.original(place.block)?.clone();
        for (number, step) in block.steps.iter_mut().enumerate() {
            self.rebase.rewrite(self.l, &mut step.op, place.copy, place.block, number);
        }
        Some(block)
    }

    /// A block of the loop as it was.
    fn original(&self, id: BlockId) -> Option<&Block> {
        self.body.block(id)
    }

    /// Where a block leads if it leads to one place only.
    fn only_successor(&self, place: Place) -> Option<BlockId> {
        match self.original(place.block)?.end {
            End::Jump(to) | End::MayGoto { next: to, .. } => Some(to),
            End::Branch { .. } => {
                let exit = self.exit.filter(|exit| exit.block == place.block)?;
                (!exit.last_tests || place.copy + 1 < self.l.copies).then_some(exit.inside)
            }
            End::Afford { .. } | End::Look { .. } | End::Pretend { .. } | End::Exit(_) | End::Trap => None,
        }
    }

    /// The place that a block of the loop leads to; `None` where it leads out of the copies.
    fn inside(&self, from: Place, to: BlockId) -> Option<Place> {
        if to == self.l.shape.header() {
            let copy = from.copy + 1;
            return (copy < self.l.copies).then_some(Place { copy, block: to });
        }
        self.l.shape.contains(to).then_some(Place { copy: from.copy, block: to })
    }

    /// Whether a block of a copy, not of the first if it is the header, has one predecessor.
    fn has_one_way_in(&self, id: BlockId) -> bool {
        match id == self.l.shape.header() {
            true => self.l.shape.latches.len() == 1,
            false => self.l.edges.single_predecessor(id).is_some(),
        }
    }

    /// Where the block of a copy leads instead. On ways out, what was not used is given back.
    fn resolve(&mut self, from: Place, to: BlockId) -> BlockId {
        if let Some(place) = self.inside(from, to) {
            return self.label(place);
        }
        if to == self.l.shape.header() {
            return self.around.bounded;
        }
        let taken = self.l.shape.taken(from.block).unwrap_or(0);
        let used = self.l.shape.iterations * from.copy + taken;
        let iterations = (self.l.shape.iterations * self.l.copies).saturating_sub(used);
        if iterations == 0 {
            return to;
        }
        let at = self.body.block(from.block).map_or(self.at, |b| b.at);
        let op = Op::Credit { budget: self.l.shape.budget, iterations: Src::Imm(iterations.into()) };
        self.body.push(Block { steps: vec![Step { at, op }], at, end: End::Jump(to), cold: false })
    }
}
