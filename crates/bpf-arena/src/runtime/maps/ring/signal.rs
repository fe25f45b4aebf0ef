//! Waking threads of the host that wait for a ring.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who waits, and how often they were woken. Costs a program nothing but a load where nobody waits.
#[derive(Debug, Default)]
pub(super) struct Signal {
    waiting: AtomicUsize,
    rounds: AtomicU64,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Signal {
    /// Wakes all.
    pub(super) fn wake(&self) {
        // Both sides announce first and look second, in one order for all: either the waiter sees the round, or it is seen.
        self.rounds.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.woken.notify_all();
        }
    }

    /// Waits until `ready` or a wake-up, at most so long; whether one of them came.
    pub(super) fn wait(&self, timeout: Duration, ready: impl Fn() -> bool) -> bool {
        let end = Instant::now().checked_add(timeout);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let before = self.rounds.load(Ordering::SeqCst);
        let came = loop {
            if ready() || self.rounds.load(Ordering::SeqCst) != before {
                break true;
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break false;
            }
            guard = self.woken.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(guard);
        came
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_wake_up_ends_the_wait_and_time_does() {
        let signal = Signal::default();
        assert!(!signal.wait(Duration::from_millis(5), || false));
        assert!(signal.wait(Duration::ZERO, || true));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| signal.wait(Duration::from_secs(60), || false));
            while signal.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            signal.wake();
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn what_is_ready_before_the_wait_needs_no_wake_up() {
        let (signal, ready) = (Signal::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1000 {
                    while !ready.load(Ordering::SeqCst) {
                        assert!(signal.wait(Duration::from_secs(60), || ready.load(Ordering::SeqCst)));
                    }
                    ready.store(false, Ordering::SeqCst);
                }
            });
            for _ in 0..1000 {
                ready.store(true, Ordering::SeqCst);
                signal.wake();
                while ready.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
            }
        });
    }
}
