//! `bpf_map_lookup_elem`, `bpf_map_update_elem`, `bpf_map_delete_elem`.

use super::maps::UserMap;
use super::{EINVAL, EPERM, Invocation, errno};
use crate::UpdateMode;
use crate::error::TrapKind;

/// `void *bpf_map_lookup_elem(struct bpf_map *map, const void *key)`: the value's address, or NULL.
pub(super) fn lookup(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, key, ..] = args;
    let map = map_of(run, "bpf_map_lookup_elem", map)?;
    let key = run.memory(key, u64::from(map.spec().key_size), false)?.to_vec();
    Ok(map.value_address(&key).unwrap_or(0))
}

/// `long bpf_map_update_elem(struct bpf_map *map, const void *key, const void *value, u64 flags)`.
pub(super) fn update(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, key, value, flags, _] = args;
    let map = map_of(run, "bpf_map_update_elem", map)?;
    let spec = map.spec();
    let key = run.memory(key, u64::from(spec.key_size), false)?.to_vec();
    let value = run.memory(value, u64::from(spec.value_size), false)?.to_vec();
    let mode = match flags {
        0 => UpdateMode::Any,
        1 => UpdateMode::NoExist,
        2 => UpdateMode::Exist,
        _ => return Ok(errno(EINVAL)),
    };
    if spec.flags & bpf_object::BPF_F_RDONLY_PROG != 0 {
        return Ok(errno(EPERM));
    }
    Ok(map.update(&key, &value, mode).map_or_else(|error| errno(error.errno()), |()| 0))
}

/// `long bpf_map_delete_elem(struct bpf_map *map, const void *key)`.
pub(super) fn delete(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, key, ..] = args;
    let map = map_of(run, "bpf_map_delete_elem", map)?;
    let key = run.memory(key, u64::from(map.spec().key_size), false)?.to_vec();
    Ok(map.delete(&key).map_or_else(|error| errno(error.errno()), |()| 0))
}

fn map_of<'r>(run: &Invocation<'r>, function: &'static str, map: u64) -> Result<&'r dyn UserMap, TrapKind> {
    run.image.maps.map_of(map).ok_or(TrapKind::BadArgument { function, argument: 1, value: map })
}
