//! Numbers that are linked: copies of one number, or of one number plus a constant. What a comparison teaches of one holds
//! for all.

use isa::{InsnIdx, Reg};

use crate::plan::live::Liveness;
use crate::state::reg::{Flags, RegState};
use crate::state::{Frame, State};
use crate::walk::origin::Origin;

/// Most numbers that learn from one comparison (`LINKED_REGS_MAX`).
const MAX_LINKED: usize = 6;

/// Where a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Register {
        frame: u8,
        reg: Reg,
    },
    /// Index of the slot, from the frame pointer down.
    Slot {
        frame: u8,
        index: usize,
    },
}

impl Place {
    pub(super) fn get(self, state: &State) -> Option<&RegState> {
        match self {
            Self::Register { frame, reg } => Some(state.frame_at(frame)?.reg(reg)),
            Self::Slot { frame, index } => Some(&state.frame_at(frame)?.stack.slots().get(index)?.spill),
        }
    }

    fn set(self, state: &mut State, to: RegState) {
        match self {
            Self::Register { frame, reg } => {
                if let Some(frame) = state.frame_at_mut(frame) {
                    frame.set(reg, to);
                }
            }
            Self::Slot { frame, index } => {
                let slots = state.frame_at_mut(frame).map(|f| f.stack.slots_mut());
                if let Some(slot) = slots.and_then(|slots| slots.get_mut(index)) {
                    slot.spill = to;
                }
            }
        }
    }
}

/// What is linked with one or both sides of a comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    places: Vec<Place>,
}

impl Links {
    /// Everything linked with these numbers that is still needed. Those that are too many lose their link.
    pub(super) fn collect(
        live: &Liveness,
        at: InsnIdx,
        state: &mut State,
        src: Option<&RegState>,
        dst: &RegState,
    ) -> Self {
        let mut links = Self::default();
        for number in src.into_iter().chain([dst]).filter(|n| n.is_scalar() && n.id != 0) {
            for place in places(live, at, state, number.id) {
                if links.places.len() < MAX_LINKED {
                    links.places.push(place);
                } else if let Some(number) = place.get(state).copied() {
                    place.set(state, number.unlinked());
                }
            }
        }
        links
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().copied()
    }

    /// What is known of `reg` holds for all that is linked with it. All of them rest on `origin` from now on.
    pub(super) fn teach(&self, state: &mut State, reg: Reg, origin: Origin) {
        let known = *state.reg(reg);
        if !known.is_scalar() || known.id == 0 {
            return;
        }
        let taught = Place::Register { frame: state.depth(), reg };
        for place in self.iter().filter(|place| *place != taught) {
            let Some(&linked) = place.get(state) else { continue };
            if !linked.is_scalar() || linked.id != known.id {
                continue;
            }
            if let Some(learnt) = learn(&linked, &known) {
                place.set(state, RegState { origin, ..learnt });
            }
        }
    }
}

/// A number linked with one that is now `known`. Sums of both widths tell nothing of each other: one may have wrapped.
fn learn(linked: &RegState, known: &RegState) -> Option<RegState> {
    let narrow = [linked, known].iter().any(|n| n.flags.has(Flags::DISPLACED32));
    if narrow && [linked, known].iter().any(|n| n.flags.has(Flags::DISPLACED)) {
        return None;
    }
    if linked.offset == known.offset || !linked.is_displaced() && !known.is_displaced() {
        return Some(*known);
    }
    // Both offsets are 32 bits wide: no overflow.
    let moved = known.scalar.displaced(i64::from(linked.offset) - i64::from(known.offset));
    let scalar = if narrow { moved.low_half() } else { moved.sync() };
    Some(RegState { scalar, ..*linked })
}

/// Numbers with this identity, innermost frame first. Registers that no one reads any more do not count.
fn places(live: &Liveness, at: InsnIdx, state: &State, id: u32) -> Vec<Place> {
    let is_linked = |number: &RegState| number.is_scalar() && number.id == id;
    let mut found = Vec::new();
    let mut at = at;
    for (number, frame) in (0_u8..).zip(state.frames()).collect::<Vec<_>>().into_iter().rev() {
        let frame: &Frame = frame;
        let live = live.before(at);
        at = frame.callsite;
        let regs = Reg::ALL.into_iter().filter(|reg| *reg != Reg::R10 && live & 1 << reg.number() != 0);
        let regs = regs.filter(|reg| is_linked(frame.reg(*reg)));
        found.extend(regs.map(|reg| Place::Register { frame: number, reg }));
        let slots = frame.stack.slots().iter().enumerate();
        let slots = slots.filter(|(_, slot)| slot.spilled_bytes() > 0 && is_linked(&slot.spill));
        found.extend(slots.map(|(index, _)| Place::Slot { frame: number, index }));
    }
    found
}
