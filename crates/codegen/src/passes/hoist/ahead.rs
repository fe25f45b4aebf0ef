//! Operations that give the same in each iteration of a loop.
//!
//! One whose operands the loop does not write is done in front of the loop. If nothing else in the loop writes its variable, and nobody
//! wants what that was before, it is that variable which is written there; otherwise a new one, of which the loop makes a copy, and
//! what reads the copy in the rest of the block reads the new one.

use isa::{Size, Width};

use super::preheaders::Preheaders;
use super::reads::{Later, Reads, read_behind, unclear_base};
use super::{Cost, copy, divides, free_entry, has_value, with_result};
use crate::analysis::{Dominators, Edges, Liveness, Loops, VarSet, most_live, registers};
use crate::flow::{At, BlockId, Body, Op, Src, Step, Use, Var};
use crate::limits;

/// Values that are kept where there is no register for them, if they cost much to compute.
const BEYOND: isize = 4;

/// Registers that are left for what later passes do with a loop, and with those inside of another.
const SPARE: isize = 1;
const SPARE_AROUND: isize = 3;

/// How many of the operations that were moved are looked at for the same one.
const RECENT: usize = 16;

/// How often all operations of a body are looked at: what is around many loops has no turn.
const PATIENCE: usize = 8;

/// Moves operations; the result is how many.
pub(super) fn run(body: &mut Body) -> u32 {
    free_entry(body);
    let edges = Edges::of(body);
    let dominators = Dominators::of(&edges);
    let loops = Loops::of(body, &edges, &dominators);
    if loops.iter().next().is_none() {
        return 0;
    }
    let live = Liveness::of(body, &edges);
    let mut crowds = crowds(body, &live);
    let mut preheaders = Preheaders::default();
    let mut reads = Reads::new(body);
    let mut patience = PATIENCE * (body.steps() + body.blocks.len());
    let registers = registers(body).cast_signed();
    let mut changes = 0;
    for (id, l) in loops.iter() {
        preheaders.enter(id, l);
        let blocks = preheaders.all(id);
        let size: usize = blocks.iter().filter_map(|id| body.block(*id)).map(|b| b.steps.len() + 1).sum();
        let Some(left) =
            patience.checked_sub(size).filter(|_| body.blocks.len() < limits::FULL_EFFORT_BLOCKS)
        else {
            break;
        };
        patience = left;
        let crowd = blocks.iter().filter_map(|id| crowds.get(id.index())).max().copied().unwrap_or(0);
        let room = registers - crowd - if l.inner.is_empty() { SPARE } else { SPARE_AROUND };
        reads.turn(body, blocks, &live);
        let mut turn =
            Turn { live: &live, header: l.header, reads: &mut reads, room, moved: Vec::new(), changes: 0 };
        for block in preheaders.own(&edges, &loops, id, l) {
            let stands_for = preheaders.stands_for(block);
            let each_time = l.latches.iter().all(|latch| dominators.dominates(&edges, stands_for, *latch));
            turn.block(body, block, each_time);
        }
        changes += turn.changes;
        let (taken, moved) = (room - turn.room, turn.moved);
        if moved.is_empty() {
            continue;
        }
        for block in preheaders.all(id) {
            if let Some(crowd) = crowds.get_mut(block.index()) {
                *crowd += taken;
            }
        }
        if preheaders.add(body, &edges, id, l, moved).is_some() {
            crowds.push(live.at(l.header).len().cast_signed() + taken);
        }
    }
    changes
}

/// Per block: how many variables live at once.
fn crowds(body: &Body, live: &Liveness) -> Vec<isize> {
    let mut wide = VarSet::empty(body.vars);
    body.wide_vars().for_each(|var| _ = wide.insert(var));
    let most = |(id, block)| {
        let mut behind = live.behind(body, id);
        behind.subtract(&wide);
        most_live(block, &behind, &wide).cast_signed()
    };
    body.each_block().map(most).collect()
}

/// A loop that is looked at.
struct Turn<'a> {
    /// Before anything was moved.
    live: &'a Liveness,
    header: BlockId,
    reads: &'a mut Reads,
    /// Registers that nothing in the loop needs.
    room: isize,
    /// What is done in front of it from now on.
    moved: Vec<Step>,
    changes: u32,
}

/// What has to be known of an operation before it is moved.
#[derive(Clone, Copy)]
struct Chance {
    cost: Cost,
    /// Whether each iteration comes by.
    each_time: bool,
    /// Whether a copy of the result has to be made where the operation was.
    stays: bool,
    /// Registers that are taken all through the loop.
    takes: isize,
}

impl Turn<'_> {
    /// Moves what can be moved out of a block.
    fn block(&mut self, body: &mut Body, id: BlockId, each_time: bool) {
        let behind = self.live.behind(body, id);
        let Some(block) = body.block_mut(id).filter(|block| !block.cold) else { return };
        let end = block.end;
        let mut steps = std::mem::take(&mut block.steps);
        // Variables that have the value of one that the loop does not write.
        let mut copies: Vec<(Var, Var)> = Vec::new();
        let mut kept = Vec::with_capacity(steps.len());
        for index in 0..steps.len() {
            let Some((step, rest)) = steps.get_mut(index..).and_then(|s| s.split_first_mut()) else { break };
            let Step { at, mut op } = *step;
            op.each_var_mut(|var, how| {
                if let (Use::Read, Some((_, original))) = (how, copies.iter().find(|(copy, _)| copy == var)) {
                    *var = *original;
                }
            });
            self.clear(body, at, &mut op, each_time);
            let later = |dst| read_behind(rest, end, &behind, dst);
            let now = self.replace(body, Step { at, op }, each_time, later);
            op.writes(|var| copies.retain(|(copy, _)| *copy != var));
            if let (Some(dst), Some(original)) = (op.result(), now.original) {
                copies.push((dst, original));
            }
            kept.extend(now.op.map(|op| Step { at, op }));
        }
        if let Some(block) = body.block_mut(id) {
            block.steps = kept;
        }
    }

    /// Moves an operation, if that is possible and worth it.
    fn replace(
        &mut self,
        body: &mut Body,
        step: Step,
        each_time: bool,
        later: impl FnOnce(Var) -> Later,
    ) -> Now {
        let as_it_was = Now { op: Some(step.op), original: None };
        let Some(dst) = step.op.result().filter(|_| self.is_constant(&step.op)) else { return as_it_was };
        if let Op::Mov { width: Width::W64, src: Src::Var(src), .. } = step.op {
            if src == Var::FRAME || src == dst {
                return as_it_was;
            }
            let later = later(dst);
            self.reads.add(src, later);
            // The copy itself does not count if all that read it read the original.
            self.reads.take(src, false);
            return Now { op: Some(step.op), original: Some(src) };
        }
        let Some(cost) = Cost::of(&step.op) else { return as_it_was };
        if let Some(known) = self.moved_before(&step.op) {
            self.reads.add(known, later(dst));
            self.forget_reads(&step.op);
            self.changes += 1;
            return Now { op: Some(copy(dst, known)), original: Some(known) };
        }
        let direct = self.reads.is_written_once(dst) && !self.live.at(self.header).contains(dst);
        let later = (!direct).then(|| later(dst));
        let stays = later.is_some_and(|later| later.stays);
        let takes = 1 - self.reads.only_read_by(&step.op);
        if !self.is_worth(&step.op, Chance { cost, each_time, stays, takes }) {
            return as_it_was;
        }
        let Some(var) = (if direct { Some(dst) } else { body.new_var() }) else { return as_it_was };
        self.forget_reads(&step.op);
        self.room -= 1;
        self.moved.push(Step { at: step.at, op: with_result(step.op, var) });
        self.changes += 1;
        match later {
            None => {
                self.reads.make_constant(dst);
                Now { op: None, original: None }
            }
            Some(later) => {
                self.reads.add(var, later);
                Now { op: Some(copy(dst, var)), original: Some(var) }
            }
        }
    }

    /// Whether an operation gives the same in each iteration.
    fn is_constant(&self, op: &Op) -> bool {
        let mut constant = has_value(op);
        op.reads(|var| constant &= self.reads.is_constant(var));
        constant
    }

    /// The variable that has the result of the same operation in front of the loop.
    fn moved_before(&self, op: &Op) -> Option<Var> {
        let alike = |moved: &&Step| with_result(moved.op, Var::RESULT) == with_result(*op, Var::RESULT);
        self.moved.iter().rev().take(RECENT).find(alike)?.op.result()
    }

    fn is_worth(&self, op: &Op, chance: Chance) -> bool {
        let Chance { cost, each_time, stays, takes } = chance;
        let has_room = takes <= 0 || self.room >= takes && !self.reads.calls;
        match cost {
            Cost::Little => each_time && !stays && has_room,
            Cost::Some => !stays && has_room,
            Cost::Much => (each_time || !divides(op)) && (takes <= 0 || self.room > -BEYOND),
        }
    }

    /// An operation is no longer in the loop: what it read may be free.
    fn forget_reads(&mut self, op: &Op) {
        op.reads(|var| self.room += isize::from(self.reads.take(var, false)));
    }

    /// Has an access of an arena read a pointer whose upper half is cleared in front of the loop.
    fn clear(&mut self, body: &mut Body, at: At, op: &mut Op, each_time: bool) {
        let Some(base) = unclear_base(op).filter(|base| self.reads.is_constant(*base)) else { return };
        let low = |dst| Op::ZeroExtend { from: Size::W, dst, src: base };
        let known = match self.moved_before(&low(Var::RESULT)) {
            Some(known) => known,
            None => {
                let free = self.reads.is_only_unclear(base) || self.room > 0 && !self.reads.calls;
                let Some(var) = Some(()).filter(|()| each_time && free).and_then(|()| body.new_var()) else {
                    return;
                };
                self.moved.push(Step { at, op: low(var) });
                self.room -= 1;
                var
            }
        };
        self.room += isize::from(self.reads.take(base, true));
        self.reads.add(known, Later::ONE);
        self.changes += 1;
        if let Some(place) = op.place_mut() {
            (place.base, place.clear) = (known, true);
        }
    }
}

/// What is done where an operation was.
struct Now {
    op: Option<Op>,
    /// The variable that has the same value all through the loop.
    original: Option<Var>,
}
