//! What programs do with the elements of maps.

use bpf_object::MapSpec;

use super::maps::UserMap;
use super::registry::{Row, rows};
use super::{EINVAL, EPERM, Invocation, errno, low32};
use crate::cpu::CpuSlot;
use crate::error::{MapError, TrapKind};

pub(super) static ROWS: &[Row] = rows! {
    Some(1), "bpf_map_lookup_elem" => lookup;
    Some(2), "bpf_map_update_elem" => update;
    Some(3), "bpf_map_delete_elem" => delete;
    Some(164), "bpf_for_each_map_elem" => for_each;
    Some(195), "bpf_map_lookup_percpu_elem" => lookup_percpu;
};

/// `void *bpf_map_lookup_elem(struct bpf_map *map, const void *key)`: the value's address, or NULL. In a map of maps the values are
/// maps; the run keeps the one it was given.
fn lookup(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, key, ..] = args;
    let map = run.map("bpf_map_lookup_elem", 1, map)?;
    let key = run.memory(key, u64::from(map.spec().key_size), false)?;
    if let Some(value) = map.lookup_elem(&run.cpu, key) {
        return Ok(value);
    }
    Ok(map.map_at(key).map_or(0, |inner| run.held.map(inner).core().handle()))
}

/// The same for compiled code, which knows the map by its index in the program and that its values are none.
pub(super) fn lookup_known(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [index, key, ..] = args;
    let (map, spec) = run.known_map("bpf_map_lookup_elem", index)?;
    let key = run.memory(key, u64::from(spec.key_size), false)?;
    Ok(map.lookup_elem(&run.cpu, key).unwrap_or(0))
}

/// `long bpf_map_update_elem(struct bpf_map *map, const void *key, const void *value, u64 flags)`.
fn update(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let map = run.map("bpf_map_update_elem", 1, args[0])?;
    update_in(run, map, map.spec(), args)
}

/// The same for compiled code, which knows the map by its index in the program.
pub(super) fn update_known(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let (map, spec) = run.known_map("bpf_map_update_elem", args[0])?;
    update_in(run, map, spec, args)
}

#[inline]
fn update_in(
    run: &Invocation<'_>,
    map: &dyn UserMap,
    spec: &MapSpec,
    args: [u64; 5],
) -> Result<u64, TrapKind> {
    let [_, key, value, flags, _] = args;
    let key = run.memory(key, u64::from(spec.key_size), false)?;
    let value = run.memory(value, u64::from(spec.value_size), false)?;
    if spec.flags & bpf_object::BPF_F_RDONLY_PROG != 0 {
        return Ok(errno(EPERM));
    }
    Ok(answer(map.update_elem(&run.cpu, key, value, flags)))
}

/// `long bpf_map_delete_elem(struct bpf_map *map, const void *key)`.
fn delete(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let map = run.map("bpf_map_delete_elem", 1, args[0])?;
    delete_in(run, map, map.spec(), args)
}

/// The same for compiled code, which knows the map by its index in the program.
pub(super) fn delete_known(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let (map, spec) = run.known_map("bpf_map_delete_elem", args[0])?;
    delete_in(run, map, spec, args)
}

#[inline]
fn delete_in(
    run: &Invocation<'_>,
    map: &dyn UserMap,
    spec: &MapSpec,
    args: [u64; 5],
) -> Result<u64, TrapKind> {
    let key = run.memory(args[1], u64::from(spec.key_size), false)?;
    Ok(answer(map.delete_elem(&run.cpu, key)))
}

/// `void *bpf_map_lookup_percpu_elem(struct bpf_map *map, const void *key, u32 cpu)`: the address of that CPU's value, or
/// NULL.
fn lookup_percpu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, key, cpu, ..] = args;
    let map = run.map("bpf_map_lookup_percpu_elem", 1, map)?;
    let key = run.memory(key, u64::from(map.spec().key_size), false)?;
    Ok(map.lookup_percpu_elem(key, low32(cpu)).unwrap_or(0))
}

/// `long bpf_for_each_map_elem(struct bpf_map *map, void *callback_fn, void *callback_ctx, u64 flags)`: the number of
/// elements visited.
fn for_each(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [handle, callback, context, flags, _] = args;
    let map = run.map("bpf_for_each_map_elem", 1, handle)?;
    if flags != 0 {
        return Ok(errno(EINVAL));
    }
    // The same CPU as the run's.
    let cpu = CpuSlot::default();
    let visited = map.for_each_elem(&cpu, &mut |key, value| {
        !run.must_end() && run.call_back(callback, [handle, key, value, context, 0]) == Some(0)
    });
    Ok(visited.unwrap_or_else(|error| errno(error.errno())))
}

/// 0, or the error's negative number.
#[inline]
fn answer(result: Result<(), MapError>) -> u64 {
    result.map_or_else(|error| errno(error.errno()), |()| 0)
}
