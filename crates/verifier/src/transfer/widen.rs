//! Loops whose end the run time guarantees: what changes from turn to turn is forgotten, so that they converge.

use isa::InsnIdx;

use super::Step;
use crate::domain::scalar::Scalar;
use crate::state::State;
use crate::state::reg::RegState;
use crate::walk::equal::{Ids, exact};
use crate::walk::origin::Origins;

impl Step<'_> {
    /// Forgets the numbers in `state` that changed since the last time around this loop and that nothing depends on.
    pub(super) fn widen(&mut self, state: &mut State) {
        self.widen_at(self.at, state, true);
    }

    /// The same, against the states saved at `at`; `skip` passes over the nearest, which was saved just now.
    pub(super) fn widen_at(&mut self, at: InsnIdx, state: &mut State, skip: bool) {
        let Some(previous) = self.saved.previous(state.parent, at, state, skip) else { return };
        let mut ids = Ids::default();
        for number in (0..=state.depth()).rev() {
            let (Some(old), Some(new)) = (previous.frame_at(number), state.frame_at_mut(number)) else {
                return;
            };
            for (old, new) in old.regs.iter().zip(&mut new.regs) {
                widen(self.origins, &mut ids, old, new);
            }
            for (old, new) in old.stack.slots().iter().zip(new.stack.slots_mut()) {
                if old.spilled_bytes() > 0 && new.spilled_bytes() > 0 {
                    widen(self.origins, &mut ids, &old.spill, &mut new.spill);
                }
            }
        }
    }
}

fn widen(origins: &mut Origins, ids: &mut Ids, old: &RegState, new: &mut RegState) {
    let numbers = old.is_scalar() && new.is_scalar();
    if numbers && !origins.is_precise(old.origin) && !exact(old, new, ids) {
        *new = RegState::number(Scalar::UNKNOWN, origins.derive(None, &[new.origin]));
    }
}
