//! Helpers that change what a packet of the network stack is and how long it is.

use super::super::registry::{Row, rows};
use super::super::{Invocation, errno, low32};
use super::bytes::change;
use super::context::skb as field;
use super::skb::Mode;
use super::{EINVAL, EOPNOTSUPP, ETH_P_IP, ETH_P_IPV6, Errno};
use crate::error::TrapKind;
use bpf_object::ProgType;

pub(super) static ROWS: &[Row] = rows! {
    Some(18), "bpf_skb_vlan_push" => vlan_push;
    Some(19), "bpf_skb_vlan_pop" => vlan_pop;
    Some(31), "bpf_skb_change_proto" => change_proto;
    Some(32), "bpf_skb_change_type" => change_type;
    Some(38), "bpf_skb_change_tail" => change_tail;
    Some(43), "bpf_skb_change_head" => change_head;
    Some(50), "bpf_skb_adjust_room" => adjust_room;
    Some(97), "bpf_skb_ecn_set_ce" => ecn_set_ce;
    Some(192), "bpf_skb_set_tstamp" => set_tstamp;
};

/// `long bpf_skb_vlan_push(struct __sk_buff *skb, __be16 vlan_proto, u16 vlan_tci)`.
fn vlan_push(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, protocol, tci, ..] = args;
    change(run, "bpf_skb_vlan_push", context, |skb, blocks| {
        skb.push_vlan(low16(protocol).swap_bytes(), low16(tci), blocks)
    })
}

/// `long bpf_skb_vlan_pop(struct __sk_buff *skb)`.
fn vlan_pop(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    change(run, "bpf_skb_vlan_pop", args[0], |skb, _| skb.pop_vlan())
}

/// `long bpf_skb_change_proto(struct __sk_buff *skb, __be16 proto, u64 flags)`.
fn change_proto(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, protocol, flags, ..] = args;
    change(run, "bpf_skb_change_proto", context, |skb, blocks| {
        skb.change_protocol(low16(protocol).swap_bytes(), flags, blocks)
    })
}

/// `long bpf_skb_change_type(struct __sk_buff *skb, u32 type)`: from and to one of the types that a receiver knows.
fn change_type(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    /// `PACKET_OTHERHOST`.
    const LAST: u32 = 3;
    let [context, kind, ..] = args;
    change(run, "bpf_skb_change_type", context, |skb, _| {
        let image = skb.image();
        if image.get32(field::PKT_TYPE) > LAST || low32(kind) > LAST {
            return Err(Errno(EINVAL));
        }
        image.set(field::PKT_TYPE, low32(kind));
        Ok(())
    })
}

/// `long bpf_skb_change_tail(struct __sk_buff *skb, u32 len, u64 flags)`.
fn change_tail(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, len, flags, ..] = args;
    change(run, "bpf_skb_change_tail", context, |skb, blocks| skb.change_tail(low32(len), flags, blocks))
}

/// `long bpf_skb_change_head(struct __sk_buff *skb, u32 len, u64 flags)`.
fn change_head(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, len, flags, ..] = args;
    change(run, "bpf_skb_change_head", context, |skb, blocks| skb.change_head(low32(len), flags, blocks))
}

/// `long bpf_skb_adjust_room(struct __sk_buff *skb, s32 len_diff, u32 mode, u64 flags)`.
fn adjust_room(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, difference, mode, flags, _] = args;
    let difference = low32(difference).cast_signed();
    let in_front = run.program().kind.prog_type == Some(ProgType::SkSkb);
    change(run, "bpf_skb_adjust_room", context, |skb, blocks| {
        if in_front {
            return if mode == 0 && flags == 0 {
                skb.adjust_front(difference, blocks)
            } else {
                Err(Errno(EINVAL))
            };
        }
        // enum bpf_adj_room_mode
        let mode = match low32(mode) {
            0 => Some(Mode::Network),
            1 => Some(Mode::Mac),
            _ => None,
        };
        skb.adjust_room(difference, mode, flags, blocks)
    })
}

/// `long bpf_skb_ecn_set_ce(struct __sk_buff *skb)`: 1 if the packet now says, or said, that it met congestion; 0 if it takes
/// no part.
fn ecn_set_ce(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let mut skb = run.skb("bpf_skb_ecn_set_ce", args[0])?;
    let marked = skb.mark_congestion();
    run.packet = Some(super::Packet::Skb(skb));
    Ok(u64::from(marked))
}

/// `long bpf_skb_set_tstamp(struct __sk_buff *skb, u64 tstamp, u32 tstamp_type)`.
fn set_tstamp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, time, clock, ..] = args;
    let skb = run.skb("bpf_skb_set_tstamp", context)?;
    if !matches!(skb.protocol(), ETH_P_IP | ETH_P_IPV6) {
        return Ok(errno(EOPNOTSUPP));
    }
    // BPF_SKB_CLOCK_REALTIME, _MONOTONIC, _TAI
    if low32(clock) > 2 || low32(clock) > 0 && time == 0 {
        return Ok(errno(EINVAL));
    }
    skb.image().set(field::TSTAMP, time);
    skb.image().set(field::TSTAMP_TYPE, low32(clock));
    Ok(0)
}

#[allow(clippy::cast_possible_truncation, reason = "the high bits of a 16-bit argument do not count")]
fn low16(register: u64) -> u16 {
    register as u16
}
