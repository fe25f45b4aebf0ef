//! Small facts about the running thread and machine.

/// The processor this thread runs on. It may have moved by the time the caller looks.
#[must_use]
pub fn current_cpu() -> u32 {
    u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(u32::MAX)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Ids of this process and this thread, as `bpf_get_current_pid_tgid` packs them: process above, thread below.
#[must_use]
pub fn pid_tgid() -> u64 {
    let process = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
    let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    u64::from(process) << 32 | u64::from(thread)
}

/// Whether the machine has this NUMA node.
#[must_use]
pub fn has_numa_node(node: u32) -> bool {
    node == 0 || std::path::Path::new(&format!("/sys/devices/system/node/node{node}")).exists()
}
