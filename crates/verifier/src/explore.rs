//! The walk over all paths: which state is next, when a path is done, when there has been enough of it.
//!
//! Depth first, in the kernel's order. At marked instructions the state is compared with those saved there before:
//! one that is covered need not be walked again. Loops end because
//! - ordinary loops are walked until their condition decides (or the limit of work is reached); a state that comes back
//!   unchanged is an infinite loop;
//! - at `may_goto`, iterators and callbacks the state is widened, and a path is cut off at a state that is still
//!   being walked if that one covers it: the run time ends such loops by itself.

use std::rc::Rc;

use isa::{CallTarget, Insn, InsnIdx};

use crate::cfg::callee;
use crate::equal::{Comparison, Match, iterators_advanced, number_pairs};
use crate::events::{Event, Listener};
use crate::facts::{Conflict, Facts};
use crate::limits::{MAX_PENDING, MAX_STATE_BYTES, MAX_WALKED};
use crate::origin::Origins;
use crate::plan::Plan;
use crate::reason::Reason;
use crate::reg::RegState;
use crate::saved::Saved;
use crate::state::{Frame, NodeId, State};
use crate::transfer::{Next, Step, iterator_at};
use crate::verified::Stats;
use crate::view::{FrameView, StateView};

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
    jumps: u64,
    /// The same when the last state was saved.
    walked_at_save: u64,
    jumps_at_save: u64,
    states: u64,
    peak: u64,
    /// Most states compared at one instruction.
    states_per_insn: u64,
}

impl Work {
    /// The same, to be told.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            insns_walked: self.walked,
            max_states_per_insn: self.states_per_insn,
            total_states: self.states,
            peak_states: self.peak,
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
    waiting: Vec<Waiting>,
}

impl<'a> Explorer<'a> {
    pub(crate) fn new(
        plan: &'a Plan<'a>,
        facts: &'a mut Facts,
        origins: &'a mut Origins,
        work: &'a mut Work,
        listener: Listener<'a>,
    ) -> Self {
        Self { plan, facts, origins, work, listener, ids: 0, saved: Saved::default(), waiting: Vec::new() }
    }

    /// Walks everything from `state` at `start`.
    pub(crate) fn run(&mut self, start: InsnIdx, state: State) -> Result<(), Failure> {
        let mut path = Some(Waiting { at: start, from: start, state });
        while let Some(Waiting { mut at, mut state, .. }) = path {
            let result = self.walk(&mut at, &mut state);
            if let Err(stop) = result {
                return Err(Failure { stop, at, state: Some(Box::new(state)) });
            }
            self.saved.end_path(state.parent);
            path = self.waiting.pop();
            if let Some(next) = &path {
                self.listener.event(&Event::Resume { from: next.from, at: next.at });
            }
        }
        let (held, peak) = self.saved.counts();
        self.work.states += held;
        self.work.peak = self.work.peak.max(peak);
        Ok(())
    }

    /// Walks one path to its end.
    fn walk(&mut self, at: &mut InsnIdx, state: &mut State) -> Result<(), Stop> {
        loop {
            self.work.walked += 1;
            if self.work.walked > MAX_WALKED {
                return Err(Reason::TooComplex { walked: self.work.walked }.into());
            }
            if self.plan.shape.mark(*at).prune && self.visit(*at, state)? {
                self.listener.event(&Event::Pruned { at: *at });
                return Ok(());
            }
            self.facts.reach(*at);
            let left = self.announce(*at, state);
            let mut step = Step {
                plan: self.plan,
                facts: self.facts,
                origins: self.origins,
                saved: &self.saved,
                ids: &mut self.ids,
                state,
                at: *at,
                forks: Vec::new(),
            };
            let next = step.execute()?;
            let forks = std::mem::take(&mut step.forks);
            for (to, forked) in forks {
                self.push(*at, to, forked)?;
            }
            self.report(*at, next, state, left);
            match next {
                Next::At(to) => {
                    if to.0 != at.0 + 1 {
                        self.work.jumps += 1;
                    }
                    *at = to;
                }
                Next::Branch(to) => {
                    self.work.jumps += 1;
                    *at = to;
                }
                Next::End => {
                    self.listener.event(&Event::Exit { at: *at });
                    return Ok(());
                }
            }
        }
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
            return Err(Reason::TooManyBranches { pending: self.waiting.len() }.into());
        }
        self.saved.fork(state.parent);
        self.listener.event(&Event::Branch { at, to });
        self.waiting.push(Waiting { at: to, from: at, state });
        Ok(())
    }

    /// Compares the state with those saved here; `true` if one covers it. Saves it if it is time to.
    fn visit(&mut self, at: InsnIdx, state: &mut State) -> Result<bool, Stop> {
        let forced = self.plan.shape.mark(at).force;
        let mut add = forced
            || (self.work.jumps - self.work.jumps_at_save >= 2
                && self.work.walked - self.work.walked_at_save >= 8);
        let candidates = self.saved.at(at);
        let compared = candidates.len() as u64;
        for id in candidates {
            let Some(old) = self.saved.node(id).and_then(|n| n.state.as_ref()) else { continue };
            let compare =
                |how| Comparison { plan: self.plan, origins: self.origins, how }.states(at, old, state);
            if self.saved.in_progress(id) {
                let converged = forced && self.progressed(at, old, state) && compare(Match::Within);
                if converged {
                    self.carry_precision(at, id, state);
                    self.saved.close_loop(state.parent, id);
                    self.saved.hit(id);
                    return Ok(true);
                }
                if !forced
                    && old.may_goto_depth == state.may_goto_depth
                    && old.callback_depth == state.callback_depth
                    && !iterators_advanced(old, state)
                    && compare(Match::Same)
                {
                    return Err(Reason::InfiniteLoop { at }.into());
                }
                // Short loops are better unrolled a while than saved at every turn.
                if !forced
                    && self.work.jumps - self.work.jumps_at_save < 20
                    && self.work.walked - self.work.walked_at_save < 100
                {
                    add = false;
                }
            } else {
                let open = self.saved.open_loop(id);
                if compare(if open.is_some() { Match::Within } else { Match::Covers }) {
                    self.carry_precision(at, id, state);
                    if let Some(entry) = open {
                        self.saved.close_loop(state.parent, entry);
                    }
                    self.saved.hit(id);
                    return Ok(true);
                }
            }
            if add {
                self.saved.miss(id, forced);
            }
        }
        self.work.states_per_insn = self.work.states_per_insn.max(compared);
        if add {
            self.save(at, state)?;
        }
        Ok(false)
    }

    /// Whether the run time's own bound on the loop has been touched since `old`.
    fn progressed(&self, at: InsnIdx, old: &State, state: &State) -> bool {
        match self.plan.program.code.get(at) {
            Some(isa::Insn::MayGoto { .. }) => old.may_goto_depth != state.may_goto_depth,
            Some(isa::Insn::Call { target: isa::CallTarget::Kfunc { .. } }) => {
                iterator_at(state, isa::Reg::R1).is_some_and(|(_, _, iter)| iter.active)
            }
            // A helper calls back a bounded number of times.
            _ => true,
        }
    }

    /// Whatever is or becomes precise in the old state must be precise in what led to the new one.
    fn carry_precision(&mut self, at: InsnIdx, id: NodeId, state: &State) {
        let Some(old) = self.saved.node(id).and_then(|n| n.state.as_ref()) else { return };
        for (old, new) in number_pairs(self.plan, at, old, state) {
            self.origins.depend(old, new);
        }
    }

    fn save(&mut self, at: InsnIdx, state: &mut State) -> Result<(), Stop> {
        self.work.jumps_at_save = self.work.jumps;
        self.work.walked_at_save = self.work.walked;
        let origins = &mut *self.origins;
        state.update_all(RegState::is_scalar, |reg| reg.origin = origins.derive(None, &[reg.origin]));
        let id = self.saved.save(at, state.clone());
        state.parent = Some(id);
        self.listener.event(&Event::Save { at });
        if self.saved.bytes() + self.origins.bytes() > MAX_STATE_BYTES {
            return Err(Reason::TooManyStates { limit: MAX_STATE_BYTES }.into());
        }
        Ok(())
    }
}
