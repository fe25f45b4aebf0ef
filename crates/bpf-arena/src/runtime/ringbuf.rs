//! Ring buffers: `bpf_ringbuf_*` and `bpf_user_ringbuf_drain`.

use super::dynptr::{Dynptr, Kind, MAX_SIZE};
use super::maps::ring::{RingbufMap, UserRingbufMap, Wakeup};
use super::registry::{Row, rows};
use super::{E2BIG, EAGAIN, EINVAL, Invocation, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(130), "bpf_ringbuf_output" => output;
    Some(131), "bpf_ringbuf_reserve" => reserve;
    Some(132), "bpf_ringbuf_submit" => submit;
    Some(133), "bpf_ringbuf_discard" => discard;
    Some(134), "bpf_ringbuf_query" => query;
    Some(198), "bpf_ringbuf_reserve_dynptr" => reserve_dynptr;
    Some(199), "bpf_ringbuf_submit_dynptr" => submit_dynptr;
    Some(200), "bpf_ringbuf_discard_dynptr" => discard_dynptr;
    Some(209), "bpf_user_ringbuf_drain" => drain;
};

/// `long bpf_ringbuf_output(void *ringbuf, void *data, u64 size, u64 flags)`.
fn output(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let map = ringbuf(run, "bpf_ringbuf_output", args[0])?;
    output_to(run, map, args)
}

/// The same for compiled code, which knows the map by its index in the program.
pub(super) fn output_known(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let map = known(run, "bpf_ringbuf_output", args[0])?;
    output_to(run, map, args)
}

#[inline]
fn output_to(run: &Invocation<'_>, map: &RingbufMap, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, data, size, flags, _] = args;
    let Some(wakeup) = Wakeup::checked(flags) else { return Ok(errno(EINVAL)) };
    let Some(record) = map.reserve(size) else { return Ok(errno(EAGAIN)) };
    if size > 0 {
        match run.memory(data, size, false) {
            Ok(from) => record.copy_from(from),
            Err(trap) => {
                map.commit(record.address(), wakeup, true);
                return Err(trap);
            }
        }
    }
    map.commit(record.address(), wakeup, false);
    Ok(0)
}

/// `void *bpf_ringbuf_reserve(void *ringbuf, u64 size, u64 flags)`: the address of the record's data, or NULL.
fn reserve(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let map = ringbuf(run, "bpf_ringbuf_reserve", args[0])?;
    Ok(reserve_in(run, map, args))
}

/// The same for compiled code, which knows the map by its index in the program.
pub(super) fn reserve_known(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let map = known(run, "bpf_ringbuf_reserve", args[0])?;
    Ok(reserve_in(run, map, args))
}

#[inline]
fn reserve_in<'r>(run: &mut Invocation<'r>, map: &'r RingbufMap, args: [u64; 5]) -> u64 {
    let [_, size, flags, ..] = args;
    if flags != 0 {
        return 0;
    }
    reserve_for(run, map, size).unwrap_or(0)
}

/// `void bpf_ringbuf_submit(void *data, u64 flags)`.
fn submit(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    commit(run, "bpf_ringbuf_submit", args[0], args[1], false)
}

/// `void bpf_ringbuf_discard(void *data, u64 flags)`.
fn discard(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    commit(run, "bpf_ringbuf_discard", args[0], args[1], true)
}

/// `u64 bpf_ringbuf_query(void *ringbuf, u64 flags)`.
fn query(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, what, ..] = args;
    let map = run.map("bpf_ringbuf_query", 1, map)?;
    Ok(map.as_ring_buffer().map_or(0, |ring| ring.query(what)))
}

/// `long bpf_ringbuf_reserve_dynptr(void *ringbuf, u32 size, u64 flags, struct bpf_dynptr *ptr)`: after an error the dynptr
/// stands for nothing.
fn reserve_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, size, flags, dynptr, _] = args;
    let (dynptr, size) = (Dynptr::at(run, dynptr)?, low32(size));
    let map = ringbuf(run, "bpf_ringbuf_reserve_dynptr", map)?;
    let error = match (flags, size) {
        (0, size) if size > MAX_SIZE => E2BIG,
        (0, size) => match reserve_for(run, map, size.into()) {
            Some(data) => {
                dynptr.set(Kind::RingBuffer, data, size);
                return Ok(0);
            }
            None => EINVAL,
        },
        _ => EINVAL,
    };
    dynptr.set_null();
    Ok(errno(error))
}

/// `void bpf_ringbuf_submit_dynptr(struct bpf_dynptr *ptr, u64 flags)`.
fn submit_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    commit_dynptr(run, "bpf_ringbuf_submit_dynptr", args, false)
}

/// `void bpf_ringbuf_discard_dynptr(struct bpf_dynptr *ptr, u64 flags)`.
fn discard_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    commit_dynptr(run, "bpf_ringbuf_discard_dynptr", args, true)
}

/// `long bpf_user_ringbuf_drain(struct bpf_map *map, void *callback_fn, void *ctx, u64 flags)`: calls
/// `callback(struct bpf_dynptr *record, void *ctx)` for one record after the other; how many.
fn drain(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, callback, context, flags, _] = args;
    let bad = TrapKind::BadArgument { function: "bpf_user_ringbuf_drain", argument: 1, value: map };
    let map = run.map("bpf_user_ringbuf_drain", 1, map)?;
    let map = map.as_any().downcast_ref::<UserRingbufMap>().ok_or(bad)?;
    let Some(wakeup) = Wakeup::checked(flags) else { return Ok(errno(EINVAL)) };
    let dynptr = Dynptr::at(run, map.dynptr_address())?;
    let drained = map.drain(wakeup, |record| {
        dynptr.set(Kind::Local, record.address(), u32::try_from(record.len()).unwrap_or(0));
        !run.must_end() && run.call_back(callback, [map.dynptr_address(), context, 0, 0, 0]) == Some(0)
    });
    Ok(drained.unwrap_or_else(|error| errno(error.errno())))
}

/// Gives up the record that a dynptr stands for; one that stands for nothing is none.
fn commit_dynptr(
    run: &mut Invocation<'_>,
    function: &'static str,
    args: [u64; 5],
    discard: bool,
) -> Result<u64, TrapKind> {
    let [dynptr, flags, ..] = args;
    let dynptr = Dynptr::at(run, dynptr)?;
    let record = dynptr.get().data;
    if record != 0 {
        commit(run, function, record, flags, discard)?;
        dynptr.set_null();
    }
    Ok(0)
}

/// Reserves a record that the run gives up later: the address of its data.
fn reserve_for<'r>(run: &mut Invocation<'r>, map: &'r RingbufMap, size: u64) -> Option<u64> {
    let address = map.reserve(size)?.address();
    run.reserved.add(address, map);
    Some(address)
}

/// Gives up a record that this run has reserved.
fn commit(
    run: &mut Invocation<'_>,
    function: &'static str,
    data: u64,
    flags: u64,
    discard: bool,
) -> Result<u64, TrapKind> {
    let map = run.reserved.take(data);
    let map = map.ok_or(TrapKind::BadArgument { function, argument: 1, value: data })?;
    map.commit(data, Wakeup::from_flags(flags), discard);
    Ok(0)
}

#[inline]
fn ringbuf<'r>(run: &Invocation<'r>, function: &'static str, map: u64) -> Result<&'r RingbufMap, TrapKind> {
    let found = run.map(function, 1, map)?.as_ring_buffer();
    found.ok_or(TrapKind::BadArgument { function, argument: 1, value: map })
}

#[inline]
fn known<'r>(run: &Invocation<'r>, function: &'static str, index: u64) -> Result<&'r RingbufMap, TrapKind> {
    let found = run.known_map(function, index)?.0.as_ring_buffer();
    found.ok_or(TrapKind::BadArgument { function, argument: 1, value: index })
}
