//! Saved states without what does not matter any more.
//!
//! Once every path from a state has been walked, it is known what they have read of it. The rest is taken out: states
//! that differ only there are the same.

use std::rc::Rc;

use isa::{InsnIdx, Reg};

use crate::plan::Plan;
use crate::state::reg::RegState;
use crate::state::stack::{Slot, SlotByte};
use crate::state::{Frame, State};
use crate::walk::stack_live::StackLive;

/// The state without registers and slots that are not read on any way on from `at`.
pub(crate) fn clean(plan: &Plan<'_>, live: &mut StackLive, at: InsnIdx, state: &State) -> State {
    let mut cleaned = state.clone();
    for (number, frame) in (0_u8..).zip(state.frames()) {
        let callee = state.frames().get(usize::from(number) + 1);
        let live_regs = plan.live.before(callee.map_or(at, |callee| callee.callsite));
        let live_slots = live.live(plan, state, at, usize::from(number));
        let dead_reg = |reg: &Reg| *reg != Reg::R10 && live_regs & 1 << reg.number() == 0;
        let dead_slot = |index: usize, slot: &Slot| {
            index < 64 && live_slots & 1 << index == 0 && *slot != Slot::EMPTY && !is_object(slot)
        };
        let any_reg = || Reg::ALL.iter().any(|reg| dead_reg(reg) && *frame.reg(*reg) != RegState::NOT_INIT);
        let any_slot = || frame.stack.slots().iter().enumerate().any(|(i, slot)| dead_slot(i, slot));
        if !any_reg() && !any_slot() {
            continue;
        }
        let mut new: Frame = Frame::clone(frame);
        for reg in Reg::ALL.into_iter().filter(dead_reg) {
            new.set(reg, RegState::NOT_INIT);
        }
        for (index, slot) in new.stack.slots_mut().iter_mut().enumerate() {
            if dead_slot(index, slot) {
                *slot = Slot::EMPTY;
            }
        }
        cleaned.set_frame(number, Rc::new(new));
    }
    cleaned
}

/// Whether the slot holds something that the kernel knows of, other than numbers and pointers: it is never dead.
fn is_object(slot: &Slot) -> bool {
    !slot
        .bytes
        .iter()
        .all(|b| matches!(b, SlotByte::Invalid | SlotByte::Misc | SlotByte::Zero | SlotByte::Spill))
}
