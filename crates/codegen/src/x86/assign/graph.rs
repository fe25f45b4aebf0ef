//! The graph of registers that live at the same time.

use std::collections::HashSet;

use isa::Width;

use super::all;
use crate::x86::insn::{Class, End, Function, Insn, Machine, Reg, Src, Use};
use crate::x86::live::{Liveness, Set, step_back};

/// More registers than these are not worth the time: it grows faster than their number.
const MOST: usize = 16_384;

/// Registers that may have to go to memory are compared anew after each one that does, if they are no more than these.
const COMPARED: usize = 1024;

/// Which registers live at the same time, and which machine registers each may have.
pub(super) struct Graph {
    edges: Edges,
    /// Some of them are joined with others by now.
    neighbours: Vec<Vec<Reg>>,
    /// How many neighbours there are that are not.
    degrees: Vec<u32>,
    allowed: Vec<Machine>,
    classes: Vec<Class>,
    /// What each was joined with, or itself.
    joined: Vec<Reg>,
    /// The last question in which each was counted.
    counted: Vec<u32>,
    questions: u32,
}

/// Pairs of numbers, as bits.
struct Edges(Vec<u64>);

impl Edges {
    /// None, of so many.
    fn new(count: usize) -> Self {
        Self(vec![0; (count * (count + 1) / 2).div_ceil(64)])
    }

    fn place(a: Reg, b: Reg) -> (usize, u64) {
        let (low, high) = (a.index().min(b.index()), a.index().max(b.index()));
        let bit = high * (high + 1) / 2 + low;
        (bit / 64, 1 << (bit % 64))
    }

    fn contains(&self, a: Reg, b: Reg) -> bool {
        let (word, bit) = Self::place(a, b);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether it was not there.
    fn insert(&mut self, a: Reg, b: Reg) -> bool {
        let (word, bit) = Self::place(a, b);
        self.0.get_mut(word).is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }
}

impl Graph {
    /// Of a function; `None` if it is too large.
    pub(super) fn of(function: &Function, live: &Liveness) -> Option<Self> {
        let count = function.classes.len();
        if count > MOST {
            return None;
        }
        let mut graph = Self {
            edges: Edges::new(count),
            neighbours: vec![Vec::new(); count],
            degrees: vec![0; count],
            allowed: function.classes.iter().map(|class| all(*class)).collect(),
            classes: function.classes.clone(),
            joined: (0..u32::try_from(count).ok()?).map(Reg).collect(),
            counted: vec![0; count],
            questions: 0,
        };
        for id in &function.order {
            let block = function.block(*id)?;
            let mut now = live.behind(function, *id);
            if let End::Afford { left: Src::Reg(left), .. } = block.end {
                graph.write(left, &now, None);
            }
            block.end.each_reg(|reg| _ = now.insert(reg));
            for (insn, _) in block.insns.iter().rev() {
                graph.add(insn, &mut now);
            }
        }
        // Arguments come at once.
        if let Some(live) = function.order.first().and_then(|first| live.at(*first)) {
            for param in function.params.iter().flatten() {
                if let Src::Reg(reg) = param {
                    graph.write(*reg, live, None);
                }
            }
        }
        Some(graph)
    }

    /// Adds what an instruction says; `now` is what lives behind it, and becomes what lives before it.
    fn add(&mut self, insn: &Insn, now: &mut Set) {
        let copied = match insn {
            Insn::Mov { width: Width::W64, src: Src::Reg(src), .. } | Insn::WideMov { src, .. } => Some(*src),
            _ => None,
        };
        let (mut result, mut late) = (None, Vec::new());
        insn.each_reg(|reg, how| match how {
            Use::Write => result = Some(reg),
            Use::ReadLate => late.push(reg),
            Use::Read => {}
        });
        if let Some(result) = result {
            self.write(result, now, copied);
            late.iter().for_each(|late| self.connect(result, *late));
        }
        let taken = insn.taken();
        if taken != 0 {
            let through = now.iter().filter(|reg| Some(*reg) != result).chain(late.iter().copied());
            for reg in through {
                if let (Some(Class::General), Some(allowed)) =
                    (self.classes.get(reg.index()), self.allowed.get_mut(reg.index()))
                {
                    *allowed &= !taken;
                } else if insn.takes_wide()
                    && let Some(allowed) = self.allowed.get_mut(reg.index())
                {
                    *allowed = 0;
                }
            }
        }
        step_back(now, insn);
    }

    /// A register gets a value while others live.
    fn write(&mut self, reg: Reg, live: &Set, but: Option<Reg>) {
        for other in live.iter().filter(|other| Some(*other) != but) {
            self.connect(reg, other);
        }
    }

    fn connect(&mut self, a: Reg, b: Reg) {
        if a == b || self.classes.get(a.index()) != self.classes.get(b.index()) {
            return;
        }
        if self.edges.insert(a, b) {
            for (from, to) in [(a, b), (b, a)] {
                if let (Some(neighbours), Some(degree)) =
                    (self.neighbours.get_mut(from.index()), self.degrees.get_mut(from.index()))
                {
                    neighbours.push(to);
                    *degree += 1;
                }
            }
        }
    }

    /// What a register was joined with.
    pub(super) fn find(&self, mut reg: Reg) -> Reg {
        while let Some(&next) = self.joined.get(reg.index()).filter(|next| **next != reg) {
            reg = next;
        }
        reg
    }

    /// What lives at the same time; of what was joined, the one that stands for all.
    pub(super) fn neighbours(&self, reg: Reg) -> impl Iterator<Item = Reg> + '_ {
        let stands = |other: &Reg| self.joined.get(other.index()) == Some(other);
        self.neighbours.get(reg.index()).into_iter().flatten().copied().filter(stands)
    }

    /// The machine registers that a register may have.
    pub(super) fn allowed(&self, reg: Reg) -> Machine {
        self.allowed.get(reg.index()).copied().unwrap_or(0)
    }

    fn colours(&self, reg: Reg) -> usize {
        self.allowed(reg).count_ones() as usize
    }

    /// Makes one of two registers, one of which is a copy of the other, if both never differ and the graph gets no harder for that: what
    /// has as many neighbours as there are machine registers must not have more of the kind (Briggs).
    pub(super) fn join(&mut self, a: Reg, b: Reg, costs: &mut [f32]) -> Option<()> {
        let (a, b) = (self.find(a), self.find(b));
        if a == b || self.edges.contains(a, b) {
            return None;
        }
        let allowed = self.allowed(a) & self.allowed(b);
        self.questions += 1;
        let mut significant = 0;
        for reg in [a, b] {
            for index in 0..self.neighbours.get(reg.index())?.len() {
                let other = *self.neighbours.get(reg.index())?.get(index)?;
                let counted = self.counted.get_mut(other.index())?;
                let seen = std::mem::replace(counted, self.questions) == self.questions;
                let stands = self.joined.get(other.index()) == Some(&other);
                significant += u32::from(!seen && stands && self.degree(other) >= self.colours(other));
            }
        }
        if significant >= allowed.count_ones() {
            return None;
        }
        *self.joined.get_mut(b.index())? = a;
        for other in std::mem::take(self.neighbours.get_mut(b.index())?) {
            if self.joined.get(other.index()) == Some(&other) {
                // It loses one neighbour, and gets the other one, if it is new.
                let degree = self.degrees.get_mut(other.index())?;
                *degree = degree.saturating_sub(1);
                self.connect(a, other);
            }
        }
        *self.allowed.get_mut(a.index())? = allowed;
        let cost = *costs.get(b.index())?;
        *costs.get_mut(a.index())? += cost;
        Some(())
    }

    fn degree(&self, reg: Reg) -> usize {
        self.degrees.get(reg.index()).map_or(0, |degree| *degree as usize)
    }

    /// An order in which to take registers from the graph: the last one is to be coloured first. What has fewer neighbours than machine
    /// registers can always be coloured; where there is none such, what costs least for the neighbours that it frees is taken, in the hope
    /// that it can be coloured all the same. Registers that no machine register can hold come as second.
    pub(super) fn simplify(&self, costs: &[f32]) -> (Vec<Reg>, Vec<Reg>) {
        let count = self.joined.len();
        let nodes = (0..count).filter_map(|index| u32::try_from(index).ok().map(Reg));
        let nodes: Vec<_> = nodes.filter(|reg| self.find(*reg) == *reg).collect();
        let hopeless: Vec<_> = nodes.iter().copied().filter(|reg| self.allowed(*reg) == 0).collect();
        let mut degrees = vec![0_usize; count];
        let mut gone = vec![false; count];
        for reg in &hopeless {
            if let Some(gone) = gone.get_mut(reg.index()) {
                *gone = true;
            }
        }
        let mut easy = Vec::new();
        let mut hard = HashSet::new();
        for &reg in nodes.iter().filter(|reg| !hopeless.contains(reg)) {
            let degree =
                self.neighbours(reg).filter(|other| !gone.get(other.index()).is_some_and(|g| *g)).count();
            if let Some(entry) = degrees.get_mut(reg.index()) {
                *entry = degree;
            }
            if degree < self.colours(reg) { easy.push(reg) } else { _ = hard.insert(reg) }
        }
        let mut order = Vec::with_capacity(nodes.len());
        // Where there are many, what each costs at first is taken for what it costs.
        let mut queue: Vec<Reg> =
            if hard.len() > COMPARED { hard.iter().copied().collect() } else { Vec::new() };
        queue
            .sort_by(|a, b| price(costs, &degrees, *b).total_cmp(&price(costs, &degrees, *a)).then(b.cmp(a)));
        loop {
            let reg = match easy.pop() {
                Some(reg) => reg,
                None if !queue.is_empty() => match queue.pop().filter(|reg| hard.remove(reg)) {
                    Some(reg) => reg,
                    None => continue,
                },
                None => {
                    let price = |reg: &Reg| price(costs, &degrees, *reg);
                    let cheapest = hard.iter().min_by(|a, b| price(a).total_cmp(&price(b)).then(a.cmp(b)));
                    let Some(&reg) = cheapest else { break };
                    hard.remove(&reg);
                    reg
                }
            };
            if gone.get_mut(reg.index()).is_none_or(|gone| std::mem::replace(gone, true)) {
                continue;
            }
            order.push(reg);
            for other in self.neighbours(reg) {
                if gone.get(other.index()).is_some_and(|gone| *gone) {
                    continue;
                }
                let Some(degree) = degrees.get_mut(other.index()) else { continue };
                *degree = degree.saturating_sub(1);
                if *degree + 1 == self.colours(other) && hard.remove(&other) {
                    easy.push(other);
                }
            }
        }
        (order, hopeless)
    }
}

/// What it costs to have a register in memory, for each neighbour that it frees.
fn price(costs: &[f32], degrees: &[usize], reg: Reg) -> f32 {
    let cost = costs.get(reg.index()).copied().unwrap_or(f32::INFINITY);
    let degree = degrees.get(reg.index()).copied().unwrap_or(0).max(1);
    cost / f32::from(u16::try_from(degree).unwrap_or(u16::MAX))
}
