//! What a path holds and must give back: references, locks, disabled interrupts and preemption, RCU read sections.

use isa::InsnIdx;

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefKind {
    /// An object, or an iterator.
    Object,
    /// A `bpf_spin_lock`.
    Lock(LockIn),
    /// A `bpf_res_spin_lock`.
    ResLock(LockIn),
    /// The same, with interrupts disabled.
    ResLockIrq(LockIn),
    /// Disabled interrupts.
    Irq,
}

impl RefKind {
    fn lock(self) -> Option<LockIn> {
        match self {
            Self::Lock(place) | Self::ResLock(place) | Self::ResLockIrq(place) => Some(place),
            Self::Object | Self::Irq => None,
        }
    }
}

/// What a lock is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockIn {
    /// A value of this map.
    Map(u32),
    /// An allocated object.
    Object,
}

/// Something that must be given back before the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: RefKind,
    /// Identity of the object, or of the pointer by which the lock was reached: 0 for a map with one value.
    pub(crate) id: u32,
    /// The instruction that took it.
    pub(crate) at: InsnIdx,
}

/// Why something cannot be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveBack {
    /// No lock is held.
    NothingHeld,
    /// It is not what is held.
    NotHeld,
    /// Something taken later is still held: that one.
    OutOfOrder(Reference),
}

/// Everything a path holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// In the order in which they were taken; a released one's place is taken by the last.
    refs: Vec<Reference>,
    /// Depth of `bpf_preempt_disable`.
    pub(crate) preempt_off: u32,
    /// Depth of `bpf_rcu_read_lock`: sections do not nest.
    pub(crate) rcu: u32,
    /// Inside a callback that may sleep whatever the program may.
    pub(crate) may_sleep: bool,
}

impl Held {
    /// Takes something.
    pub(crate) fn take(&mut self, kind: RefKind, id: u32, at: InsnIdx) {
        self.refs.push(Reference { kind, id, at });
    }

    /// Gives back an object; `false` if it is not held.
    pub(crate) fn give_back_object(&mut self, id: u32) -> bool {
        let found = self.refs.iter().position(|r| r.kind == RefKind::Object && r.id == id);
        found.is_some_and(|at| {
            self.refs.remove(at);
            true
        })
    }

    /// Whether the object is held.
    pub(crate) fn holds_object(&self, id: u32) -> bool {
        self.objects().any(|r| r.id == id)
    }

    /// Everything that is held, in the kernel's order.
    pub(crate) fn all(&self) -> &[Reference] {
        &self.refs
    }

    /// The objects held.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Reference> {
        self.refs.iter().filter(|r| r.kind == RefKind::Object)
    }

    /// The locks held, the one taken last at the end.
    pub(crate) fn locks(&self) -> impl DoubleEndedIterator<Item = &Reference> {
        self.refs.iter().filter(|r| r.kind.lock().is_some())
    }

    /// Whether any lock is held.
    pub(crate) fn is_locked(&self) -> bool {
        self.locks().next().is_some()
    }

    /// Whether a lock of this value or object is held.
    pub(crate) fn has_lock(&self, place: LockIn, id: u32) -> bool {
        self.locks().any(|r| r.kind.lock() == Some(place) && r.id == id)
    }

    /// Gives back a lock, which must be the one taken last.
    pub(crate) fn unlock(&mut self, kind: RefKind, id: u32) -> Result<(), GiveBack> {
        let Some(last) = self.locks().next_back().copied() else { return Err(GiveBack::NothingHeld) };
        let found = self.refs.iter().position(|r| r.kind == kind && r.id == id).ok_or(GiveBack::NotHeld)?;
        if (last.kind.lock(), last.id) != (kind.lock(), id) {
            return Err(GiveBack::OutOfOrder(last));
        }
        self.refs.remove(found);
        Ok(())
    }

    /// The innermost section with interrupts disabled.
    pub(crate) fn active_irq(&self) -> Option<&Reference> {
        self.refs.iter().rev().find(|r| r.kind == RefKind::Irq)
    }

    /// Ends the innermost section with interrupts disabled, which must be this one.
    pub(crate) fn restore_irq(&mut self, id: u32) -> Result<(), GiveBack> {
        match self.active_irq() {
            None => Err(GiveBack::NothingHeld),
            Some(last) if last.id != id => Err(GiveBack::OutOfOrder(*last)),
            Some(_) => {
                self.refs.retain(|r| r.kind != RefKind::Irq || r.id != id);
                Ok(())
            }
        }
    }

    /// Whether `other` holds the same things, if `pair` finds their identities the same.
    pub(crate) fn same(&self, other: &Self, mut pair: impl FnMut(u32, u32) -> bool) -> bool {
        let counts = |h: &Self| (h.refs.len(), h.preempt_off, h.rcu, h.may_sleep);
        let mut same = |a: &Reference, b: &Reference| a.kind == b.kind && pair(a.id, b.id);
        counts(self) == counts(other) && self.refs.iter().zip(&other.refs).all(|(a, b)| same(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: InsnIdx = InsnIdx(0);

    #[test]
    fn locks_are_given_back_in_order() {
        let mut held = Held::default();
        let (first, second) = (RefKind::ResLock(LockIn::Map(0)), RefKind::ResLock(LockIn::Map(1)));
        assert_eq!(held.unlock(first, 0), Err(GiveBack::NothingHeld));
        held.take(first, 0, AT);
        held.take(RefKind::Object, 7, AT);
        held.take(second, 3, AT);
        assert!(held.has_lock(LockIn::Map(1), 3) && !held.has_lock(LockIn::Map(1), 4));
        assert_eq!(held.unlock(RefKind::Lock(LockIn::Map(1)), 3), Err(GiveBack::NotHeld));
        assert!(matches!(held.unlock(first, 0), Err(GiveBack::OutOfOrder(r)) if r.id == 3));
        assert_eq!(held.unlock(second, 3), Ok(()));
        assert_eq!(held.unlock(first, 0), Ok(()));
        assert!(!held.is_locked());
        assert!(held.give_back_object(7));
        assert!(!held.give_back_object(7));
    }

    #[test]
    fn interrupts_are_restored_in_order() {
        let mut held = Held::default();
        held.take(RefKind::Irq, 1, AT);
        held.take(RefKind::Irq, 2, AT);
        assert!(matches!(held.restore_irq(1), Err(GiveBack::OutOfOrder(r)) if r.id == 2));
        assert_eq!(held.restore_irq(2), Ok(()));
        assert_eq!(held.restore_irq(1), Ok(()));
        assert_eq!(held.restore_irq(1), Err(GiveBack::NothingHeld));
    }
}
