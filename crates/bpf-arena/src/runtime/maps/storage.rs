//! `BPF_MAP_TYPE_TASK_STORAGE`, `SK_STORAGE`, `INODE_STORAGE` and `CGRP_STORAGE`: a value for each task, socket, file or
//! control group that has been given one.
//!
//! An owner is known by a number: a socket by its cookie, everything else by its address. Inside, a hash map has the values by these
//! numbers, so that readers take no lock and addresses stay good. Who ends an owner says so ([`forget`], [`Fleeting`]), and its
//! values go. The host knows tasks by the numbers of their threads, once they have a value.

use std::any::Any;
use std::collections::BTreeMap;
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
static STORAGES: Mutex<Vec<Weak<Inside>>> = Mutex::new(Vec::new());

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
    inside: Arc<Inside>,
}

/// What a storage has.
struct Inside {
    values: HashMap,
    /// The owners that are tasks, by the numbers of their threads.
    numbers: Mutex<BTreeMap<u32, u64>>,
}

impl Inside {
    fn numbers(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let inside = Inside { values: HashMap::create(&inside, btf)?, numbers: Mutex::default() };
        let inside = Arc::new(inside);
        if kind != OwnerKind::Socket {
            let mut storages = storages();
            storages.retain(|inside| inside.strong_count() > 0);
            storages.push(Arc::downgrade(&inside));
        }
        Ok(Self { core: MapCore::new(spec.clone()), kind, inside })
    }

    /// Whose values these are.
    pub(crate) fn kind(&self) -> OwnerKind {
        self.kind
    }

    /// The address of an owner's value.
    pub(crate) fn get(&self, owner: u64) -> Option<u64> {
        self.inside.values.value_of(Place::over(&mut owner.to_ne_bytes())).map(|value| value.address())
    }

    /// The address of an owner's value, which is created if there is none: with these contents, or zeroes.
    pub(crate) fn get_or_create(&self, cpu: &CpuSlot, owner: u64, value: Option<Place<'_>>) -> Option<u64> {
        if let Some(known) = self.get(owner) {
            return Some(known);
        }
        let mut zeroes = vec![0; self.core.spec.value_size as usize];
        let value = value.unwrap_or_else(|| Place::over(&mut zeroes));
        // Another run may have created it meanwhile: then that one is meant.
        let _ =
            self.inside.values.update_elem(cpu, Place::over(&mut owner.to_ne_bytes()), value, BPF_NOEXIST);
        self.get(owner)
    }

    /// Tells the number by which the host knows an owner.
    pub(crate) fn set_number(&self, owner: u64, number: u32) {
        self.inside.numbers().insert(number, owner);
    }

    /// Removes an owner's value.
    pub(crate) fn remove(&self, owner: u64) -> Result<(), MapError> {
        self.inside.values.delete(&owner.to_ne_bytes())
    }

    /// The owner that the host means: a task by the number of its thread.
    fn owner_of(&self, key: &[u8]) -> Result<[u8; 8], MapError> {
        if self.kind != OwnerKind::Task {
            return Err(MapError::OtherEngine);
        }
        let owner = self.inside.numbers().get(&index_of(key)?).copied();
        Ok(owner.ok_or(MapError::NotFound)?.to_ne_bytes())
    }
}

/// Has every storage let go of the value of an object that is gone.
pub(crate) fn forget(owner: u64) {
    let storages = storages().clone();
    for inside in storages.iter().filter_map(Weak::upgrade) {
        // Most have none.
        if inside.values.delete(&owner.to_ne_bytes()).is_ok() {
            inside.numbers().retain(|_, known| *known != owner);
        }
    }
}

fn storages() -> MutexGuard<'static, Vec<Weak<Inside>>> {
    STORAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The values of owners that end with a run: sockets that were made for it.
#[derive(Default)]
pub(crate) struct Fleeting<'r>(Vec<(&'r StorageMap, u64)>);

impl<'r> Fleeting<'r> {
    /// Notes that an owner has a value until the run ends.
    pub(crate) fn add(&mut self, map: &'r StorageMap, owner: u64) {
        self.0.push((map, owner));
    }
}

impl Drop for Fleeting<'_> {
    fn drop(&mut self) {
        for (map, owner) in self.0.drain(..) {
            // The program may have removed it.
            let _ = map.remove(owner);
        }
    }
}

impl LoadedMap for StorageMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        self.inside.values.lookup(&self.owner_of(key)?, value, flags)
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.inside.values.update(&self.owner_of(key)?, value, flags)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.inside.values.delete(&self.owner_of(key)?)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn has_lock(&self) -> bool {
        self.inside.values.has_lock()
    }

    fn has_fields(&self) -> bool {
        self.inside.values.has_fields()
    }
}

impl UserMap for StorageMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        self.inside.values.add_memory(table);
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
    fn an_owner_has_one_value() {
        let (storage, cpu) = (storage(), CpuSlot::default());
        assert_eq!(storage.get(7), None);
        let value = storage.get_or_create(&cpu, 7, Some(Place::over(&mut [3; 12])));
        assert!(value.is_some());
        assert_eq!(storage.get_or_create(&cpu, 7, None), value);
        let mut seen = [0; 12];
        assert_eq!(storage.lookup(&70u32.to_le_bytes(), &mut seen, 0), Err(MapError::NotFound));
        storage.set_number(7, 70);
        assert_eq!(storage.lookup(&70u32.to_le_bytes(), &mut seen, 0), Ok(()));
        assert_eq!(seen, [3; 12]);
        storage.set_number(8, 80);
        assert_ne!(storage.get_or_create(&cpu, 8, None), value);
        assert_eq!(storage.lookup(&80u32.to_le_bytes(), &mut seen, 0), Ok(()));
        assert_eq!(seen, [0; 12]);
        assert_eq!(storage.remove(7), Ok(()));
        assert_eq!(storage.remove(7), Err(MapError::NotFound));
        assert_eq!(storage.next_key(None, &mut [0; 4]), Err(MapError::NoOperation));
    }

    #[test]
    fn values_go_with_their_owner() {
        let (one, other, cpu) = (storage(), storage(), CpuSlot::default());
        for storage in [&one, &other] {
            assert!(storage.get_or_create(&cpu, 7, None).is_some());
            storage.set_number(7, 70);
            assert!(storage.get_or_create(&cpu, 8, None).is_some());
        }
        forget(7);
        for storage in [&one, &other] {
            assert_eq!(storage.get(7), None);
            assert_eq!(storage.delete(&70u32.to_le_bytes()), Err(MapError::NotFound));
            assert!(storage.get(8).is_some());
        }
        let mut fleeting = Fleeting::default();
        fleeting.add(&one, 8);
        drop(fleeting);
        assert_eq!((one.get(8), other.get(8).is_some()), (None, true));
    }
}
