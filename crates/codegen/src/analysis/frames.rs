//! Which variables are addresses of the function's own stack.

use super::{Edges, Worklist};
use crate::flow::{BlockId, Body, Op, Src, Use, Var};
use isa::{AluOp, Reg, Width};

/// What is known of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing was seen yet, or it has no particular value.
    Unseen,
    /// It is `r10` plus so many bytes.
    At(i32),
    /// Anything.
    Other,
}

/// Per block, which variables are `r10` plus a constant at its beginning.
///
/// Forward: what all ways into a block agree on. Only variables that somewhere get a copy of `r10` are followed.
#[derive(Clone, Debug)]
pub(crate) struct FrameAddresses {
    /// Per variable: its column, from 1 on; 0 for those that are not followed.
    columns: Vec<u16>,
    entries: Vec<Vec<Known>>,
    /// Where one way brings an address and another something else: what becomes of it is not known.
    mixed: Vec<(BlockId, Var)>,
}

/// What is known between two operations.
#[derive(Clone, Debug)]
pub(crate) struct FrameState<'a> {
    addresses: &'a FrameAddresses,
    known: Vec<Known>,
}

impl FrameAddresses {
    /// Of a body.
    pub(crate) fn of(body: &Body, edges: &Edges) -> Self {
        let columns = columns(body);
        let count = usize::from(columns.iter().copied().max().unwrap_or(0));
        let entries = vec![vec![Known::Unseen; count]; body.blocks.len()];
        let mut addresses = Self { columns, entries, mixed: Vec::new() };
        if count == 0 {
            return addresses;
        }
        if let Some(entry) = addresses.entries.first_mut() {
            for (var, column) in (0..).map(Var).zip(&addresses.columns) {
                let column = usize::from(*column).checked_sub(1).and_then(|column| entry.get_mut(column));
                if let Some(known) = column.filter(|_| Reg::ARGS.map(Var::from).contains(&var)) {
                    *known = Known::Other;
                }
            }
        }
        let mut work = Worklist::forwards(body, edges);
        while let Some(id) = work.next() {
            let Some(block) = body.block(id) else { continue };
            let mut state = addresses.at(id);
            block.steps.iter().for_each(|step| state.step(&step.op));
            let known = state.known;
            for to in block.end.successors() {
                if addresses.entries.get_mut(to.index()).is_some_and(|entry| meet(entry, &known)) {
                    work.add(to);
                }
            }
        }
        addresses.mixed = addresses.find_mixed(body, edges);
        addresses
    }

    /// At the beginning of a block.
    pub(crate) fn at(&self, id: BlockId) -> FrameState<'_> {
        FrameState { addresses: self, known: self.entries.get(id.index()).cloned().unwrap_or_default() }
    }

    /// The beginnings of blocks, and the variables, where an address of the stack is not followed any further.
    pub(crate) fn mixed(&self) -> &[(BlockId, Var)] {
        &self.mixed
    }

    fn find_mixed(&self, body: &Body, edges: &Edges) -> Vec<(BlockId, Var)> {
        let mut mixed = Vec::new();
        for &id in edges.order() {
            let Some(block) = body.block(id) else { continue };
            let mut state = self.at(id);
            block.steps.iter().for_each(|step| state.step(&step.op));
            for to in block.end.successors() {
                let entry = self.entries.get(to.index());
                for (var, &column) in (0..).map(Var).zip(&self.columns) {
                    let of = |known: &[Known]| known.get(usize::from(column).checked_sub(1)?).copied();
                    let lost = matches!(of(&state.known), Some(Known::At(_)))
                        && entry.and_then(|entry| of(entry)) == Some(Known::Other);
                    if lost {
                        mixed.push((to, var));
                    }
                }
            }
        }
        mixed
    }
}

impl FrameState<'_> {
    /// How far from `r10` a variable points, if it does.
    pub(crate) fn offset(&self, var: Var) -> Option<i32> {
        if var == Var::FRAME {
            return Some(0);
        }
        match self.known.get(self.column(var)?) {
            Some(Known::At(offset)) => Some(*offset),
            _ => None,
        }
    }

    /// Goes on behind an operation.
    pub(crate) fn step(&mut self, op: &Op) {
        let result = followed(op).and_then(|(dst, src, add)| {
            let offset = i64::from(self.offset(src)?).checked_add(add)?;
            Some((dst, i32::try_from(offset).ok()?))
        });
        op.each_var(|var, how| match how {
            Use::Read => {}
            Use::Write => self.set(var, Known::Other),
            Use::Clobber => self.set(var, Known::Unseen),
        });
        if let Some((dst, offset)) = result {
            self.set(dst, Known::At(offset));
        }
    }

    fn column(&self, var: Var) -> Option<usize> {
        usize::from(*self.addresses.columns.get(var.index())?).checked_sub(1)
    }

    fn set(&mut self, var: Var, known: Known) {
        if let Some(entry) = self.column(var).and_then(|column| self.known.get_mut(column)) {
            *entry = known;
        }
    }
}

/// For an operation that gives an address of the stack where it gets one: result, operand, and what is added.
pub(crate) fn followed(op: &Op) -> Option<(Var, Var, i64)> {
    match *op {
        Op::Mov { width: Width::W64, dst, src: Src::Var(src) } => Some((dst, src, 0)),
        Op::Alu { width: Width::W64, op: AluOp::Add, dst, a, b: Src::Imm(imm) } => Some((dst, a, imm)),
        Op::Alu { width: Width::W64, op: AluOp::Sub, dst, a, b: Src::Imm(imm) } => {
            Some((dst, a, imm.checked_neg()?))
        }
        _ => None,
    }
}

/// Gives a column to each variable that `r10` may get into by copying and adding.
fn columns(body: &Body) -> Vec<u16> {
    let mut columns = vec![0; usize::from(body.vars)];
    let mut next = 1;
    let mut changed = true;
    // Copies of copies: as many rounds as the longest chain that runs against the order of the blocks.
    while std::mem::take(&mut changed) {
        for step in body.blocks.iter().flat_map(|block| &block.steps) {
            let Some((dst, src, _)) = followed(&step.op) else { continue };
            let is_address = src == Var::FRAME || columns.get(src.index()).is_some_and(|column| *column != 0);
            if let Some(column) = columns.get_mut(dst.index())
                && is_address
                && *column == 0
            {
                *column = next;
                next += 1;
                changed = true;
            }
        }
    }
    columns
}

/// Keeps what both know; whether that is something else than before.
fn meet(entry: &mut [Known], known: &[Known]) -> bool {
    let mut changed = false;
    for (entry, &known) in entry.iter_mut().zip(known) {
        let both = match (*entry, known) {
            (Known::Unseen, other) | (other, Known::Unseen) => other,
            (a, b) if a == b => a,
            _ => Known::Other,
        };
        changed |= *entry != both;
        *entry = both;
    }
    changed
}
