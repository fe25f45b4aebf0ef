//! Clocks.

use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

/// Nanoseconds since boot without time suspended: what `bpf_ktime_get_ns` returns.
#[must_use]
pub fn ktime_get_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since boot with time suspended: what `bpf_ktime_get_boot_ns` returns.
#[must_use]
pub fn ktime_get_boot_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// Nanoseconds since the start of 1970 in atomic time: what `bpf_ktime_get_tai_ns` returns.
#[must_use]
pub fn ktime_get_tai_ns() -> u64 {
    clock_gettime_dynamic(DynamicClockId::Tai).map_or(0, nanoseconds)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance() {
        let before = (ktime_get_ns(), ktime_get_boot_ns(), ktime_get_tai_ns());
        let after = (ktime_get_ns(), ktime_get_boot_ns(), ktime_get_tai_ns());
        assert!(before.0 > 0 && before.0 <= after.0);
        assert!(before.1 > 0 && before.1 <= after.1);
        assert!(before.2 > 0 && before.2 <= after.2);
    }
}
