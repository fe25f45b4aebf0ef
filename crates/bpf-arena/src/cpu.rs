//! Virtual CPUs: what `bpf_get_smp_processor_id` names and per-CPU values belong to.
//!
//! There are as many as the machine may have processors, for the whole process. A run that asks for its CPU has it for itself
//! until it ends, so that values of one CPU are never used by two runs at a time; runs inside of runs on the same thread share it, as an
//! interrupt does. Who finds all taken waits.

use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

/// Number of CPUs, at least 1: the processors that the machine may have (`num_possible_cpus()`), as maps of the kernel count them.
#[must_use]
pub fn possible() -> usize {
    POOL.taken.len()
}

/// A CPU's number for a thread that uses what belongs to it without having it for itself: the one its last run had.
pub(crate) fn nearest() -> u32 {
    HELD.get().0
}

/// A CPU's number for a thread that takes what is there for every CPU and does not care whose it is: not the same for all
/// threads.
pub(crate) fn of_thread() -> u32 {
    NUMBER.with(|number| *number)
}

/// Attempts to find a free CPU before the thread sleeps.
const ROUNDS: u32 = 16;

/// Longest sleep of a thread that waits for a CPU: a wake-up that was missed costs this at most, and so long a run goes on waiting that
/// is to end.
const NAP: Duration = Duration::from_micros(500);

/// How long a CPU is waited for that another would do for.
const PATIENCE: Duration = Duration::from_millis(100);

struct Pool {
    taken: Box<[CachePadded<AtomicBool>]>,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    freed: Condvar,
}

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool {
    taken: (0..sys::host::possible_cpus().clamp(1, verifier::limits::CPUS as usize))
        .map(|_| CachePadded::default())
        .collect(),
    waiting: AtomicUsize::new(0),
    lock: Mutex::new(()),
    freed: Condvar::new(),
});

thread_local! {
    /// The CPU of this thread's runs, and how many of them have it.
    static HELD: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    /// See [`of_thread`].
    static NUMBER: u32 = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        let thread = THREADS.fetch_add(1, Ordering::Relaxed);
        u32::try_from(thread % possible()).unwrap_or(0)
    };
}

/// The CPU of one run, leased when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct CpuSlot {
    lease: OnceCell<Lease>,
}

impl CpuSlot {
    /// The CPU's number.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.lease.get_or_init(Lease::take).cpu
    }

    /// The CPU's number; `None` if there is none to be had before somebody wants to give up.
    #[inline]
    pub(crate) fn get_unless(&self, give_up: impl FnMut() -> bool) -> Option<u32> {
        match self.lease.get() {
            Some(lease) => Some(lease.cpu),
            None => {
                let lease = Lease::take_unless(give_up)?;
                Some(self.lease.get_or_init(|| lease).cpu)
            }
        }
    }
}

impl CpuSlot {
    /// With this CPU, taken at once, or after a while with any other: who has it may have a long run.
    pub(crate) fn preferring(cpu: Option<u32>) -> Self {
        let slot = Self::default();
        let deadline = Instant::now() + PATIENCE;
        while let Some(wanted) = cpu.filter(|_| HELD.get().1 == 0 && Instant::now() < deadline) {
            if POOL.take_this(wanted) {
                HELD.set((wanted, 1));
                slot.lease.get_or_init(|| Lease { cpu: wanted, of_this_thread: std::marker::PhantomData });
                return slot;
            }
            std::thread::yield_now();
        }
        slot.get();
        slot
    }
}

/// A CPU that this thread has. Not to be sent to another.
#[derive(Debug)]
struct Lease {
    cpu: u32,
    of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Lease {
    fn take() -> Self {
        loop {
            if let Some(lease) = Self::take_unless(|| false) {
                return lease;
            }
        }
    }

    fn take_unless(give_up: impl FnMut() -> bool) -> Option<Self> {
        let (last, runs) = HELD.get();
        let cpu = if runs > 0 { last } else { POOL.take(last, give_up)? };
        HELD.set((cpu, runs + 1));
        Some(Self { cpu, of_this_thread: std::marker::PhantomData })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (cpu, runs) = HELD.get();
        HELD.set((cpu, runs.saturating_sub(1)));
        if runs <= 1 {
            POOL.give_back(cpu);
        }
    }
}

impl Pool {
    /// A free CPU, the one with this number if possible; `None` once the caller gives up.
    fn take(&self, first: u32, mut give_up: impl FnMut() -> bool) -> Option<u32> {
        for _ in 0..ROUNDS {
            if let Some(cpu) = self.try_take(first) {
                return Some(cpu);
            }
            std::thread::yield_now();
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = loop {
            let cpu = self.try_take(first);
            if cpu.is_some() || give_up() {
                break cpu;
            }
            guard = self.freed.wait_timeout(guard, NAP).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(guard);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        cpu
    }

    fn take_this(&self, cpu: u32) -> bool {
        let taken = self.taken.get(cpu as usize);
        taken.is_some_and(|t| !t.load(Ordering::Relaxed) && !t.swap(true, Ordering::Acquire))
    }

    fn try_take(&self, first: u32) -> Option<u32> {
        let cpus = u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
        let order = std::iter::once(first).chain(0..cpus);
        order.filter(|cpu| *cpu < cpus).find(|cpu| self.take_this(*cpu))
    }

    fn give_back(&self, cpu: u32) {
        if let Some(taken) = self.taken.get(cpu as usize) {
            taken.store(false, Ordering::SeqCst);
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_never_shared_by_threads() {
        let users: Vec<AtomicUsize> = (0..possible()).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..possible() * 4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let slot = CpuSlot::default();
                        let user = &users[slot.get() as usize];
                        assert_eq!(user.fetch_add(1, Ordering::SeqCst), 0);
                        std::hint::spin_loop();
                        user.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn runs_inside_of_runs_share_it() {
        let outer = CpuSlot::default();
        let cpu = outer.get();
        {
            let inner = CpuSlot::default();
            assert_eq!(inner.get(), cpu);
        }
        assert_eq!(outer.get(), cpu);
        assert_eq!(CpuSlot::default().get(), cpu);
    }
}
