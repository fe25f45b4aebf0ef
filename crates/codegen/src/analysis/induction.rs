//! Variables that each iteration of a loop changes by the same number.

use std::collections::HashMap;

use isa::{AluOp, Cond, Width};

use super::{Dominators, Edges, swapped};
use crate::flow::{BlockId, Body, Op, Src, Step, Test, Var};

/// A variable that is written in one place of a loop, to which each iteration comes once, and there has a constant added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Induction {
    /// The variable.
    pub(crate) var: Var,
    /// What is added.
    pub(crate) by: i64,
    /// Of the addition: one of 32 bits clears the upper half.
    pub(crate) width: Width,
    /// Where it is written.
    block: BlockId,
    step: usize,
}

/// A test of such a variable beside something that no iteration changes: `var cond bound`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<'a> {
    /// The variable.
    pub(crate) induction: &'a Induction,
    /// The comparison.
    pub(crate) cond: Cond,
    /// What it is compared with.
    pub(crate) bound: Src,
}

/// What a loop without loops inside of it does to variables.
#[derive(Clone, Debug)]
pub(crate) struct Inductions {
    found: Vec<Induction>,
    /// How often each variable is written.
    writes: HashMap<Var, u32>,
}

impl Inductions {
    /// Of the blocks of a loop without inner loops. No step is longer than this many, so that a few of them together are
    /// still a small number.
    pub(crate) const LONGEST: i64 = 1 << 16;

    /// Of a loop with these blocks, which come back to the first one from the latches.
    pub(crate) fn of(
        body: &Body,
        edges: &Edges,
        dominators: &Dominators,
        blocks: &[BlockId],
        latches: &[BlockId],
    ) -> Self {
        let mut writes = HashMap::new();
        let mut found = Vec::new();
        for &id in blocks {
            let each_time = latches.iter().all(|latch| dominators.dominates(edges, id, *latch));
            for (step, Step { op, .. }) in body.block(id).into_iter().flat_map(|b| b.steps.iter().enumerate())
            {
                op.writes(|var| *writes.entry(var).or_insert(0) += 1);
                if let (true, Some((var, by, width))) = (each_time, addition(op)) {
                    found.push(Induction { var, by, width, block: id, step });
                }
            }
        }
        found.retain(|i| writes.get(&i.var) == Some(&1));
        Self { found, writes }
    }

    /// Whether no iteration changes a variable.
    pub(crate) fn is_invariant(&self, var: Var) -> bool {
        !self.writes.contains_key(&var)
    }

    /// Whether no iteration changes an operand.
    pub(crate) fn is_constant(&self, src: Src) -> bool {
        match src {
            Src::Var(var) => self.is_invariant(var),
            Src::Imm(_) => true,
        }
    }

    /// What a test compares, if that is a variable that grows and something that stays the same, whichever comes first.
    pub(crate) fn counted(&self, test: Test) -> Option<Counted<'_>> {
        let (var, cond, bound) = match test.b {
            bound if self.is_constant(bound) => (test.a, test.cond, bound),
            Src::Var(var) if self.is_invariant(test.a) => (var, swapped(test.cond), Src::Var(test.a)),
            _ => return None,
        };
        let induction = self.get(var)?;
        // The comparison sees the sums as they are: the low half of a wide sum, but not all of a narrow one.
        let sees_sums = test.width == Width::W32 || induction.width == Width::W64;
        sees_sums.then_some(Counted { induction, cond, bound })
    }

    /// The variable, if it is one.
    pub(crate) fn get(&self, var: Var) -> Option<&Induction> {
        self.found.iter().find(|i| i.var == var)
    }
}

impl Induction {
    /// Whether the addition of an iteration is done before the operation of this number of a block of the loop, or before its
    /// end, if the number is that of its operations.
    pub(crate) fn is_done(
        &self,
        edges: &Edges,
        dominators: &Dominators,
        block: BlockId,
        step: usize,
    ) -> bool {
        if block == self.block {
            return step > self.step;
        }
        // As all latches come behind the addition, each block comes behind it on all ways or on none.
        dominators.dominates(edges, self.block, block)
    }
}

fn addition(op: &Op) -> Option<(Var, i64, Width)> {
    let Op::Alu { width, op, dst, a, b: Src::Imm(by) } = *op else { return None };
    let by = match (op, width) {
        (AluOp::Add, Width::W64) => by,
        (AluOp::Sub, Width::W64) => by.checked_neg()?,
        // The low half of the number, as a signed one.
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        (AluOp::Add, Width::W32) => i64::from(by as i32),
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        (AluOp::Sub, Width::W32) => i64::from(by as i32).checked_neg()?,
        _ => return None,
    };
    (dst == a && by != 0 && by.abs() <= Inductions::LONGEST).then_some((dst, by, width))
}
