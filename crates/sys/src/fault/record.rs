//! Noting the faults of generated code.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU64, Ordering};

/// Most return addresses a [`Record`] holds.
pub const MAX_RETURNS: usize = 16;

thread_local! {
    // The handler reads this: a constant without a destructor needs no registration, so reading it is a plain load. In
    // a library that is loaded late the first access of a thread may allocate; that is the one in `during`.
    static CURRENT: Cell<*const Recorder> = const { Cell::new(core::ptr::null()) };
    // As above.
    static MISSED: AtomicU64 = const { AtomicU64::new(0) };
    // As above.
    static FAULTED: AtomicU64 = const { AtomicU64::new(0) };
}

/// One access of generated code to a missing page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Address at which the access met nothing: [`Window::user_address`](crate::window::Window::user_address) tells which
    /// user address that is.
    pub address: u64,
    /// Address of the machine instruction.
    pub pc: u64,
    /// [`FaultSite::tag`](super::FaultSite::tag) of the site.
    pub tag: u32,
    pub(super) returns: [u64; MAX_RETURNS],
    pub(super) depth: u8,
}

impl Record {
    /// Return addresses into registered code, innermost first.
    #[must_use]
    pub fn returns(&self) -> &[u64] {
        self.returns.get(..usize::from(self.depth)).unwrap_or(&[])
    }
}

/// Where faults of the running thread are noted: all counted, the first ones kept.
#[derive(Debug)]
pub struct Recorder {
    // Written by the handler, in the thread that is inside `during` and so has the only (mutable) borrow.
    state: UnsafeCell<State>,
}

#[derive(Debug)]
struct State {
    records: Box<[Record]>,
    count: u64,
}

impl Recorder {
    /// Room for `capacity` records.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let records = vec![Record::default(); capacity].into_boxed_slice();
        Self { state: UnsafeCell::new(State { records, count: 0 }) }
    }

    /// Runs `body`; faults of generated code in this thread meanwhile are noted here. Nested recordings (a program run
    /// from a helper of another) each get their own.
    pub fn during<R>(&mut self, body: impl FnOnce() -> R) -> R {
        struct Restore(*const Recorder);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        body()
    }

    /// Faults since the last [`Self::clear`], kept or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.state().count
    }

    /// The first of them.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        let state = self.state();
        let kept = usize::try_from(state.count).unwrap_or(usize::MAX).min(state.records.len());
        state.records.get(..kept).unwrap_or(&[])
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.state.get_mut().count = 0;
    }

    fn state(&self) -> &State {
        // SAFETY: the handler writes only inside `during`, which borrows `self` mutably.
        unsafe { &*self.state.get() }
    }
}

/// Notes a fault in this thread's recorder, if it has one. For the handler: no lock, no allocation.
pub(super) fn note(fill: impl FnOnce(&mut Record)) {
    fault();
    // SAFETY: null, or a recorder that `during` borrows further down this thread's stack.
    let Some(recorder) = (unsafe { CURRENT.get().as_ref() }) else { return };
    // SAFETY: only this thread uses it now, and it is executing generated code, not the methods above.
    let state = unsafe { &mut *recorder.state.get() };
    let place = usize::try_from(state.count).ok().and_then(|count| state.records.get_mut(count));
    if let Some(record) = place {
        fill(record);
    }
    state.count = state.count.saturating_add(1);
}

/// The word of this thread that is set to 1 when a [probe](super::FaultSite::probe) meets a missing page. It is valid as long as the
/// thread lives; whoever reads it sets it to 0 again.
#[must_use]
pub fn missed_word() -> *const AtomicU64 {
    MISSED.with(core::ptr::from_ref)
}

/// Sets that word. For the handler.
pub(super) fn miss() {
    fault();
    MISSED.with(|word| word.store(1, Ordering::Relaxed));
}

/// The word of this thread that is set to 1 by every fault of generated code, a [probe](super::FaultSite::probe) or not: faults take a
/// thousand times as long as accesses. It is valid as long as the thread lives; whoever reads it sets it to 0 again.
#[must_use]
pub fn faulted_word() -> *const AtomicU64 {
    FAULTED.with(core::ptr::from_ref)
}

fn fault() {
    FAULTED.with(|word| word.store(1, Ordering::Relaxed));
}

/// Faults that this thread's recorder has counted so far; 0 outside of [`Recorder::during`]. For whoever notes other
/// events of the same run and has to put them in order.
#[must_use]
pub fn count_so_far() -> u64 {
    // SAFETY: null, or a recorder that `during` borrows further down this thread's stack.
    let Some(recorder) = (unsafe { CURRENT.get().as_ref() }) else { return 0 };
    // SAFETY: only this thread uses the state, and no fault happens while this reads it.
    unsafe { &*recorder.state.get() }.count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_keeps_the_first() {
        let mut recorder = Recorder::new(2);
        recorder.during(|| {
            for address in [10, 20, 30] {
                note(|record| record.address = address);
            }
        });
        note(|record| record.address = 40);
        assert_eq!(recorder.count(), 3);
        assert_eq!(recorder.records().iter().map(|r| r.address).collect::<Vec<_>>(), [10, 20]);
        recorder.clear();
        assert_eq!((recorder.count(), recorder.records().len()), (0, 0));
    }

    #[test]
    fn nested_recordings_are_apart() {
        let (mut outer, mut inner) = (Recorder::new(4), Recorder::new(4));
        outer.during(|| {
            note(|_| {});
            assert_eq!(count_so_far(), 1);
            inner.during(|| note(|_| {}));
            note(|_| {});
        });
        assert_eq!((outer.count(), inner.count()), (2, 1));
        assert_eq!(count_so_far(), 0);
    }
}
