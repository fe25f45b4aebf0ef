//! Open-coded iterators: the slots of stack they live in, and the two ways `next` may go.

use bpf_object::{AttachType, ProgType};
use isa::Reg;

use super::super::Step;
use super::super::objects::object_offset;
use super::KfuncCall;
use crate::domain::scalar::Scalar;
use crate::report::reason::{Access, KfuncFault, Reason};
use crate::rules::kfuncs::{ITERS, IterRole, KfuncFlags};
use crate::state::State;
use crate::state::held::RefKind;
use crate::state::reg::{Flags, RegState, RegType};
use crate::state::stack::{IterGuard, Iterator as Iter, SLOT, SlotByte};

/// The iterator a register points to: frame, offset and itself.
pub(crate) fn iterator_at(state: &State, reg: Reg) -> Option<(u8, i64, Iter)> {
    let pointer = state.reg(reg);
    let RegType::PtrToStack { frame } = pointer.kind else { return None };
    let offset = pointer.scalar.as_constant()?.cast_signed().checked_add(i64::from(pointer.offset))?;
    if offset.rem_euclid(i64::from(SLOT)) != 0 {
        return None;
    }
    let slot = state.frame_at(frame)?.stack.at(offset);
    slot.iter.map(|iter| (frame, offset, iter))
}

/// Offsets of the slots of an iterator, the first lowest.
fn places(offset: i64, slots: u32) -> impl Iterator<Item = i64> {
    (0..i64::from(slots)).map(move |i| offset + i * i64::from(SLOT))
}

impl Step<'_> {
    /// Checks an argument that is an iterator, and makes or ends it (`process_iter_arg`).
    pub(super) fn iterator_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
        role: IterRole,
    ) -> Result<(), Reason> {
        let RegType::PtrToStack { frame } = value.kind else {
            return Err(KfuncFault::IteratorNotOnStack { index, reg }.into());
        };
        let IterRole::Kind(row) = role else { return Err(KfuncFault::NotIterator { index, reg }.into()) };
        let Some(kind) = ITERS.get(usize::from(row)) else {
            return Err(Reason::Internal { what: "no such kind of iterator" });
        };
        if call.has(KfuncFlags::ITER_NEW) {
            return self.new_iterator(call, reg, value, frame, row);
        }
        let place = object_offset(value, i64::from(kind.slots))
            .ok_or(Reason::IteratorNotInitialised { iter: kind.name })?;
        let iter = self.initialised(call, reg, frame, place, row)?;
        self.reads_stack(frame, place, place + i64::from(kind.slots * SLOT));
        call.ref_id = iter.id;
        call.iter = Some((frame, place, iter));
        if call.has(KfuncFlags::ITER_DESTROY) {
            self.end_iterator(frame, place, kind.slots, iter.id)?;
        }
        Ok(())
    }

    fn new_iterator(
        &mut self,
        call: &KfuncCall<'_>,
        reg: Reg,
        value: &RegState,
        frame: u8,
        row: u8,
    ) -> Result<(), Reason> {
        let kind =
            ITERS.get(usize::from(row)).ok_or(Reason::Internal { what: "no such kind of iterator" })?;
        let used = |offset: i64| {
            self.state.frame_at(frame).is_some_and(|f| f.stack.at(offset).bytes.contains(&SlotByte::Iter))
        };
        let place = object_offset(value, i64::from(kind.slots))
            .filter(|offset| !places(*offset, kind.slots).any(used));
        let offset = place.ok_or(Reason::IteratorInUse { iter: kind.name })?;
        // Written eight bytes at a time, as the program would.
        for i in 0..kind.slots {
            self.stack_bounds(frame, reg, value, i64::from(i * SLOT), u64::from(SLOT), Access::Write)?;
        }
        let guard = match (call.has(KfuncFlags::RCU_PROTECTED), self.in_rcu()) {
            (false, _) => IterGuard::None,
            (true, true) => IterGuard::Rcu,
            (true, false) => IterGuard::Over,
        };
        let id = self.fresh_id();
        for (part, offset) in (0..).zip(places(offset, kind.slots)) {
            self.writes_slot(frame, offset);
            let slot = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(offset));
            let slot = slot.ok_or(Reason::Internal { what: "no such frame" })?;
            slot.scrub();
            slot.bytes = [SlotByte::Iter; SLOT as usize];
            let id = if part == 0 { id } else { 0 };
            slot.iter = Some(Iter { kind: row, part, id, active: true, depth: 0, guard });
        }
        self.state.held.take(RefKind::Object, id, self.at);
        Ok(())
    }

    /// The iterator of this kind that is at `offset` (`is_iter_reg_valid_init`).
    fn initialised(
        &self,
        call: &KfuncCall<'_>,
        reg: Reg,
        frame: u8,
        offset: i64,
        row: u8,
    ) -> Result<Iter, Reason> {
        let kind =
            ITERS.get(usize::from(row)).ok_or(Reason::Internal { what: "no such kind of iterator" })?;
        let missing = Reason::IteratorNotInitialised { iter: kind.name };
        let mut first = None;
        for (part, offset) in (0..).zip(places(offset, kind.slots)) {
            let slot = self.state.frame_at(frame).map(|f| f.stack.at(offset));
            let Some(iter) = slot.and_then(|s| s.iter.filter(|_| s.bytes == [SlotByte::Iter; SLOT as usize]))
            else {
                return Err(missing);
            };
            if iter.guard == IterGuard::Over {
                return Err(KfuncFault::IteratorOutsideRcu { name: call.name(), reg }.into());
            }
            if iter.kind != row || iter.part != part {
                return Err(missing);
            }
            first = first.or(Some(iter));
        }
        first.ok_or(missing)
    }

    fn end_iterator(&mut self, frame: u8, offset: i64, slots: u32, id: u32) -> Result<(), Reason> {
        for offset in places(offset, slots) {
            self.writes_slot(frame, offset);
            if let Some(slot) = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(offset)) {
                slot.scrub();
                slot.bytes = [SlotByte::Invalid; SLOT as usize];
            }
        }
        if self.state.release(id) {
            Ok(())
        } else {
            Err(Reason::Internal { what: "iterator without a reference" })
        }
    }

    /// One path gets the element in `R0`, in the other the iterator is at its end (`process_iter_next_call`).
    pub(super) fn iterator_next(&mut self, call: &KfuncCall<'_>) -> Result<(), Reason> {
        let Some((frame, offset, iter)) = call.iter else {
            return Err(Reason::Internal { what: "next of no iterator" });
        };
        let set = |state: &mut State, to: Iter| {
            if let Some(slot) = state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(offset)) {
                slot.iter = Some(to);
            }
        };
        if iter.active {
            let element = self.state.reg(Reg::R0).without(Flags::MAYBE_NULL);
            let mut goes_on = self.state.clone();
            set(&mut goes_on, Iter { depth: iter.depth + 1, ..iter });
            goes_on.set_reg(Reg::R0, element);
            self.widen(&mut goes_on);
            self.forks.push((self.following(), goes_on));
        }
        set(self.state, Iter { active: false, ..iter });
        let null = self.number(Scalar::ZERO, &[]);
        self.depend_on(&null);
        self.write(Reg::R0, null)
    }

    /// Where tasks of a cgroup may be iterated over (`check_css_task_iter_allowlist`).
    pub(super) fn check_css_task_iterator(&self) -> Result<(), Reason> {
        let kind = &self.plan.program.kind;
        let allowed = match kind.prog_type {
            Some(ProgType::Lsm) => true,
            Some(ProgType::Tracing) if self.plan.attach == Some(AttachType::TraceIter) => true,
            _ => self.may_sleep(),
        };
        if allowed { Ok(()) } else { Err(KfuncFault::CssTaskIterator.into()) }
    }
}
