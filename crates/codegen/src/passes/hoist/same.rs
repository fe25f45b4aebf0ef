//! Operations that were done before.
//!
//! Values have numbers: what an operation makes of values with the same numbers has the same number, wherever it is done. A number
//! stands for one value at a time, so that a variable has the value if it has the number. Where ways meet, a variable keeps
//! a number that it has on all of them, and at the beginning of a loop one that no iteration changes; otherwise it gets a new one.

use std::collections::HashMap;

use isa::{AluOp, Width};

use super::{Cost, copy, has_value, with_result};
use crate::analysis::{Dominators, Edges, Liveness, Loops, VarSet};
use crate::flow::{BlockId, Body, Op, Src, Step, Use, Var};

/// Operations of the same block that what is one instruction is kept for.
const STEPS: usize = 24;

/// Blocks that what is two or three instructions is kept for.
const BLOCKS: usize = 8;

/// Replaces what was computed before; the result is how many operations.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let dominators = Dominators::of(&edges);
    let loops = Loops::of(body, &edges, &dominators);
    let live = Liveness::of(body, &edges);
    let mut numbering = Numbering {
        edges: &edges,
        dominators: &dominators,
        loops: &loops,
        live: &live,
        changed: changed_in_loops(body, &loops),
        values: HashMap::new(),
        sites: HashMap::new(),
        kept: Vec::new(),
        last: NONE,
        now: Numbers::new(body.vars),
        ends: vec![Vec::new(); body.blocks.len()],
    };
    let mut changes = 0;
    for &id in edges.order() {
        numbering.enter(id);
        let mut steps = body.block_mut(id).map(|block| std::mem::take(&mut block.steps)).unwrap_or_default();
        for (step, Step { op, .. }) in steps.iter_mut().enumerate() {
            changes += u32::from(numbering.step(body, op, Site { block: id, step }));
        }
        if let Some(block) = body.block_mut(id) {
            block.steps = steps;
        }
        numbering.leave(body, id);
    }
    let kept = numbering.kept;
    keep(body, kept);
    changes
}

/// The number of a value.
type Number = u32;

/// That of a variable whose value nobody wants.
const NONE: Number = 0;

/// The numbers of variables.
struct Numbers {
    /// By variable.
    numbers: Vec<Number>,
    /// Those that may have one.
    known: Vec<Var>,
}

impl Numbers {
    fn new(vars: u16) -> Self {
        Self { numbers: vec![NONE; usize::from(vars)], known: Vec::new() }
    }

    fn get(&self, var: Var) -> Number {
        self.numbers.get(var.index()).copied().unwrap_or(NONE)
    }

    fn set(&mut self, var: Var, number: Number) {
        if let Some(entry) = self.numbers.get_mut(var.index()) {
            if *entry == NONE {
                self.known.push(var);
            }
            *entry = number;
        }
    }

    /// The first variable of this number.
    fn find(&self, number: Number) -> Option<Var> {
        self.known.iter().copied().filter(|var| self.get(*var) == number).min()
    }

    fn clear(&mut self) {
        for var in std::mem::take(&mut self.known) {
            self.set(var, NONE);
        }
        self.known.clear();
    }
}

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
    live: &'a Liveness,
    /// By header of a loop: what is written in it.
    changed: HashMap<BlockId, VarSet>,
    values: HashMap<Expression, Number>,
    /// Where a value was last computed, and the variable that keeps it, if one was made.
    sites: HashMap<Number, (Site, Option<Var>)>,
    /// Results that are needed when the variable they were assigned to has another value.
    kept: Vec<(Site, Var)>,
    /// The last number that was given.
    last: Number,
    /// Where the walk is.
    now: Numbers,
    /// Per block: the numbers of the variables that are wanted behind it, by variable.
    ends: Vec<Vec<(Var, Number)>>,
}

impl Numbering<'_> {
    fn new_number(&mut self) -> Number {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// Finds the numbers of variables at the beginning of a block.
    fn enter(&mut self, id: BlockId) {
        let (edges, loops, live) = (self.edges, self.loops, self.live);
        let place = edges.place(id);
        let (mut before, back): (Vec<_>, Vec<_>) =
            edges.predecessors(id).iter().copied().partition(|from| edges.place(*from) < place);
        let own = loops.innermost(id).and_then(|l| loops.get(l)).filter(|l| l.header == id);
        if id == BlockId::ENTRY || !back.iter().all(|from| own.is_some_and(|l| l.latches.contains(from))) {
            before.clear();
        }
        self.now.clear();
        for var in live.at(id).iter() {
            let end = |from: &BlockId| {
                let end = self.ends.get(from.index())?;
                let index = end.binary_search_by_key(&var, |(var, _)| *var).ok()?;
                end.get(index).map(|(_, number)| *number)
            };
            let mut ends = before.iter().map(end);
            let same = ends.next().flatten().filter(|first| ends.all(|end| end == Some(*first)));
            let changes = self.changed.get(&id).is_some_and(|changed| changed.contains(var));
            let number = same.filter(|_| !changes).unwrap_or_else(|| self.new_number());
            self.now.set(var, number);
        }
    }

    /// Remembers the numbers of variables at the end of a block.
    fn leave(&mut self, body: &Body, id: BlockId) {
        if let Some(end) = self.ends.get_mut(id.index()) {
            *end = self.live.behind(body, id).iter().map(|var| (var, self.now.get(var))).collect();
        }
    }

    /// Follows an operation, and replaces it if its result is known; whether it was.
    fn step(&mut self, body: &mut Body, op: &mut Op, site: Site) -> bool {
        let Some(dst) = op.result().filter(|_| has_value(op)) else {
            op.writes(|var| {
                let number = self.new_number();
                self.now.set(var, number);
            });
            return false;
        };
        if let Op::Mov { width: Width::W64, src: Src::Var(src), .. } = *op {
            self.now.set(dst, self.now.get(src));
            return false;
        }
        let expression = Expression::of(op, &self.now);
        let known = self.values.get(&expression).copied();
        let source = known.and_then(|number| self.source(body, op, number, site));
        let number = known.unwrap_or_else(|| self.new_number());
        match source {
            Some(source) => *op = copy(dst, source),
            None => _ = self.sites.insert(number, (site, None)),
        }
        self.values.insert(expression, number);
        self.now.set(dst, number);
        source.is_some()
    }

    /// The variable that has the result of an operation, if it is worth taking it from there.
    fn source(&mut self, body: &mut Body, op: &Op, number: Number, here: Site) -> Option<Var> {
        let (cost, dst) = (Cost::of(op)?, op.result()?);
        if self.now.get(dst) == number {
            return Some(dst);
        }
        let (site, kept) = *self.sites.get(&number)?;
        if is_addition(op) || !self.is_near(cost, site, here) {
            return None;
        }
        if let Some(var) = self.now.find(number) {
            return Some(var);
        }
        if site.block != here.block && !self.dominators.dominates(self.edges, site.block, here.block) {
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

/// The sum of a variable and a number: it is part of an address, or counts a loop.
fn is_addition(op: &Op) -> bool {
    matches!(op, Op::Alu { op: AluOp::Add | AluOp::Sub, b: Src::Imm(_), .. })
}

impl Expression {
    fn of(op: &Op, numbers: &Numbers) -> Self {
        let (mut form, mut operands) = (*op, [0; 4]);
        let mut free = operands.iter_mut();
        form.each_var_mut(|var, how| {
            if let (Use::Read, Some(operand)) = (how, free.next()) {
                *operand = numbers.get(*var);
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
