//! Local storage: `bpf_{task,sk,inode,cgrp}_storage_{get,delete}`.

use std::sync::Arc;

use super::maps::UserMap;
use super::maps::storage::{OwnerKind, StorageMap};
use super::packets::socket;
use super::registry::{Row, rows};
use super::{EINVAL, Invocation, errno};
use crate::access::Block;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(81), "bpf_get_local_storage" => get_local;
    Some(107), "bpf_sk_storage_get" => get;
    Some(108), "bpf_sk_storage_delete" => delete;
    Some(145), "bpf_inode_storage_get" => get;
    Some(146), "bpf_inode_storage_delete" => delete;
    Some(156), "bpf_task_storage_get" => get;
    Some(157), "bpf_task_storage_delete" => delete;
    Some(210), "bpf_cgrp_storage_get" => get;
    Some(211), "bpf_cgrp_storage_delete" => delete;
};

/// A value is created for an owner that has none (`BPF_LOCAL_STORAGE_GET_F_CREATE`).
const CREATE: u64 = 1;

/// `void *bpf_task_storage_get(struct bpf_map *map, struct task_struct *task, void *value, u64 flags)` and its like for other
/// owners: the address of the owner's value, or NULL.
fn get(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, owner, value, flags, _] = args;
    let map = storage(run, map)?;
    let Some(number) = number_of(run, map.kind(), owner).filter(|_| flags & !CREATE == 0) else {
        return Ok(0);
    };
    if let Some(known) = map.get(number) {
        return Ok(known);
    }
    if flags & CREATE == 0 {
        return Ok(0);
    }
    let size = u64::from(map.core().spec.value_size);
    let value = if value == 0 { None } else { Some(run.memory(value, size, false)?) };
    let created = map.get_or_create(&run.cpu, number, value).unwrap_or(0);
    match map.kind() {
        OwnerKind::Task => {
            if let Some(thread) = run.task_number(owner).and_then(|thread| u32::try_from(thread).ok()) {
                map.set_number(number, thread);
            }
        }
        OwnerKind::Socket if !run.image.options.network.has_socket(owner) => run.fleeting.add(map, number),
        _ => {}
    }
    Ok(created)
}

/// `long bpf_task_storage_delete(struct bpf_map *map, struct task_struct *task)` and its like for other owners.
fn delete(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, owner, ..] = args;
    let map = storage(run, map)?;
    let Some(owner) = number_of(run, map.kind(), owner) else { return Ok(errno(EINVAL)) };
    Ok(map.remove(owner).map_or_else(|error| errno(error.errno()), |()| 0))
}

/// `void *bpf_get_local_storage(void *map, u64 flags)`: the address of the value that belongs to the program where it is attached. A run
/// that is no attachment has a value of its own, as test runs have.
fn get_local(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [handle, ..] = args;
    let map = run.map("bpf_get_local_storage", 1, handle)?;
    if let Some((_, address)) = run.own_values.iter().find(|(known, _)| *known == handle) {
        return Ok(*address);
    }
    let block = Block::new(map.spec().value_size as usize);
    let block = block.ok_or(TrapKind::BadArgument {
        function: "bpf_get_local_storage",
        argument: 1,
        value: handle,
    })?;
    let address = run.held.block(Arc::new(block), true).address();
    run.own_values.push((handle, address));
    Ok(address)
}

/// What a storage knows an owner by, who is given as a pointer.
fn number_of(run: &Invocation<'_>, kind: OwnerKind, owner: u64) -> Option<u64> {
    match kind {
        OwnerKind::Socket => run.socket_at(owner).map(socket::cookie),
        OwnerKind::Task | OwnerKind::Inode | OwnerKind::Cgroup => (owner != 0).then_some(owner),
    }
}

fn storage<'r>(run: &Invocation<'r>, map: u64) -> Result<&'r StorageMap, TrapKind> {
    let function = "local storage";
    let found = run.map(function, 1, map)?.as_any().downcast_ref();
    found.ok_or(TrapKind::BadArgument { function, argument: 1, value: map })
}
