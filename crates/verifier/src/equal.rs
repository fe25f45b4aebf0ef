//! When one state covers another: whatever is safe from the old one is safe from the new.

use isa::{InsnIdx, Reg};

use crate::live::RegSet;
use crate::origin::{Origin, Origins};
use crate::plan::Plan;
use crate::reg::{RegState, RegType};
use crate::scalar::Scalar;
use crate::stack::{Slot, SlotByte};
use crate::state::{Frame, State};

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
struct Ids {
    pairs: Vec<(u32, u32)>,
}

impl Ids {
    fn pair(&mut self, old: u32, new: u32) -> bool {
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

    /// For numbers: those linked in the old state must be linked in the new, but need not be the other way round.
    fn pair_numbers(&mut self, old: u32, new: u32) -> bool {
        match self.pairs.iter().find(|(o, _)| *o == old) {
            _ if old == 0 => true,
            _ if new == 0 => {
                // Not linked at all: fine only if the old id occurs once. A number no other number has stands for it.
                let fresh = u32::MAX - u32::try_from(self.pairs.len()).unwrap_or(0);
                self.pair(old, fresh)
            }
            Some(&(_, n)) => n == new,
            None => self.pair(old, new),
        }
    }
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
            return old.kind == new.kind
                && old.flags == new.flags
                && old.range == new.range
                && old.offset == new.offset
                && old.scalar == new.scalar
                && ids.pair(old.id, new.id)
                && ids.pair(old.ref_id, new.ref_id);
        }
        if old.kind == RegType::NotInit {
            return true;
        }
        if old.kind != new.kind || old.flags != new.flags {
            return false;
        }
        match old.kind {
            RegType::Scalar => {
                if self.how == Match::Covers && !self.origins.is_precise(old.origin) {
                    return true;
                }
                let linked = old.id == 0 || new.id == 0 || old.offset == new.offset;
                linked && old.scalar.includes(&new.scalar) && ids.pair_numbers(old.id, new.id)
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
            RegType::PtrToMapValue { .. } | RegType::PtrToMem { .. } => {
                old.offset == new.offset
                    && old.scalar.includes(&new.scalar)
                    && ids.pair(old.id, new.id)
                    && ids.pair(old.ref_id, new.ref_id)
            }
            _ => {
                old.offset == new.offset
                    && old.scalar == new.scalar
                    && ids.pair(old.id, new.id)
                    && ids.pair(old.ref_id, new.ref_id)
            }
        }
    }

    fn stacks(&self, old: &Frame, new: &Frame, ids: &mut Ids) -> bool {
        let count = match self.how {
            Match::Same => old.stack.slots().len().max(new.stack.slots().len()),
            _ => old.stack.slots().len(),
        };
        (0..count).all(|i| {
            let slot = |f: &Frame| f.stack.slots().get(i).copied().unwrap_or(Slot::EMPTY);
            self.slots(&slot(old), &slot(new), ids)
        })
    }

    fn slots(&self, old: &Slot, new: &Slot, ids: &mut Ids) -> bool {
        if self.how != Match::Same
            && let (Some(o), Some(n)) = (as_number(old), as_number(new))
        {
            return self.regs(&o, &n, ids);
        }
        let bytes = old.bytes.iter().zip(&new.bytes).all(|(o, n)| {
            o == n
                || self.how != Match::Same
                    && (matches!(o, SlotByte::Invalid | SlotByte::Misc) && *n != SlotByte::Iter)
        });
        let spills = old.spilled_bytes() == 0 || self.regs(&old.spill, &new.spill, ids);
        let iters = match (old.iter, new.iter) {
            (None, None) => true,
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

/// Pairs of numbers (old, new) at the same place, for which precision must carry over.
pub(crate) fn number_pairs(plan: &Plan<'_>, at: InsnIdx, old: &State, new: &State) -> Vec<(Origin, Origin)> {
    let mut pairs = Vec::new();
    for (i, (o, n)) in old.frames().iter().zip(new.frames()).enumerate() {
        let at = old.frames().get(i + 1).map_or(at, |callee| callee.callsite);
        let live = plan.live.before(at);
        for r in Reg::ALL.into_iter().filter(|r| live & 1 << r.number() != 0) {
            if o.reg(r).is_scalar() && n.reg(r).is_scalar() {
                pairs.push((o.reg(r).origin, n.reg(r).origin));
            }
        }
        for (o, n) in o.stack.slots().iter().zip(n.stack.slots()) {
            if o.spill.is_scalar() && n.spill.is_scalar() {
                pairs.push((o.spill.origin, n.spill.origin));
            }
        }
    }
    pairs
}

/// The slot as a number, if its eight bytes are one: a spilled number, or bytes of which nothing is known.
fn as_number(slot: &Slot) -> Option<RegState> {
    if slot.is_full_spill() && slot.spill.is_scalar() {
        return Some(slot.spill);
    }
    slot.bytes.iter().all(|b| *b == SlotByte::Misc).then(|| RegState::number(Scalar::UNKNOWN, Origin::NONE))
}
