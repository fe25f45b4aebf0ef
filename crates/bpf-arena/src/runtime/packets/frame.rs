//! Helpers of XDP programs on their packet.

use super::super::registry::{Row, rows};
use super::super::{Invocation, errno32, low32};
use super::{Errno, Packet, Xdp, answer};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(44), "bpf_xdp_adjust_head" => adjust_head;
    Some(54), "bpf_xdp_adjust_meta" => adjust_meta;
    Some(65), "bpf_xdp_adjust_tail" => adjust_tail;
    Some(188), "bpf_xdp_get_buff_len" => get_buff_len;
    Some(189), "bpf_xdp_load_bytes" => load_bytes;
    Some(190), "bpf_xdp_store_bytes" => store_bytes;
    None, "bpf_xdp_pull_data" => pull_data;
};

/// `long bpf_xdp_adjust_head(struct xdp_md *xdp_md, int delta)`.
fn adjust_head(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, by, ..] = args;
    let result = change(run, "bpf_xdp_adjust_head", context, |xdp| xdp.adjust_head(low32(by).cast_signed()))?;
    Ok(answer(result))
}

/// `long bpf_xdp_adjust_meta(struct xdp_md *xdp_md, int delta)`.
fn adjust_meta(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, by, ..] = args;
    let result = change(run, "bpf_xdp_adjust_meta", context, |xdp| xdp.adjust_meta(low32(by).cast_signed()))?;
    Ok(answer(result))
}

/// `long bpf_xdp_adjust_tail(struct xdp_md *xdp_md, int delta)`.
fn adjust_tail(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, by, ..] = args;
    let result = change(run, "bpf_xdp_adjust_tail", context, |xdp| xdp.adjust_tail(low32(by).cast_signed()))?;
    Ok(answer(result))
}

/// `int bpf_xdp_pull_data(struct xdp_md *x, u32 len)`: makes the first bytes lie where the program can access them.
fn pull_data(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, len, ..] = args;
    let result = change(run, "bpf_xdp_pull_data", context, |xdp| xdp.pull(low32(len)))?;
    Ok(result.map_or_else(|Errno(number)| errno32(number), |()| 0))
}

/// `u64 bpf_xdp_get_buff_len(struct xdp_md *xdp_md)`.
fn get_buff_len(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(xdp(run, "bpf_xdp_get_buff_len", args[0])?.len() as u64)
}

/// `long bpf_xdp_load_bytes(struct xdp_md *xdp_md, u32 offset, void *buf, u32 len)`.
fn load_bytes(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, offset, buffer, len, _] = args;
    let buffer = run.memory(buffer, u64::from(low32(len)), true)?;
    let packet = xdp(run, "bpf_xdp_load_bytes", context)?;
    Ok(answer(each_piece(packet, offset, buffer, |piece, of_buffer| of_buffer.copy_from(piece))))
}

/// `long bpf_xdp_store_bytes(struct xdp_md *xdp_md, u32 offset, void *buf, u32 len)`.
fn store_bytes(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, offset, buffer, len, _] = args;
    let buffer = run.memory(buffer, u64::from(low32(len)), false)?;
    let packet = xdp(run, "bpf_xdp_store_bytes", context)?;
    Ok(answer(each_piece(packet, offset, buffer, |piece, of_buffer| piece.copy_from(of_buffer))))
}

/// Goes through a part of the packet as long as the buffer: each piece of it, with what of the buffer it and the rest correspond to.
fn each_piece<'r>(
    packet: &Xdp<'r>,
    offset: u64,
    buffer: Place<'r>,
    mut act: impl FnMut(Place<'r>, Place<'r>),
) -> Result<(), Errno> {
    let (offset, len) = (low32(offset), u32::try_from(buffer.len()).unwrap_or(u32::MAX));
    if let Some(whole) = packet.part(offset, len)? {
        act(whole, buffer);
        return Ok(());
    }
    let mut done = 0;
    for piece in packet.pieces(offset as usize, buffer.len()) {
        if let Some(rest) = buffer.at(done) {
            act(piece, rest);
        }
        done += piece.len();
    }
    Ok(())
}

/// The packet that the program's context stands for.
fn xdp<'a, 'r>(
    run: &'a Invocation<'r>,
    function: &'static str,
    context: u64,
) -> Result<&'a Xdp<'r>, TrapKind> {
    match &run.packet {
        Some(Packet::Xdp(xdp)) => Ok(xdp),
        _ => Err(TrapKind::BadArgument { function, argument: 1, value: context }),
    }
}

/// Changes the packet, and tells the program where it is then.
fn change<'r>(
    run: &mut Invocation<'r>,
    function: &'static str,
    context: u64,
    change: impl FnOnce(&mut Xdp<'r>) -> Result<(), Errno>,
) -> Result<Result<(), Errno>, TrapKind> {
    match &mut run.packet {
        Some(Packet::Xdp(xdp)) => {
            let result = change(xdp);
            xdp.show();
            Ok(result)
        }
        _ => Err(TrapKind::BadArgument { function, argument: 1, value: context }),
    }
}
