//! `BPF_MAP_TYPE_DEVMAP`, `DEVMAP_HASH` and `CPUMAP`: where `bpf_redirect_map` sends packets.
//!
//! An entry is a number with eight bytes: of an interface or of packets that may wait for a CPU, and behind it that of a program.
//! Interfaces are the host's to number: any may be stored.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap as Numbers};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_object::{MapSpec, MapType};
use isa::Size;

use super::hash::HashMap;
use super::indexed::{index_of, next_index, put};
use super::{MapCore, UserMap, memory};
use crate::access::{Block, BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::{self, CpuSlot};
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_NOEXIST};

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;

/// Most packets that may wait for a CPU.
const MAX_QUEUE: u32 = 16_384;

/// The host's error numbers for what a CPU map refuses.
const EOVERFLOW: i32 = 75;
const ENODEV: i32 = 19;

/// A map by index: of interfaces or CPUs.
pub(super) struct DeviceArray {
    core: MapCore,
    /// An entry that is not there is 0.
    entries: Arc<Block>,
}

impl DeviceArray {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let entries = Arc::new(memory::reserve(u64::from(spec.max_entries) * ENTRY_BYTES)?);
        Ok(Self { core: MapCore::new(spec), entries })
    }

    fn slot(&self, index: u32) -> Option<Place<'_>> {
        self.entries.place(u64::from(index) * ENTRY_BYTES, ENTRY_BYTES)
    }

    fn entry(&self, index: u32) -> Option<Place<'_>> {
        self.slot(index).filter(|slot| slot.load(Size::W, Ordering::Acquire) != 0)
    }

    fn is_of_cpus(&self) -> bool {
        self.core.spec.map_type == MapType::Cpumap
    }
}

impl LoadedMap for DeviceArray {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        self.entry(index_of(key)?).ok_or(MapError::NotFound)?.read(value);
        Ok(())
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        if flags > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        let index = index_of(key)?;
        let slot = self.slot(index).ok_or(MapError::TooBig)?;
        // Every index has an entry, if an empty one.
        if flags == BPF_NOEXIST {
            return Err(MapError::Exists);
        }
        let (number, program) = halves(value);
        if self.is_of_cpus() {
            if number > MAX_QUEUE {
                return Err(MapError::Os { errno: EOVERFLOW });
            }
            if index as usize >= cpu::possible() {
                return Err(MapError::Os { errno: ENODEV });
            }
        }
        // No descriptor of a program is known here.
        if program.cast_signed() > 0 {
            return Err(MapError::Invalid);
        }
        slot.store(Size::DW, u64::from(number), Ordering::Release);
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let slot = self.slot(index_of(key)?).ok_or(MapError::Invalid)?;
        slot.store(Size::DW, 0, Ordering::Release);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        next_index(key, next, self.core.spec.max_entries)
    }
}

impl UserMap for DeviceArray {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        table.insert(Arc::clone(&self.entries), false);
    }

    fn lookup_elem(&self, _: &CpuSlot, key: Place<'_>) -> Option<u64> {
        let index = u32::try_from(key.load(Size::W, Ordering::Relaxed)).ok()?;
        self.entry(index).map(|entry| entry.address())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Interfaces by key.
pub(super) struct DeviceHash {
    core: MapCore,
    entries: HashMap,
    order: Mutex<Order>,
}

/// The keys in the order in which the host enumerates them: bucket by bucket, what was stored last first.
#[derive(Debug, Default)]
struct Order {
    keys: BTreeMap<Position, u32>,
    positions: Numbers<u32, Position>,
    updates: u64,
}

/// Where a key comes: its bucket, and the update that stored it.
type Position = (u32, Reverse<u64>);

impl DeviceHash {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: &MapSpec) -> Result<Self, MapError> {
        let inside =
            MapSpec { map_type: MapType::Hash, value_size: 8, value_btf: None, flags: 0, ..spec.clone() };
        let (core, entries) = (MapCore::new(spec.clone()), HashMap::create(&inside, None)?);
        Ok(Self { core, entries, order: Mutex::default() })
    }

    fn bucket_of(&self, key: u32) -> u32 {
        key & (self.core.spec.max_entries.next_power_of_two() - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn remove(&mut self, key: u32) {
        if let Some(position) = self.positions.remove(&key) {
            self.keys.remove(&position);
        }
    }
}

impl LoadedMap for DeviceHash {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        let mut entry = [0; 8];
        self.entries.lookup(key, &mut entry, 0)?;
        value.iter_mut().zip(entry).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        let (number, program) = halves(value);
        if flags > BPF_EXIST || number == 0 {
            return Err(MapError::Invalid);
        }
        let key_number = index_of(key)?;
        let mut order = self.lock();
        let known = order.positions.contains_key(&key_number);
        if known && flags == BPF_NOEXIST {
            return Err(MapError::Exists);
        }
        // No descriptor of a program is known here.
        if program.cast_signed() > 0 {
            return Err(MapError::Invalid);
        }
        // `BPF_EXIST` asks for nothing in a map of this type.
        self.entries.update(key, &u64::from(number).to_le_bytes(), 0)?;
        order.remove(key_number);
        order.updates += 1;
        let position = (self.bucket_of(key_number), Reverse(order.updates));
        order.keys.insert(position, key_number);
        order.positions.insert(key_number, position);
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut order = self.lock();
        self.entries.delete(key)?;
        order.remove(index_of(key)?);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        let order = self.lock();
        let known = key.map(index_of).transpose()?.and_then(|key| order.positions.get(&key));
        let found = match known {
            Some(position) => order.keys.range(position..).nth(1),
            None => order.keys.iter().next(),
        };
        put(next, *found.ok_or(MapError::NotFound)?.1);
        Ok(())
    }
}

impl UserMap for DeviceHash {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        self.entries.add_memory(table);
    }

    fn lookup_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Option<u64> {
        self.entries.lookup_elem(cpu, key)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The two numbers of an entry, the second of which may be missing.
fn halves(value: &[u8]) -> (u32, u32) {
    let (first, rest) = value.split_at_checked(4).unwrap_or((value, &[]));
    let number = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map_or(0, u32::from_le_bytes);
    (number(first), rest.get(..4).map_or(0, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(map_type: MapType, value_size: u32, max_entries: u32) -> MapSpec {
        MapSpec { key_size: 4, value_size, max_entries, ..MapSpec::new("m", map_type) }
    }

    fn key(index: u32) -> [u8; 4] {
        index.to_le_bytes()
    }

    #[test]
    fn interfaces_by_index() {
        let map = DeviceArray::create(spec(MapType::Devmap, 4, 2)).unwrap();
        assert_eq!(map.lookup(&key(0), &mut [0; 4], 0), Err(MapError::NotFound));
        assert_eq!(map.update(&key(0), &key(7), BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(map.update(&key(0), &key(7), 3), Err(MapError::Invalid));
        assert_eq!(map.update(&key(2), &key(7), BPF_NOEXIST), Err(MapError::TooBig));
        assert_eq!(map.update(&key(0), &key(7), BPF_EXIST), Ok(()));
        let mut value = [0; 4];
        assert_eq!(map.lookup(&key(0), &mut value, 0), Ok(()));
        assert_eq!(value, key(7));
        assert_eq!(map.lookup(&key(1), &mut value, 0), Err(MapError::NotFound));
        assert_eq!(map.update(&key(0), &key(0), 0), Ok(()));
        assert_eq!(map.lookup(&key(0), &mut value, 0), Err(MapError::NotFound));
        assert_eq!((map.delete(&key(0)), map.delete(&key(2))), (Ok(()), Err(MapError::Invalid)));
    }

    #[test]
    fn cpus_by_number() {
        let count = u32::try_from(cpu::possible()).unwrap();
        let map = DeviceArray::create(spec(MapType::Cpumap, 8, count + 1)).unwrap();
        let value = |queue: u32, program: u32| [key(queue), key(program)].concat();
        assert_eq!(map.update(&key(0), &value(MAX_QUEUE, 0), 0), Ok(()));
        assert_eq!(map.update(&key(0), &value(MAX_QUEUE + 1, 0), 0).map_err(|e| e.errno()), Err(75));
        assert_eq!(map.update(&key(count), &value(1, 0), 0).map_err(|e| e.errno()), Err(19));
        assert_eq!(map.update(&key(0), &value(1, 5), 0), Err(MapError::Invalid));
    }

    #[test]
    fn interfaces_by_key() {
        let map = DeviceHash::create(&spec(MapType::DevmapHash, 4, 2)).unwrap();
        assert_eq!(map.update(&key(4), &key(0), 0), Err(MapError::Invalid));
        assert_eq!(map.update(&key(4), &key(1), BPF_EXIST), Ok(()));
        assert_eq!(map.update(&key(4), &key(1), BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(map.update(&key(6), &key(1), 0), Ok(()));
        assert_eq!(map.update(&key(1), &key(1), 0), Err(MapError::TooBig));
        let mut next = [0; 4];
        assert_eq!(map.next_key(None, &mut next), Ok(()));
        assert_eq!(next, key(6));
        assert_eq!(map.next_key(Some(&key(6)), &mut next), Ok(()));
        assert_eq!(next, key(4));
        assert_eq!(map.next_key(Some(&key(4)), &mut next), Err(MapError::NotFound));
        assert_eq!(map.lookup(&key(1), &mut next, 0), Err(MapError::NotFound));
        assert_eq!((map.delete(&key(6)), map.delete(&key(6))), (Ok(()), Err(MapError::NotFound)));
    }
}
