//! From the values of two sides to assignments.

use isa::{AluOp, Width};

use super::Speculation;
use crate::flow::{At, Op, Src, Step, Test, Use, Var};

/// A variable and what it gets after each of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) dst: Var,
    pub(super) yes: Src,
    pub(super) no: Src,
    /// The chosen value does not replace the variable's, but is combined with it.
    pub(super) onto: Option<AluOp>,
}

impl Choice {
    /// Makes a choice between a variable and the variable changed one of what it is changed by: `c ? x + y : x` is `x + (c ? y :
    /// 0)`. That leaves one operation between a value of `x` and the next, which matters in loops.
    pub(super) fn simplify(&mut self, yes: &Speculation, no: &Speculation) {
        let unchanged = Src::Var(self.dst);
        let neutral = Src::Imm(0);
        if self.no == unchanged
            && let Some((op, by)) = change(yes, self.dst, self.yes)
        {
            (self.yes, self.no, self.onto) = (by, neutral, Some(op));
        } else if self.yes == unchanged
            && let Some((op, by)) = change(no, self.dst, self.no)
        {
            (self.yes, self.no, self.onto) = (neutral, by, Some(op));
        }
    }

    /// The operation that puts the chosen value into `dst`.
    fn choose(&self, dst: Var, test: Test) -> Op {
        match (self.yes, self.no) {
            (Src::Imm(1), Src::Imm(0)) => Op::Compare { dst, test },
            (Src::Imm(0), Src::Imm(1)) if let Some(test) = test.negated() => Op::Compare { dst, test },
            (yes, no) if yes == no => Op::Mov { width: Width::W64, dst, src: yes },
            (yes, no) => Op::Select { dst, test, yes, no },
        }
    }
}

/// How a side makes `result` of `var`: an operation that does nothing to it when the other operand is 0.
fn change(side: &Speculation, var: Var, result: Src) -> Option<(AluOp, Src)> {
    let made = |step: &&Step| step.op.result().map(Src::Var) == Some(result);
    match side.steps.iter().find(made)?.op {
        Op::Alu { width: Width::W64, op, a, b, .. } if a == var && b != Src::Var(var) => {
            matches!(op, AluOp::Add | AluOp::Sub | AluOp::Or | AluOp::Xor).then_some((op, b))
        }
        _ => None,
    }
}

/// The operations that make all choices at once. `temporary` makes variables that are used within a block only.
pub(super) fn sequence(
    test: Test,
    choices: &[Choice],
    at: At,
    mut temporary: impl FnMut() -> Option<Var>,
) -> Option<Vec<Step>> {
    let (mut steps, mut waiting) = (Vec::new(), Vec::new());
    for choice in choices {
        match choice.onto {
            Some(op) => {
                let chosen = temporary()?;
                steps.push(Step { at, op: choice.choose(chosen, test) });
                let (dst, a) = (choice.dst, choice.dst);
                waiting.push(Op::Alu { width: Width::W64, op, dst, a, b: Src::Var(chosen) });
            }
            None => waiting.push(choice.choose(choice.dst, test)),
        }
    }
    // Each may read what another one overwrites.
    while !waiting.is_empty() {
        let is_free = |index: usize| {
            let dst = waiting.get(index).and_then(Op::result);
            waiting.iter().enumerate().all(|(other, op)| other == index || !reads(op, dst))
        };
        match (0..waiting.len()).find(|index| is_free(*index)) {
            Some(index) => steps.push(Step { at, op: waiting.remove(index) }),
            None => {
                let (old, copy) = (waiting.first()?.result()?, temporary()?);
                let op = Op::Mov { width: Width::W64, dst: copy, src: Src::Var(old) };
                steps.push(Step { at, op });
                for op in waiting.iter_mut().skip(1) {
                    op.each_var_mut(|var, how| {
                        if how == Use::Read && *var == old {
                            *var = copy;
                        }
                    });
                }
            }
        }
    }
    Some(steps)
}

fn reads(op: &Op, var: Option<Var>) -> bool {
    let mut found = false;
    op.reads(|v| found |= Some(v) == var);
    found
}
