//! `BPF_MAP_TYPE_HASH_OF_MAPS`: maps by key.
//!
//! A hash map has a number for each key, the number a slot, the slot the map. Only the host changes it. A slot is used again, so that the
//! number also says for which time: a reader that comes late finds another number in the slot, and looks again.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_object::{Btf, MapSpec, MapType};
use isa::Size;

use super::hash::HashMap;
use super::indexed::put;
use super::map_in_map::Template;
use super::slots::Slots;
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_ANY, BPF_EXIST, Map};

/// Bytes of a number.
const NUMBER_BYTES: u32 = 8;

/// A hash of maps.
pub(super) struct HashOfMaps {
    core: MapCore,
    template: Template,
    numbers: HashMap,
    slots: Slots<Inner>,
    writer: Mutex<Free>,
}

/// An inner map, and the number that leads to it.
struct Inner {
    number: u64,
    map: Arc<dyn UserMap>,
}

/// The slots that are not in use.
#[derive(Debug, Default)]
struct Free {
    used: u32,
    given_back: Vec<u32>,
    /// How often a slot was taken.
    times: u64,
}

impl HashOfMaps {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: &MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        let inner =
            MapSpec { map_type: MapType::Hash, value_size: NUMBER_BYTES, value_btf: None, ..spec.clone() };
        Ok(Self {
            template: Template::of(spec, btf)?,
            numbers: HashMap::create(&inner, None)?,
            // A replaced map keeps its slot until the new one is in place.
            slots: Slots::new(spec.max_entries.saturating_add(1))?,
            writer: Mutex::default(),
            core: MapCore::new(spec.clone()),
        })
    }

    /// The map that a number leads to.
    fn by_number(&self, number: u64) -> Option<Arc<dyn UserMap>> {
        let inner = self.slots.get(slot_of(number))?;
        (inner.number == number).then(|| Arc::clone(&inner.map))
    }

    /// The number of a key.
    fn number(&self, key: &[u8]) -> Result<u64, MapError> {
        let mut number = [0; NUMBER_BYTES as usize];
        self.numbers.lookup(key, &mut number, 0)?;
        Ok(u64::from_le_bytes(number))
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, free: &mut Free, key: &[u8]) -> Result<(), MapError> {
        let number = self.number(key)?;
        self.numbers.delete(key)?;
        self.give_back(free, number);
        Ok(())
    }

    fn give_back(&self, free: &mut Free, number: u64) {
        self.slots.replace(slot_of(number), None);
        free.given_back.push(slot_of(number));
    }
}

impl Free {
    /// A number that leads to a slot which is not in use.
    fn take(&mut self) -> u64 {
        let slot = self.given_back.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        self.times += 1;
        self.times << 32 | u64::from(slot)
    }
}

/// The slot that a number leads to.
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn slot_of(number: u64) -> u32 {
    number as u32
}

impl LoadedMap for HashOfMaps {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        let inner = self.map_at(Place::over(&mut key.to_vec())).ok_or(MapError::NotFound)?;
        put(value, inner.core().id);
        Ok(())
    }

    fn update(&self, _: &[u8], _: &[u8], _: u64) -> Result<(), MapError> {
        Err(MapError::OtherEngine)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.remove(&mut self.lock(), key)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        self.numbers.next_key(key, next)
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        let mut free = self.lock();
        let room = batch.values.len() / size_of::<u32>();
        let mut numbers = vec![0; room * NUMBER_BYTES as usize];
        let mut read = BatchRead {
            from: batch.from,
            next: &mut *batch.next,
            keys: &mut *batch.keys,
            values: &mut numbers,
            flags: batch.flags,
            delete: batch.delete,
        };
        let (count, result) = self.numbers.lookup_batch(&mut read);
        let values = batch.values.chunks_exact_mut(size_of::<u32>());
        for (value, number) in values.zip(numbers.as_chunks().0).take(count) {
            let number = u64::from_le_bytes(*number);
            put(value, self.by_number(number).map_or(0, |inner| inner.core().id));
            if batch.delete {
                self.give_back(&mut free, number);
            }
        }
        (count, result)
    }

    fn delete_batch(&self, keys: &[u8], _: u64) -> (usize, Result<(), MapError>) {
        batch::delete_each(self, keys)
    }

    fn set_map(&self, key: &[u8], map: &Map, flags: u64) -> Result<(), MapError> {
        let map = self.template.admit(map)?;
        let mut free = self.lock();
        let old = self.number(key).ok();
        let number = free.take();
        self.slots.replace(slot_of(number), Some(Arc::new(Inner { number, map })));
        let updated = match self.numbers.value_of(Place::over(&mut key.to_vec())) {
            // A replaced map's element stays where it is.
            Some(value) if matches!(flags, BPF_ANY | BPF_EXIST) => {
                value.store(Size::DW, number, Ordering::Release);
                Ok(())
            }
            _ => self.numbers.update(key, &number.to_le_bytes(), flags),
        };
        let unused = if updated.is_ok() { old } else { Some(number) };
        if let Some(unused) = unused {
            self.give_back(&mut free, unused);
        }
        updated
    }
}

impl UserMap for HashOfMaps {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn map_at(&self, key: Place<'_>) -> Option<Arc<dyn UserMap>> {
        loop {
            let value = self.numbers.value_of(key)?;
            let number = value.load(Size::DW, Ordering::Acquire);
            if let Some(map) = self.by_number(number) {
                return Some(map);
            }
            // The host replaced or removed it a moment ago.
            std::hint::spin_loop();
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HostedMap, create};
    use super::*;
    use crate::map::BPF_NOEXIST;

    fn array(value_size: u32) -> MapSpec {
        MapSpec { key_size: 4, value_size, max_entries: 2, ..MapSpec::new("inner", MapType::Array) }
    }

    fn inner(value_size: u32) -> Map {
        let map = create::create(&array(value_size), None).unwrap();
        Map::new(Arc::new(HostedMap::new(map)))
    }

    fn outer(max_entries: u32) -> HashOfMaps {
        let inner = Some(Box::new(array(8)));
        let spec = MapSpec {
            key_size: 4,
            value_size: 4,
            max_entries,
            inner,
            ..MapSpec::new("outer", MapType::HashOfMaps)
        };
        HashOfMaps::create(&spec, None).unwrap()
    }

    fn at(map: &HashOfMaps, key: u32) -> Option<u32> {
        map.map_at(Place::over(&mut key.to_le_bytes())).map(|map| map.core().id)
    }

    #[test]
    fn maps_come_and_go() {
        let (outer, a, b) = (outer(1), inner(8), inner(8));
        let id = |map: &Map| map.inner.user().unwrap().core().id;
        assert_eq!(at(&outer, 1), None);
        assert_eq!(outer.set_map(&[1, 0, 0, 0], &a, BPF_EXIST), Err(MapError::NotFound));
        assert_eq!(outer.set_map(&[1, 0, 0, 0], &a, 0), Ok(()));
        assert_eq!(outer.set_map(&[1, 0, 0, 0], &b, BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(at(&outer, 1), Some(id(&a)));
        assert_eq!(outer.set_map(&[2, 0, 0, 0], &b, 0), Err(MapError::TooBig));
        assert_eq!(outer.set_map(&[1, 0, 0, 0], &inner(16), 0), Err(MapError::Invalid));
        for map in [&b, &a, &b] {
            assert_eq!(outer.set_map(&[1, 0, 0, 0], map, 0), Ok(()));
            assert_eq!(at(&outer, 1), Some(id(map)));
        }
        assert_eq!(outer.delete(&[1, 0, 0, 0]), Ok(()));
        assert_eq!(outer.delete(&[1, 0, 0, 0]), Err(MapError::NotFound));
        assert_eq!(at(&outer, 1), None);
        // Nothing is left behind: what the slots held is gone with them.
        assert_eq!(Arc::strong_count(a.inner.user().unwrap()), 1);
        assert_eq!(Arc::strong_count(b.inner.user().unwrap()), 1);
    }

    #[test]
    fn readers_find_one_or_the_other() {
        let (outer, a, b) = (outer(1), inner(8), inner(8));
        outer.set_map(&[0; 4], &a, 0).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(at(&outer, 0).is_some());
                }
            });
            for round in 0..3000 {
                outer.set_map(&[0; 4], if round % 2 == 0 { &b } else { &a }, 0).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
