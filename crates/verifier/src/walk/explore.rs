//! The walk over all paths: which state is next, when a path is done, when there has been enough of it.
//!
//! Depth first, in the kernel's order. At marked instructions the state is compared with those saved there before:
//! one that is covered need not be walked again. Loops end because
//! - ordinary loops are walked until their condition decides (or the limit of work is reached); a state that comes back
//!   unchanged is an infinite loop;
//! - at `may_goto`, iterators and callbacks the state is widened, and a path is cut off at a state that is still
//!   being walked if that one covers it: the run time ends such loops by itself. Until the whole loop has been walked, its
//!   states cover only what lies within them in every respect.
//!
//! Which states are saved, compared and dropped follows Linux's rules of thumb (`is_state_visited`) exactly: the number of
//! instructions walked, and with it the verdict on large programs, depends on them.

use std::rc::Rc;

use isa::{CallTarget, Insn, InsnIdx, Reg};

use crate::facts::{Conflict, Facts};
use crate::limits::{MAX_HISTORY, MAX_PENDING, MAX_STATE_BYTES, MAX_WALKED, MAX_WALKED_IN_ALL};
use crate::plan::Plan;
use crate::plan::cfg::{Mark, callee};
use crate::report::events::{Event, Listener};
use crate::report::reason::Reason;
use crate::report::view::{FrameView, StateView};
use crate::state::reg::RegState;
use crate::state::{Frame, NodeId, State};
use crate::transfer::{Next, Step, iterator_at};
use crate::verified::Stats;
use crate::walk::clean::clean;
use crate::walk::equal::{
    Comparison, Match, iterators_advanced, maybe_looping, same_callsites, scalar_pairs,
};
use crate::walk::origin::Origins;
use crate::walk::saved::{LoopKey, Saved};
use crate::walk::stack_live::StackLive;
use crate::walk::trust::Trust;

/// A path that waits to be walked.
#[derive(Debug)]
struct Waiting {
    at: InsnIdx,
    /// The instruction that split the paths.
    from: InsnIdx,
    state: State,
}

/// Why the walk stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The program breaks a rule.
    Refused(Reason),
    /// The walk must start over.
    Restart(Conflict),
    /// The walk must start over, with callbacks treated like all loops.
    Callbacks,
}

impl<T: Into<Reason>> From<T> for Stop {
    fn from(reason: T) -> Self {
        Self::Refused(reason.into())
    }
}

/// A stop, with where and in what state it happened.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stop: Stop,
    pub(crate) at: InsnIdx,
    pub(crate) state: Option<Box<State>>,
}

/// Work done so far; shared by everything verified for one program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) walked: u64,
    /// Instructions walked in vain, before it started over.
    in_vain: u64,
    jumps: u64,
    /// The same when the last state was saved.
    walked_at_save: u64,
    jumps_at_save: u64,
    states: u64,
    peak: u64,
    /// Most bytes of states and origins.
    bytes: usize,
    /// Most states compared at one instruction.
    states_per_insn: u64,
}

impl Work {
    /// The walk starts over.
    pub(crate) fn restart(&mut self) {
        *self = Self { in_vain: self.in_vain + self.walked, ..Self::default() };
    }

    /// The same, to be told.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            insns_walked: self.walked,
            max_states_per_insn: self.states_per_insn,
            total_states: self.states,
            peak_states: self.peak,
            peak_bytes: self.bytes,
            max_stack_bytes: 0,
        }
    }
}

/// The walk of one function and what it calls.
pub(crate) struct Explorer<'a> {
    pub(crate) plan: &'a Plan<'a>,
    pub(crate) facts: &'a mut Facts,
    pub(crate) origins: &'a mut Origins,
    pub(crate) work: &'a mut Work,
    listener: Listener<'a>,
    /// The last identity given out.
    pub(crate) ids: u32,
    saved: Saved,
    live: StackLive,
    /// `None`: callbacks are treated like all loops.
    trust: Option<Trust>,
    waiting: Vec<Waiting>,
}

/// What comparing a state with the saved ones comes to.
enum Visit {
    /// An earlier state covers it.
    Covered,
    GoOn,
}

impl<'a> Explorer<'a> {
    pub(crate) fn new(
        plan: &'a Plan<'a>,
        facts: &'a mut Facts,
        origins: &'a mut Origins,
        work: &'a mut Work,
        listener: Listener<'a>,
        trust: Option<Trust>,
    ) -> Self {
        let (saved, live) = (Saved::new(plan.program.code.len()), StackLive::new(plan));
        Self { plan, facts, origins, work, listener, ids: 0, saved, live, trust, waiting: Vec::new() }
    }

    /// Walks everything from `state` at `start`.
    pub(crate) fn run(&mut self, start: InsnIdx, state: State) -> Result<(), Failure> {
        let mut path = Some(Waiting { at: start, from: start, state });
        while let Some(Waiting { mut at, mut state, .. }) = path {
            self.live.follow(self.plan, &state);
            let result = self.walk(&mut at, &mut state);
            if let Err(stop) = result {
                self.count_states();
                return Err(Failure { stop, at, state: Some(Box::new(state)) });
            }
            self.live.update(self.plan, &state);
            self.saved.end_path(state.parent);
            path = self.waiting.pop();
            if let Some(next) = &path {
                self.listener.event(&Event::Resume { from: next.from, at: next.at });
            }
        }
        self.count_states();
        let holds = self.trust.as_ref().is_none_or(|t| t.holds(self.plan, self.origins, &mut self.live));
        if holds { Ok(()) } else { Err(Failure { stop: Stop::Callbacks, at: start, state: None }) }
    }

    fn count_states(&mut self) {
        let (states, peak) = self.saved.counts();
        self.work.states += states;
        self.work.peak = self.work.peak.max(peak);
    }

    /// Walks one path to its end.
    fn walk(&mut self, at: &mut InsnIdx, state: &mut State) -> Result<(), Stop> {
        loop {
            self.work.walked += 1;
            if self.work.walked > MAX_WALKED || self.work.walked + self.work.in_vain > MAX_WALKED_IN_ALL {
                return Err(Reason::TooComplex { walked: self.work.walked }.into());
            }
            let mark = self.plan.shape.mark(*at);
            if mark.has(Mark::PRUNE) && matches!(self.visit(*at, state)?, Visit::Covered) {
                self.listener.event(&Event::Pruned { at: *at });
                return Ok(());
            }
            state.history += u32::from(mark.has(Mark::JUMP));
            match self.step(*at, state, mark.has(Mark::JUMP))? {
                Next::At(to) | Next::Branch(to) => *at = to,
                Next::End => {
                    self.listener.event(&Event::Exit { at: *at });
                    return Ok(());
                }
            }
        }
    }

    /// Walks one instruction. `noted`: the path's history has an entry for it already.
    fn step(&mut self, at: InsnIdx, state: &mut State, noted: bool) -> Result<Next, Stop> {
        self.facts.reach(at);
        let depth = state.depth();
        let left = self.announce(at, state);
        let insn = self.plan.program.code.get(at);
        let jumps = insn.is_some_and(|insn| is_jump(&insn));
        self.work.jumps += u64::from(jumps);
        if depth > 0 && insn == Some(Insn::Exit) {
            self.live.update(self.plan, state);
        }
        let mut step = Step {
            plan: self.plan,
            facts: self.facts,
            origins: self.origins,
            saved: &self.saved,
            live: &mut self.live,
            ids: &mut self.ids,
            state,
            at,
            noted,
            forks: Vec::new(),
        };
        let next = step.execute()?;
        let forks = std::mem::take(&mut step.forks);
        for (to, forked) in forks {
            self.push(at, to, forked)?;
        }
        if jumps && state.depth() != depth {
            self.live.follow(self.plan, state);
        } else {
            self.live.commit(at);
        }
        self.report(at, next, state, left);
        Ok(next)
    }

    /// Tells who listens of an instruction about to be walked; gives the frame it may be about to leave.
    fn announce(&mut self, at: InsnIdx, state: &State) -> Option<(u8, Rc<Frame>)> {
        if !self.listener.wants_steps() {
            return None;
        }
        self.listener.event(&Event::Insn { at, state: StateView::new(state) });
        Some((state.depth(), Rc::clone(state.frames().last()?)))
    }

    /// Tells who listens what an instruction did to the call chain and the path; `left` is the frame it began in.
    fn report(&mut self, at: InsnIdx, next: Next, state: &State, left: Option<(u8, Rc<Frame>)>) {
        let Some((depth, left)) = left else { return };
        let view = StateView::new(state);
        match (self.plan.program.code.get(at), next) {
            (Some(Insn::Branch { .. }), _) => self.listener.event(&Event::Branched { at, state: view }),
            (Some(Insn::Call { target: CallTarget::Local(_) }), _) if state.depth() > depth => {
                self.listener.event(&Event::Call { at, state: view });
            }
            (Some(Insn::Call { target: CallTarget::Local(offset) }), _) => {
                if let Ok(subprog) = callee(self.plan.program, at, offset) {
                    self.listener.event(&Event::GlobalCall { at, subprog });
                }
            }
            (Some(Insn::Exit), Next::At(to)) => {
                let callee = FrameView::new(depth, &left);
                self.listener.event(&Event::Return { to, callee, state: view });
            }
            _ => {}
        }
    }

    fn push(&mut self, at: InsnIdx, to: InsnIdx, state: State) -> Result<(), Stop> {
        if self.waiting.len() >= MAX_PENDING {
            return Err(Reason::TooManyBranches { pending: self.waiting.len() + 1 }.into());
        }
        self.saved.fork(state.parent);
        self.listener.event(&Event::Branch { at, to });
        self.waiting.push(Waiting { at: to, from: at, state });
        Ok(())
    }

    /// Compares the state with those saved here. Saves it if it is time to.
    fn visit(&mut self, at: InsnIdx, state: &mut State) -> Result<Visit, Stop> {
        let mark = self.plan.shape.mark(at);
        let (jumps, walked) =
            (self.work.jumps - self.work.jumps_at_save, self.work.walked - self.work.walked_at_save);
        let forced =
            self.plan.env.flags.test_state_freq || mark.has(Mark::FORCE) || state.history > MAX_HISTORY;
        let mut add = forced || (jumps >= 2 && walked >= 8);
        // Newest first. States may leave the list on the way; those before them stay where they are.
        let mut index = self.saved.at(at, state).len();
        let compared = index as u64;
        while let Some(next) = index.checked_sub(1) {
            index = next;
            let Some(&id) = self.saved.at(at, state).get(index) else { continue };
            let found = if self.saved.in_progress(id) {
                self.compare_in_progress(at, id, state)?
            } else {
                self.compare_done(at, id, state)
            };
            match found {
                Found::Covers => {
                    self.rely_on(at, id, state);
                    self.carry_precision(at, id, state);
                    self.saved.hit(id);
                    return Ok(Visit::Covered);
                }
                Found::CoversInLoop => {
                    self.carry_precision(at, id, state);
                    self.saved.hit(id);
                    self.saved.close_loop(id);
                    return Ok(Visit::Covered);
                }
                // Short loops are better unrolled a while than saved at every turn.
                Found::InProgress if !forced && jumps < 20 && walked < 100 => add = false,
                Found::InProgress | Found::Differs => {}
            }
            self.saved.missed(id, add, mark.has(Mark::FORCE));
        }
        self.work.states_per_insn = self.work.states_per_insn.max(compared);
        if add {
            self.save(at, state)?;
        }
        Ok(Visit::GoOn)
    }

    /// Compares with a state on this very path: a loop.
    fn compare_in_progress(&mut self, at: InsnIdx, id: NodeId, state: &State) -> Result<Found, Stop> {
        let Some(old) = self.saved.node(id).and_then(|n| n.state.as_ref()) else { return Ok(Found::Differs) };
        let compare = |how| Comparison { plan: self.plan, origins: self.origins, how }.states(at, old, state);
        if old.called_later != 0 && old.called_later != state.called_later {
            // A timer's callback that sets the timer again: no loop of this path.
            return Ok(Found::InProgress);
        }
        let mark = self.plan.shape.mark(at);
        if mark.has(Mark::ITER_NEXT) {
            let active = || iterator_at(state, Reg::R1).is_some_and(|(_, _, iter)| iter.active);
            let covers = compare(Match::Within) && active();
            return Ok(if covers { Found::CoversInLoop } else { Found::InProgress });
        }
        let may_goto = matches!(self.plan.program.code.get(at), Some(Insn::MayGoto { .. }));
        if may_goto && old.may_goto_depth != state.may_goto_depth && compare(Match::Within) {
            return Ok(Found::CoversInLoop);
        }
        if mark.has(Mark::CALLS_BACK) {
            // What follows the loop has been walked before its body: the kernel takes this for complete.
            return Ok(match compare(Match::Within) {
                true if self.trust.is_none() => Found::CoversInLoop,
                true => Found::Covers,
                false => Found::InProgress,
            });
        }
        if maybe_looping(old, state)
            && compare(Match::Same)
            && !iterators_advanced(old, state)
            && old.may_goto_depth == state.may_goto_depth
            && old.callback_depth == state.callback_depth
        {
            let (now, earlier) = (StateView::new(state), StateView::new(old));
            self.listener.event(&Event::Endless { at, state: now, earlier });
            return Err(Reason::InfiniteLoop { at }.into());
        }
        Ok(Found::InProgress)
    }

    /// Compares with a state from which every path has been walked.
    fn compare_done(&mut self, at: InsnIdx, id: NodeId, state: &State) -> Found {
        let incomplete = self.saved.is_incomplete(id);
        if !incomplete {
            self.clean(id, state);
        }
        let Some(old) = self.saved.node(id).and_then(|n| n.state.as_ref()) else { return Found::Differs };
        let how = if incomplete { Match::Within } else { Match::Covers };
        let comparison = Comparison { plan: self.plan, origins: self.origins, how };
        match comparison.states(at, old, state) {
            true if incomplete => Found::CoversInLoop,
            true => Found::Covers,
            false => Found::Differs,
        }
    }

    /// Takes out of a finished state what does not matter any more, once.
    fn clean(&mut self, id: NodeId, like: &State) {
        let Some(node) = self.saved.node(id).filter(|n| !n.cleaned) else { return };
        let Some(old) = node.state.as_ref().filter(|old| same_callsites(old, like)) else { return };
        if let Some(trust) = &mut self.trust {
            trust.cleaned(self.plan, &mut self.live, node.at, old);
        }
        let cleaned = clean(self.plan, &mut self.live, node.at, old);
        self.saved.replace(id, cleaned);
    }

    /// Notes what is relied on when the old state is taken to cover the new one.
    fn rely_on(&mut self, at: InsnIdx, id: NodeId, state: &State) {
        let old = self.saved.node(id).and_then(|n| n.state.as_ref());
        if let (Some(trust), Some(old)) = (&mut self.trust, old) {
            trust.covered(self.plan, self.origins, at, old, state);
        }
    }

    /// Whatever is or becomes precise in the old state must be precise in what led to the new one.
    fn carry_precision(&mut self, at: InsnIdx, id: NodeId, state: &State) {
        let Some(old) = self.saved.node(id).and_then(|n| n.state.as_ref()) else { return };
        for (old, new) in scalar_pairs(self.plan, at, old, state) {
            self.origins.depend(old.origin, new.origin);
        }
    }

    fn save(&mut self, at: InsnIdx, state: &mut State) -> Result<(), Stop> {
        self.work.jumps_at_save = self.work.jumps;
        self.work.walked_at_save = self.work.walked;
        let origins = &mut *self.origins;
        state.update_all(RegState::is_scalar, |reg| reg.origin = origins.derive(None, &[reg.origin]));
        state.history = 0;
        let in_loop = self.loop_of(at, state);
        let id = self.saved.save(at, state.clone(), in_loop);
        state.parent = Some(id);
        self.listener.event(&Event::Save { at });
        let notes = self.trust.as_ref().map_or(0, Trust::bytes);
        let bytes = self.saved.bytes() + self.origins.bytes() + self.live.bytes() + notes;
        self.work.bytes = self.work.bytes.max(bytes);
        if bytes > MAX_STATE_BYTES {
            return Err(Reason::TooManyStates { limit: MAX_STATE_BYTES }.into());
        }
        Ok(())
    }

    /// The loop the state is in: that of the outermost frame that is in one.
    fn loop_of(&mut self, at: InsnIdx, state: &State) -> Option<LoopKey> {
        let frames = state.frames();
        let place = |i: usize| frames.get(i + 1).map_or(at, |callee| callee.callsite);
        let component = |at: InsnIdx| {
            let shape = &self.plan.shape;
            let calls_back = self.trust.is_none() && shape.mark(at).has(Mark::CALLS_BACK);
            shape.component(at).or_else(|| calls_back.then_some(u32::MAX - at.0))
        };
        let (frame, component) = (0..frames.len()).find_map(|i| Some((i, component(place(i))?)))?;
        Some((self.live.chain(self.plan, state, frame + 1)?, component))
    }
}

/// How a saved state compares with the current one.
enum Found {
    /// Whatever is safe from the old one is safe from the new.
    Covers,
    /// It covers the new one, and the loop they are in has not been walked to the end.
    CoversInLoop,
    /// It is on this path and does not cover it.
    InProgress,
    Differs,
}

/// Whether the kernel counts the instruction as a jump: those of classes JMP and JMP32.
fn is_jump(insn: &Insn) -> bool {
    matches!(
        insn,
        Insn::Jump { .. }
            | Insn::Branch { .. }
            | Insn::MayGoto { .. }
            | Insn::IndirectJump { .. }
            | Insn::Call { .. }
            | Insn::Exit
    )
}
