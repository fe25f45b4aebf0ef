//! Processors, threads and memory nodes.

use std::sync::OnceLock;

/// Number of the processor this thread runs on.
#[must_use]
pub fn current() -> u32 {
    u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(0)
}

/// Number of processors the system was booted with room for, at least 1.
#[must_use]
pub fn possible() -> u32 {
    static COUNT: OnceLock<u32> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let last = ranges(&text).last().map_or(0, |range| range.1);
        last.saturating_add(1)
    })
}

/// Process and thread number as `bpf_get_current_pid_tgid` packs them: process in the high half.
#[must_use]
pub fn pid_tgid() -> u64 {
    let process = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    u64::from(process) << 32 | u64::from(thread_id())
}

/// Number of this thread in its process's namespace.
#[must_use]
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Whether memory can be asked of this node (`-1`: no node in particular).
#[must_use]
pub fn numa_node_online(node: i32) -> bool {
    static ONLINE: OnceLock<Vec<(u32, u32)>> = OnceLock::new();
    let Ok(node) = u32::try_from(node) else { return node == -1 };
    let online = ONLINE.get_or_init(|| {
        let text =
            std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or_else(|_| "0".to_owned());
        ranges(&text).collect()
    });
    online.iter().any(|&(first, last)| first <= node && node <= last)
}

/// `0-3,8` as the kernel lists processors and nodes.
fn ranges(text: &str) -> impl Iterator<Item = (u32, u32)> {
    text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(ranges("0-3,8\n").collect::<Vec<_>>(), [(0, 3), (8, 8)]);
        assert_eq!(ranges("").count(), 0);
    }

    #[test]
    fn nodes() {
        assert!(numa_node_online(-1));
        assert!(numa_node_online(0));
        assert!(!numa_node_online(-2));
        assert!(!numa_node_online(4096));
    }

    #[test]
    fn this_thread_runs_somewhere() {
        assert!(current() < possible().max(1024));
        assert_eq!(pid_tgid() >> 32, u64::from(std::process::id()));
    }
}
