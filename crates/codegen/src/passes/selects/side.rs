//! What lies between a branch and the place where its two ways meet.

use isa::Width;

use super::{Selects, Speculation};
use crate::flow::{BlockId, Body, End, Op, Src, Step, Var};

/// The most blocks and operations on a side.
const BLOCKS: usize = 8;
const STEPS: usize = 16;
/// The most operations of a block on a side which others lead to as well.
const SHARED_STEPS: usize = 3;

/// Where two ways come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// At the beginning of a block.
    Block(BlockId),
    /// Both return this variable.
    Exit(Var),
}

/// Blocks that are gone through one after the other.
pub(super) struct Side(Vec<BlockId>);

impl Side {
    /// All that is done there.
    pub(super) fn steps(&self, body: &Body) -> Vec<Step> {
        self.0.iter().filter_map(|id| body.block(*id)).flat_map(|block| block.steps.iter().copied()).collect()
    }
}

/// The first place where two ways meet with nothing but pure operations before, and the two sides.
pub(super) fn meet(body: &Body, selects: &Selects, a: BlockId, b: BlockId) -> Option<(Side, Side, Meeting)> {
    let (a, b) = (Way::from(body, selects, a), Way::from(body, selects, b));
    let pairs = a
        .points
        .iter()
        .enumerate()
        .flat_map(|(i, p)| b.points.iter().position(|q| q == p).map(|j| (i, j, *p)));
    let (i, j, meeting) = pairs.min_by_key(|(i, j, _)| i + j)?;
    Some((a.side(i), b.side(j), meeting))
}

/// Points that execution surely comes by, with only pure operations in between.
struct Way {
    points: Vec<Meeting>,
}

impl Way {
    fn from(body: &Body, selects: &Selects, start: BlockId) -> Self {
        let mut way = Self { points: vec![Meeting::Block(start)] };
        let (mut at, mut steps) = (start, 0);
        while let Some(block) = body.block(at).filter(|_| way.points.len() <= BLOCKS) {
            let shared = selects.incoming.get(at.index()).is_none_or(|count| *count != 1);
            let header = selects.headers.get(at.index()).copied().unwrap_or(true);
            steps += block.steps.len();
            let too_long = steps > STEPS || shared && (header || block.steps.len() > SHARED_STEPS);
            if too_long || !block.steps.iter().all(|step| step.op.is_pure()) {
                break;
            }
            match block.end {
                End::Jump(to) => {
                    way.points.push(Meeting::Block(to));
                    at = to;
                }
                End::Exit(value) => {
                    way.points.push(Meeting::Exit(value));
                    break;
                }
                _ => break,
            }
        }
        way
    }

    /// What is done before a point.
    fn side(&self, point: usize) -> Side {
        let block = |point: &Meeting| match *point {
            Meeting::Block(id) => Some(id),
            Meeting::Exit(_) => None,
        };
        Side(self.points.iter().take(point).filter_map(block).collect())
    }
}

impl Speculation {
    /// The value of a variable at the end, if it was given one.
    pub(super) fn value(&self, var: Var) -> Option<Src> {
        self.values.iter().find(|(v, _)| *v == var).map(|(_, value)| *value)
    }

    /// Adds an operation; `temporary` makes a variable.
    pub(super) fn step(&mut self, step: Step, mut temporary: impl FnMut() -> Option<Var>) -> Option<()> {
        let Step { at, mut op } = step;
        match op {
            Op::Mov { width: Width::W64, dst, src: Src::Var(src) } => {
                let value = self.value(src).unwrap_or(Src::Var(src));
                self.set(dst, value);
            }
            Op::Mov { width, dst, src: Src::Imm(imm) } => self.set(dst, Src::Imm(truncated(width, imm))),
            _ => {
                let dst = op.result()?;
                let mut reads = Vec::new();
                op.reads(|var| reads.push(var));
                let mut renamed = Vec::new();
                for var in reads {
                    match self.value(var) {
                        None => {}
                        Some(Src::Var(other)) => renamed.push((var, other)),
                        Some(src @ Src::Imm(_)) => {
                            let made = temporary()?;
                            self.steps.push(Step { at, op: Op::Mov { width: Width::W64, dst: made, src } });
                            renamed.push((var, made));
                        }
                    }
                }
                let made = temporary()?;
                op.each_var_mut(|var, how| match how {
                    crate::flow::Use::Read => {
                        if let Some((_, other)) = renamed.iter().find(|(v, _)| v == var) {
                            *var = *other;
                        }
                    }
                    _ => *var = made,
                });
                self.steps.push(Step { at, op });
                self.set(dst, Src::Var(made));
            }
        }
        Some(())
    }

    fn set(&mut self, var: Var, value: Src) {
        match self.values.iter_mut().find(|(v, _)| *v == var) {
            Some((_, before)) => *before = value,
            None => self.values.push((var, value)),
        }
    }

    /// Drops operations that none of these values needs.
    pub(super) fn keep(&mut self, needed: &[Src]) {
        let mut needed: Vec<_> = needed.to_vec();
        let mut keep: Vec<_> = self
            .steps
            .iter()
            .rev()
            .map(|step| {
                let keep = step.op.result().is_some_and(|var| needed.contains(&Src::Var(var)));
                if keep {
                    step.op.reads(|var| needed.push(Src::Var(var)));
                }
                keep
            })
            .collect();
        self.steps.retain(|_| keep.pop().unwrap_or(true));
    }
}

/// What an assignment of a number leaves in the whole variable.
pub(super) fn truncated(width: Width, imm: i64) -> i64 {
    match width {
        Width::W32 => imm & 0xffff_ffff,
        Width::W64 => imm,
    }
}
