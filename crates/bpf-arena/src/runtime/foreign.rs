//! Functions on maps whose contents only a kernel has: sockets and control groups. The maps are empty here, and these answer what
//! the kernel answers for empty ones.

use super::registry::{Row, rows};
use super::{E2BIG, EAGAIN, ENOENT, Invocation, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(33), "bpf_skb_under_cgroup" => skb_under_cgroup;
    Some(37), "bpf_current_task_under_cgroup" => task_under_cgroup;
    Some(52), "bpf_sk_redirect_map" => redirect;
    Some(53), "bpf_sock_map_update" => store;
    Some(60), "bpf_msg_redirect_map" => redirect;
    Some(70), "bpf_sock_hash_update" => store;
    Some(71), "bpf_msg_redirect_hash" => redirect;
    Some(72), "bpf_sk_redirect_hash" => redirect;
    Some(82), "bpf_sk_select_reuseport" => select;
};

const EOPNOTSUPP: i32 = 95;

/// The verdict on what no socket is there for.
const SK_DROP: u64 = 0;

/// `long bpf_sk_redirect_map(struct __sk_buff *skb, struct bpf_map *map, u32 key, u64 flags)` and its like: there is no socket at
/// any key.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn redirect(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(SK_DROP)
}

/// `long bpf_sock_map_update(struct bpf_sock_ops *skops, struct bpf_map *map, void *key, u64 flags)` and its like: a socket that is
/// no TCP socket of the kernel cannot be stored.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn store(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(errno(EOPNOTSUPP))
}

/// `long bpf_sk_select_reuseport(struct sk_reuseport_md *reuse, struct bpf_map *map, void *key, u64 flags)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn select(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(errno(ENOENT))
}

/// `long bpf_skb_under_cgroup(struct __sk_buff *skb, struct bpf_map *map, u32 index)`.
fn skb_under_cgroup(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, map, index, ..] = args;
    cgroup_at(run, "bpf_skb_under_cgroup", 2, map, index)
}

/// `long bpf_current_task_under_cgroup(struct bpf_map *map, u32 index)`.
fn task_under_cgroup(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, index, ..] = args;
    cgroup_at(run, "bpf_current_task_under_cgroup", 1, map, index)
}

/// There is no group at any index that the map has.
fn cgroup_at(
    run: &Invocation<'_>,
    function: &'static str,
    argument: u8,
    map: u64,
    index: u64,
) -> Result<u64, TrapKind> {
    let entries = run.map(function, argument, map)?.spec().max_entries;
    Ok(errno(if low32(index) >= entries { E2BIG } else { EAGAIN }))
}
