//! Which slots of the stack still matter: liveness of each frame's slots, for every chain of calls that is walked.
//!
//! Two states that differ only in slots that are never read again are the same. The walk reports what each instruction
//! reads and what it certainly overwrites; the rest is backward liveness. A callee may read and write its callers'
//! frames, so that marks are kept for each chain of calls, for all its frames, and what holds at the start of the callee
//! is passed on to the call.
//!
//! The sums are those of Linux 6.18 (`kernel/bpf/liveness.c`): what is read only grows, what is certainly written only
//! shrinks (after the first visit), and an answer may be asked for only about states whose paths have all been walked.

use std::collections::HashMap;

use isa::InsnIdx;

use crate::limits::MAX_FRAMES;
use crate::plan::Plan;
use crate::plan::cfg::{Mark, successors};
use crate::plan::flow::Pending;
use crate::state::State;

/// A set of slots of one frame, the one just below the frame pointer first.
pub(crate) type Slots = u64;

/// A chain of calls from the function that is verified on its own down to the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChainId(u32);

/// What is known of one frame at one instruction.
#[derive(Clone, Copy, Debug, Default)]
struct Masks {
    may_read: Slots,
    must_write: Slots,
    /// Certainly written by this instruction or those that follow it in the function.
    must_write_ahead: Slots,
    /// Read from here on before it is written.
    live: Slots,
}

/// The marks of one function called by one chain.
#[derive(Debug)]
struct Chain {
    caller: Option<(ChainId, InsnIdx)>,
    start: InsnIdx,
    slots: usize,
    /// For each frame of the chain, empty until there is something to mark.
    frames: Vec<Vec<Masks>>,
    /// Instructions for which `must_write` has been set.
    written: Vec<bool>,
    /// Marks that have changed since the last update: frame and instruction.
    changed: Vec<(usize, InsnIdx)>,
    /// Whether `must_write` has lost slots since then.
    dropped: bool,
    /// Bytes of marks that have come since they were last asked for.
    grown: usize,
}

impl Chain {
    fn depth(&self) -> usize {
        self.frames.len().saturating_sub(1)
    }

    fn index(&self, at: InsnIdx) -> usize {
        at.index().saturating_sub(self.start.index())
    }

    fn masks(&self, frame: usize, at: InsnIdx) -> Masks {
        self.frames.get(frame).and_then(|f| f.get(self.index(at))).copied().unwrap_or_default()
    }

    fn masks_mut(&mut self, frame: usize, at: InsnIdx) -> Option<&mut Masks> {
        let (index, slots) = (self.index(at), self.slots);
        let marks = self.frames.get_mut(frame)?;
        if marks.is_empty() {
            marks.resize(slots, Masks::default());
            self.grown += slots * size_of::<Masks>();
        }
        marks.get_mut(index)
    }

    fn read(&mut self, frame: usize, at: InsnIdx, slots: Slots) {
        let Some(masks) = self.masks_mut(frame, at) else { return };
        let new = slots & !masks.may_read;
        masks.may_read |= slots;
        if new & !masks.live != 0 {
            self.changed.push((frame, at));
        }
    }

    /// Takes what one execution of the instruction has certainly written in each frame.
    fn commit(&mut self, at: InsnIdx, writes: &[Slots]) {
        let index = self.index(at);
        let first = self.written.get_mut(index).is_some_and(|seen| !std::mem::replace(seen, true));
        for frame in 0..self.frames.len() {
            let mut now = writes.get(frame).copied().unwrap_or(0);
            let untouched = self.frames.get(frame).is_none_or(Vec::is_empty);
            if now == 0 && (first || untouched) {
                continue;
            }
            let Some(masks) = self.masks_mut(frame, at) else { continue };
            let before = masks.must_write;
            if !first {
                now &= before;
            }
            if now != before {
                masks.must_write = now;
                self.dropped |= before & !now != 0;
                self.changed.push((frame, at));
            }
        }
    }
}

/// All chains of one function that is verified on its own.
#[derive(Debug)]
pub(crate) struct StackLive {
    chains: Vec<Chain>,
    /// The root or the call, and the function that is called.
    callees: HashMap<(Option<ChainId>, InsnIdx, u32), ChainId>,
    /// The chain of the path that is walked.
    current: Option<ChainId>,
    /// What the instruction being walked has written so far.
    writes: [Slots; MAX_FRAMES],
    pending: Pending,
    bytes: usize,
}

impl StackLive {
    pub(crate) fn new(plan: &Plan<'_>) -> Self {
        Self {
            chains: Vec::new(),
            callees: HashMap::new(),
            current: None,
            writes: [0; MAX_FRAMES],
            pending: Pending::new(plan.program.code.len()),
            bytes: 0,
        }
    }

    /// The chain of the outermost `frames` frames of a state.
    pub(crate) fn chain(&mut self, plan: &Plan<'_>, state: &State, frames: usize) -> Option<ChainId> {
        let mut chain = None;
        for frame in state.frames().iter().take(frames) {
            let callsite = if chain.is_some() { frame.callsite } else { InsnIdx(0) };
            let key = (chain, callsite, frame.subprog);
            chain = Some(match self.callees.get(&key) {
                Some(known) => *known,
                None => self.add(plan, key)?,
            });
        }
        chain
    }

    fn add(&mut self, plan: &Plan<'_>, key: (Option<ChainId>, InsnIdx, u32)) -> Option<ChainId> {
        let (caller, callsite, subprog) = key;
        let subprog = plan.subprog(subprog)?;
        let depth = caller.and_then(|c| self.chains.get(c.0 as usize)).map_or(0, |c| c.depth() + 1);
        let slots = subprog.end.index().saturating_sub(subprog.start.index());
        let id = ChainId(u32::try_from(self.chains.len()).ok()?);
        self.chains.push(Chain {
            caller: caller.map(|c| (c, callsite)),
            start: subprog.start,
            slots,
            frames: vec![Vec::new(); depth + 1],
            written: vec![false; slots],
            changed: Vec::new(),
            dropped: false,
            grown: slots,
        });
        self.callees.insert(key, id);
        Some(id)
    }

    /// The state's path is taken up, or has entered or left a function.
    pub(crate) fn follow(&mut self, plan: &Plan<'_>, state: &State) {
        self.current = self.chain(plan, state, state.frames().len());
        self.writes = [0; MAX_FRAMES];
    }

    /// The current instruction may read these slots.
    pub(crate) fn read(&mut self, frame: u8, at: InsnIdx, slots: Slots) {
        if let Some(chain) = self.current.and_then(|c| self.chains.get_mut(c.0 as usize)) {
            chain.read(usize::from(frame), at, slots);
            self.bytes += std::mem::take(&mut chain.grown);
        }
    }

    /// The current instruction certainly writes all of these slots.
    pub(crate) fn write(&mut self, frame: u8, slots: Slots) {
        if let Some(writes) = self.writes.get_mut(usize::from(frame)) {
            *writes |= slots;
        }
    }

    /// The current instruction has been walked. A call that enters a function is not told: what the function does counts.
    pub(crate) fn commit(&mut self, at: InsnIdx) {
        if let Some(chain) = self.current.and_then(|c| self.chains.get_mut(c.0 as usize)) {
            let writes = self.writes.get(..chain.frames.len()).unwrap_or(&self.writes);
            chain.commit(at, writes);
            self.bytes += std::mem::take(&mut chain.grown);
        }
        self.writes = [0; MAX_FRAMES];
    }

    /// A path of this state has ended, or is about to leave a function: works out what follows from the marks so far.
    pub(crate) fn update(&mut self, plan: &Plan<'_>, state: &State) {
        self.writes = [0; MAX_FRAMES];
        let mut next = self.chain(plan, state, state.frames().len());
        while let Some(id) = next {
            let caller = self.chains.get(id.0 as usize).and_then(|c| c.caller);
            if self.chains.get(id.0 as usize).is_some_and(|c| !c.changed.is_empty()) {
                self.settle(plan, id);
            }
            next = caller.map(|(caller, _)| caller);
        }
    }

    /// Brings the chain to a fixed point and tells its caller.
    fn settle(&mut self, plan: &Plan<'_>, id: ChainId) {
        let Some(chain) = self.chains.get_mut(id.0 as usize) else { return };
        let mut changed = std::mem::take(&mut chain.changed);
        if std::mem::take(&mut chain.dropped) {
            // What is written ahead was too much: it is built up anew.
            for marks in &mut chain.frames {
                marks.iter_mut().for_each(|m| m.must_write_ahead = 0);
            }
            let frames =
                (0..chain.frames.len()).filter(|f| chain.frames.get(*f).is_some_and(|m| !m.is_empty()));
            let all = frames.flat_map(|f| (0..chain.slots).map(move |i| (f, i)));
            let at = |i: usize| InsnIdx(chain.start.0 + u32::try_from(i).unwrap_or(u32::MAX));
            changed = all.map(|(f, i)| (f, at(i))).collect();
        }
        changed.sort_unstable();
        changed.dedup();
        for same_frame in changed.chunk_by(|a, b| a.0 == b.0) {
            let Some((frame, _)) = same_frame.first() else { continue };
            same_frame.iter().for_each(|(_, at)| self.pending.insert(at.index()));
            self.settle_frame(plan, id, *frame);
        }
        self.tell_caller(id);
    }

    fn settle_frame(&mut self, plan: &Plan<'_>, id: ChainId, frame: usize) {
        let Some(chain) = self.chains.get_mut(id.0 as usize) else { return };
        let accumulate = frame < chain.depth();
        while let Some(index) = self.pending.pop() {
            let at = InsnIdx(u32::try_from(index).unwrap_or(u32::MAX));
            let Some(insn) = plan.program.code.get(at) else { continue };
            let (mut after, mut ahead, mut ends) = (0, Slots::MAX, true);
            for to in successors(plan.program, at, &insn).into_iter().flatten() {
                let masks = chain.masks(frame, to);
                after |= masks.live;
                ahead &= masks.must_write_ahead;
                ends = false;
            }
            let Some(masks) = chain.masks_mut(frame, at) else { continue };
            if ends {
                continue;
            }
            let live = after & !masks.must_write | masks.may_read;
            let ahead = if accumulate { ahead | masks.must_write } else { 0 };
            if (live, ahead) != (masks.live, masks.must_write_ahead) {
                (masks.live, masks.must_write_ahead) = (live, ahead);
                plan.flow.before(at).iter().for_each(|at| self.pending.insert(at.index()));
            }
        }
    }

    /// What a function does to its callers' frames is what the call does.
    fn tell_caller(&mut self, id: ChainId) {
        let Some(chain) = self.chains.get(id.0 as usize) else { return };
        let Some((caller, callsite)) = chain.caller else { return };
        let mut writes = [0; MAX_FRAMES];
        let mut reads = [0; MAX_FRAMES];
        for (frame, (write, read)) in writes.iter_mut().zip(&mut reads).enumerate().take(chain.depth()) {
            let masks = chain.masks(frame, chain.start);
            (*write, *read) = (masks.must_write_ahead, masks.live);
        }
        let Some(outer) = self.chains.get_mut(caller.0 as usize) else { return };
        for (frame, read) in reads.into_iter().enumerate().filter(|(_, read)| *read != 0) {
            outer.read(frame, callsite, read);
        }
        outer.commit(callsite, &writes);
    }

    /// The slots of frame number `frame` that may be read on some way on from the state, which is at `at`.
    pub(crate) fn live(&mut self, plan: &Plan<'_>, state: &State, at: InsnIdx, frame: usize) -> Slots {
        let mut live = 0;
        let depth = state.frames().len();
        for inner in frame..depth {
            let Some(chain) = self.chain(plan, state, inner + 1) else { return Slots::MAX };
            let Some(chain) = self.chains.get(chain.0 as usize) else { return Slots::MAX };
            // Frames above the innermost are in the middle of a call.
            let place = match state.frames().get(inner + 1).map(|callee| callee.callsite) {
                None => at,
                Some(callsite) if plan.shape.mark(callsite).has(Mark::CALLS_BACK) => callsite,
                Some(callsite) => InsnIdx(callsite.0 + 1),
            };
            live |= chain.masks(frame, place).live;
        }
        live
    }

    /// Bytes of all marks.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The slots that the bytes from `start` to `end` (from the frame pointer, `-512..=0`) are in.
pub(crate) fn slots(start: i64, end: i64) -> Slots {
    let mut set = 0;
    let mut at = start;
    while at < end {
        if let Some(slot) = u32::try_from((-at - 1) / 8).ok().filter(|slot| at < 0 && *slot < Slots::BITS) {
            set |= 1 << slot;
        }
        at = (at.div_euclid(8) + 1) * 8;
    }
    set
}

#[cfg(test)]
mod tests {
    use bpf_object::{Linkage, Program, Subprogram};
    use isa::{CallTarget, Insn, Operand, Reg, Width};

    use super::*;
    use crate::Env;
    use crate::state::Frame;

    /// `0: r0 = 0; 1: call 3; 2: exit; 3: r0 = 0; 4: exit`.
    fn program() -> Program {
        let zero = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) };
        let call = Insn::Call { target: CallTarget::Local(1) };
        let code = [zero, call, Insn::Exit, zero, Insn::Exit].into_iter().collect();
        let mut program = Program::from_code("test", "syscall", code);
        program.subprograms = [(0, 3), (3, 5)]
            .into_iter()
            .map(|(start, end)| Subprogram {
                name: format!("f{start}"),
                start: InsnIdx(start),
                end: InsnIdx(end),
                btf_func: None,
                linkage: Linkage::Static,
            })
            .collect();
        program
    }

    /// What is live of the caller's frame before and after the call, when the callee does this to it.
    fn around_call(reads: Slots, writes: Slots, read_later: Slots) -> [Slots; 2] {
        let (program, env) = (program(), Env::default());
        let plan = Plan::new(&program, &env).unwrap();
        let mut live = StackLive::new(&plan);
        let outer = State::new(Frame::new(0, InsnIdx(0), 0));
        let mut inner = outer.clone();
        inner.push_frame(Frame::new(1, InsnIdx(1), 1));
        live.follow(&plan, &outer);
        live.commit(InsnIdx(0));
        live.follow(&plan, &inner);
        live.read(0, InsnIdx(3), reads);
        live.write(0, writes);
        live.commit(InsnIdx(3));
        live.update(&plan, &inner);
        live.follow(&plan, &outer);
        // Read by the call itself: an argument, say.
        live.read(0, InsnIdx(1), read_later);
        live.update(&plan, &outer);
        [live.live(&plan, &outer, InsnIdx(0), 0), live.live(&plan, &inner, InsnIdx(3), 0)]
    }

    #[test]
    fn a_callee_reads_and_writes_for_its_caller() {
        assert_eq!(around_call(0b1, 0, 0), [0b1, 0b1]);
        assert_eq!(around_call(0, 0b1, 0), [0, 0]);
        assert_eq!(around_call(0b10, 0b1, 0b100), [0b110, 0b10]);
    }

    #[test]
    fn what_is_certainly_written_shrinks() {
        let (program, env) = (program(), Env::default());
        let plan = Plan::new(&program, &env).unwrap();
        let mut live = StackLive::new(&plan);
        let state = State::new(Frame::new(0, InsnIdx(0), 0));
        live.follow(&plan, &state);
        live.write(0, 0b11);
        live.commit(InsnIdx(0));
        live.read(0, InsnIdx(1), 0b11);
        live.commit(InsnIdx(1));
        live.update(&plan, &state);
        assert_eq!(live.live(&plan, &state, InsnIdx(0), 0), 0);
        // Another path writes one slot only.
        live.write(0, 0b1);
        live.commit(InsnIdx(0));
        live.update(&plan, &state);
        assert_eq!(live.live(&plan, &state, InsnIdx(0), 0), 0b10);
        assert_eq!(live.live(&plan, &state, InsnIdx(1), 0), 0b11);
    }

    #[test]
    fn bytes_are_in_slots() {
        assert_eq!(slots(-8, 0), 0b1);
        assert_eq!(slots(-9, -8), 0b10);
        assert_eq!(slots(-12, -4), 0b11);
        assert_eq!(slots(-512, 0), Slots::MAX);
        assert_eq!(slots(-8, -8), 0);
        assert_eq!(slots(-600, -512), 0);
    }
}
