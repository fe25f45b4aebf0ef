//! Helpers that read and write a packet's bytes, its checksums and its hash.

use super::super::registry::{Row, rows};
use super::super::{Invocation, errno, low32};
use super::checksum::{self, Sum};
use super::skb::Summed;
use super::{EACCES, EFAULT, EINVAL, ENOTSUPP, Errno, Packet, Skb, answer};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(9), "bpf_skb_store_bytes" => store_bytes;
    Some(10), "bpf_l3_csum_replace" => l3_csum_replace;
    Some(11), "bpf_l4_csum_replace" => l4_csum_replace;
    Some(26), "bpf_skb_load_bytes" => load_bytes;
    Some(34), "bpf_get_hash_recalc" => get_hash_recalc;
    Some(39), "bpf_skb_pull_data" => pull_data;
    Some(40), "bpf_csum_update" => csum_update;
    Some(41), "bpf_set_hash_invalid" => set_hash_invalid;
    Some(48), "bpf_set_hash" => set_hash;
    Some(68), "bpf_skb_load_bytes_relative" => load_bytes_relative;
    Some(135), "bpf_csum_level" => csum_level;
};

/// Highest offset of a checksum, and of bytes relative to a header.
const MAX_OFFSET: u32 = 0xffff;

/// `long bpf_skb_store_bytes(struct __sk_buff *skb, u32 offset, const void *from, u32 len, u64 flags)`.
fn store_bytes(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, offset, from, len, flags] = args;
    let bytes = run.memory(from, u64::from(low32(len)), false)?;
    change(run, "bpf_skb_store_bytes", context, |skb, _| {
        store(skb, low32(offset) as usize, &bytes.to_vec(), flags)
    })
}

/// Overwrites bytes, with the flags of `bpf_skb_store_bytes`.
pub(super) fn store(skb: &mut Skb<'_>, offset: usize, bytes: &[u8], flags: u64) -> Result<(), Errno> {
    const RECOMPUTE_CSUM: u64 = 1 << 0;
    const INVALIDATE_HASH: u64 = 1 << 1;
    if flags & !(RECOMPUTE_CSUM | INVALIDATE_HASH) != 0 {
        return Err(Errno(EINVAL));
    }
    skb.store(offset, bytes, flags & RECOMPUTE_CSUM != 0)?;
    if flags & INVALIDATE_HASH != 0 {
        skb.clear_hash();
    }
    Ok(())
}

/// `long bpf_skb_load_bytes(const void *skb, u32 offset, void *to, u32 len)`: what the packet does not have is read as zeroes,
/// with an error. Programs that dissect flows never have a packet that this could read.
fn load_bytes(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, offset, to, len, _] = args;
    let to = run.memory(to, u64::from(low32(len)), true)?;
    let from = match &run.packet {
        Some(Packet::Skb(skb)) => skb.part(low32(offset) as usize, to.len()),
        _ => None,
    };
    Ok(copy(from, to))
}

/// `long bpf_skb_load_bytes_relative(const void *skb, u32 offset, void *to, u32 len, u32 start_header)`.
fn load_bytes_relative(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, offset, to, len, start] = args;
    let to = run.memory(to, u64::from(low32(len)), true)?;
    let from = match &run.packet {
        Some(Packet::Skb(skb)) if low32(offset) <= MAX_OFFSET => {
            // enum bpf_hdr_start_off
            let header = match low32(start) {
                0 => Some(skb.mac_offset()),
                1 => Some(skb.network_offset()),
                _ => None,
            };
            header.and_then(|header| skb.around(header + i64::from(low32(offset)), to.len()))
        }
        _ => None,
    };
    Ok(copy(from, to))
}

/// `long bpf_skb_pull_data(struct __sk_buff *skb, u32 len)`: the packet is linear, so that this only asks for its length.
fn pull_data(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, len, ..] = args;
    change(run, "bpf_skb_pull_data", context, |skb, _| skb.writable(0, low32(len) as usize).map(|_| ()))
}

/// `long bpf_l3_csum_replace(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 size)`.
fn l3_csum_replace(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, offset, from, to, flags] = args;
    change(run, "bpf_l3_csum_replace", context, |skb, _| {
        if flags & !FIELD_MASK != 0 {
            return Err(Errno(EINVAL));
        }
        let field = checksum_field(skb, offset)?;
        let new = match flags & FIELD_MASK {
            2 => checksum::replace2(get(field), low16(from), low16(to)),
            size => replaced(get(field), from, to, size)?,
        };
        set(field, new);
        Ok(())
    })
}

/// Bytes of the field that changed, in the flags of both functions.
const FIELD_MASK: u64 = 0xf;

/// `long bpf_l4_csum_replace(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags)`.
fn l4_csum_replace(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    const PSEUDO_HDR: u64 = 1 << 4;
    const MARK_MANGLED_0: u64 = 1 << 5;
    const MARK_ENFORCE: u64 = 1 << 6;
    const IPV6: u64 = 1 << 7;
    let [context, offset, from, to, flags] = args;
    change(run, "bpf_l4_csum_replace", context, |skb, _| {
        if flags & !(FIELD_MASK | PSEUDO_HDR | MARK_MANGLED_0 | MARK_ENFORCE | IPV6) != 0 {
            return Err(Errno(EINVAL));
        }
        let field = checksum_field(skb, offset)?;
        let zero_is_none = flags & MARK_MANGLED_0 != 0;
        if zero_is_none && flags & MARK_ENFORCE == 0 && get(field) == 0 {
            return Ok(());
        }
        let size = flags & FIELD_MASK;
        let mut new = replaced(get(field), from, to, size)?;
        if flags & PSEUDO_HDR != 0 && skb.summed == Summed::Complete {
            // A pseudo header is not in the sum of the packet, which the field therefore changes.
            let mask = if size == 2 { 0xffff } else { u32::MAX };
            let (from, to) = (Sum(low32(from) & mask), Sum(low32(to) & mask));
            match size {
                0 if flags & IPV6 != 0 => {}
                0 => skb.sum = to.sub(skb.sum).not(),
                _ => skb.sum = skb.sum.not().sub(from).add(to).not(),
            }
        }
        if zero_is_none && new == 0 {
            new = checksum::MANGLED_ZERO;
        }
        set(field, new);
        Ok(())
    })
}

/// `s64 bpf_csum_update(struct __sk_buff *skb, __wsum csum)`: the packet's sum with this added, if there is one.
fn csum_update(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, csum, ..] = args;
    let mut skb = run.skb("bpf_csum_update", context)?;
    if skb.summed != Summed::Complete {
        return Ok(errno(ENOTSUPP));
    }
    skb.sum = skb.sum.add(Sum(low32(csum)));
    run.packet = Some(Packet::Skb(skb));
    Ok(u64::from(skb.sum.0))
}

/// `long bpf_csum_level(struct __sk_buff *skb, u64 level)`: for how many headers the checksum is known to be right.
fn csum_level(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    const MAX_LEVEL: u8 = 3;
    let [context, level, ..] = args;
    let mut skb = run.skb("bpf_csum_level", context)?;
    // enum BPF_CSUM_LEVEL_*
    skb.summed = match (level, skb.summed) {
        (0, Summed::Unnecessary { level }) => return Ok(u64::from(level)),
        (0, _) => return Ok(errno(EACCES)),
        (1, Summed::Unnecessary { level }) => Summed::Unnecessary { level: (level + 1).min(MAX_LEVEL) },
        (1, Summed::None) => Summed::Unnecessary { level: 0 },
        (2, Summed::Unnecessary { level: 0 }) | (3, Summed::Unnecessary { .. }) => Summed::None,
        (2, Summed::Unnecessary { level }) => Summed::Unnecessary { level: level - 1 },
        (1..=3, other) => other,
        _ => return Ok(errno(EINVAL)),
    };
    run.packet = Some(Packet::Skb(skb));
    Ok(0)
}

/// `u32 bpf_get_hash_recalc(struct __sk_buff *skb)`.
fn get_hash_recalc(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let mut skb = run.skb("bpf_get_hash_recalc", args[0])?;
    let hash = skb.hash();
    run.packet = Some(Packet::Skb(skb));
    Ok(u64::from(hash))
}

/// `void bpf_set_hash_invalid(struct __sk_buff *skb)`.
fn set_hash_invalid(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    change(run, "bpf_set_hash_invalid", args[0], |skb, _| {
        skb.clear_hash();
        Ok(())
    })
}

/// `long bpf_set_hash(struct __sk_buff *skb, u32 hash)`.
fn set_hash(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, hash, ..] = args;
    change(run, "bpf_set_hash", context, |skb, _| {
        skb.set_hash(low32(hash));
        Ok(())
    })
}

/// Changes the packet, and tells the program where it is then.
pub(super) fn change<'r>(
    run: &mut Invocation<'r>,
    function: &'static str,
    context: u64,
    change: impl FnOnce(&mut Skb<'r>, &Invocation<'r>) -> Result<(), Errno>,
) -> Result<u64, TrapKind> {
    let mut skb = run.skb(function, context)?;
    let result = change(&mut skb, run);
    skb.show();
    run.packet = Some(Packet::Skb(skb));
    Ok(answer(result))
}

/// Copies bytes, or zeroes where there are none.
fn copy(from: Option<Place<'_>>, to: Place<'_>) -> u64 {
    match from {
        Some(from) => {
            to.write(&from.to_vec());
            0
        }
        None => {
            to.clear();
            errno(EFAULT)
        }
    }
}

/// The checksum at an offset of the packet.
fn checksum_field<'r>(skb: &Skb<'r>, offset: u64) -> Result<Place<'r>, Errno> {
    let offset = low32(offset);
    if offset > MAX_OFFSET || !offset.is_multiple_of(2) {
        return Err(Errno(EFAULT));
    }
    skb.part(offset as usize, 2).ok_or(Errno(EFAULT))
}

fn get(field: Place<'_>) -> u16 {
    let mut bytes = [0; 2];
    field.read(&mut bytes);
    u16::from_le_bytes(bytes)
}

fn set(field: Place<'_>, value: u16) {
    field.write(&value.to_le_bytes());
}

#[allow(clippy::cast_possible_truncation, reason = "the high bits of a 16-bit argument do not count")]
fn low16(register: u64) -> u16 {
    register as u16
}

/// A checksum after so many bytes under it went from one value to another; with 0 bytes `to` is the difference.
fn replaced(field: u16, from: u64, to: u64, size: u64) -> Result<u16, Errno> {
    match size {
        0 if from == 0 => Ok(checksum::replace_by_difference(field, Sum(low32(to)))),
        2 => Ok(checksum::replace4(field, low32(from) & 0xffff, low32(to) & 0xffff)),
        4 => Ok(checksum::replace4(field, low32(from), low32(to))),
        _ => Err(Errno(EINVAL)),
    }
}
