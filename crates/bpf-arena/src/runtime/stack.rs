//! Call stacks: `bpf_get_stackid` and `bpf_get_stack`.
//!
//! What called a program here is the host, so that the host says what the stack is: see `UserEngine::call_stacks`.

use super::maps::stack_trace::{Compare, StackTraceMap};
use super::registry::{Row, rows};
use super::{EFAULT, EINVAL, Invocation, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(27), "bpf_get_stackid" => get_stackid;
    Some(67), "bpf_get_stack" => get_stack;
};

/// Frames to leave out at the top (`BPF_F_SKIP_FIELD_MASK`).
const SKIP: u64 = 0xff;
/// The stack of user space, not of the kernel.
const BPF_F_USER_STACK: u64 = 1 << 8;
const BPF_F_FAST_STACK_CMP: u64 = 1 << 9;
const BPF_F_REUSE_STACKID: u64 = 1 << 10;
/// Frames as build ids.
const BPF_F_USER_BUILD_ID: u64 = 1 << 11;

/// Most frames of a stack (`sysctl_perf_event_max_stack`).
const MAX_FRAMES: usize = 127;

/// Bytes of a frame as an address, and as a build id: status, 20 bytes of id, address.
const FRAME_BYTES: usize = 8;
const BUILD_ID_BYTES: usize = 32;

/// What a build id says where there is none: the frame is an address (`BPF_STACK_BUILD_ID_IP`).
const ADDRESS_ONLY: u8 = 2;

/// `long bpf_get_stackid(void *ctx, struct bpf_map *map, u64 flags)`: the number of the stack.
fn get_stackid(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, map, flags, ..] = args;
    let bad = TrapKind::BadArgument { function: "bpf_get_stackid", argument: 2, value: map };
    let map = run.map("bpf_get_stackid", 2, map)?.as_any().downcast_ref::<StackTraceMap>().ok_or(bad)?;
    if flags & !(SKIP | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID) != 0 {
        return Ok(errno(EINVAL));
    }
    let frames = frames(run, flags, map.depth());
    if frames.is_empty() {
        return Ok(errno(EFAULT));
    }
    let compare =
        Compare { fast: flags & BPF_F_FAST_STACK_CMP != 0, replace: flags & BPF_F_REUSE_STACKID != 0 };
    Ok(map.number_of(frames, compare).map_or_else(|error| errno(error.errno()), u64::from))
}

/// `long bpf_get_stack(void *ctx, void *buf, u32 size, u64 flags)`: the bytes written; what is left of the buffer is zeroed.
fn get_stack(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, buffer, size, flags, _] = args;
    let buffer = run.memory(buffer, u64::from(low32(size)), true)?;
    buffer.clear();
    let build_ids = flags & BPF_F_USER_BUILD_ID != 0;
    let frame_bytes = if build_ids { BUILD_ID_BYTES } else { FRAME_BYTES };
    let unknown = flags & !(SKIP | BPF_F_USER_STACK | BPF_F_USER_BUILD_ID) != 0;
    let of_kernel = build_ids && flags & BPF_F_USER_STACK == 0;
    if unknown || of_kernel || !buffer.len().is_multiple_of(frame_bytes) {
        return Ok(errno(EINVAL));
    }
    let frames = frames(run, flags, buffer.len() / frame_bytes);
    if frames.is_empty() {
        return Ok(errno(EFAULT));
    }
    for (index, frame) in frames.iter().enumerate() {
        let Some(to) = buffer.sub(index * frame_bytes, frame_bytes) else { break };
        if build_ids {
            to.write(&[ADDRESS_ONLY]);
        }
        if let Some(address) = to.at(frame_bytes - FRAME_BYTES) {
            address.write(&frame.to_le_bytes());
        }
    }
    Ok((frames.len() * frame_bytes) as u64)
}

/// The frames that the flags ask for, innermost first, at most so many.
fn frames(run: &Invocation<'_>, flags: u64, most: usize) -> Vec<u64> {
    let Some(stacks) = &run.image.options.call_stacks else { return Vec::new() };
    let skip = usize::try_from(flags & SKIP).unwrap_or(0);
    let all = stacks.get(flags & BPF_F_USER_STACK != 0);
    all.into_iter().take((most + skip).min(MAX_FRAMES)).skip(skip).collect()
}
