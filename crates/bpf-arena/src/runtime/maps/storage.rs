//! `BPF_MAP_TYPE_TASK_STORAGE`, `SK_STORAGE`, `INODE_STORAGE` and `CGRP_STORAGE`: a value for each task, socket, file or
//! control group that has been given one.
//!
//! An owner is known by a number: a task by its thread's id, everything else by the address that programs know it by. Inside, a hash map
//! has the values by these numbers, so that readers take no lock and addresses stay good. Who ends an owner says so
//! ([`forget`]), and every storage lets go of its value.

use std::any::Any;
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bpf_object::{Btf, MapSpec, MapType};

use super::hash::HashMap;
use super::indexed::index_of;
use super::{MapCore, UserMap, memory};
use crate::access::{BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::BPF_NOEXIST;

/// Most owners that a storage has values for, as long as addresses suffice: a kernel has no such limit but its memory, and no more
/// tasks (`PID_MAX_LIMIT`).
const MOST_OWNERS: u64 = 1 << 22;

/// Every storage there is.
static STORAGES: Mutex<Vec<(OwnerKind, Weak<HashMap>)>> = Mutex::new(Vec::new());

/// What has values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerKind {
    /// A thread of the host, or a task it has made up.
    Task,
    Socket,
    Inode,
    Cgroup,
}

/// A local storage.
pub(crate) struct StorageMap {
    core: MapCore,
    kind: OwnerKind,
    values: Arc<HashMap>,
}

impl StorageMap {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: &MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        let kind = match spec.map_type {
            MapType::SkStorage => OwnerKind::Socket,
            MapType::InodeStorage => OwnerKind::Inode,
            MapType::CgrpStorage => OwnerKind::Cgroup,
            _ => OwnerKind::Task,
        };
        let most = memory::affordable(MOST_OWNERS, u64::from(spec.value_size).next_multiple_of(64));
        let inside = MapSpec {
            map_type: MapType::Hash,
            key_size: 8,
            max_entries: u32::try_from(most).unwrap_or(u32::MAX),
            flags: 0,
            ..spec.clone()
        };
        let values = Arc::new(HashMap::create(&inside, btf)?);
        let mut storages = storages();
        storages.retain(|(_, values)| values.strong_count() > 0);
        storages.push((kind, Arc::downgrade(&values)));
        Ok(Self { core: MapCore::new(spec.clone()), kind, values })
    }

    /// Whose values these are.
    pub(crate) fn kind(&self) -> OwnerKind {
        self.kind
    }

    /// The address of an owner's value.
    pub(crate) fn get(&self, owner: u64) -> Option<u64> {
        self.values.value_of(Place::over(&mut owner.to_ne_bytes())).map(|value| value.address())
    }

    /// The address of an owner's value, which is created if there is none: with these contents, or zeroes.
    pub(crate) fn get_or_create(&self, cpu: &CpuSlot, owner: u64, value: Option<Place<'_>>) -> Option<u64> {
        if let Some(known) = self.get(owner) {
            return Some(known);
        }
        if self.kind == OwnerKind::Task {
            watch_this_thread();
        }
        let mut zeroes = vec![0; self.core.spec.value_size as usize];
        let value = value.unwrap_or_else(|| Place::over(&mut zeroes));
        // Another run may have created it meanwhile: then that one is meant.
        let _ = self.values.update_elem(cpu, Place::over(&mut owner.to_ne_bytes()), value, BPF_NOEXIST);
        self.get(owner)
    }

    /// Removes an owner's value.
    pub(crate) fn remove(&self, owner: u64) -> Result<(), MapError> {
        self.values.delete(&owner.to_ne_bytes())
    }

    /// The owner that the host means: a task by the number of its thread.
    fn owner_of(&self, key: &[u8]) -> Result<[u8; 8], MapError> {
        if self.kind != OwnerKind::Task {
            return Err(MapError::OtherEngine);
        }
        Ok(u64::from(index_of(key)?).to_ne_bytes())
    }
}

/// Has every storage let go of the value of an owner that is gone.
pub(crate) fn forget(kind: OwnerKind, owner: u64) {
    let storages: Vec<_> = storages().iter().filter(|(of, _)| *of == kind).map(|(_, s)| s.clone()).collect();
    for values in storages.iter().filter_map(Weak::upgrade) {
        // Most have none.
        let _ = values.delete(&owner.to_ne_bytes());
    }
}

fn storages() -> MutexGuard<'static, Vec<(OwnerKind, Weak<HashMap>)>> {
    STORAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a thread as a task when it ends.
struct EndOfThread {
    task: Cell<Option<u32>>,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            forget(OwnerKind::Task, task.into());
        }
    }
}

thread_local! {
    static END: EndOfThread = const { EndOfThread { task: Cell::new(None) } };
}

/// Remembers that this thread may have values: their owner is gone when it ends.
fn watch_this_thread() {
    // At the very end of a thread there is nothing left to wait for.
    let _ = END.try_with(|end| {
        if end.task.get().is_none() {
            end.task.set(Some(sys::host::thread_id()));
        }
    });
}

impl LoadedMap for StorageMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        self.values.lookup(&self.owner_of(key)?, value, flags)
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.values.update(&self.owner_of(key)?, value, flags)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.values.delete(&self.owner_of(key)?)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn has_lock(&self) -> bool {
        self.values.has_lock()
    }

    fn has_fields(&self) -> bool {
        self.values.has_fields()
    }
}

impl UserMap for StorageMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        self.values.add_memory(table);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> StorageMap {
        let spec =
            MapSpec { key_size: 4, value_size: 12, flags: 1, ..MapSpec::new("s", MapType::TaskStorage) };
        StorageMap::create(&spec, None).unwrap()
    }

    #[test]
    fn a_task_has_one_value() {
        let (storage, cpu) = (storage(), CpuSlot::default());
        assert_eq!(storage.get(7), None);
        let value = storage.get_or_create(&cpu, 7, Some(Place::over(&mut [3; 12])));
        assert!(value.is_some());
        assert_eq!(storage.get_or_create(&cpu, 7, None), value);
        let mut seen = [0; 12];
        assert_eq!(storage.lookup(&7u32.to_le_bytes(), &mut seen, 0), Ok(()));
        assert_eq!(seen, [3; 12]);
        assert_ne!(storage.get_or_create(&cpu, 8, None), value);
        assert_eq!(storage.lookup(&8u32.to_le_bytes(), &mut seen, 0), Ok(()));
        assert_eq!(seen, [0; 12]);
        assert_eq!(storage.remove(7), Ok(()));
        assert_eq!(storage.remove(7), Err(MapError::NotFound));
        assert_eq!(storage.next_key(None, &mut [0; 4]), Err(MapError::NoOperation));
    }

    #[test]
    fn values_go_with_their_thread() {
        let storage = storage();
        let thread = std::thread::scope(|scope| {
            let run = || {
                let thread = u64::from(sys::host::thread_id());
                assert!(storage.get_or_create(&CpuSlot::default(), thread, None).is_some());
                thread
            };
            scope.spawn(run).join().unwrap()
        });
        assert_eq!(storage.get(thread), None);
    }
}
