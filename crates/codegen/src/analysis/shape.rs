//! Loops that can be copied.

use std::collections::HashMap;

use super::{Edges, Loop};
use crate::flow::{BlockId, Body, Budget, End, Op};

/// Blocks of the longest chain of conditions that is looked at.
const BLOCKS: usize = 24;

/// A loop without loops inside of it.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its blocks, each behind all that lead to it within an iteration; the first is the header.
    pub(crate) blocks: Vec<BlockId>,
    /// The blocks that lead back to the header.
    pub(crate) latches: Vec<BlockId>,
    /// The budget its `may_goto`s take from.
    pub(crate) budget: Budget,
    /// How many each iteration takes.
    pub(crate) iterations: u32,
    /// Conditions that leave it.
    pub(crate) exits: usize,
    /// Number of operations, with those that end blocks.
    pub(crate) size: usize,
    /// Number of loads.
    pub(crate) loads: usize,
    /// Per block: how many were taken on the way from the header to its beginning.
    taken: HashMap<BlockId, u32>,
}

impl Shape {
    /// `None` if the iterations of the loop cannot be laid out in a row, or not be counted beforehand.
    pub(crate) fn of(body: &Body, edges: &Edges, l: &Loop) -> Option<Self> {
        if l.own.len() > BLOCKS {
            return None;
        }
        let mut blocks = l.own.clone();
        blocks.sort_unstable_by_key(|id| edges.place(*id));
        let mut shape = Self {
            blocks,
            latches: l.latches.clone(),
            budget: Budget::OWN,
            iterations: 0,
            exits: 0,
            size: 0,
            loads: 0,
            taken: HashMap::from([(l.header, 0)]),
        };
        shape.budget = shape.single_budget(body)?;
        let mut each_time = None;
        for id in shape.blocks.clone() {
            let block = body.block(id)?;
            shape.size += block.steps.len() + usize::from(!matches!(block.end, End::Jump(_)));
            shape.loads += block.steps.iter().filter(|step| matches!(step.op, Op::Load { .. })).count();
            let leaves = matches!(block.end, End::Branch { .. });
            shape.exits += usize::from(leaves && block.end.successors().any(|to| !l.own.contains(&to)));
            let before = shape.taken(id)?;
            let behind = before + u32::from(matches!(block.end, End::MayGoto { .. }));
            for to in block.end.successors().filter(|to| l.own.contains(to)) {
                let known = if to == l.header {
                    *each_time.get_or_insert(behind)
                } else if edges.place(to) <= edges.place(id) {
                    return None; // A loop with two entries.
                } else {
                    *shape.taken.entry(to).or_insert(behind)
                };
                if known != behind {
                    return None;
                }
            }
        }
        shape.iterations = each_time?;
        Some(shape)
    }

    /// The header.
    pub(crate) fn header(&self) -> BlockId {
        self.blocks.first().copied().unwrap_or(BlockId::ENTRY)
    }

    /// How many iterations were taken from the budget on the way from the header to a block.
    pub(crate) fn taken(&self, id: BlockId) -> Option<u32> {
        self.taken.get(&id).copied()
    }

    /// Whether a block is in the loop.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.taken.contains_key(&id)
    }

    /// The budget of all `may_goto`s; `None` if there are several, or if it changes otherwise.
    fn single_budget(&self, body: &Body) -> Option<Budget> {
        let mut found = None;
        for block in self.blocks.iter().filter_map(|id| body.block(*id)) {
            match block.end {
                // A loop that goes on when there is nothing left would have to count on.
                End::MayGoto { taken, .. } if self.blocks.contains(&taken) => return None,
                End::MayGoto { budget, .. } if *found.get_or_insert(budget) != budget => return None,
                End::Afford { .. } => return None,
                _ => {}
            }
            let changes = |op: &Op| matches!(op, Op::BeginBudget { .. } | Op::Credit { .. });
            if block.steps.iter().any(|step| changes(&step.op)) {
                return None;
            }
        }
        Some(found.unwrap_or(Budget::OWN))
    }
}
