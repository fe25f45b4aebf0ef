//! Small facts about the running thread and machine.

use rustix::time::{ClockId, DynamicClockId, Timespec};

/// How many processors this machine may have, plugged in or not: at least 1.
#[must_use]
pub fn possible_cpus() -> usize {
    // SAFETY: `sysconf` has no preconditions.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// The most processors that the running kernel can have (`NR_CPUS`).
#[must_use]
pub fn most_cpus() -> u32 {
    let last = std::fs::read_to_string("/sys/devices/system/cpu/kernel_max").unwrap_or_default();
    // What kernels for every machine are built with.
    last.trim().parse::<u32>().map_or(8192, |last| last.saturating_add(1))
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    clock(ClockId::Monotonic)
}

/// `CLOCK_MONOTONIC_COARSE` in nanoseconds: cheaper, and a few milliseconds old.
#[must_use]
pub fn monotonic_coarse_ns() -> u64 {
    clock(ClockId::MonotonicCoarse)
}

/// `CLOCK_BOOTTIME` in nanoseconds: as `CLOCK_MONOTONIC`, with the time the machine slept.
#[must_use]
pub fn boottime_ns() -> u64 {
    clock(ClockId::Boottime)
}

/// `CLOCK_TAI` in nanoseconds: atomic time, without leap seconds.
#[must_use]
pub fn tai_ns() -> u64 {
    rustix::time::clock_gettime_dynamic(DynamicClockId::Tai).map_or(0, nanoseconds)
}

fn clock(id: ClockId) -> u64 {
    nanoseconds(rustix::time::clock_gettime(id))
}

fn nanoseconds(now: Timespec) -> u64 {
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// How long ago this process began, in nanoseconds; `None` if the system does not say.
#[must_use]
pub fn process_age_ns() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold anything; what follows are numbers. The start is field 22, in ticks since boot.
    let (_, numbers) = stat.rsplit_once(')')?;
    let ticks: u64 = numbers.split_whitespace().nth(19)?.parse().ok()?;
    let start =
        u128::from(ticks) * 1_000_000_000 / u128::from(rustix::param::clock_ticks_per_second().max(1));
    boottime_ns().checked_sub(u64::try_from(start).ok()?)
}

/// Whether this process has rights that its user does not have, so that the user's environment must not steer it.
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: `getauxval` has no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Ids of this process and this thread, as `bpf_get_current_pid_tgid` packs them: process above, thread below.
#[must_use]
pub fn pid_tgid() -> u64 {
    let process = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
    u64::from(process) << 32 | u64::from(thread_id())
}

/// Number of this thread in its process's namespace.
#[must_use]
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// A descriptor that stands for this thread (`PIDFD_THREAD`, Linux 6.9).
///
/// # Errors
/// The kernel has none for threads, or no descriptor is left.
pub fn thread_descriptor() -> Result<std::os::fd::OwnedFd, crate::OsError> {
    const THREAD: u32 = 0o200;
    let flags = rustix::process::PidfdFlags::from_bits_retain(THREAD);
    rustix::process::pidfd_open(rustix::thread::gettid(), flags).map_err(crate::OsError::of("pidfd_open"))
}

/// User and group of this process, as `bpf_get_current_uid_gid` packs them: group above, user below.
#[must_use]
pub fn uid_gid() -> u64 {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    u64::from(group) << 32 | u64::from(user)
}

/// Name of this thread, at most 15 bytes.
#[must_use]
pub fn thread_name() -> Vec<u8> {
    rustix::thread::name().map(std::ffi::CString::into_bytes).unwrap_or_default()
}

/// Has the calling thread run soon after it is woken, and its timers expire when they should, also where every processor has
/// something to do: for a thread that works for some microseconds now and then. It gets no more of a processor than others do, only
/// earlier and in shorter pieces (Linux 6.12; before, this does little).
pub fn be_prompt() {
    /// Nanoseconds; the shortest that there are.
    const SLICE: u64 = 100_000;
    // Without it the thread is as others are, which is less prompt and nothing worse.
    let _ = rustix::thread::set_current_timer_slack(core::num::NonZeroU64::new(1));
    // SAFETY: asks about the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    // With another policy it was made by threads that are more urgent than all others anyway, or are to be less so.
    let Ok(nice) = rustix::process::getpriority_process(None) else { return };
    if policy != libc::SCHED_OTHER {
        return;
    }
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: a thread, here the calling one; a structure of the size it says; no flags.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Keeps the calling thread on one processor for as long as this lives; dropped on another thread, it changes that one.
#[derive(Debug)]
#[must_use = "dropping it lets the thread go where it may"]
pub struct Pinned {
    before: Option<rustix::thread::CpuSet>,
}

impl Pinned {
    /// Stays on this processor, if the machine has it and lets the thread run there.
    pub fn to_cpu(cpu: usize) -> Self {
        let before = rustix::thread::sched_getaffinity(None).ok();
        let mut only = rustix::thread::CpuSet::new();
        if cpu < rustix::thread::CpuSet::MAX_CPU {
            only.set(cpu);
        }
        let moved = rustix::thread::sched_setaffinity(None, &only).is_ok();
        Self { before: before.filter(|_| moved) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was allowed before.
            let _ = rustix::thread::sched_setaffinity(None, before);
        }
    }
}

/// Whether the machine has this NUMA node.
#[must_use]
pub fn has_numa_node(node: u32) -> bool {
    node == 0 || std::path::Path::new(&format!("/sys/devices/system/node/node{node}")).exists()
}

/// The NUMA node that a processor belongs to; 0 if the system does not say.
#[must_use]
pub fn numa_node_of(cpu: u32) -> u32 {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).into_iter().flatten();
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.find_map(|name| name.strip_prefix("node")?.parse().ok()).unwrap_or(0)
}

/// Device and number of the file that stands for this process's namespace of process ids, in the encoding of a kernel's `dev_t`.
#[must_use]
pub fn pid_namespace() -> Option<(u64, u64)> {
    let stat = rustix::fs::stat("/proc/self/ns/pid").ok()?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    Some((u64::from(major) << 20 | u64::from(minor), stat.st_ino))
}
