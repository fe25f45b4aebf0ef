//! A lock among processes that survives the death of its holder.
//!
//! The word of a futex in shared memory holds the holder's thread number, as the kernel's robust futexes have it: when
//! a thread dies, by whatever signal, the kernel sets `OWNER_DIED` in the futexes the thread has announced and wakes a
//! waiter. `pthread` robust mutexes use the same service, but keep list pointers *inside* the mutex, and follow them:
//! in memory that a hostile process may write, that is a write anywhere in this process. So the announcement here uses
//! only memory of this thread: the `list_op_pending` field of its robust list head, which names one futex that is
//! being locked, held or unlocked. One is enough, since this lock is a leaf: nothing is locked while it is held.
//! A hostile process can still keep the lock for ever, or free it early; the allocator under it stays within bounds
//! whatever it reads.
//!
//! Without a robust list (a sandbox refuses the call) the lock works, and a holder's death blocks the others.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, compiler_fence};

use std::sync::OnceLock;

use rustix::thread::futex;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const THREAD: u32 = 0x3fff_ffff;

/// The kernel's `struct robust_list_head`.
#[derive(Debug)]
#[repr(C)]
struct RobustHead {
    list: *mut RobustHead,
    futex_offset: isize,
    pending: AtomicUsize,
}

thread_local! {
    /// The head that libc registered for this thread. A forked child's libc keeps it at the same address.
    static HEAD: Cell<*mut RobustHead> = const { Cell::new(core::ptr::null_mut()) };
    /// The head this module registers where libc has none yet (musl registers its own late).
    static OWN_HEAD: UnsafeCell<RobustHead> = const {
        let pending = AtomicUsize::new(0);
        UnsafeCell::new(RobustHead { list: core::ptr::null_mut(), futex_offset: 0, pending })
    };
}

/// The lock, held. Released on drop.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held<'a> {
    word: &'a AtomicU32,
    // Withdrawn after `drop` below has run: if we die between its swap and its wake, the kernel wakes a waiter.
    _announced: Announced<'a>,
}

/// Locks; `None` if this thread holds the lock already (a signal handler that interrupted it), which would never end.
pub(crate) fn lock(word: &AtomicU32) -> Option<Held<'_>> {
    let me = this_thread();
    // Announced before the word can hold our number, so that there is no instant at which a death goes unnoticed.
    let announced = Announced::new(word);
    let mut waited = 0;
    loop {
        let now = word.load(Ordering::Relaxed);
        if now & THREAD == 0 {
            // Free, or its holder died. Whoever waited cannot know whether others wait too, and says they do.
            let taken = me | (now & WAITERS) | waited;
            if word.compare_exchange_weak(now, taken, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Some(Held { word, _announced: announced });
            }
        } else if now & THREAD == me {
            return None;
        } else if now & WAITERS == 0 {
            let _ = word.compare_exchange_weak(now, now | WAITERS, Ordering::Relaxed, Ordering::Relaxed);
        } else {
            // EAGAIN and EINTR: look again. The flags say that the futex is shared among processes.
            let _ = futex::wait(word, futex::Flags::empty(), now, None);
            waited = WAITERS;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let before = self.word.swap(0, Ordering::Release);
        if before & WAITERS != 0 {
            let _ = futex::wake(self.word, futex::Flags::empty(), 1);
        }
    }
}

/// The futex this thread may own, told to the kernel. Withdrawn on drop.
#[derive(Debug)]
struct Announced<'h> {
    head: Option<&'h RobustHead>,
    before: usize,
}

impl Announced<'_> {
    fn new(word: &AtomicU32) -> Self {
        // SAFETY: null, or this thread's head, registered with the kernel and valid until the thread ends; this value does
        // not leave the thread. Of its fields only `pending`, an atomic, changes.
        let Some(head) = (unsafe { robust_head().as_ref() }) else { return Self { head: None, before: 0 } };
        // The kernel adds the offset back, and compares the word there with our thread number.
        let entry = core::ptr::from_ref(word).addr().wrapping_sub_signed(head.futex_offset);
        let before = head.pending.load(Ordering::Relaxed);
        head.pending.store(entry, Ordering::Relaxed);
        // The kernel looks when this thread has died: the order of its own instructions is all that matters.
        compiler_fence(Ordering::SeqCst);
        Self { head: Some(head), before }
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        if let Some(head) = self.head {
            head.pending.store(self.before, Ordering::Relaxed);
        }
    }
}

/// This thread's number, asked for once: the system call costs as much as the rest of the lock.
fn this_thread() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    static WATCHED: OnceLock<bool> = OnceLock::new();
    thread_local! {
        /// Forks when it was asked for, and the number.
        static KNOWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    extern "C" fn forked() {
        // The child's one thread has its parent's thread-local storage and a number of its own.
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    let forks = FORKS.load(Ordering::Relaxed);
    let (then, known) = KNOWN.get();
    if known != 0 && then == forks {
        return known;
    }
    let me = crate::host::thread_id() & THREAD;
    // SAFETY: the function only touches an atomic.
    if *WATCHED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(forked)) } == 0) {
        KNOWN.set((forks, me));
    }
    me
}

/// This thread's robust list head, or null if there can be none.
fn robust_head() -> *mut RobustHead {
    let known = HEAD.get();
    if !known.is_null() {
        return known;
    }
    let mut head: *mut RobustHead = core::ptr::null_mut();
    let mut len = 0_usize;
    // SAFETY: the call writes the two variables.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if result != 0 || (!head.is_null() && len != size_of::<RobustHead>()) {
        return core::ptr::null_mut();
    }
    let own = OWN_HEAD.with(UnsafeCell::get);
    if head.is_null() {
        // SAFETY: `own` is this thread's own memory, not registered now; an empty list points to itself.
        unsafe { (*own).list = own };
        // SAFETY: the head is valid until the thread ends: the kernel reads it before libc gives the memory back.
        let result = unsafe { libc::syscall(libc::SYS_set_robust_list, own, size_of::<RobustHead>()) };
        return if result == 0 { own } else { core::ptr::null_mut() };
    }
    if head != own {
        // libc's. Not remembered when it is ours, since libc may register its own later.
        HEAD.set(head);
    }
    head
}

/// Whether the word says that a holder died and nobody has the lock since. For tests.
#[cfg(test)]
fn is_orphaned(word: &AtomicU32) -> bool {
    let now = word.load(Ordering::Relaxed);
    now & OWNER_DIED != 0 && now & THREAD == 0
}

#[cfg(not(test))]
const _: u32 = OWNER_DIED;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn excludes_threads() {
        let word = AtomicU32::new(0);
        let (low, high) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let held = lock(&word).unwrap();
                        let value = low.load(Ordering::Relaxed);
                        assert_eq!(value, high.load(Ordering::Relaxed));
                        low.store(value + 1, Ordering::Relaxed);
                        std::thread::yield_now();
                        high.store(value + 1, Ordering::Relaxed);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(low.into_inner(), 16000);
        assert_eq!(word.into_inner(), 0);
    }

    #[test]
    fn a_forked_child_is_another_thread() {
        let before = this_thread();
        // SAFETY: the child compares two numbers and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let right = this_thread() == crate::host::thread_id() && this_thread() != before;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(this_thread(), before);
    }

    #[test]
    fn a_thread_that_holds_it_is_told() {
        let word = AtomicU32::new(0);
        let held = lock(&word).unwrap();
        assert!(lock(&word).is_none());
        drop(held);
        assert!(lock(&word).is_some());
    }

    #[test]
    fn a_thread_that_ends_with_it_leaves_it_to_others() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| core::mem::forget(lock(&word)));
        });
        // The scope ends when the thread's closure has, a moment before the kernel has buried the thread.
        while !is_orphaned(&word) {
            std::thread::yield_now();
        }
        assert!(lock(&word).is_some());
        assert_eq!(word.into_inner(), 0);
    }
}
