//! Operations that were done before.
//!
//! Values have numbers: what an operation makes of values with the same numbers has the same number, wherever it is done. A number
//! stands for one value at a time, so that a variable has the value if it has the number. Where ways meet, a variable keeps
//! a number that it has on all of them, and at the beginning of a loop one that no iteration changes; otherwise it gets a new one.

use std::collections::HashMap;

use isa::AluOp;

use super::{Cost, copy, with_result};
use crate::analysis::{Dominators, Edges, Loops, VarSet};
use crate::flow::{BlockId, Body, Op, Src, Step, Use, Var};

/// Bodies with more variables in all blocks together are left alone.
const MOST: usize = 1 << 21;

/// Operations of the same block that what is one instruction is kept for.
const STEPS: usize = 24;

/// Blocks that what is two or three instructions is kept for.
const BLOCKS: usize = 8;

/// Replaces what was computed before; the result is how many operations.
pub(super) fn run(body: &mut Body) -> u32 {
    if body.blocks.len() * usize::from(body.vars) > MOST {
        return 0;
    }
    let edges = Edges::of(body);
    let dominators = Dominators::of(&edges);
    let loops = Loops::of(body, &edges, &dominators);
    let mut numbering = Numbering {
        changed: changed_in_loops(body, &loops),
        edges: &edges,
        dominators: &dominators,
        loops: &loops,
        values: HashMap::new(),
        sites: HashMap::new(),
        kept: Vec::new(),
        next: 0,
        ends: vec![Vec::new(); body.blocks.len()],
    };
    let mut changes = 0;
    for &id in edges.order() {
        let mut numbers = numbering.enter(body, id);
        let mut steps = body.block_mut(id).map(|block| std::mem::take(&mut block.steps)).unwrap_or_default();
        for (step, Step { op, .. }) in steps.iter_mut().enumerate() {
            changes += u32::from(numbering.step(body, &mut numbers, op, Site { block: id, step }));
        }
        if let (Some(block), Some(end)) = (body.block_mut(id), numbering.ends.get_mut(id.index())) {
            (block.steps, *end) = (steps, numbers);
        }
    }
    let kept = numbering.kept;
    keep(body, kept);
    changes
}

/// The number of a value.
type Number = u32;

/// An operation without its result, its variables replaced by the numbers of their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Expression {
    form: Op,
    operands: [Number; 4],
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    block: BlockId,
    step: usize,
}

/// What is known of values.
struct Numbering<'a> {
    edges: &'a Edges,
    dominators: &'a Dominators,
    loops: &'a Loops,
    /// By header of a loop: what is written in it.
    changed: HashMap<BlockId, VarSet>,
    values: HashMap<Expression, Number>,
    /// Where a value was last computed, and the variable that keeps it, if one was made.
    sites: HashMap<Number, (Site, Option<Var>)>,
    /// Results that are needed when the variable they were assigned to has another value.
    kept: Vec<(Site, Var)>,
    next: Number,
    /// Per block: the numbers of variables behind it.
    ends: Vec<Vec<Number>>,
}

impl Numbering<'_> {
    fn new_number(&mut self) -> Number {
        self.next = self.next.saturating_add(1);
        self.next
    }

    /// The numbers of variables at the beginning of a block.
    fn enter(&mut self, body: &Body, id: BlockId) -> Vec<Number> {
        let (edges, loops) = (self.edges, self.loops);
        if let Some(before) = edges.single_predecessor(id) {
            return self.ends.get(before.index()).cloned().unwrap_or_default();
        }
        let place = edges.place(id);
        let (before, back): (Vec<_>, Vec<_>) =
            edges.predecessors(id).iter().copied().partition(|from| edges.place(*from) < place);
        let own = loops.innermost(id).and_then(|l| loops.get(l)).filter(|l| l.header == id);
        let comes_back = back.iter().all(|from| own.is_some_and(|l| l.latches.contains(from)));
        let known: &[BlockId] = if comes_back && id != BlockId::ENTRY { &before } else { &[] };
        (0..body.vars)
            .map(|var| {
                let end = |from: &BlockId| self.ends.get(from.index())?.get(usize::from(var)).copied();
                let mut ends = known.iter().map(end);
                let first = ends.next().flatten().filter(|first| ends.all(|end| end == Some(*first)));
                let changes = self.changed.get(&id).is_some_and(|changed| changed.contains(Var(var)));
                first.filter(|_| !changes).unwrap_or_else(|| self.new_number())
            })
            .collect()
    }

    /// Follows an operation, and replaces it if its result is known; whether it was.
    fn step(&mut self, body: &mut Body, numbers: &mut Vec<Number>, op: &mut Op, site: Site) -> bool {
        let number_of = |numbers: &[Number], var: Var| numbers.get(var.index()).copied().unwrap_or(0);
        let Some(dst) = op.result().filter(|_| op.is_pure() && !op.is_of_wide_loop()) else {
            op.writes(|var| set(numbers, var, self.new_number()));
            return false;
        };
        if let Op::Mov { width: isa::Width::W64, src: Src::Var(src), .. } = *op {
            let number = number_of(numbers, src);
            set(numbers, dst, number);
            return false;
        }
        let expression = Expression::of(op, |var| number_of(numbers, var));
        let Some(&number) = self.values.get(&expression) else {
            let number = self.new_number();
            self.values.insert(expression, number);
            self.sites.insert(number, (site, None));
            set(numbers, dst, number);
            return false;
        };
        let source = Cost::of(op).and_then(|cost| self.source(body, numbers, op, cost, number, site));
        if let Some(source) = source {
            *op = copy(dst, source);
        } else {
            self.sites.insert(number, (site, None));
        }
        set(numbers, dst, number);
        source.is_some()
    }

    /// The variable that has the result of an operation, if it is worth taking it from there.
    fn source(
        &mut self,
        body: &mut Body,
        numbers: &mut Vec<Number>,
        op: &Op,
        cost: Cost,
        number: Number,
        here: Site,
    ) -> Option<Var> {
        let dst = op.result()?;
        if numbers.get(dst.index()) == Some(&number) {
            return Some(dst);
        }
        let (site, kept) = *self.sites.get(&number)?;
        let before = site.block == here.block && site.step < here.step
            || site.block != here.block && self.dominators.dominates(self.edges, site.block, here.block);
        if !self.is_near(cost, site, here) || is_addition(op) {
            return None;
        }
        let has = numbers.iter().position(|known| *known == number).and_then(|var| u16::try_from(var).ok());
        if let Some(var) = has {
            return Some(Var(var));
        }
        if !before {
            return None;
        }
        if kept.is_some() {
            return kept;
        }
        let var = body.new_var()?;
        self.kept.push((site, var));
        self.sites.insert(number, (site, Some(var)));
        Some(var)
    }

    /// Whether the result of an operation that costs so much is worth keeping from one place to another.
    fn is_near(&self, cost: Cost, from: Site, to: Site) -> bool {
        let place = |site: Site| self.edges.place(site.block).unwrap_or(0);
        let loop_of = |site: Site| self.loops.innermost(site.block);
        match cost {
            Cost::Little => from.block == to.block && to.step.saturating_sub(from.step) <= STEPS,
            Cost::Some => loop_of(from) == loop_of(to) && place(to).saturating_sub(place(from)) <= BLOCKS,
            Cost::Much => true,
        }
    }
}

fn set(numbers: &mut [Number], var: Var, number: Number) {
    if let Some(entry) = numbers.get_mut(var.index()) {
        *entry = number;
    }
}

/// The sum of a variable and a number: it is part of an address, or counts a loop.
fn is_addition(op: &Op) -> bool {
    matches!(op, Op::Alu { op: AluOp::Add | AluOp::Sub, b: Src::Imm(_), .. })
}

impl Expression {
    fn of(op: &Op, number: impl Fn(Var) -> Number) -> Self {
        let (mut form, mut operands) = (*op, [0; 4]);
        let mut free = operands.iter_mut();
        form.each_var_mut(|var, how| {
            if let (Use::Read, Some(operand)) = (how, free.next()) {
                *operand = number(*var);
            }
            *var = Var(0);
        });
        if let (Op::Alu { op, b: Src::Var(_), .. }, [a, b, ..]) = (form, &mut operands)
            && matches!(op, AluOp::Add | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor)
            && *a > *b
        {
            std::mem::swap(a, b);
        }
        Self { form, operands }
    }
}

/// By header: what is written in a loop, and in those inside of it.
fn changed_in_loops(body: &Body, loops: &Loops) -> HashMap<BlockId, VarSet> {
    let mut changed: HashMap<BlockId, VarSet> = HashMap::new();
    for (_, l) in loops.iter() {
        let mut set = VarSet::empty(body.vars);
        for step in l.own.iter().filter_map(|id| body.block(*id)).flat_map(|block| &block.steps) {
            step.op.writes(|var| _ = set.insert(var));
        }
        for inner in l.inner.iter().filter_map(|id| loops.get(*id)) {
            changed.get(&inner.header).into_iter().for_each(|inner| _ = set.extend(inner));
        }
        changed.insert(l.header, set);
    }
    changed
}

/// Has results be in variables of their own as well.
fn keep(body: &mut Body, mut kept: Vec<(Site, Var)>) {
    // The last of a block first, so that those before stay where they are.
    kept.sort_unstable_by(|a, b| b.cmp(a));
    for (Site { block, step }, var) in kept {
        let Some(block) = body.block_mut(block) else { continue };
        let Some(original) = block.steps.get_mut(step) else { continue };
        let Some(dst) = original.op.result() else { continue };
        original.op = with_result(original.op, var);
        let copied = Step { at: original.at, op: copy(dst, var) };
        block.steps.insert(step + 1, copied);
    }
}
