//! Helpers that tell where a packet comes from: its control group, socket, tunnel, route.

use std::sync::atomic::Ordering::Relaxed;

use bpf_object::ProgType;
use isa::Size;

use super::super::registry::{Row, rows};
use super::super::{Invocation, errno, low32};
use super::context::skb as field;
use super::{EINVAL, Packet, socket};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(17), "bpf_get_cgroup_classid" => zero;
    Some(20), "bpf_skb_get_tunnel_key" => no_tunnel;
    Some(24), "bpf_get_route_realm" => zero;
    Some(29), "bpf_skb_get_tunnel_opt" => no_tunnel;
    Some(46), "bpf_get_socket_cookie" => socket_cookie;
    Some(47), "bpf_get_socket_uid" => socket_uid;
    Some(66), "bpf_skb_get_xfrm_state" => no_transformation;
    Some(74), "bpf_lwt_seg6_store_bytes" => no_segments;
    Some(75), "bpf_lwt_seg6_adjust_srh" => no_segments;
    Some(76), "bpf_lwt_seg6_action" => no_segments;
    Some(79), "bpf_skb_cgroup_id" => cgroup_id;
    Some(83), "bpf_skb_ancestor_cgroup_id" => ancestor_cgroup_id;
    Some(122), "bpf_get_netns_cookie" => netns_cookie;
    Some(128), "bpf_sk_cgroup_id" => cgroup_id;
    Some(129), "bpf_sk_ancestor_cgroup_id" => ancestor_cgroup_id;
    Some(151), "bpf_skb_cgroup_classid" => zero;
};

/// The control group of everything here: the root, which has this number in a kernel too.
const ROOT_CGROUP: u64 = 1;

/// The network namespace of everything here; a kernel's first one has this cookie too.
const NETWORK_COOKIE: u64 = 1;

/// The user of a socket that is none (`overflowuid`).
const NOBODY: u64 = 65534;

/// `bpf_get_cgroup_classid`, `bpf_skb_cgroup_classid`, `bpf_get_route_realm`: nobody has set one.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn zero(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// `u64 bpf_skb_cgroup_id(struct __sk_buff *skb)`, `u64 bpf_sk_cgroup_id(void *sk)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn cgroup_id(_: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(if args[0] == 0 { 0 } else { ROOT_CGROUP })
}

/// `u64 bpf_skb_ancestor_cgroup_id(struct __sk_buff *skb, int ancestor_level)`, and of a socket.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn ancestor_cgroup_id(_: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [subject, level, ..] = args;
    Ok(if subject != 0 && low32(level) == 0 { ROOT_CGROUP } else { 0 })
}

/// `u64 bpf_get_socket_cookie(struct __sk_buff *skb)`: 0 without a socket.
fn socket_cookie(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    /// Where contexts about a socket have the pointer to it.
    const SOCK_ADDR: u64 = 64;
    const SOCK_OPS: u64 = 184;
    let in_context = match run.program().kind.prog_type {
        Some(ProgType::CgroupSockAddr) => Some(SOCK_ADDR),
        Some(ProgType::SockOps) => Some(SOCK_OPS),
        _ => None,
    };
    let address = match (&run.packet, in_context) {
        (Some(Packet::Skb(skb)), _) => skb.image().get(field::SK),
        (_, Some(at)) => run.memory(args[0].wrapping_add(at), 8, false)?.load(Size::DW, Relaxed),
        _ => args[0],
    };
    Ok(run.socket_at(address).map_or(0, socket::cookie))
}

/// `u32 bpf_get_socket_uid(struct __sk_buff *skb)`: sockets here are root's, as those of test runs are.
fn socket_uid(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    let owned = matches!(&run.packet, Some(Packet::Skb(skb)) if skb.image().get(field::SK) != 0);
    Ok(if owned { 0 } else { NOBODY })
}

/// `u64 bpf_get_netns_cookie(void *ctx)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn netns_cookie(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(NETWORK_COOKIE)
}

/// `bpf_skb_get_tunnel_key` and `bpf_skb_get_tunnel_opt`: the packet came through none.
fn no_tunnel(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, to, bytes, ..] = args;
    cleared(run.memory(to, u64::from(low32(bytes)), true)?)
}

/// `long bpf_skb_get_xfrm_state(struct __sk_buff *skb, u32 index, struct bpf_xfrm_state *state, u32 size, u64 flags)`: nothing has
/// transformed the packet.
fn no_transformation(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, _, to, bytes, _] = args;
    cleared(run.memory(to, u64::from(low32(bytes)), true)?)
}

/// `bpf_lwt_seg6_store_bytes`, `_adjust_srh` and `_action`: the packet has no segment routing header that the network stack has
/// found, as in any test run.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn no_segments(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(errno(EINVAL))
}

/// What there is nothing to fill with is zero.
#[allow(clippy::unnecessary_wraps, reason = "the last line of functions of the runtime")]
fn cleared(place: Place<'_>) -> Result<u64, TrapKind> {
    place.clear();
    Ok(errno(EINVAL))
}
