//! `bpf_spin_lock`, and the resilient locks, which fail instead of waiting for ever.
//!
//! A lock is a word in a map's value or an object: 0 is free. A plain lock that is held is 1; a resilient one names its
//! holder, so that those who wait can see that they wait for each other. Locks that a run still holds when it is ended early
//! are released then. One that is to end while it waits for a plain lock waits a little longer; if it does not get the lock then, it
//! leaves its program on the spot, because what follows must not be done without the lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isa::{AtomicOp, Size};

use super::registry::{Row, rows};
use super::{Invocation, Leave, errno32};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(93), "bpf_spin_lock" => spin_lock;
    Some(94), "bpf_spin_unlock" => spin_unlock;
    None, "bpf_res_spin_lock" => res_spin_lock;
    None, "bpf_res_spin_unlock" => res_spin_unlock;
    None, "bpf_res_spin_lock_irqsave" => res_spin_lock_irqsave;
    None, "bpf_res_spin_unlock_irqrestore" => res_spin_unlock;
};

const EDEADLK: i32 = 35;
const ETIMEDOUT: i32 = 110;

/// Attempts to take a contended lock before the thread gives way to others.
const SPINS: u32 = 64;

/// How often it gives way by yielding. On a busy machine that may cost it a slice of each of the others, so that it could not be
/// ended meanwhile.
const YIELDS: u32 = 16;

/// How long it sleeps then, each time. Who sleeps is soon woken.
const NAP: Duration = Duration::from_micros(20);

/// How long a resilient lock is waited for (`RES_DEF_TIMEOUT`).
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a run that is to end still waits for a lock. Programs hold locks for a few instructions.
const GRACE: Duration = Duration::from_micros(200);

/// How often those who wait look for deadlocks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A run that waits for a lock it holds notices that at once for so many of its locks: one less than the kernel's table of
/// locks has entries (`RES_NR_HELD`), which is where the lock that is asked for goes.
const NOTICED: usize = 30;

/// The resilient locks that a run holds, in the order of taking them.
#[derive(Debug, Default)]
pub(crate) struct Resilient<'r> {
    /// What the run's locks name it by; 0 until it takes the first.
    holder: u32,
    held: Vec<Place<'r>>,
}

impl Resilient<'_> {
    /// Releases all of them; whether there were any.
    pub(super) fn release_all(&mut self) -> bool {
        let any = !self.held.is_empty();
        self.held.drain(..).for_each(|lock| lock.store(Size::W, 0, Ordering::Release));
        any
    }

    fn holder(&mut self) -> u32 {
        static LAST: AtomicU32 = AtomicU32::new(0);
        while self.holder == 0 {
            self.holder = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        }
        self.holder
    }

    fn holds(&self, lock: u64) -> bool {
        self.held.iter().any(|held| held.address() == lock)
    }
}

/// `long bpf_spin_lock(struct bpf_spin_lock *lock)`.
fn spin_lock(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [lock, ..] = args;
    let place = run.memory(lock, 4, true)?;
    let mut attempts = Attempts::default();
    let mut to_end_since = None;
    while !take(&place, 1)? {
        if attempts.count() {
            continue;
        }
        if run.must_end() && to_end_since.get_or_insert_with(Instant::now).elapsed() >= GRACE {
            run.leave = Some(Leave::Run);
            return Ok(0);
        }
        attempts.give_way();
    }
    run.lock = Some(place);
    Ok(0)
}

/// `long bpf_spin_unlock(struct bpf_spin_lock *lock)`.
fn spin_unlock(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [lock, ..] = args;
    run.memory(lock, 4, true)?;
    if let Some(place) = run.lock.take() {
        place.store(Size::W, 0, Ordering::Release);
    }
    Ok(0)
}

/// `int bpf_res_spin_lock(struct bpf_res_spin_lock *lock)`: 0; `-EDEADLK` if the run holds it, or holds one that the lock's
/// holder waits for; `-ETIMEDOUT`.
fn res_spin_lock(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [lock, ..] = args;
    let place = run.memory(lock, 4, true)?;
    let holder = run.resilient.holder();
    if !take(&place, holder)? {
        let error = wait(run, &place, holder)?;
        if error != 0 {
            return Ok(errno32(error));
        }
    }
    run.resilient.held.push(place);
    Ok(0)
}

/// `int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags)`. A thread has no interrupts.
fn res_spin_lock_irqsave(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    run.memory(args[1], 8, true)?.store(Size::DW, 0, Ordering::Relaxed);
    res_spin_lock(run, args)
}

/// `void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock)`, `bpf_res_spin_unlock_irqrestore`.
fn res_spin_unlock(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [lock, ..] = args;
    run.memory(lock, 4, true)?;
    // A run that was ended early may not have got it.
    let held = &mut run.resilient.held;
    if let Some(at) = held.iter().rposition(|place| place.address() == lock) {
        held.remove(at).store(Size::W, 0, Ordering::Release);
    }
    Ok(0)
}

/// Attempts to take a lock.
fn take(lock: &Place<'_>, holder: u32) -> Result<bool, TrapKind> {
    match lock.fetch(Size::W, AtomicOp::CmpXchg, u64::from(holder), 0) {
        Some(before) => Ok(before == 0),
        None => Err(TrapKind::Misaligned { address: lock.address(), size: 4 }),
    }
}

/// Waits for a resilient lock: 0 once it is taken, or the error number.
fn wait(run: &mut Invocation<'_>, lock: &Place<'_>, holder: u32) -> Result<i32, TrapKind> {
    let address = lock.address();
    if run.resilient.held.iter().take(NOTICED).any(|held| held.address() == address) {
        return Ok(EDEADLK);
    }
    let _waiting = Waiting::begin(holder, address);
    let begin = Instant::now();
    let mut next_look = begin;
    let mut attempts = Attempts::default();
    loop {
        if take(lock, holder)? {
            return Ok(0);
        }
        if attempts.count() {
            continue;
        }
        let now = Instant::now();
        if now >= next_look {
            next_look = now + LOOK_EVERY;
            let other = waits().get(&super::low32(lock.load(Size::W, Ordering::Relaxed))).copied();
            let embraced = other.is_some_and(|wanted| wanted != address && run.resilient.holds(wanted));
            if embraced && run.resilient.held.len() <= NOTICED {
                return Ok(EDEADLK);
            }
            if now.duration_since(begin) >= PATIENCE {
                return Ok(ETIMEDOUT);
            }
        }
        if run.must_end() {
            return Ok(ETIMEDOUT);
        }
        attempts.give_way();
    }
}

/// Attempts to take a lock that is held.
#[derive(Debug, Default)]
struct Attempts(u32);

impl Attempts {
    /// Counts one; whether the next may follow at once.
    fn count(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        std::hint::spin_loop();
        !self.0.is_multiple_of(SPINS)
    }

    /// Lets others run, the holder perhaps among them.
    fn give_way(&self) {
        if self.0 <= SPINS * YIELDS { std::thread::yield_now() } else { std::thread::sleep(NAP) }
    }
}

/// Who waits, and for which lock.
fn waits() -> MutexGuard<'static, HashMap<u32, u64>> {
    static WAITS: LazyLock<Mutex<HashMap<u32, u64>>> = LazyLock::new(Mutex::default);
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a holder of locks waits for another one.
struct Waiting(u32);

impl Waiting {
    fn begin(holder: u32, lock: u64) -> Self {
        waits().insert(holder, lock);
        Self(holder)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        waits().remove(&self.0);
    }
}
