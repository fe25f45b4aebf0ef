//! Helpers that send packets elsewhere, and those that ask the way.

use std::sync::atomic::Ordering::Relaxed;

use bpf_object::{MapType, ProgType};
use isa::Size;

use super::super::registry::{Row, rows};
use super::super::{Invocation, errno, low32};
use super::{EINVAL, ENODEV, ERANGE, Packet};
use crate::error::TrapKind;
use crate::network::{Clone, Device};
use crate::packet::{Redirect, RedirectTarget};

pub(super) static ROWS: &[Row] = rows! {
    Some(13), "bpf_clone_redirect" => clone_redirect;
    Some(23), "bpf_redirect" => redirect;
    Some(51), "bpf_redirect_map" => redirect_map;
    Some(69), "bpf_fib_lookup" => fib_lookup;
    Some(152), "bpf_redirect_neigh" => redirect_neigh;
    Some(155), "bpf_redirect_peer" => redirect_peer;
    Some(163), "bpf_check_mtu" => check_mtu;
};

const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
const TC_ACT_SHOT: u64 = 2;
const TC_ACT_REDIRECT: u64 = 7;

/// To the receiving side of a device (`BPF_F_INGRESS`).
const INGRESS: u64 = 1;

/// Flags that only the kernel itself gives.
const INTERNAL: u64 = 7 << 16;

const EBADMSG: i32 = 74;
const EAFNOSUPPORT: i32 = 97;

/// `long bpf_redirect(u32 ifindex, u64 flags)`.
fn redirect(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [ifindex, flags, ..] = args;
    let is_xdp = run.program().kind.prog_type == Some(ProgType::Xdp);
    let (allowed, refused, verdict) =
        if is_xdp { (0, XDP_ABORTED, XDP_REDIRECT) } else { (INGRESS, TC_ACT_SHOT, TC_ACT_REDIRECT) };
    if flags & (!allowed | INTERNAL) != 0 {
        return Ok(refused);
    }
    run.redirect = Some(Redirect { target: RedirectTarget::Device { ifindex: low32(ifindex) }, flags });
    Ok(verdict)
}

/// `long bpf_redirect_peer(u32 ifindex, u64 flags)`.
fn redirect_peer(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [ifindex, flags, ..] = args;
    if flags != 0 {
        return Ok(TC_ACT_SHOT);
    }
    run.redirect = Some(Redirect { target: RedirectTarget::Peer { ifindex: low32(ifindex) }, flags });
    Ok(TC_ACT_REDIRECT)
}

/// `long bpf_redirect_neigh(u32 ifindex, struct bpf_redir_neigh *params, int plen, u64 flags)`.
fn redirect_neigh(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    /// `struct bpf_redir_neigh`.
    const BYTES: u32 = 20;
    let [ifindex, _, bytes, flags, _] = args;
    if (1..BYTES).contains(&low32(bytes)) || flags != 0 {
        return Ok(TC_ACT_SHOT);
    }
    run.redirect = Some(Redirect { target: RedirectTarget::Neighbor { ifindex: low32(ifindex) }, flags });
    Ok(TC_ACT_REDIRECT)
}

/// `long bpf_redirect_map(struct bpf_map *map, u64 key, u64 flags)`: the low bits of the flags are the verdict where the map has
/// nothing at the key.
fn redirect_map(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    const VERDICT: u64 = 3;
    const BROADCAST: u64 = 1 << 3;
    const EXCLUDE_INGRESS: u64 = 1 << 4;
    let [map, key, flags, ..] = args;
    let map = run.map("bpf_redirect_map", 1, map)?;
    let spec = map.spec();
    let allowed = match spec.map_type {
        MapType::Devmap | MapType::DevmapHash => VERDICT | BROADCAST | EXCLUDE_INGRESS,
        _ => VERDICT,
    };
    if flags & !allowed != 0 {
        return Ok(XDP_ABORTED);
    }
    let mut value = vec![0; map.value_bytes()];
    let found = map.lookup(&low32(key).to_le_bytes(), &mut value, 0).is_ok();
    if !found && flags & BROADCAST == 0 {
        return Ok(flags & VERDICT);
    }
    let target = RedirectTarget::Map { map: spec.name.clone(), key: low32(key) };
    run.redirect = Some(Redirect { target, flags });
    Ok(XDP_REDIRECT)
}

/// `long bpf_clone_redirect(struct __sk_buff *skb, u32 ifindex, u64 flags)`: a copy of the packet goes to the host.
fn clone_redirect(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, ifindex, flags, ..] = args;
    let skb = run.skb("bpf_clone_redirect", context)?;
    if flags & (!INGRESS | INTERNAL) != 0 {
        return Ok(errno(EINVAL));
    }
    if skb.is_bad_gso() {
        return Ok(errno(EBADMSG));
    }
    let network = &run.image.options.network;
    let Some(device) = network.find_device(low32(ifindex)) else { return Ok(errno(EINVAL)) };
    if skb.mac_offset() >= skb.network_offset() || skb.len() == 0 {
        return Ok(errno(ERANGE));
    }
    let bytes = skb.ethernet_bytes();
    network.clone_to(&Clone { device, ingress: flags & INGRESS != 0, packet: &bytes });
    Ok(0)
}

/// `long bpf_check_mtu(void *ctx, u32 ifindex, u32 *mtu_len, s32 len_diff, u64 flags)`.
fn check_mtu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    /// Asks about each segment.
    const SEGMENTS: u64 = 1;
    /// `BPF_MTU_CHK_RET_FRAG_NEEDED`.
    const TOO_LONG: u64 = 1;
    let [context, ifindex, mtu, difference, flags] = args;
    let mtu = run.memory(mtu, 4, true)?;
    let (len, allowed) = match &run.packet {
        Some(Packet::Skb(skb)) => (skb.len(), SEGMENTS),
        Some(Packet::Xdp(xdp)) => (xdp.linear_len(), 0),
        None => {
            return Err(TrapKind::BadArgument { function: "bpf_check_mtu", argument: 1, value: context });
        }
    };
    let asked = low32(mtu.load(Size::W, Relaxed));
    let difference = low32(difference).cast_signed();
    if flags & !allowed != 0 || flags & SEGMENTS != 0 && (difference != 0 || asked != 0) {
        return Ok(errno(EINVAL));
    }
    let network = &run.image.options.network;
    let device =
        if low32(ifindex) == 0 { Some(Device::LOOPBACK) } else { network.find_device(low32(ifindex)) };
    let Some(device) = device else { return Ok(errno(ENODEV)) };
    mtu.store(Size::W, device.mtu.into(), Relaxed);
    // The kernel adds up in 32 bits, and compares signed.
    let len = match asked {
        0 => u32::try_from(len).unwrap_or(u32::MAX),
        asked => asked.wrapping_add(Device::HEADER_BYTES),
    };
    let len = len.wrapping_add_signed(difference).cast_signed();
    if len <= device.mtu.saturating_add(Device::HEADER_BYTES).cast_signed() {
        return Ok(0);
    }
    match &run.packet {
        // Segments may be short enough although the packet is not; without a transport header nobody can say.
        Some(Packet::Skb(skb)) if skb.is_gso() => {
            let unknown = flags & SEGMENTS != 0 && !skb.has_transport_header();
            Ok(if unknown { errno(EINVAL) } else { 0 })
        }
        _ => Ok(TOO_LONG),
    }
}

/// `long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *params, int plen, u32 flags)`: there are devices, but none that
/// forwards packets.
fn fib_lookup(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    /// `struct bpf_fib_lookup`.
    const BYTES: u32 = 64;
    /// Direct, output, skip neighbours, table by number, source address, mark.
    const FLAGS: u32 = 0x3f;
    const NOT_FWDED: u64 = 4;
    const FWD_DISABLED: u64 = 5;
    let [_, params, bytes, flags, _] = args;
    if low32(bytes).cast_signed() < BYTES.cast_signed() || low32(flags) & !FLAGS != 0 {
        return Ok(errno(EINVAL));
    }
    let mut copy = [0; BYTES as usize];
    run.memory(params, BYTES.into(), true)?.read(&mut copy);
    let [family, _, _, _, _, _, _, _, a, b, c, d, _, _, _, _, rest @ ..] = copy;
    let (source, rest) = rest.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let destination = rest.first_chunk::<16>().unwrap_or(&[0; 16]);
    match u32::from(family) {
        super::socket::AF_INET => {}
        super::socket::AF_INET6 => {
            if stays_on_link(source) || stays_on_link(destination) {
                return Ok(NOT_FWDED);
            }
        }
        _ => return Ok(errno(EAFNOSUPPORT)),
    }
    match run.image.options.network.find_device(u32::from_le_bytes([a, b, c, d])) {
        Some(_) => Ok(FWD_DISABLED),
        None => Ok(errno(ENODEV)),
    }
}

/// Whether packets with this IPv6 address are never forwarded: multicast, link-local, loopback.
fn stays_on_link(address: &[u8; 16]) -> bool {
    let address = std::net::Ipv6Addr::from(*address);
    address.is_multicast() || address.is_unicast_link_local() || address.is_loopback()
}
