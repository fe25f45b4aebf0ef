//! Time, randomness, the processor and the running thread.

use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;

use bpf_object::KconfigValue;
use isa::Size;

use super::registry::{Row, rows};
use super::{EINVAL, ENOENT, Invocation, errno, low32};
use crate::cpu;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(5), "bpf_ktime_get_ns" => ktime;
    Some(7), "bpf_get_prandom_u32" => prandom;
    Some(8), "bpf_get_smp_processor_id" => processor;
    Some(14), "bpf_get_current_pid_tgid" => pid_tgid;
    Some(15), "bpf_get_current_uid_gid" => uid_gid;
    Some(16), "bpf_get_current_comm" => comm;
    Some(42), "bpf_get_numa_node_id" => numa_node;
    Some(118), "bpf_jiffies64" => jiffies;
    Some(120), "bpf_get_ns_current_pid_tgid" => namespaced_pid_tgid;
    Some(125), "bpf_ktime_get_boot_ns" => ktime_boot;
    Some(160), "bpf_ktime_get_coarse_ns" => ktime_coarse;
    Some(174), "bpf_get_attach_cookie" => attach_cookie;
    Some(176), "bpf_get_branch_snapshot" => branch_snapshot;
    Some(208), "bpf_ktime_get_tai_ns" => ktime_tai;
    None, "bpf_get_kmem_cache" => kmem_cache;
    None, "bpf_rdonly_cast" => read_only_cast;
};

/// Ticks a second where the engine was not told `CONFIG_HZ`: what distributions choose.
const HZ: u64 = 250;

const NS_PER_SECOND: u64 = 1_000_000_000;

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

/// `u64 bpf_ktime_get_tai_ns(void)`: atomic time.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn ktime_tai(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(sys::host::tai_ns())
}

/// `u64 bpf_jiffies64(void)`: ticks of the clock, `CONFIG_HZ` a second. As in the kernel the count begins five minutes before
/// its low half overflows.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn jiffies(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    let hz = match run.image.options.kconfig.get("CONFIG_HZ") {
        Some(KconfigValue::Number(hz)) => (*hz).clamp(1, NS_PER_SECOND),
        _ => HZ,
    };
    let begin = (1 << 32) - u64::from(low32(300 * hz));
    Ok(begin + sys::host::monotonic_coarse_ns() / (NS_PER_SECOND / hz))
}

/// `long bpf_get_numa_node_id(void)`: the node of the virtual CPU that the run has.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn numa_node(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    static NODES: LazyLock<Vec<u32>> =
        LazyLock::new(|| (0..).take(cpu::possible()).map(sys::host::numa_node_of).collect());
    Ok(NODES.get(run.cpu.get() as usize).copied().unwrap_or(0).into())
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

/// `long bpf_get_ns_current_pid_tgid(u64 dev, u64 ino, struct bpf_pidns_info *nsdata, u32 size)`: thread and process, if `dev` and
/// `ino` name the namespace that this process is in.
fn namespaced_pid_tgid(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dev, ino, info, size, _] = args;
    let info = run.memory(info, u64::from(low32(size)), true)?;
    info.clear();
    let named = sys::host::pid_namespace() == Some((dev, ino));
    let Some(process) = info.at(4).filter(|rest| rest.len() == 4 && named) else {
        return Ok(errno(EINVAL));
    };
    let ids = sys::host::pid_tgid();
    info.store(Size::W, ids, Relaxed);
    process.store(Size::W, ids >> 32, Relaxed);
    Ok(0)
}

/// `u64 bpf_get_attach_cookie(void *ctx)`: what the host says that the program was attached with.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn attach_cookie(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(run.image.options.attach_cookie)
}

/// `long bpf_get_branch_snapshot(void *entries, u32 size, u64 flags)`: nobody records branches, as on a processor that cannot.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn branch_snapshot(_: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, _, flags, _, _] = args;
    Ok(errno(if flags == 0 { ENOENT } else { EINVAL }))
}

/// `struct kmem_cache *bpf_get_kmem_cache(u64 addr)`: no address of a process is a slab's.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn kmem_cache(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// `void *bpf_rdonly_cast(const void *obj__ign, u32 btf_id__k)`: the same address, of another type to the verifier.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn read_only_cast(_: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(args[0])
}
