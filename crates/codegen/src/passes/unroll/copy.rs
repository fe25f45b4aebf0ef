//! Laying out the iterations.

use std::collections::HashMap;

use super::count::{CountedExit, Limit};
use super::shape::Shape;
use crate::analysis::Edges;
use crate::flow::{At, Block, BlockId, Body, End, Op, Src, Step, Test};

/// Unrolls a loop. The header's number becomes that of what is in front of the copies, so that nobody who enters the loop
/// need be led elsewhere.
pub(super) fn unroll(body: &mut Body, edges: &Edges, shape: &Shape, copies: u32, exit: Option<CountedExit>) {
    let header = shape.header();
    let Some(first) = body.block(header).cloned() else { return };
    let at = first.at;
    let cold = first.cold;
    let jump = |to| Block { steps: Vec::new(), at, end: End::Jump(to), cold };
    let rolled = body.push(first);
    let Some((front, test)) = front(body, exit) else { return };
    let gate = if front.is_empty() { header } else { body.push(jump(rolled)) };
    let labels = HashMap::new();
    let mut copier = Copier { body, edges, shape, copies, exit, gate, at, labels, work: Vec::new() };
    let first = copier.label(Place { copy: 0, block: header });
    copier.work_off();
    let mut end = End::Jump(first);
    // Whoever is told where the run was ended is told of a may_goto.
    let asks = |id: &&BlockId| body.block(**id).is_some_and(|b| matches!(b.end, End::MayGoto { .. }));
    let asking = shape.blocks.iter().find(asks).and_then(|id| body.block(*id)).map_or(at, |b| b.at);
    let mut gate_at = at;
    if shape.iterations > 0 {
        let iterations = shape.iterations * copies;
        end = End::Afford { budget: shape.budget, iterations, enough: first, short: rolled };
        gate_at = asking;
    }
    if let Some(test) = test {
        let taken = match end {
            End::Jump(to) => to,
            end => body.push(Block { end, at: asking, ..jump(rolled) }),
        };
        end = End::Branch { test, taken, next: rolled };
        gate_at = at;
    }
    if gate != header {
        let steps = front.into_iter().map(|op| Step { at, op }).collect();
        set(body, header, Block { steps, ..jump(gate) });
    }
    set(body, gate, Block { end, at: gate_at, ..jump(rolled) });
    // The rolled loop goes on until it is done: it has few iterations left.
    for id in shape.blocks.iter().skip(1).copied().chain([rolled]) {
        if let Some(block) = body.block_mut(id) {
            block.end.each_successor_mut(|to| {
                if *to == header {
                    *to = rolled;
                }
            });
            block.cold |= exit.is_none();
        }
    }
}

fn set(body: &mut Body, id: BlockId, block: Block) {
    if let Some(entry) = body.block_mut(id) {
        *entry = block;
    }
}

/// What is computed in front of the loop, and the test for a round of all copies.
fn front(body: &mut Body, exit: Option<CountedExit>) -> Option<(Vec<Op>, Option<Test>)> {
    let Some(enough) = exit.map(|exit| exit.enough) else { return Some((Vec::new(), None)) };
    let test = |b| Test { width: enough.width, cond: enough.cond, a: enough.var, b };
    if let Limit::Constant(limit) = enough.limit {
        return Some((Vec::new(), Some(test(Src::Imm(limit)))));
    }
    let (limit, scratch) = (body.new_var()?, body.new_var()?);
    Some((enough.limit.compute(enough.width, limit, scratch), Some(test(Src::Var(limit)))))
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
    edges: &'a Edges,
    shape: &'a Shape,
    copies: u32,
    exit: Option<CountedExit>,
    gate: BlockId,
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
        let mut filled = self.original(place.block)?.clone();
        while let Some(to) = self.only_successor(place)
            && let Some(next) = self.inside(place, to)
            && self.has_one_way_in(to)
        {
            let block = self.original(next.block)?.clone();
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
                end
            }
        };
        Some(filled)
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
                (!exit.last_tests || place.copy + 1 < self.copies).then_some(exit.inside)
            }
            End::Afford { .. } | End::Exit(_) | End::Trap => None,
        }
    }

    /// The place that a block of the loop leads to; `None` where it leads out of the copies.
    fn inside(&self, from: Place, to: BlockId) -> Option<Place> {
        if to == self.shape.header() {
            let copy = from.copy + 1;
            return (copy < self.copies).then_some(Place { copy, block: to });
        }
        self.shape.contains(to).then_some(Place { copy: from.copy, block: to })
    }

    /// Whether a block of a copy, not of the first if it is the header, has one predecessor.
    fn has_one_way_in(&self, id: BlockId) -> bool {
        match id == self.shape.header() {
            true => self.shape.latches.len() == 1,
            false => self.edges.single_predecessor(id).is_some(),
        }
    }

    /// Where the block of a copy leads instead. On ways out, what was not used is given back.
    fn resolve(&mut self, from: Place, to: BlockId) -> BlockId {
        if let Some(place) = self.inside(from, to) {
            return self.label(place);
        }
        if to == self.shape.header() {
            return self.gate;
        }
        let taken = self.shape.taken(from.block).unwrap_or(0);
        let used = self.shape.iterations * from.copy + taken;
        let iterations = (self.shape.iterations * self.copies).saturating_sub(used);
        if iterations == 0 {
            return to;
        }
        let at = self.body.block(from.block).map_or(self.at, |b| b.at);
        let op = Op::Credit { budget: self.shape.budget, iterations };
        self.body.push(Block { steps: vec![Step { at, op }], at, end: End::Jump(to), cold: false })
    }
}
