//! Time, randomness, the running thread, and memory that may not be there.

use super::format::Source;
use super::registry::{Row, rows};
use super::{EFAULT, Invocation, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(5), "bpf_ktime_get_ns" => ktime;
    Some(7), "bpf_get_prandom_u32" => prandom;
    Some(8), "bpf_get_smp_processor_id" => processor;
    Some(14), "bpf_get_current_pid_tgid" => pid_tgid;
    Some(15), "bpf_get_current_uid_gid" => uid_gid;
    Some(16), "bpf_get_current_comm" => comm;
    Some(113), "bpf_probe_read_kernel" => probe_read;
    Some(125), "bpf_ktime_get_boot_ns" => ktime_boot;
    Some(160), "bpf_ktime_get_coarse_ns" => ktime_coarse;
};

/// `u64 bpf_ktime_get_ns(void)`: the monotonic clock.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn ktime(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::monotonic_ns())
}

/// `u64 bpf_ktime_get_boot_ns(void)`: with the time the machine slept.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn ktime_boot(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::boottime_ns())
}

/// `u64 bpf_ktime_get_coarse_ns(void)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn ktime_coarse(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::monotonic_coarse_ns())
}

/// `u32 bpf_get_prandom_u32(void)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn prandom(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(u64::from(run.random()))
}

/// `u32 bpf_get_smp_processor_id(void)`: the virtual CPU that the run has, below what the verifier told the program.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn processor(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(u64::from(run.cpu.get()))
}

/// `u64 bpf_get_current_pid_tgid(void)`: process above, thread below.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn pid_tgid(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::pid_tgid())
}

/// `u64 bpf_get_current_uid_gid(void)`: group above, user below.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn uid_gid(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::uid_gid())
}

/// `long bpf_get_current_comm(void *buf, u32 size_of_buf)`: the thread's name, cut, and padded with NULs.
fn comm(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
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
fn probe_read(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
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
