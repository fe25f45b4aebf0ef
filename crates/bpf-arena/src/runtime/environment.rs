//! Time, randomness, the running thread, and memory that may not be there.

use super::format::Source;
use super::{EFAULT, Invocation, errno, low32};
use crate::error::TrapKind;

/// `u64 bpf_ktime_get_ns(void)`: the monotonic clock.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn ktime(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::monotonic_ns())
}

/// `u64 bpf_ktime_get_boot_ns(void)`: with the time the machine slept.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn ktime_boot(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::boottime_ns())
}

/// `u64 bpf_ktime_get_coarse_ns(void)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn ktime_coarse(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::monotonic_coarse_ns())
}

/// `u32 bpf_get_prandom_u32(void)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn prandom(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(u64::from(run.random()))
}

/// `u32 bpf_get_smp_processor_id(void)`, below what the verifier told the program. The thread may be moved at any time, which no program can prevent here.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn processor(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(u64::from(sys::host::current_cpu() % verifier::limits::CPUS))
}

/// `u64 bpf_get_current_pid_tgid(void)`: process above, thread below.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn pid_tgid(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::pid_tgid())
}

/// `u64 bpf_get_current_uid_gid(void)`: group above, user below.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
pub(super) fn uid_gid(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::uid_gid())
}

/// `long bpf_get_current_comm(void *buf, u32 size_of_buf)`: the thread's name, cut, and padded with NULs.
pub(super) fn comm(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [buffer, size, ..] = args;
    let buffer = run.memory(buffer, u64::from(low32(size)), true)?;
    let mut name = sys::host::thread_name();
    name.truncate(buffer.len().saturating_sub(1));
    buffer.clear();
    buffer.write(&name);
    Ok(0)
}

/// `long bpf_probe_read_kernel(void *dst, u32 size, const void *unsafe_ptr)`: memory of the run and of the arena can be
/// read; every other address answers as an unmapped one, `-EFAULT` with zeroes.
pub(super) fn probe_read(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, size, src, _, _] = args;
    let size = low32(size);
    let dst = run.memory(dst, u64::from(size), true)?;
    let mut bytes = vec![0; dst.len()];
    let found = run.bytes(src, &mut bytes);
    if !found {
        bytes.fill(0);
    }
    dst.write(&bytes);
    Ok(if found { 0 } else { errno(EFAULT) })
}
