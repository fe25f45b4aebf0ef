//! Conditional jumps and `may_goto`.

use isa::{Cond, Operand, Reg, Width};

use super::linked::Links;
use super::null::{not_null, resolve_null};
use super::{Next, Step, packet};
use crate::domain::scalar::{Scalar, outcome, refine, refine_same};
use crate::report::reason::Reason;
use crate::state::State;
use crate::state::reg::{Flags, RegState, RegType};
use crate::walk::explore::Stop;
use crate::walk::origin::Origin;

/// A comparison that may come out either way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    pub(super) width: Width,
    pub(super) cond: Cond,
    pub(super) dst: Reg,
    pub(super) a: RegState,
    /// `None` for a constant.
    pub(super) src: Option<Reg>,
    pub(super) b: RegState,
}

impl Comparison {
    /// Whether both sides are the same if the outcome is `holds`, or differ; `None` for comparisons of size.
    fn equal(&self, holds: bool) -> Option<bool> {
        match self.cond {
            Cond::Eq => Some(holds),
            Cond::Ne => Some(!holds),
            _ => None,
        }
    }
}

impl Step<'_> {
    pub(super) fn branch(
        &mut self,
        width: Width,
        cond: Cond,
        dst: Reg,
        src: Operand,
        offset: i16,
    ) -> Result<Next, Stop> {
        let a = self.read(dst)?;
        let b = self.operand(src)?;
        let taken = self.jump_target(i32::from(offset))?;
        let next = self.following();
        if let Some(holds) = predict(width, cond, &a, &b) {
            for operand in [a, b].iter().filter(|operand| operand.is_scalar()) {
                self.depend_on(operand);
            }
            return Ok(Next::Branch(if holds { taken } else { next }));
        }
        let src = if let Operand::Reg(reg) = src { Some(reg) } else { None };
        let links = Links::collect(&self.plan.live, self.at, self.state, src.map(|_| &b), &a);
        if links.len() > 1 {
            self.note();
        }
        // Identities that were one too many are gone.
        let (a, b) = (self.read(dst)?, src.map_or(Ok(b), |src| self.read(src))?);
        let compared = Comparison { width, cond, dst, a, src, b };
        let mut other = self.state.clone();
        if a.is_scalar() && b.is_scalar() {
            let origin = self.joint_origin(&compared, &links);
            let sides = [true, false].map(|holds| self.refined(&compared, holds));
            let [on_taken, on_next] = sides;
            learn_numbers(&mut other, &compared, on_taken?, &links, origin);
            learn_numbers(self.state, &compared, on_next?, &links, origin);
        } else if width == Width::W64 {
            self.learn_pointers(&mut other, &compared);
        }
        self.forks.push((taken, other));
        Ok(Next::Branch(next))
    }

    /// What the compared numbers rest on afterwards: on each other, and on everything they are linked with.
    fn joint_origin(&mut self, compared: &Comparison, links: &Links) -> Origin {
        if compared.src.is_none() && links.len() < 2 {
            return compared.a.origin;
        }
        let mut from = vec![compared.a.origin];
        if compared.src.is_some() {
            from.push(compared.b.origin);
        }
        from.extend(links.iter().filter_map(|place| place.get(self.state)).map(|linked| linked.origin));
        from.sort_unstable();
        from.dedup();
        self.origins.derive(Some(self.at), &from)
    }

    /// Both numbers on one side of the branch.
    fn refined(&self, compared: &Comparison, holds: bool) -> Result<(Scalar, Scalar), Reason> {
        let Comparison { width, cond, a, b, .. } = compared;
        let (a, b) = if compared.src == Some(compared.dst) {
            let both = refine_same(*width, *cond, holds, &a.scalar);
            (both, both)
        } else {
            refine(*width, *cond, holds, &a.scalar, &b.scalar)
        };
        Ok((self.agreeing(a)?, self.agreeing(b)?))
    }

    /// What a comparison of whole pointers teaches `taken`, where it holds, and the state that goes on, where it does not.
    fn learn_pointers(&mut self, taken: &mut State, compared: &Comparison) {
        let Comparison { a, b, src, .. } = compared;
        if packet::learn(taken, compared, true) && packet::learn(self.state, compared, false) {
            return;
        }
        let Some(equal_if_taken) = compared.equal(true) else { return };
        match src {
            None if a.maybe_null() && b.is_null() => {
                resolve_null(self.plan, taken, a, equal_if_taken);
                resolve_null(self.plan, self.state, a, !equal_if_taken);
            }
            Some(src) if one_may_be_null(a, b) => {
                // Equal to a pointer that is not NULL.
                let equal = if equal_if_taken { taken } else { &mut *self.state };
                let maybe = if a.maybe_null() { compared.dst } else { *src };
                let known = not_null(self.plan, *equal.reg(maybe));
                equal.set_reg(maybe, known);
            }
            _ => {}
        }
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
}

/// The side that is certain to be taken, if any.
fn predict(width: Width, cond: Cond, a: &RegState, b: &RegState) -> Option<bool> {
    if a.is_scalar() && b.is_scalar() {
        return outcome(width, cond, &a.scalar, &b.scalar);
    }
    if width == Width::W64
        && let Some(holds) = packet::predict(cond, a, b)
    {
        return Some(holds);
    }
    // A pointer that is not NULL compared with 0.
    let pointer = if b.is_null() { a } else { b };
    let null = if b.is_null() { b } else { a };
    // Linux takes a pointer's low half for as little NULL as the pointer. That must hold where programs run: it does not for
    // memory of this process, and what only a kernel has is never run here.
    let whole =
        width == Width::W64 || pointer.kind.is_socket() || matches!(pointer.kind, RegType::PtrToBtfId { .. });
    if whole && null.is_null() && never_null(pointer) {
        return match cond {
            Cond::Eq => Some(false),
            Cond::Ne => Some(true),
            _ => None,
        };
    }
    None
}

/// Whether the pointer is certainly not 0 (`reg_not_null`).
fn never_null(pointer: &RegState) -> bool {
    !pointer.maybe_null()
        && match pointer.kind {
            RegType::PtrToSocket
            | RegType::PtrToTcpSock
            | RegType::PtrToSockCommon
            | RegType::PtrToMapValue { .. }
            | RegType::PtrToMapKey { .. }
            | RegType::ConstPtrToMap { .. } => true,
            RegType::PtrToMem { .. } => !pointer.flags.has(Flags::UNTRUSTED),
            RegType::PtrToBtfId { .. } => pointer.is_trusted(),
            _ => false,
        }
}

/// Whether exactly one of two pointers may be NULL. Pointers to kernel structures may be NULL all the same.
fn one_may_be_null(a: &RegState, b: &RegState) -> bool {
    let sure =
        |pointer: &RegState| pointer.is_pointer() && !matches!(pointer.kind, RegType::PtrToBtfId { .. });
    sure(a) && sure(b) && a.maybe_null() != b.maybe_null()
}

/// Puts what the outcome says of the compared numbers into the state, and into what is linked with them.
fn learn_numbers(
    state: &mut State,
    compared: &Comparison,
    (a, b): (Scalar, Scalar),
    links: &Links,
    origin: Origin,
) {
    state.set_reg(compared.dst, RegState { scalar: a, origin, ..compared.a });
    if let Some(src) = compared.src {
        state.set_reg(src, RegState { scalar: b, origin, ..compared.b });
        links.teach(state, src, origin);
    }
    links.teach(state, compared.dst, origin);
}
