//! Conditional jumps and `may_goto`.

use isa::{AluOp, Cond, InsnIdx, Operand, Reg, Width};

use super::{Next, Step};
use crate::explore::Stop;
use crate::origin::{Origin, Origins};
use crate::reg::{Flags, RegState, RegType};
use crate::scalar::{Scalar, outcome, refine};
use crate::state::State;

impl Step<'_> {
    pub(super) fn branch(
        &mut self,
        width: Width,
        cond: Cond,
        dst: Reg,
        src: Operand,
        offset: i16,
    ) -> Result<Next, Stop> {
        let b = self.operand(src)?;
        let a = self.read(dst)?;
        let taken = self.jump_target(i32::from(offset))?;
        let next = self.following();
        if let Some(holds) = self.predict(width, cond, &a, &b) {
            self.depend_on(&a);
            self.depend_on(&b);
            return Ok(Next::Branch(if holds { taken } else { next }));
        }
        if a.is_pointer() != b.is_pointer() {
            // Whether a pointer is NULL is decided by comparing it with a number that is 0.
            self.depend_on(&a);
            self.depend_on(&b);
        }
        let mut other = self.state.clone();
        let src = if let Operand::Reg(reg) = src { Some(reg) } else { None };
        let learnt_taken = self.learn(&mut other, width, cond, true, (dst, a), (src, b));
        let mut state = self.state.clone();
        let learnt_next = self.learn(&mut state, width, cond, false, (dst, a), (src, b));
        if !learnt_taken || !learnt_next {
            // One side turned out impossible: as good as a prediction.
            self.depend_on(&a);
            self.depend_on(&b);
        }
        match (learnt_taken, learnt_next) {
            (true, false) => {
                *self.state = other;
                Ok(Next::Branch(taken))
            }
            (false, _) => {
                *self.state = state;
                Ok(Next::Branch(next))
            }
            (true, true) => {
                *self.state = state;
                self.forks.push((taken, other));
                Ok(Next::Branch(next))
            }
        }
    }

    /// The side that is certain to be taken, if any.
    fn predict(&self, width: Width, cond: Cond, a: &RegState, b: &RegState) -> Option<bool> {
        if a.is_scalar() && b.is_scalar() {
            return outcome(width, cond, &a.scalar, &b.scalar);
        }
        // A pointer that is not NULL compared with 0. Arena pointers may well be 0.
        let (pointer, number) = if a.is_pointer() { (a, b) } else { (b, a) };
        if width == Width::W64 && number.is_null() && pointer.is_pointer() && never_null(pointer) {
            return match cond {
                Cond::Eq => Some(false),
                Cond::Ne => Some(true),
                _ => None,
            };
        }
        None
    }

    /// Applies to `state` what the outcome says of the operands; `false` if the outcome is impossible.
    fn learn(
        &mut self,
        state: &mut State,
        width: Width,
        cond: Cond,
        holds: bool,
        (dst, a): (Reg, RegState),
        (src, b): (Option<Reg>, RegState),
    ) -> bool {
        if a.is_scalar() && b.is_scalar() {
            let Some((sa, sb)) = refine(width, cond, holds, &a.scalar, &b.scalar) else { return false };
            // What one operand learns from the other depends on it.
            let from: &[Origin] = if src.is_some() { &[a.origin, b.origin] } else { &[a.origin] };
            let same = sa == a.scalar && sb == b.scalar;
            if same {
                return true;
            }
            let origin = if src.is_some() { self.origins.derive(Some(self.at), from) } else { a.origin };
            self.update_linked(state, dst, &a, sa, origin);
            if let Some(src) = src
                && src != dst
            {
                self.update_linked(state, src, &b, sb, origin);
            }
            return true;
        }
        let equal = match (cond, holds) {
            (Cond::Eq, true) | (Cond::Ne, false) => true,
            (Cond::Ne, true) | (Cond::Eq, false) => false,
            _ => return true,
        };
        if width != Width::W64 {
            return true;
        }
        if a.maybe_null() && b.is_null() {
            resolve_null(state, self.origins, a.id, equal);
        } else if b.maybe_null() && a.is_null() {
            resolve_null(state, self.origins, b.id, equal);
        } else if equal && a.is_pointer() && b.is_pointer() && a.maybe_null() != b.maybe_null() {
            // Equal to a pointer that is not NULL.
            let (maybe, sure) = if a.maybe_null() { (a, b) } else { (b, a) };
            if never_null(&sure) {
                resolve_null(state, self.origins, maybe.id, false);
            }
        }
        true
    }

    /// Sets the number in `reg` and in everything linked to it.
    fn update_linked(
        &mut self,
        state: &mut State,
        reg: Reg,
        before: &RegState,
        scalar: Scalar,
        origin: Origin,
    ) {
        if before.id == 0 {
            state.set_reg(reg, RegState { scalar, origin, ..*before });
            return;
        }
        let (at, origins) = (self.at, &mut *self.origins);
        let set = |r: &mut RegState| {
            // Both offsets are 32 bits wide: no overflow.
            let distance = i64::from(r.offset) - i64::from(before.offset);
            let shifted = if distance == 0 {
                scalar
            } else {
                scalar.alu(Width::W64, AluOp::Add, Scalar::constant(distance.cast_unsigned()))
            };
            r.scalar = r.scalar.meet(&shifted).unwrap_or(shifted);
            // What is known now rests on the compared number and on being linked with it: on what both were made of.
            r.origin = if r.origin == before.origin {
                origin
            } else {
                origins.derive(Some(at), &[origin, r.origin])
            };
        };
        state.update_all(|r| r.is_scalar() && r.id == before.id, set);
    }

    /// `may_goto`: leaves the loop now, or goes on with one turn less in the budget. The run time counts.
    pub(super) fn may_goto(&mut self, offset: i16) -> Result<Next, Stop> {
        let taken = self.jump_target(i32::from(offset))?;
        let mut stays = self.state.clone();
        stays.may_goto_depth += 1;
        self.widen(&mut stays);
        self.forks.push((self.following(), stays));
        Ok(Next::Branch(taken))
    }

    /// Forgets the numbers in `state` that changed since the last time around this loop and that nothing depends on.
    pub(super) fn widen(&mut self, state: &mut State) {
        self.widen_at(self.at, state, true);
    }

    /// The same, against the states saved at `at`; `skip` passes over the nearest, which was saved just now.
    pub(super) fn widen_at(&mut self, at: InsnIdx, state: &mut State, skip: bool) {
        let Some(previous) = self.saved.previous(state.parent, at, state, skip) else { return };
        for number in 0..=state.depth() {
            let (Some(old), Some(new)) = (previous.frame_at(number), state.frame_at_mut(number)) else {
                return;
            };
            for (old, new) in old.regs.iter().zip(&mut new.regs) {
                widen_number(self.origins, old, new);
            }
            for (old, new) in old.stack.slots().iter().zip(new.stack.slots_mut()) {
                if old.is_full_spill() && new.is_full_spill() {
                    widen_number(self.origins, &old.spill, &mut new.spill);
                }
            }
        }
    }
}

fn widen_number(origins: &mut Origins, old: &RegState, new: &mut RegState) {
    let numbers = old.is_scalar() && new.is_scalar();
    if !numbers || origins.is_precise(old.origin) || origins.is_precise(new.origin) {
        return;
    }
    if old.scalar != new.scalar || old.id != new.id {
        *new = RegState::number(Scalar::UNKNOWN, origins.derive(None, &[new.origin]));
    }
}

/// Whether a pointer of this kind is certainly not 0 once it is no longer `maybe_null`.
fn never_null(pointer: &RegState) -> bool {
    !pointer.maybe_null()
        && pointer.offset >= 0
        && matches!(pointer.kind, RegType::ConstPtrToMap { .. } | RegType::PtrToMapValue { .. })
}

/// Pointers with this id turned out to be NULL, or not.
fn resolve_null(state: &mut State, origins: &mut Origins, id: u32, null: bool) {
    state.update_all(
        |r| r.maybe_null() && r.id == id,
        |r| {
            if null {
                *r = RegState::number(Scalar::ZERO, origins.derive(None, &[r.origin]));
            } else {
                *r = r.without(Flags::MAYBE_NULL);
            }
        },
    );
}
