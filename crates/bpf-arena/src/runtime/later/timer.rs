//! `bpf_timer`: callbacks at a time.

use std::time::{SystemTime, UNIX_EPOCH};

use verifier::fields::Tag;

use super::Later;
use crate::error::TrapKind;
use crate::runtime::registry::{Row, rows};
use crate::runtime::{EINVAL, Invocation, errno};

pub(in crate::runtime) static ROWS: &[Row] = rows! {
    Some(169), "bpf_timer_init" => init;
    Some(170), "bpf_timer_set_callback" => set_callback;
    Some(171), "bpf_timer_start" => start;
    Some(172), "bpf_timer_cancel" => cancel;
};

/// The timers of the process.
pub(in crate::runtime) static TIMERS: Later = Later::new(Tag::Timer, "bpf-timers");

/// The time is the clock's, not from now on.
const BPF_F_TIMER_ABS: u64 = 1;
/// The callback runs on the CPU that starts the timer.
const BPF_F_TIMER_CPU_PIN: u64 = 2;

/// Clocks that a timer may go by.
const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;
const CLOCK_BOOTTIME: u32 = 7;

/// `long bpf_timer_init(struct bpf_timer *timer, struct bpf_map *map, u64 flags)`: `-EBUSY` if it was.
fn init(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [timer, map, flags, ..] = args;
    run.memory(timer, 16, true)?;
    let clock = u32::try_from(flags).unwrap_or(u32::MAX);
    if ![CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME].contains(&clock) {
        return Ok(errno(EINVAL));
    }
    Ok(TIMERS.init(run, timer, map, clock).map_or_else(errno, |()| 0))
}

/// `long bpf_timer_set_callback(struct bpf_timer *timer, void *callback_fn)`.
fn set_callback(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [timer, function, ..] = args;
    run.memory(timer, 16, true)?;
    Ok(TIMERS.set_callback(run, timer, function).map_or_else(errno, |()| 0))
}

/// `long bpf_timer_start(struct bpf_timer *timer, u64 nsecs, u64 flags)`.
fn start(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [timer, nanoseconds, flags, ..] = args;
    run.memory(timer, 16, true)?;
    if flags & !(BPF_F_TIMER_ABS | BPF_F_TIMER_CPU_PIN) != 0 {
        return Ok(errno(EINVAL));
    }
    let clock = TIMERS.state().entry(timer).map_or(CLOCK_MONOTONIC, |entry| entry.extra);
    let time = monotonic(clock, nanoseconds, flags & BPF_F_TIMER_ABS != 0);
    let cpu = (flags & BPF_F_TIMER_CPU_PIN != 0).then(|| run.cpu.get());
    Ok(TIMERS.start(timer, time, cpu, false).map_or_else(errno, |()| 0))
}

/// `long bpf_timer_cancel(struct bpf_timer *timer)`: 1 if it was started, 0 if not; `-EDEADLK` in its own callback.
fn cancel(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [timer, ..] = args;
    run.memory(timer, 16, true)?;
    Ok(TIMERS.cancel(run, timer).map_or_else(errno, u64::from))
}

/// The time on the monotonic clock. Times are signed: one before the clock's beginning is past, and what is further away than it
/// can tell never comes.
fn monotonic(clock: u32, nanoseconds: u64, absolute: bool) -> u64 {
    let now = sys::host::monotonic_ns();
    let given = i64::try_from(nanoseconds).ok();
    if !absolute {
        return given.map_or(u64::MAX, |given| now.saturating_add(given.unsigned_abs()));
    }
    let clock_now = match clock {
        CLOCK_REALTIME => realtime_ns(),
        CLOCK_BOOTTIME => sys::host::boottime_ns(),
        _ => now,
    };
    given.map_or(now, |given| now.saturating_add(given.unsigned_abs().saturating_sub(clock_now)))
}

fn realtime_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_on_every_clock() {
        let now = sys::host::monotonic_ns();
        let near = |time: u64, expected: u64| time >= expected && time - expected < 1_000_000_000;
        for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME] {
            assert!(near(monotonic(clock, 5_000_000_000, false), now + 5_000_000_000));
            assert!(near(monotonic(clock, 1, true), now), "past");
            assert!(near(monotonic(clock, u64::MAX, true), now), "before the beginning");
            assert_eq!(monotonic(clock, u64::MAX, false), u64::MAX);
        }
        assert!(near(monotonic(CLOCK_REALTIME, realtime_ns() + 7_000, true), now + 7_000));
        assert!(near(monotonic(CLOCK_BOOTTIME, sys::host::boottime_ns() + 7_000, true), now + 7_000));
    }
}
