//! How often a loop reads and writes its variables.

use crate::analysis::{Liveness, VarSet};
use crate::flow::{BlockId, Body, End, Op, Step, Use, Var};

/// Of the variables of a loop.
#[derive(Debug)]
pub(super) struct Reads {
    counts: Vec<Count>,
    /// The variables that were counted.
    counted: Vec<Var>,
    /// Per block: whether it is in the loop.
    inside: Vec<bool>,
    /// What may be read behind the loop.
    beyond: VarSet,
    /// Whether there are calls, which leave few registers as they are.
    pub(super) calls: bool,
}

/// Of one variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    writes: u32,
    reads: u32,
    /// Reads as pointers whose upper half has to be cleared.
    unclear: u32,
}

/// What reads a result in the rest of its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    reads: u32,
    unclear: u32,
    /// Whether it is still there at the end of the block, for others to read.
    pub(super) stays: bool,
}

impl Later {
    /// One read.
    pub(super) const ONE: Self = Self { reads: 1, unclear: 0, stays: false };
}

impl Reads {
    /// Of no loop.
    pub(super) fn new(body: &Body) -> Self {
        Self {
            counts: vec![Count::default(); usize::from(body.vars)],
            counted: Vec::new(),
            inside: vec![false; body.blocks.len()],
            beyond: VarSet::empty(body.vars),
            calls: false,
        }
    }

    /// Turns to the loop of these blocks.
    pub(super) fn turn(&mut self, body: &Body, blocks: &[BlockId], live: &Liveness) {
        // Time is not to grow with what other loops have.
        for var in std::mem::take(&mut self.counted) {
            if let Some(count) = self.counts.get_mut(var.index()) {
                *count = Count::default();
            }
        }
        self.inside.resize(body.blocks.len(), false);
        self.beyond.clear();
        self.calls = false;
        self.mark(blocks, true);
        for block in blocks.iter().filter_map(|id| body.block(*id)) {
            for Step { op, .. } in &block.steps {
                op.each_var(|var, how| match how {
                    Use::Read => self.change(var, |count| count.reads += 1),
                    Use::Write | Use::Clobber => self.change(var, |count| count.writes += 1),
                });
                if let Some(base) = unclear_base(op) {
                    self.change(base, |count| count.unclear += 1);
                }
                self.calls |= matches!(op, Op::Call { .. } | Op::LoadPacket { .. });
            }
            block.end.reads(|var| self.change(var, |count| count.reads += 1));
            let inside = &self.inside;
            let leaves = |to: &BlockId| inside.get(to.index()) != Some(&true);
            block.end.successors().filter(leaves).for_each(|to| _ = self.beyond.extend(live.at(to)));
        }
        self.mark(blocks, false);
    }

    fn mark(&mut self, blocks: &[BlockId], inside: bool) {
        for id in blocks {
            if let Some(entry) = self.inside.get_mut(id.index()) {
                *entry = inside;
            }
        }
    }

    fn get(&self, var: Var) -> Count {
        self.counts.get(var.index()).copied().unwrap_or_default()
    }

    fn change(&mut self, var: Var, how: impl FnOnce(&mut Count)) {
        if self.counts.len() <= var.index() {
            // Made since.
            self.counts.resize(var.index() + 1, Count::default());
        }
        if let Some(count) = self.counts.get_mut(var.index()) {
            if *count == Count::default() {
                self.counted.push(var);
            }
            how(count);
        }
    }

    /// Whether the loop does not write a variable.
    pub(super) fn is_constant(&self, var: Var) -> bool {
        self.get(var).writes == 0
    }

    /// Whether the loop writes a variable in one place.
    pub(super) fn is_written_once(&self, var: Var) -> bool {
        self.get(var).writes == 1
    }

    /// Of a variable whose only write was moved.
    pub(super) fn make_constant(&mut self, var: Var) {
        self.change(var, |count| count.writes = 0);
    }

    /// Adds what reads a variable now.
    pub(super) fn add(&mut self, var: Var, later: Later) {
        self.change(var, |count| {
            count.reads += later.reads + u32::from(later.stays);
            count.unclear += later.unclear;
        });
    }

    /// Whether nothing but pointers that have to be cleared reads a variable.
    pub(super) fn is_only_unclear(&self, var: Var) -> bool {
        let Count { reads, unclear, .. } = self.get(var);
        reads == unclear && !self.beyond.contains(var)
    }

    /// How many variables nothing in the loop, or behind it, reads but this operation.
    pub(super) fn only_read_by(&self, op: &Op) -> isize {
        let (mut reads, mut freed) = (Vec::new(), 0);
        op.reads(|var| reads.push(var));
        while let Some(var) = reads.pop() {
            let others = reads.len();
            reads.retain(|other| *other != var);
            let here = u32::try_from(others - reads.len() + 1).unwrap_or(u32::MAX);
            freed += isize::from(self.is_free_without(var, here));
        }
        freed
    }

    /// Takes reads of a variable out; whether there are none left.
    pub(super) fn take(&mut self, var: Var, unclear: bool) -> bool {
        self.change(var, |count| {
            count.reads = count.reads.saturating_sub(1);
            count.unclear = count.unclear.saturating_sub(u32::from(unclear));
        });
        self.is_free_without(var, 0)
    }

    fn is_free_without(&self, var: Var, reads: u32) -> bool {
        var != Var::FRAME && self.get(var).reads == reads && !self.beyond.contains(var)
    }
}

/// The pointer into an arena that an operation has to clear.
pub(super) fn unclear_base(op: &Op) -> Option<Var> {
    let place = op.place().filter(|place| place.is_in_arena() && !place.clear)?;
    place.index.is_none().then_some(place.base)
}

/// What reads a variable in the steps up to the next write, in the end, and in what is read behind that.
pub(super) fn read_behind(rest: &[Step], end: End, behind: &VarSet, var: Var) -> Later {
    let mut later = Later { reads: 0, unclear: 0, stays: false };
    for Step { op, .. } in rest {
        op.reads(|read| later.reads += u32::from(read == var));
        later.unclear += u32::from(unclear_base(op) == Some(var));
        let mut written = false;
        op.writes(|other| written |= other == var);
        if written {
            return later;
        }
    }
    end.reads(|read| later.reads += u32::from(read == var));
    later.stays = behind.contains(var);
    later
}
