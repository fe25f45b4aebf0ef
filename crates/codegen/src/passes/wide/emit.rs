//! Lays out the wide loops.

use std::collections::HashMap;

use isa::{AluOp, Cond, Size, Width};

use super::{Count, FEWEST, GROUPS, Make, Pattern, Sum, VECTOR, inside};
use crate::analysis::{self, Limit, Shape};
use crate::flow::{At, Block, BlockId, Body, End, Op, Place, Src, Step, Test, Var};

/// Bytes of the largest group.
const REACH: i64 = GROUPS[0] * VECTOR;

/// Puts wide loops in front of a loop. `None` if there can be none.
pub(super) fn widen(body: &mut Body, shape: &Shape, pattern: &Pattern) -> Option<()> {
    let header = shape.header();
    let at = body.block(header)?.at;
    let taking = shape.blocks.iter().filter_map(|id| body.block(*id));
    let budget_at = taking.filter(|block| matches!(block.end, End::MayGoto { .. })).map(|b| b.at).next();
    let groups = groups(body, pattern)?;
    let distance = distance(pattern)?;
    let word = if pattern.meets_arena() { Some(body.new_var()?) } else { None };
    let rolled = body.push(body.block(header)?.clone());
    let mut emit = Emit { body, shape, pattern, at, budget_at: budget_at.unwrap_or(at), rolled, word };
    let mut lower = rolled;
    let mut gates = Vec::new();
    for (before, group) in groups.iter().enumerate().rev() {
        lower = emit.group(group, before == 0, lower)?;
        gates.push(lower);
    }
    let front = emit.front(&groups, distance, lower)?;
    emit.enter(front);
    body.settled.push(rolled);
    body.settled.extend(gates);
    Some(())
}

/// What is known before a loop of groups of so many vectors.
struct Group {
    vectors: i64,
    /// Iterations, and elements.
    elements: i64,
    /// What is to be computed once, and the tests that tell that there are as many iterations.
    once: Vec<Step>,
    tests: Vec<Test>,
}

/// The groups, the largest first; none of which it is known that there are not so many iterations.
fn groups(body: &mut Body, pattern: &Pattern) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    for &vectors in pattern.groups() {
        let elements = vectors * VECTOR / pattern.bytes();
        // What few elements are left the rolled loop does as quickly.
        if elements < FEWEST {
            continue;
        }
        let mut group = Group { vectors, elements, once: Vec::new(), tests: Vec::new() };
        let enough = pattern.counts.iter().all(|count| {
            let limit = limit(body, count, elements);
            limit.map(|(steps, test)| (group.once.extend(steps), group.tests.push(test))).is_some()
        });
        if enough {
            groups.push(group);
        }
    }
    (!groups.is_empty()).then_some(groups)
}

/// The test that tells that a count goes on for so many iterations, and what to compute before the loop.
fn limit(body: &mut Body, count: &Count, elements: i64) -> Option<(Vec<Step>, Test)> {
    let Count { at, width, cond, var, bound, by } = *count;
    let (cond, limit) = analysis::limit(width, cond, bound, by.checked_mul(elements - 1)?)?;
    let (b, ops) = match limit {
        Limit::Known(b) => (b, Vec::new()),
        Limit::Computed { .. } => {
            let (result, scratch) = (body.new_var()?, body.new_var()?);
            (Src::Var(result), limit.compute(width, result, scratch))
        }
    };
    let steps = ops.into_iter().map(|op| Step { at, op }).collect();
    Some((steps, Test { width, cond, a: var, b }))
}

/// Places of which a group must not load what it has stored; `None` if it always would.
fn distance(pattern: &Pattern) -> Option<Vec<(Place, Place)>> {
    let Some(store) = pattern.store else { return Some(Vec::new()) };
    let mut pairs = Vec::new();
    for load in pattern.loads().filter(|load| load.memory == store.place.memory) {
        let (mut behind, mut before) = (store.place, load);
        if pattern.descending == Some(true) {
            (behind, before) = (before, behind);
        }
        if (behind.base, behind.index) == (before.base, before.index) {
            let distance = i64::from(behind.offset) - i64::from(before.offset);
            if (1..REACH).contains(&distance) {
                return None;
            }
        } else {
            pairs.push((behind, before));
        }
    }
    Some(pairs)
}

struct Emit<'a> {
    body: &'a mut Body,
    shape: &'a Shape,
    pattern: &'a Pattern,
    /// Of the loop's header, and of what takes from the budget.
    at: At,
    budget_at: At,
    /// The loop as it was.
    rolled: BlockId,
    /// Has the address of the word that says that a page was missed.
    word: Option<Var>,
}

impl Emit<'_> {
    fn push(&mut self, steps: Vec<Step>, end: End) -> BlockId {
        self.body.push(Block { steps, at: self.at, end, cold: false })
    }

    fn step(&self, op: Op) -> Step {
        Step { at: self.at, op }
    }

    /// A chain of tests, each of which leads to the next, or to `otherwise`.
    fn tests(&mut self, tests: &[Test], all: BlockId, otherwise: BlockId) -> End {
        let mut end = End::Jump(all);
        for (index, &test) in tests.iter().rev().enumerate() {
            let next = match (index, end) {
                (0, _) => all,
                _ => self.push(Vec::new(), end),
            };
            end = End::Branch { test, taken: next, next: otherwise };
        }
        end
    }

    /// The loop of one kind of groups: gives its gate.
    fn group(&mut self, group: &Group, is_largest: bool, lower: BlockId) -> Option<BlockId> {
        let gate = self.push(Vec::new(), End::Trap);
        let taken = i64::from(self.shape.iterations) * group.elements;
        let miss = self.give_back(taken, true, lower);
        let mut work = Work { steps: Vec::new(), lanes: Vec::new(), vectors: group.vectors };
        self.load(&mut work)?;
        let missed = self.word.map(|word| Some((self.body.new_var()?, word)));
        let done = self.store(&work, group.elements, gate)?;
        let next = self.leave(&work, group, lower, done)?;
        let mut steps = work.steps;
        let end = match missed {
            Some(missed) => {
                let (dst, word) = missed?;
                steps.push(self.step(Op::Missed { dst, word }));
                let test = Test { width: Width::W64, cond: Cond::Ne, a: dst, b: Src::Imm(0) };
                End::Branch { test, taken: miss, next }
            }
            None => End::Jump(next),
        };
        let mut enter = self.push(steps, end);
        if let Ok(iterations @ 1..) = u32::try_from(taken) {
            let budget = self.shape.budget;
            // Where few iterations are left, the rolled loop asks for them.
            let asks = is_largest;
            let end = End::Afford { budget, iterations, asks, enough: enter, short: self.rolled };
            enter = self.push(Vec::new(), end);
            self.body.block_mut(enter)?.at = self.budget_at;
        }
        let end = self.tests(&group.tests, enter, lower);
        let steps = self.pattern.scalars.clone();
        *self.body.block_mut(gate)? = Block { steps, at: self.at, end, cold: false };
        Some(gate)
    }

    /// Wide loads, what is computed with them, and the probes of what will be stored.
    fn load(&mut self, work: &mut Work) -> Option<()> {
        let pattern = self.pattern;
        let element = pattern.element?;
        for lanes in &pattern.lanes {
            let of_group = match lanes.of {
                Make::Spread(_) => 1,
                _ => work.vectors,
            };
            let mut made = Vec::new();
            for vector in 0..of_group {
                let dst = self.body.new_var()?;
                let op = match lanes.of {
                    Make::Load(place) => Op::WideLoad { dst, place: self.part(place, vector)? },
                    Make::Spread(src) => Op::Spread { lanes: element, dst, src },
                    Make::Alu { op, a, b } => {
                        let [a, b] = [a, b].map(|index| work.vector(index, vector));
                        Op::WideAlu { lanes: element, op, dst, a: a?, b: b? }
                    }
                };
                work.steps.push(Step { at: lanes.at, op });
                made.push(dst);
            }
            work.lanes.push(made);
        }
        if let Some(store) = pattern.store.filter(|store| store.place.is_in_arena())
            && pattern.loads().all(|place| place != store.place)
        {
            let mut ends = vec![0, work.vectors - 1];
            ends.dedup();
            for vector in ends {
                let (dst, place) = (self.body.new_var()?, self.part(store.place, vector)?);
                work.steps.push(Step { at: store.at, op: Op::WideLoad { dst, place } });
            }
        }
        Some(())
    }

    /// The place of a vector of a group.
    fn part(&self, place: Place, vector: i64) -> Option<Place> {
        let by = match self.pattern.descending {
            Some(true) => self.pattern.bytes() - VECTOR * (vector + 1),
            _ => VECTOR * vector,
        };
        Some(Place { offset: place.offset.checked_add(i32::try_from(by).ok()?)?, ..place })
    }

    /// The tests whether an element ends the loop: gives where to go on with `work`, which is to be done before.
    fn leave(&mut self, work: &Work, group: &Group, lower: BlockId, done: BlockId) -> Option<BlockId> {
        if self.pattern.exits.is_empty() {
            return Some(done);
        }
        let mut steps = Vec::new();
        let mut equal = Vec::new();
        let mut total = None;
        for exit in &self.pattern.exits {
            // Unequal elements have a byte that is unequal.
            let lanes = if exit.if_equal { self.pattern.element? } else { Size::B };
            let mut vectors = Vec::new();
            for vector in 0..work.vectors {
                let [a, b] = [exit.a, exit.b].map(|index| work.vector(index, vector));
                let dst = self.body.new_var()?;
                steps.push(Step { at: exit.at, op: Op::WideEqual { lanes, dst, a: a?, b: b? } });
                vectors.push(dst);
            }
            let op = if exit.if_equal { AluOp::Or } else { AluOp::And };
            let mut any = *vectors.first()?;
            for &b in vectors.iter().skip(1) {
                let dst = self.body.new_var()?;
                let op = Op::WideAlu { lanes: Size::DW, op, dst, a: any, b };
                steps.push(Step { at: exit.at, op });
                any = dst;
            }
            let bits = self.bits(any, exit.if_equal, &mut steps)?;
            total = Some(self.or(total, bits, &mut steps)?);
            equal.push(vectors);
        }
        let found = self.found(group, lower, &equal)?;
        let test = Test { width: Width::W64, cond: Cond::Ne, a: total?, b: Src::Imm(0) };
        Some(self.push(steps, End::Branch { test, taken: found, next: done }))
    }

    /// One bit for each byte of an element that ends the loop.
    fn bits(&mut self, equal: Var, if_equal: bool, steps: &mut Vec<Step>) -> Option<Var> {
        const ALL: i64 = 0xffff;
        let bits = self.body.new_var()?;
        steps.push(self.step(Op::Bits { dst: bits, src: equal }));
        if if_equal {
            return Some(bits);
        }
        let dst = self.body.new_var()?;
        steps.push(self.step(Op::Alu { width: Width::W64, op: AluOp::Xor, dst, a: bits, b: Src::Imm(ALL) }));
        Some(dst)
    }

    fn or(&mut self, before: Option<Var>, bits: Var, steps: &mut Vec<Step>) -> Option<Var> {
        let Some(a) = before else { return Some(bits) };
        let dst = self.body.new_var()?;
        steps.push(self.step(Op::Alu { width: Width::W64, op: AluOp::Or, dst, a, b: Src::Var(bits) }));
        Some(dst)
    }

    /// Where an element ends the loop. Without other effects, the iterations before that one are done.
    fn found(&mut self, group: &Group, lower: BlockId, equal: &[Vec<Var>]) -> Option<BlockId> {
        let pattern = self.pattern;
        let each = i64::from(self.shape.iterations);
        let has_effects = pattern.store.is_some() || !pattern.sums.is_empty() || !pattern.left.is_empty();
        if has_effects || pattern.descending != Some(false) {
            return Some(self.give_back(each * group.elements, false, lower));
        }
        let width = Width::W64;
        let mut steps = Vec::new();
        let mut total = None;
        for (exit, vectors) in pattern.exits.iter().zip(equal) {
            for (vector, &equal) in (0..).zip(vectors) {
                let mut bits = self.bits(equal, exit.if_equal, &mut steps)?;
                if vector > 0 {
                    let dst = self.body.new_var()?;
                    let b = Src::Imm(vector * VECTOR);
                    steps.push(self.step(Op::Alu { width, op: AluOp::Lsh, dst, a: bits, b }));
                    bits = dst;
                }
                total = Some(self.or(total, bits, &mut steps)?);
            }
        }
        let [bytes, count] = [self.body.new_var()?, self.body.new_var()?];
        let b = Src::Imm(pattern.bytes().trailing_zeros().into());
        steps.push(self.step(Op::TrailingZeros { dst: bytes, src: total? }));
        steps.push(self.step(Op::Alu { width, op: AluOp::Rsh, dst: count, a: bytes, b }));
        if each > 0 {
            let (budget, b) = (self.shape.budget, Src::Imm(each * group.elements));
            let [unused, back] = [self.body.new_var()?, self.body.new_var()?];
            let ops = [
                Op::Alu { width, op: AluOp::Mul, dst: unused, a: count, b: Src::Imm(-each) },
                Op::Alu { width, op: AluOp::Add, dst: back, a: unused, b },
                Op::Credit { budget, iterations: Src::Var(back) },
            ];
            steps.extend(ops.map(|op| self.step(op)));
        }
        for &(var, by, growing) in &pattern.growths {
            let grown = self.body.new_var()?;
            let ops = [
                Op::Alu { width, op: AluOp::Mul, dst: grown, a: count, b: Src::Imm(by) },
                Op::Alu { width: growing, op: AluOp::Add, dst: var, a: var, b: Src::Var(grown) },
            ];
            steps.extend(ops.map(|op| self.step(op)));
        }
        Some(self.push(steps, End::Jump(self.rolled)))
    }

    /// A block that gives back the iterations of a group that was not done.
    fn give_back(&mut self, iterations: i64, is_miss: bool, lower: BlockId) -> BlockId {
        let mut steps = Vec::new();
        if let Some(word) = self.word.filter(|_| is_miss) {
            steps.push(self.step(Op::ForgetMissed { word }));
        }
        if iterations > 0 {
            let budget = self.shape.budget;
            steps.push(self.step(Op::Credit { budget, iterations: Src::Imm(iterations) }));
        }
        let id = self.push(steps, End::Jump(lower));
        if let Some(block) = self.body.block_mut(id) {
            block.cold = is_miss;
        }
        id
    }

    /// All that a group does when nothing can come between any more.
    fn store(&mut self, work: &Work, elements: i64, gate: BlockId) -> Option<BlockId> {
        let pattern = self.pattern;
        let mut steps = Vec::new();
        if let Some(store) = pattern.store {
            for vector in 0..work.vectors {
                let (place, src) = (self.part(store.place, vector)?, work.vector(store.lanes, vector)?);
                steps.push(Step { at: store.at, op: Op::WideStore { place, src } });
            }
        }
        let lanes = pattern.element?;
        for sum in &pattern.sums {
            self.sum(sum, lanes, work, &mut steps)?;
        }
        for &(dst, a, by) in &pattern.left {
            let b = Src::Imm(by.checked_mul(elements - 1)?);
            steps.push(self.step(Op::Alu { width: Width::W64, op: AluOp::Add, dst, a, b }));
        }
        for &(var, by, width) in &pattern.growths {
            let by = Src::Imm(by.checked_mul(elements)?);
            steps.push(self.step(Op::Alu { width, op: AluOp::Add, dst: var, a: var, b: by }));
        }
        Some(self.push(steps, End::Jump(gate)))
    }

    /// Adds all elements of a group to what they are summed up in.
    fn sum(&mut self, sum: &Sum, lanes: Size, work: &Work, steps: &mut Vec<Step>) -> Option<()> {
        let Sum { at, acc, op, width, .. } = *sum;
        let mut vectors: Vec<_> = (0..work.vectors).filter_map(|v| work.vector(sum.lanes, v)).collect();
        // Vectors can be added to one another first, unless the sum needs more bits than an element has.
        if op != AluOp::Add || (lanes, width) == (Size::W, Width::W32) || lanes == Size::DW {
            let mut all = *vectors.first()?;
            for &b in vectors.iter().skip(1) {
                let dst = self.body.new_var()?;
                steps.push(Step { at, op: Op::WideAlu { lanes, op, dst, a: all, b } });
                all = dst;
            }
            vectors = vec![all];
        }
        for src in vectors {
            let dst = self.body.new_var()?;
            steps.push(Step { at, op: Op::Fold { lanes, op, dst, src } });
            steps.push(Step { at, op: Op::Alu { width, op, dst: acc, a: acc, b: Src::Var(dst) } });
        }
        Some(())
    }

    /// What is done when the loop is entered, and leads to the loop of the largest groups.
    fn front(
        &mut self,
        groups: &[Group],
        distance: Vec<(Place, Place)>,
        largest: BlockId,
    ) -> Option<BlockId> {
        let (smallest, others) = groups.split_last()?;
        let mut steps: Vec<_> = others.iter().flat_map(|group| group.once.iter().copied()).collect();
        if let Some(dst) = self.word {
            steps.push(self.step(Op::MissedWord { dst }));
        }
        let mut tests = Vec::new();
        for &(var, most) in &self.pattern.most {
            let b = Src::Imm(most.cast_signed());
            tests.push(Test { width: Width::W64, cond: Cond::Le, a: var, b });
        }
        for (behind, before) in distance {
            let width = if behind.is_in_arena() { Width::W32 } else { Width::W64 };
            let [behind, before] = [behind, before].map(|place| self.address(place, width, &mut steps));
            let [(behind, offset), (before, less)] = [behind?, before?];
            let [difference, below] = [self.body.new_var()?, self.body.new_var()?];
            // One less than the distance, so that 0 is far away.
            let by = i64::from(offset) - i64::from(less) - 1;
            let sub = Op::Alu { width, op: AluOp::Sub, dst: difference, a: behind, b: Src::Var(before) };
            let add = Op::Alu { width, op: AluOp::Add, dst: below, a: difference, b: Src::Imm(by) };
            steps.extend([sub, add].map(|op| self.step(op)));
            tests.push(Test { width, cond: Cond::Ge, a: below, b: Src::Imm(REACH - 1) });
        }
        let end = self.tests(&tests, largest, self.rolled);
        let checks = self.push(steps, end);
        let mut steps = self.pattern.scalars.clone();
        steps.extend(smallest.once.iter().copied());
        let end = self.tests(&smallest.tests, checks, self.rolled);
        Some(self.push(steps, end))
    }

    /// The sum of base and index of a place, and its offset.
    fn address(&mut self, place: Place, width: Width, steps: &mut Vec<Step>) -> Option<(Var, i32)> {
        let Some((index, shift)) = place.index else { return Some((place.base, place.offset)) };
        let [scaled, sum] = [self.body.new_var()?, self.body.new_var()?];
        let scale = Op::Alu { width, op: AluOp::Lsh, dst: scaled, a: index, b: Src::Imm(shift.into()) };
        let add = Op::Alu { width, op: AluOp::Add, dst: sum, a: place.base, b: Src::Var(scaled) };
        steps.extend([scale, add].map(|op| self.step(op)));
        Some((sum, place.offset))
    }

    /// Has the header's number lead to the front, by way of one iteration if an element may end the loop: often it is the first one. The rolled
    /// loop goes back to its own copy of the header.
    fn enter(&mut self, front: BlockId) {
        let header = self.shape.header();
        let blocks = &self.shape.blocks;
        let originals: Vec<_> = blocks.iter().filter_map(|id| self.body.block(*id).cloned()).collect();
        let mut first = Block { steps: Vec::new(), at: self.at, end: End::Jump(front), cold: false };
        if !self.pattern.exits.is_empty() {
            let ids: Vec<_> = originals.iter().skip(1).map(|block| self.body.push(block.clone())).collect();
            let labels: HashMap<_, _> = blocks.iter().skip(1).copied().zip(ids.iter().copied()).collect();
            for (index, mut block) in originals.into_iter().enumerate() {
                block.end.each_successor_mut(|to| {
                    if *to == header {
                        *to = front;
                    } else if *to == inside(self.shape, index) {
                        *to = labels.get(to).copied().unwrap_or(*to);
                    }
                });
                // The rolled loop asks, if there is none left.
                if let (0, End::MayGoto { budget, next: enough, .. }) = (index, block.end)
                    && may_repeat(&block.steps)
                {
                    let (iterations, asks, short) = (1, false, self.rolled);
                    block.end = End::Afford { budget, iterations, asks, enough, short };
                }
                match index.checked_sub(1).and_then(|index| ids.get(index)) {
                    Some(&id) => set(self.body, id, block),
                    None => first = block,
                }
            }
        }
        set(self.body, header, first);
        for id in blocks.iter().skip(1).copied().chain([self.rolled]) {
            if let Some(block) = self.body.block_mut(id) {
                block.end.redirect(header, self.rolled);
            }
        }
    }
}

/// Whether doing all of this twice is as doing it once.
fn may_repeat(steps: &[Step]) -> bool {
    let is_written = |var: Var| {
        let mut written = false;
        steps.iter().for_each(|step| step.op.writes(|other| written |= other == var));
        written
    };
    steps.iter().all(|step| {
        let mut stays = step.op.is_pure();
        step.op.reads(|var| stays &= !is_written(var));
        stays
    })
}

fn set(body: &mut Body, id: BlockId, block: Block) {
    if let Some(entry) = body.block_mut(id) {
        *entry = block;
    }
}

/// What is done before a group can no longer be given back.
struct Work {
    steps: Vec<Step>,
    /// Per lanes of the pattern: the variables, one if they are the same in all vectors.
    lanes: Vec<Vec<Var>>,
    vectors: i64,
}

impl Work {
    /// The variable of lanes for a vector.
    fn vector(&self, lanes: usize, vector: i64) -> Option<Var> {
        let vectors = self.lanes.get(lanes)?;
        let number = usize::try_from(vector).ok()?;
        vectors.get(number).or_else(|| vectors.first()).copied()
    }
}
