//! When one state covers another: whatever is safe from the old one is safe from the new.

use std::rc::Rc;

use isa::{InsnIdx, Reg};

use crate::domain::scalar::Scalar;
use crate::plan::Plan;
use crate::plan::live::RegSet;
use crate::state::reg::{RegState, RegType};
use crate::state::stack::{Slot, SlotByte};
use crate::state::{Frame, State};
use crate::walk::origin::{Origin, Origins};

/// How alike two states must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Numbers that nothing depends on may differ. Only for old states whose paths have all been walked.
    Covers,
    /// Every number of the new state is within the old one's: right for states that are still being walked.
    Within,
    /// The same: nothing has changed since.
    Same,
}

/// Correspondence of identities: an old id stands for one new id and the other way round.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    pairs: Vec<(u32, u32)>,
    /// Identities made up for numbers that have none.
    fresh: u32,
}

impl Ids {
    #[doc(alias = "check_ids")]
    pub(crate) fn pair(&mut self, old: u32, new: u32) -> bool {
        if (old == 0) != (new == 0) {
            return false;
        }
        if old == 0 {
            return true;
        }
        for &(o, n) in &self.pairs {
            if o == old {
                return n == new;
            }
            if n == new {
                return false;
            }
        }
        self.pairs.push((old, new));
        true
    }

    /// For numbers: those linked in the old state must be linked in the new, by the same difference. One without an id is
    /// linked to none; if it is the old one, nothing rests on what the new one is linked to.
    #[doc(alias = "check_scalar_ids")]
    pub(crate) fn pair_numbers(&mut self, old: &RegState, new: &RegState) -> bool {
        if old.id == 0 {
            return true;
        }
        if old.is_displaced() != new.is_displaced() || old.is_displaced() && old.offset != new.offset {
            return false;
        }
        if new.id != 0 {
            return self.pair(link(old), link(new));
        }
        self.fresh += 1;
        self.pair(link(old), u32::MAX - self.fresh)
    }
}

/// What a number is linked to. Numbers that were displaced are a family of their own.
fn link(number: &RegState) -> u32 {
    if number.is_displaced() && number.id != 0 { number.id | 1 << 31 } else { number.id }
}

/// Compares two states at the same instruction.
pub(crate) struct Comparison<'a> {
    pub(crate) plan: &'a Plan<'a>,
    pub(crate) origins: &'a Origins,
    pub(crate) how: Match,
}

impl Comparison<'_> {
    /// Whether `old` covers `new`.
    pub(crate) fn states(&self, at: InsnIdx, old: &State, new: &State) -> bool {
        let mut ids = Ids::default();
        let held = old.held.same(&new.held, |o, n| ids.pair(o, n));
        held && same_callsites(old, new)
            && old.frames().iter().zip(new.frames()).enumerate().all(|(i, (o, n))| {
                let at = old.frames().get(i + 1).map_or(at, |callee| callee.callsite);
                self.frames(self.plan.live.before(at), o, n, &mut ids)
            })
    }

    fn frames(&self, live: RegSet, old: &Frame, new: &Frame, ids: &mut Ids) -> bool {
        // A state that was called back more often may have been spared callbacks the other still gets.
        old.callback_depth <= new.callback_depth
            && Reg::ALL
                .iter()
                .filter(|r| live & 1 << r.number() != 0)
                .all(|&r| self.regs(old.reg(r), new.reg(r), ids))
            && self.stacks(old, new, ids)
    }

    fn regs(&self, old: &RegState, new: &RegState, ids: &mut Ids) -> bool {
        if self.how == Match::Same {
            return exact(old, new, ids);
        }
        if old.kind == RegType::NotInit && (self.how == Match::Covers || new.kind == RegType::NotInit) {
            return true;
        }
        if old.kind != new.kind || old.flags != new.flags && !old.is_scalar() {
            return false;
        }
        match old.kind {
            RegType::Scalar => {
                if self.how == Match::Covers && !self.origins.is_precise(old.origin) {
                    return true;
                }
                old.scalar.includes(&new.scalar) && ids.pair_numbers(old, new)
            }
            RegType::PtrToArena => true,
            RegType::PtrToPacket | RegType::PtrToPacketMeta => {
                // What is at the end of the packet or behind it can do what others cannot: its comparisons are decided.
                let enough = if old.range < 0 || new.range < 0 {
                    old.range == new.range
                } else {
                    old.range <= new.range
                };
                enough
                    && old.offset == new.offset
                    && old.scalar.includes(&new.scalar)
                    && ids.pair(old.id, new.id)
            }
            RegType::PtrToMapKey { .. }
            | RegType::PtrToMapValue { .. }
            | RegType::PtrToMem { .. }
            | RegType::PtrToBuf
            | RegType::PtrToTpBuffer => {
                same_place(old, new)
                    && old.scalar.includes(&new.scalar)
                    && ids.pair(old.id, new.id)
                    && ids.pair(old.ref_id, new.ref_id)
            }
            _ => exact(old, new, ids),
        }
    }

    fn stacks(&self, old: &Frame, new: &Frame, ids: &mut Ids) -> bool {
        let (old, new) = (old.stack.slots(), new.stack.slots());
        if self.how != Match::Covers && old.len() > new.len() {
            return false;
        }
        old.iter().enumerate().all(|(i, old)| self.slots(old, new.get(i), ids))
    }

    fn slots(&self, old: &Slot, new: Option<&Slot>, ids: &mut Ids) -> bool {
        // Bytes of which nothing was known may be anything, if any byte of the stack may be read.
        let written = self.plan.env.refuse_uninit_stack;
        let anything = |b: &SlotByte| *b == SlotByte::Invalid || *b == SlotByte::Misc && !written;
        let all_anything = |slot: &Slot| slot.bytes.iter().all(anything);
        if self.how != Match::Covers && new.is_none_or(|new| old.bytes != new.bytes) {
            return false;
        }
        if all_anything(old) {
            return true;
        }
        let Some(new) = new else { return false };
        if old.is_full_spill() && old.spill.is_scalar() {
            if new.is_full_spill() && new.spill.is_scalar() {
                return self.regs(&old.spill, &new.spill, ids);
            }
            if all_anything(new) && !written {
                return self.regs(&old.spill, &RegState::number(Scalar::UNKNOWN, Origin::NONE), ids);
            }
        }
        let bytes = old.bytes.iter().zip(&new.bytes).all(|(o, n)| o == n || anything(o));
        let spills = old.spilled_bytes() == 0 || self.regs(&old.spill, &new.spill, ids);
        let iters = match (old.iter, new.iter) {
            (None, _) => true,
            (Some(o), Some(n)) => o.kind == n.kind && o.active == n.active && ids.pair(o.id, n.id),
            _ => false,
        };
        let dynptrs = match (old.dynptr, new.dynptr) {
            (None, n) => n.is_none() || self.how != Match::Same,
            (Some(o), Some(n)) => o.kind == n.kind && o.first == n.first && ids.pair(o.ref_id, n.ref_id),
            _ => false,
        };
        let irqs = match (old.irq, new.irq) {
            (None, n) => n.is_none() || self.how != Match::Same,
            (Some(o), Some(n)) => o.by_lock == n.by_lock && ids.pair(o.id, n.id),
            _ => false,
        };
        bytes && spills && iters && dynptrs && irqs
    }
}

/// The same but for identities, which correspond.
#[doc(alias = "regs_exact")]
pub(crate) fn exact(old: &RegState, new: &RegState, ids: &mut Ids) -> bool {
    same_place(old, new)
        && old.range == new.range
        && old.scalar == new.scalar
        && ids.pair(link(old), link(new))
        && ids.pair(old.ref_id, new.ref_id)
}

/// The same type and constant offset.
fn same_place(old: &RegState, new: &RegState) -> bool {
    old.kind == new.kind
        && (old.flags == new.flags || old.is_scalar())
        && old.offset == new.offset
        && old.map_uid == new.map_uid
        && old.dynptr_id == new.dynptr_id
}

/// A quick look whether the innermost frame's registers are the same: if not, the path is not going in circles.
#[doc(alias = "states_maybe_looping")]
pub(crate) fn maybe_looping(old: &State, new: &State) -> bool {
    let same = |old: &RegState, new: &RegState| {
        same_place(old, new)
            && old.range == new.range
            && old.id == new.id
            && old.ref_id == new.ref_id
            && old.scalar == new.scalar
    };
    match (old.frame(), new.frame()) {
        (Some(o), Some(n)) if old.depth() == new.depth() => {
            o.regs.iter().zip(&n.regs).all(|(o, n)| same(o, n))
        }
        _ => false,
    }
}

/// Whether both are in the same functions, called from the same places.
pub(crate) fn same_callsites(old: &State, new: &State) -> bool {
    old.frames().len() == new.frames().len()
        && old.frames().iter().zip(new.frames()).all(|(o, n)| {
            o.callsite == n.callsite && o.subprog == n.subprog && o.callback.is_some() == n.callback.is_some()
        })
}

/// Whether some iterator has been advanced between the two.
pub(crate) fn iterators_advanced(old: &State, new: &State) -> bool {
    old.frames().iter().zip(new.frames()).any(|(o, n)| {
        o.stack.slots().iter().zip(n.stack.slots()).any(|(o, n)| match (o.iter, n.iter) {
            (Some(o), Some(n)) => o.active && n.active && o.depth != n.depth,
            _ => false,
        })
    })
}

/// Pairs of numbers (old, new) at the same place that may still be read: precision must carry over from one to the other.
pub(crate) fn scalar_pairs<'s>(
    plan: &Plan<'_>,
    at: InsnIdx,
    old: &'s State,
    new: &'s State,
) -> impl Iterator<Item = (&'s RegState, &'s RegState)> {
    let frames = old.frames().iter().zip(new.frames()).enumerate();
    let of_frame = move |(i, (o, n)): (usize, (&'s Rc<Frame>, &'s Rc<Frame>))| {
        let at = old.frames().get(i + 1).map_or(at, |callee| callee.callsite);
        let live = plan.live.before(at);
        let regs = Reg::ALL.into_iter().filter(move |r| live & 1 << r.number() != 0);
        let spills = o.stack.slots().iter().zip(n.stack.slots()).map(|(o, n)| (&o.spill, &n.spill));
        regs.map(|r| (o.reg(r), n.reg(r))).chain(spills).collect::<Vec<_>>()
    };
    frames.flat_map(of_frame).filter(|(o, n)| o.is_scalar() && n.is_scalar())
}
