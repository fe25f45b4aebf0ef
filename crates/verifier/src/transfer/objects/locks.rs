//! Spin locks and read sections.

use isa::Reg;

use super::super::Step;
use crate::plan::fields::{Set, Tag};
use crate::report::reason::{ObjectFault, Reason};
use crate::state::held::{GiveBack, LockIn, RefKind};
use crate::state::reg::{Flags, RegState, RegType};

/// Which kind of lock is taken or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) enum LockKind {
    /// `bpf_spin_lock`.
    Spin,
    /// `bpf_res_spin_lock`, which may fail.
    Resilient,
    /// The same with interrupts disabled.
    ResilientIrq,
}

impl LockKind {
    fn tag(self) -> Tag {
        if self == Self::Spin { Tag::SpinLock } else { Tag::ResSpinLock }
    }

    fn unlock_name(self) -> &'static str {
        if self == Self::Spin { "bpf_spin_unlock" } else { "bpf_res_spin_unlock" }
    }

    fn reference(self, place: LockIn) -> RefKind {
        match self {
            Self::Spin => RefKind::Lock(place),
            Self::Resilient => RefKind::ResLock(place),
            Self::ResilientIrq => RefKind::ResLockIrq(place),
        }
    }
}

impl Step<'_> {
    /// Takes the lock that `reg` points to.
    pub(in crate::transfer) fn spin_lock(&mut self, reg: Reg, kind: LockKind) -> Result<(), Reason> {
        self.check_lock_here(kind)?;
        let (place, id) = self.lock_argument(reg, kind)?;
        let held = |r: &RefKind| match kind {
            LockKind::Spin => matches!(r, RefKind::Lock(_)),
            _ => *r == RefKind::ResLock(place) || *r == RefKind::ResLockIrq(place),
        };
        let again = self.state.held.locks().any(|r| held(&r.kind) && (kind == LockKind::Spin || r.id == id));
        if again {
            let fault = if kind == LockKind::Spin { ObjectFault::LockNested } else { ObjectFault::LockAgain };
            return Err(fault.into());
        }
        self.state.held.take(kind.reference(place), id, self.at);
        Ok(())
    }

    /// Gives back the lock that `reg` points to; what it protected is no longer known.
    pub(in crate::transfer) fn spin_unlock(&mut self, reg: Reg, kind: LockKind) -> Result<(), Reason> {
        self.check_lock_here(kind)?;
        let (place, id) = self.lock_argument(reg, kind)?;
        let function = kind.unlock_name();
        self.state.held.unlock(kind.reference(place), id).map_err(|fault| match fault {
            GiveBack::NothingHeld => ObjectFault::UnlockWithoutLock { function },
            GiveBack::NotHeld => ObjectFault::UnlockOther { function },
            GiveBack::OutOfOrder(held) => ObjectFault::UnlockOrder { function, held: held.at },
        })?;
        self.state.invalidate(|r| r.flags.has(Flags::NON_OWN_REF));
        Ok(())
    }

    /// Callbacks that order the nodes of a tree rely on the lock.
    fn check_lock_here(&self, kind: LockKind) -> Result<(), Reason> {
        if kind == LockKind::Spin && self.in_tree_callback() {
            return Err(ObjectFault::LockInCallback.into());
        }
        Ok(())
    }

    /// The lock a register points to: what it is part of and the identity of the pointer.
    fn lock_argument(&mut self, reg: Reg, kind: LockKind) -> Result<(LockIn, u32), Reason> {
        let pointer = self.read(reg)?;
        let place = match pointer.kind {
            RegType::PtrToMapValue { map } => LockIn::Map(map),
            _ => LockIn::Object,
        };
        self.field_argument(reg, &pointer, kind.tag())?;
        Ok((place, pointer.id))
    }

    /// Checks that a register points to the only field of this kind of a map's value or an allocated object.
    pub(in crate::transfer) fn field_argument(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        tag: Tag,
    ) -> Result<(), Reason> {
        let field = tag.name();
        let Some(known) = pointer.scalar.as_constant() else {
            return Err(ObjectFault::FieldVariable { field, reg }.into());
        };
        let map = match pointer.kind {
            RegType::PtrToMapValue { map } => Some(map),
            _ => None,
        };
        if let Some(map) = map
            && !self.plan.fields.map(map).is_some_and(|f| f.has_btf)
        {
            return Err(ObjectFault::FieldWithoutBtf { field, map: self.plan.map_name(map) }.into());
        }
        let record = self.plan.record(pointer).filter(|r| r.has(Set::of(tag)));
        let Some(expected) = record.and_then(|r| r.offset_of(tag)) else {
            let place =
                map.map_or_else(|| "local 'kptr'".to_owned(), |m| format!("map '{}'", self.plan.map_name(m)));
            return Err(ObjectFault::NoField { field, place }.into());
        };
        let offset = known.cast_signed().saturating_add(i64::from(pointer.offset));
        if offset == i64::from(expected) {
            Ok(())
        } else {
            Err(ObjectFault::FieldOffset { field, offset, expected }.into())
        }
    }

    /// Whether what the kernel protects by RCU stays as it is here (`in_rcu_cs`).
    pub(in crate::transfer) fn in_rcu(&self) -> bool {
        let held = &self.state.held;
        held.rcu > 0 || held.is_locked() || !self.may_sleep()
    }

    /// Whether the program, or the callback this is in, may sleep (`in_sleepable`).
    pub(in crate::transfer) fn may_sleep(&self) -> bool {
        self.plan.program.kind.sleepable || self.state.held.may_sleep
    }

    /// Whether something that may sleep may be called here.
    pub(in crate::transfer) fn sleeping_allowed(&self) -> bool {
        let held = &self.state.held;
        self.may_sleep() && held.rcu == 0 && held.preempt_off == 0 && held.active_irq().is_none()
    }

    /// Enters an RCU read section.
    pub(in crate::transfer) fn enter_rcu(&mut self) -> Result<(), Reason> {
        if self.state.held.rcu > 0 {
            let fault =
                if self.in_tree_callback() { ObjectFault::RcuInCallback } else { ObjectFault::RcuNested };
            return Err(fault.into());
        }
        self.state.held.rcu = 1;
        Ok(())
    }

    /// Leaves it: what it protected is no longer trusted.
    pub(in crate::transfer) fn leave_rcu(&mut self) -> Result<(), Reason> {
        if self.state.held.rcu == 0 {
            return Err(Reason::RcuUnbalanced);
        }
        if self.in_tree_callback() {
            return Err(ObjectFault::RcuInCallback.into());
        }
        self.state.held.rcu = 0;
        self.state.update_all(
            |r| r.flags.has(Flags::RCU),
            |r| *r = r.without(Flags::RCU.with(Flags::MAYBE_NULL)).with(Flags::UNTRUSTED),
        );
        self.state.end_iterator_guards();
        Ok(())
    }

    /// Checks that nothing is lost where the program is left (`check_resource_leak`): `by` names how. Only the last frame's
    /// end does, unless an exception (`unwinds`) ends them all.
    pub(in crate::transfer) fn check_leaks(&self, by: &'static str, unwinds: bool) -> Result<(), Reason> {
        let (held, leaves) = (&self.state.held, unwinds || self.state.depth() == 0);
        let everything = leaves || by != EXIT;
        let still = |region| Err(Reason::StillHeld { region, by });
        if everything && held.is_locked() {
            return still("bpf_spin_lock");
        }
        if leaves && let Some(object) = held.objects().next() {
            return Err(Reason::UnreleasedReference { id: object.id, at: object.at, by });
        }
        if everything && held.active_irq().is_some() {
            return still("bpf_local_irq_save");
        }
        if everything && held.rcu > 0 {
            return still("bpf_rcu_read_lock");
        }
        if everything && held.preempt_off > 0 {
            return still("bpf_preempt_disable");
        }
        Ok(())
    }
}

/// How messages name the end of the program.
pub(in crate::transfer) const EXIT: &str = "BPF_EXIT instruction in main prog";
