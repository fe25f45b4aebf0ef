//! Perf events: `bpf_perf_event_output` and what reads counters.

use super::maps::perf_event::PerfEventArray;
use super::registry::{Row, rows};
use super::{EFAULT, EINVAL, Invocation, errno};
use crate::error::{MapError, TrapKind};

pub(super) static ROWS: &[Row] = rows! {
    Some(22), "bpf_perf_event_read" => read;
    Some(25), "bpf_perf_event_output" => output;
    Some(55), "bpf_perf_event_read_value" => read_value;
};

/// The bits of a call's flags that name a slot (`BPF_F_INDEX_MASK`).
const INDEX_MASK: u64 = 0xffff_ffff;

/// The bits that say how many bytes of the packet are to follow (`BPF_F_CTXLEN_MASK`).
const PACKET_MASK: u64 = 0xf_ffff << PACKET_SHIFT;
const PACKET_SHIFT: u32 = 32;

/// Bytes of a `struct bpf_perf_event_value`.
const VALUE_BYTES: u64 = 24;

/// `long bpf_perf_event_output(void *ctx, struct bpf_map *map, u64 flags, void *data, u64 size)`: programs on packets may have bytes of
/// the packet behind the data.
fn output(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, map, flags, data, size] = args;
    let map = events(run, "bpf_perf_event_output", 2, map)?;
    let of_packet = if run.packet.is_some() { PACKET_MASK } else { 0 };
    if flags & !(INDEX_MASK | of_packet) != 0 {
        return Ok(errno(EINVAL));
    }
    let mut bytes = if size == 0 { Vec::new() } else { run.memory(data, size, false)?.to_vec() };
    if let Some(packet) = &run.packet {
        let begin = bytes.len();
        let count = usize::try_from((flags & PACKET_MASK) >> PACKET_SHIFT).unwrap_or(usize::MAX);
        if count > packet.len() {
            return Ok(errno(EFAULT));
        }
        bytes.resize(begin + count, 0);
        packet.read(0, bytes.get_mut(begin..).unwrap_or_default());
    }
    Ok(answer(map.output(flags, run.cpu.get(), &bytes)))
}

/// `u64 bpf_perf_event_read(struct bpf_map *map, u64 flags)`: functions of the host count nothing.
fn read(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, flags, ..] = args;
    let map = events(run, "bpf_perf_event_read", 1, map)?;
    if flags & !INDEX_MASK != 0 {
        return Ok(errno(EINVAL));
    }
    Ok(answer(map.check(flags, run.cpu.get())))
}

/// `long bpf_perf_event_read_value(struct bpf_map *map, u64 flags, struct bpf_perf_event_value *buf, u32 buf_size)`: the buffer is
/// zeroed after an error, too.
fn read_value(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, flags, buffer, size, _] = args;
    let map = events(run, "bpf_perf_event_read_value", 1, map)?;
    let size = u64::from(super::low32(size));
    run.memory(buffer, size, true)?.clear();
    if size != VALUE_BYTES || flags & !INDEX_MASK != 0 {
        return Ok(errno(EINVAL));
    }
    Ok(answer(map.check(flags, run.cpu.get())))
}

fn events<'r>(
    run: &Invocation<'r>,
    function: &'static str,
    argument: u8,
    map: u64,
) -> Result<&'r PerfEventArray, TrapKind> {
    let found = run.map(function, argument, map)?.as_any().downcast_ref();
    found.ok_or(TrapKind::BadArgument { function, argument, value: map })
}

/// 0, or the error's negative number.
fn answer(result: Result<(), MapError>) -> u64 {
    result.map_or_else(|error| errno(error.errno()), |()| 0)
}
