//! Callbacks: what is taken for known before it is.
//!
//! Linux 6.18 takes a state inside a callback for complete once its paths have come back to the helper's call, although the
//! next turn of the loop may ask more of it. Mostly nothing comes of that, and to be as exact as for other loops would
//! refuse programs that Linux accepts. So the walk does the same, notes what it relied on, and looks again at the end: if
//! that does not hold, everything is walked once more with callbacks treated like all loops.

use isa::InsnIdx;

use crate::plan::Plan;
use crate::plan::cfg::Mark;
use crate::state::State;
use crate::walk::equal::{Ids, scalar_pairs};
use crate::walk::origin::{Origin, Origins};
use crate::walk::stack_live::{Slots, StackLive};

/// What was relied on.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// Numbers of covering states that do not cover what they were compared with: nothing may come to depend on them.
    numbers: Vec<Origin>,
    /// For each frame of a state, slots that were taken out of it because nothing reads them.
    slots: Vec<(State, InsnIdx, Vec<Slots>)>,
}

impl Trust {
    /// The path of `new` ends because `old` covers it.
    pub(crate) fn covered(
        &mut self,
        plan: &Plan<'_>,
        origins: &Origins,
        at: InsnIdx,
        old: &State,
        new: &State,
    ) {
        if !is_in_callback(plan, at, old) {
            return;
        }
        let mut ids = Ids::default();
        for (old, new) in scalar_pairs(plan, at, old, new) {
            let covers = ids.pair_numbers(old, new) && old.scalar.includes(&new.scalar);
            if !covers && !origins.is_precise(old.origin) {
                self.numbers.push(old.origin);
            }
        }
        // Where a number is on the stack of one, the other has bytes of any kind.
        for (old, new) in old.frames().iter().zip(new.frames()) {
            for (i, slot) in old.stack.slots().iter().enumerate().filter(|(_, s)| s.spill.is_scalar()) {
                let number = new.stack.slots().get(i).is_some_and(|new| new.spill.is_scalar());
                if !number && !origins.is_precise(slot.spill.origin) {
                    self.numbers.push(slot.spill.origin);
                }
            }
        }
    }

    /// What nothing reads is taken out of the state.
    pub(crate) fn cleaned(&mut self, plan: &Plan<'_>, live: &mut StackLive, at: InsnIdx, state: &State) {
        if is_in_callback(plan, at, state) {
            let dead = (0..state.frames().len()).map(|frame| !live.live(plan, state, at, frame)).collect();
            self.slots.push((state.clone(), at, dead));
        }
    }

    /// Whether all of it has turned out to be so.
    pub(crate) fn holds(&self, plan: &Plan<'_>, origins: &Origins, live: &mut StackLive) -> bool {
        self.numbers.iter().all(|number| !origins.is_precise(*number))
            && self.slots.iter().all(|(state, at, dead)| {
                dead.iter().enumerate().all(|(frame, dead)| {
                    let slots = state.frames().get(frame).map_or(0, |f| f.stack.slots().len());
                    let touched = (0..slots.min(64)).fold(0, |set, slot| set | 1 << slot);
                    live.live(plan, state, *at, frame) & dead & touched == 0
                })
            })
    }

    /// Bytes of the notes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.numbers.as_slice()) + self.slots.len() * (size_of::<State>() + 128)
    }
}

/// Whether the state is inside a callback, or at a call that calls back.
fn is_in_callback(plan: &Plan<'_>, at: InsnIdx, state: &State) -> bool {
    plan.shape.mark(at).has(Mark::CALLS_BACK) || state.frames().iter().any(|frame| frame.callback.is_some())
}

#[cfg(test)]
mod tests {
    use bpf_object::Program;
    use isa::{Insn, Operand, Reg, Width};

    use super::*;
    use crate::Env;
    use crate::domain::scalar::Scalar;
    use crate::rules::helpers::Callback;
    use crate::state::Frame;
    use crate::state::reg::RegState;

    fn program() -> Program {
        let zero = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) };
        let sum = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Reg(Reg::R6) };
        Program::from_code("test", "syscall", [zero, sum, Insn::Exit].into_iter().collect())
    }

    /// A state inside a callback with this number in `R6`.
    fn inside(number: u64, origin: Origin) -> State {
        static CALLBACK: Callback =
            Callback { function: 0, args: &[], returns: (0, 0), later: false, sleeps: false };
        let mut frame = Frame::new(0, InsnIdx(0), 0);
        frame.callback = Some(&CALLBACK);
        frame.set(Reg::R6, RegState::number(Scalar::constant(number), origin));
        State::new(frame)
    }

    #[test]
    fn numbers_that_differ_must_stay_unused() {
        let (program, env) = (program(), Env::default());
        let plan = Plan::new(&program, &env).unwrap();
        let (mut origins, mut live) = (Origins::new(), StackLive::new(&plan));
        let [a, b] = [0, 1].map(|at| origins.derive(Some(InsnIdx(at)), &[]));
        let mut trust = Trust::default();
        trust.covered(&plan, &origins, InsnIdx(1), &inside(1, a), &inside(1, b));
        origins.mark_precise(a);
        assert!(trust.holds(&plan, &origins, &mut live), "the same number");
        let c = origins.derive(None, &[]);
        trust.covered(&plan, &origins, InsnIdx(1), &inside(1, c), &inside(2, b));
        trust.covered(&plan, &origins, InsnIdx(2), &inside(1, c), &inside(2, b));
        assert!(trust.holds(&plan, &origins, &mut live), "nothing depends on it so far");
        origins.mark_precise(c);
        assert!(!trust.holds(&plan, &origins, &mut live));
    }

    #[test]
    fn slots_that_are_taken_out_must_stay_unread() {
        let (program, env) = (program(), Env::default());
        let plan = Plan::new(&program, &env).unwrap();
        let mut live = StackLive::new(&plan);
        let mut state = inside(1, Origin::NONE);
        state.frame_mut().unwrap().stack.at_mut(-16).unwrap().bytes[0] = crate::state::stack::SlotByte::Misc;
        let mut trust = Trust::default();
        trust.cleaned(&plan, &mut live, InsnIdx(0), &state);
        assert!(trust.holds(&plan, &Origins::new(), &mut live));
        live.follow(&plan, &state);
        live.read(0, InsnIdx(1), 1 << 5);
        live.commit(InsnIdx(1));
        live.update(&plan, &state);
        assert!(trust.holds(&plan, &Origins::new(), &mut live), "a slot it does not have");
        live.read(0, InsnIdx(1), 1 << 1);
        live.commit(InsnIdx(1));
        live.update(&plan, &state);
        assert!(!trust.holds(&plan, &Origins::new(), &mut live));
    }
}
