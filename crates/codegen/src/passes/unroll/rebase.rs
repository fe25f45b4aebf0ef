//! Addresses of all copies as constant distances from those of the first.
//!
//! The sum of base and index of an arena address is of 32 bits, its offset is added in 64. So a constant may move from the
//! one to the other where the sum does not wrap around, which is tested once for all copies.

use std::collections::HashMap;

use isa::{AluOp, Cond, Size, Width};
use verifier::Memory;

use super::Candidate;
use crate::analysis::Induction;
use crate::flow::{BlockId, Body, Op, Place, Src, Test, Var};

/// Places of the same base and index, of which one or both grow with each iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    base: Var,
    index: Option<(Var, u8)>,
    arena: bool,
}

/// What is known of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    /// Accesses in an iteration.
    accesses: u32,
    /// The least and the greatest distance from the first address.
    least: i64,
    most: i64,
}

/// The places that are addressed from where the first copy begins.
#[derive(Debug, Default)]
pub(super) struct Rebase {
    groups: Vec<(Group, Extent)>,
    /// The values of variables where the first copy begins; their low halves for addresses in an arena.
    saved: HashMap<(Var, bool), Var>,
}

impl Candidate<'_> {
    /// By how much the address of a place in a copy is above that of the same place where the first copy begins.
    fn distance(&self, group: Group, copy: u32, block: BlockId, step: usize) -> Option<i64> {
        let done =
            |i: &Induction| i64::from(copy) + i64::from(i.is_done(self.edges, self.dominators, block, step));
        let grown = |var: Var, shift: u8| match self.inductions.get(var) {
            Some(induction) => induction.by.checked_shl(shift.into())?.checked_mul(done(induction)),
            None => Some(0),
        };
        let index = group.index.map_or(Some(0), |(var, shift)| grown(var, shift))?;
        grown(group.base, 0)?.checked_add(index)
    }

    /// The group of a place that could be addressed from where the first copy begins.
    fn group(&self, place: &Place) -> Option<Group> {
        let arena = place.memory == Memory::Arena;
        if !arena && (place.memory != Memory::Proven || place.is_own_stack()) {
            return None;
        }
        let mut grows = false;
        let mut usable = |var: Var| match self.inductions.get(var) {
            Some(induction) => {
                grows = true;
                // A sum of 64 bits must be one all the way.
                arena || induction.width == Width::W64
            }
            None => self.inductions.is_invariant(var),
        };
        let both = usable(place.base) && place.index.is_none_or(|(index, _)| usable(index));
        (both && grows).then_some(Group { base: place.base, index: place.index, arena })
    }
}

impl Rebase {
    /// The groups of a loop for which it is worth it.
    pub(super) fn of(body: &mut Body, l: Candidate<'_>) -> Self {
        let mut groups: Vec<(Group, Extent)> = Vec::new();
        for &id in &l.shape.blocks {
            let steps = body.block(id).map(|b| b.steps.as_slice()).unwrap_or_default();
            for (number, step) in steps.iter().enumerate() {
                let Some(group) = place(&step.op).and_then(|place| l.group(place)) else { continue };
                let reach = [0, l.copies - 1].map(|copy| l.distance(group, copy, id, number));
                let [Some(first), Some(last)] = reach else { continue };
                let entry = match groups.iter_mut().find(|(known, _)| *known == group) {
                    Some((_, entry)) => entry,
                    None => {
                        groups.push((group, Extent::default()));
                        let Some((_, entry)) = groups.last_mut() else { continue };
                        entry
                    }
                };
                entry.accesses += 1;
                entry.least = entry.least.min(first).min(last);
                entry.most = entry.most.max(first).max(last);
            }
        }
        // A test costs about as much as two sums that are saved.
        groups.retain(|(group, extent)| {
            let tests = (extent.least >= 0 || extent.most <= 0) && extent.accesses * (l.copies - 1) > 2;
            !group.arena || tests
        });
        let mut rebase = Self { groups, saved: HashMap::new() };
        for (group, _) in rebase.groups.clone() {
            for var in core::iter::once(group.base).chain(group.index.map(|(var, _)| var)) {
                let key = (var, group.arena);
                if l.inductions.get(var).is_some() && !rebase.saved.contains_key(&key) {
                    let Some(saved) = body.new_var() else { return Self::default() };
                    rebase.saved.insert(key, saved);
                }
            }
        }
        rebase
    }

    /// What the first copy does first.
    pub(super) fn saves(&self) -> Vec<Op> {
        let mut saved: Vec<_> = self.saved.iter().collect();
        saved.sort_unstable();
        let save = |(&(var, arena), &dst): (&(Var, bool), &Var)| match arena {
            true => Op::ZeroExtend { from: Size::W, dst, src: var },
            false => Op::Mov { width: Width::W64, dst, src: Src::Var(var) },
        };
        saved.into_iter().map(save).collect()
    }

    /// The tests that must hold before a round of all copies, each with the operations it needs.
    pub(super) fn tests(&self, body: &mut Body) -> Option<Vec<(Vec<Op>, Test)>> {
        let mut tests = Vec::new();
        for (group, extent) in self.groups.iter().filter(|(group, _)| group.arena) {
            let width = Width::W32;
            let mut ops = Vec::new();
            let mut a = group.base;
            if let Some((index, shift)) = group.index {
                let (scaled, sum) = (body.new_var()?, body.new_var()?);
                let by = Src::Imm(shift.into());
                ops.push(Op::Alu { width, op: AluOp::Lsh, dst: scaled, a: index, b: by });
                ops.push(Op::Alu { width, op: AluOp::Add, dst: sum, a: group.base, b: Src::Var(scaled) });
                a = sum;
            }
            let (cond, b) = match extent.most {
                ..=0 => (Cond::Ge, -extent.least),
                most => (Cond::Le, i64::from(u32::MAX) - most),
            };
            tests.push((ops, Test { width, cond, a, b: Src::Imm(b) }));
        }
        Some(tests)
    }

    /// The operation of this number of a block, as a copy has it.
    pub(super) fn rewrite(&self, l: Candidate<'_>, op: &mut Op, copy: u32, block: BlockId, step: usize) {
        let Some(place) = place_mut(op) else { return };
        let Some(group) = l.group(place).filter(|group| self.groups.iter().any(|(known, _)| known == group))
        else {
            return;
        };
        let distance = l.distance(group, copy, block, step).and_then(|d| i32::try_from(d).ok());
        let Some(offset) = distance.and_then(|distance| place.offset.checked_add(distance)) else { return };
        // A base that does not change is as it was.
        place.clear |= group.arena && self.saved.contains_key(&(place.base, true));
        place.offset = offset;
        place.each_var_mut(|var| *var = self.saved.get(&(*var, group.arena)).copied().unwrap_or(*var));
    }
}

fn place(op: &Op) -> Option<&Place> {
    match op {
        Op::Load { place, .. } | Op::Store { place, .. } | Op::Atomic { place, .. } => Some(place),
        _ => None,
    }
}

fn place_mut(op: &mut Op) -> Option<&mut Place> {
    match op {
        Op::Load { place, .. } | Op::Store { place, .. } | Op::Atomic { place, .. } => Some(place),
        _ => None,
    }
}
