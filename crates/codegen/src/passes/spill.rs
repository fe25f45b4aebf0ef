//! Variables that are kept in memory, for there is no machine register for them where it matters.
//!
//! The backend splits the life of a value that it has no register for, but only a few times: a value that lives all through a function
//! and does not get a register in one loop is then fetched from memory at every single use, and put back unchanged. So what
//! lives where a loop needs all registers, and is not used as often as that loop goes round, is in memory from the beginning
//! ([`Body::in_memory`]): a block fetches it where it first reads it, and puts it back at its end if it has changed it.
//!
//! Nothing is assumed but how many registers the machine has. Nothing else of a body changes.

use crate::analysis::{Dominators, Edges, Liveness, Loops, VarSet, most_live, reads_and_writes, registers};
use crate::flow::{BlockId, Body, Var};

/// How many times as often a block is executed as those around its loop.
const ITERATIONS: u64 = 8;

/// Loops in more loops than these count as if they were in no more.
const DEPTH: usize = 5;

/// What it costs to go from an iteration to the next through memory, in fetches: the next one waits for it.
const CARRIED: u64 = 5;

/// Chooses variables; the result is how many.
pub(super) fn run(body: &mut Body) -> u32 {
    let chosen = crowded_out(body);
    body.in_memory = (0..body.vars).map(Var).filter(|var| chosen.contains(*var)).collect();
    u32::try_from(body.in_memory.len()).unwrap_or(u32::MAX)
}

fn crowded_out(body: &Body) -> VarSet {
    let edges = Edges::of(body);
    let loops = Loops::of(body, &edges, &Dominators::of(&edges));
    let mut out = VarSet::empty(body.vars);
    if loops.iter().next().is_none() {
        return out;
    }
    let registers = registers(body);
    let live = Liveness::of(body, &edges);
    // These have registers of their own.
    let mut wide = out.clone();
    body.wide_vars().for_each(|var| _ = wide.insert(var));
    let mut rooms: Vec<Room<'_>> =
        edges.order().iter().filter_map(|&id| Room::of(body, id, &loops, &live, &wide)).collect();
    let mut costs = vec![0_u64; usize::from(body.vars)];
    for room in &rooms {
        room.add_costs(body, &mut costs);
    }
    // Where most is executed first.
    while let Some(crowded) =
        rooms.iter_mut().filter(|room| room.most > registers && !room.given_up).max_by_key(|room| room.weight)
    {
        let cost = |var: &Var| costs.get(var.index()).copied().unwrap_or(u64::MAX);
        let candidates = (0..body.vars).map(Var).filter(|var| crowded.through.contains(*var));
        let Some(var) = candidates.min_by_key(cost).filter(|var| cost(var) < crowded.weight) else {
            crowded.given_up = true;
            continue;
        };
        out.insert(var);
        for room in &mut rooms {
            room.take_out(body, var);
        }
    }
    out
}

/// A block, and what lives in it.
struct Room<'a> {
    id: BlockId,
    /// What needs other registers.
    wide: &'a VarSet,
    /// How often it is executed.
    weight: u64,
    /// What lives at its beginning or behind it, and is not in memory.
    through: VarSet,
    /// What lives behind it, and is not in memory.
    behind: VarSet,
    /// What is in registers at once.
    most: usize,
    /// Nothing can be won here.
    given_up: bool,
}

impl<'a> Room<'a> {
    fn of(body: &Body, id: BlockId, loops: &Loops, live: &Liveness, wide: &'a VarSet) -> Option<Self> {
        let block = body.block(id)?;
        let depth = loops.innermost(id).and_then(|id| loops.get(id)).map_or(0, |l| l.depth).min(DEPTH);
        let weight = if block.cold { 0 } else { ITERATIONS.pow(u32::try_from(depth).unwrap_or(0)) };
        let mut behind = live.behind(body, id);
        behind.subtract(wide);
        let mut through = behind.clone();
        through.extend(live.at(id));
        through.subtract(wide);
        // Only in loops is there anything to win; and wide ones, whose rounds do the work of many, may wait for memory.
        let is_wide = block.steps.iter().any(|step| step.op.is_of_wide_loop());
        let mut room = Self { id, wide, weight, through, behind, most: 0, given_up: weight <= 1 || is_wide };
        room.count(body);
        Some(room)
    }

    /// Counts what is in registers at once.
    fn count(&mut self, body: &Body) {
        if let Some(block) = body.block(self.id) {
            self.most = most_live(block, &self.behind, self.wide);
        }
    }

    /// Adds what variables would cost in this block if they were in memory.
    fn add_costs(&self, body: &Body, costs: &mut [u64]) {
        let Some(block) = body.block(self.id) else { return };
        let (read, written) = reads_and_writes(block, body.vars);
        for (index, cost) in costs.iter_mut().enumerate() {
            let var = Var(u16::try_from(index).unwrap_or(u16::MAX));
            let (read, written) = (read.contains(var), written.contains(var) && self.behind.contains(var));
            // From an iteration to the next through memory: that takes its time.
            *cost += self.weight
                * match (read, written) {
                    (false, false) => 0,
                    (true, true) => CARRIED,
                    _ => 1,
                };
        }
    }

    fn take_out(&mut self, body: &Body, var: Var) {
        if self.through.remove(var) {
            self.behind.remove(var);
            self.count(body);
        }
    }
}
