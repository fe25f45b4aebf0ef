//! `bpf_map_push_elem`, `bpf_map_pop_elem`, `bpf_map_peek_elem`: maps without keys.

use super::registry::{Row, rows};
use super::{Invocation, errno};
use crate::error::{MapError, TrapKind};

pub(super) static ROWS: &[Row] = rows! {
    Some(87), "bpf_map_push_elem" => push;
    Some(88), "bpf_map_pop_elem" => pop;
    Some(89), "bpf_map_peek_elem" => peek;
};

/// `long bpf_map_push_elem(struct bpf_map *map, const void *value, u64 flags)`.
fn push(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, value, flags, ..] = args;
    let map = run.map("bpf_map_push_elem", 1, map)?;
    let value = run.memory(value, u64::from(map.spec().value_size), false)?;
    Ok(answer(map.push_elem(value, flags)))
}

/// `long bpf_map_pop_elem(struct bpf_map *map, void *value)`: the value is zeroed if there is none.
fn pop(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, value, ..] = args;
    let map = run.map("bpf_map_pop_elem", 1, map)?;
    let value = run.memory(value, u64::from(map.spec().value_size), true)?;
    Ok(answer(map.pop_elem(value)))
}

/// `long bpf_map_peek_elem(struct bpf_map *map, void *value)`: copies the next value, or asks a Bloom filter for this one.
fn peek(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, value, ..] = args;
    let map = run.map("bpf_map_peek_elem", 1, map)?;
    let value = run.memory(value, u64::from(map.spec().value_size), true)?;
    Ok(answer(map.peek_elem(value)))
}

/// 0, or the error's negative number.
fn answer(result: Result<(), MapError>) -> u64 {
    result.map_or_else(|error| errno(error.errno()), |()| 0)
}
