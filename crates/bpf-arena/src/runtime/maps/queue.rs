//! `BPF_MAP_TYPE_QUEUE` and `BPF_MAP_TYPE_STACK`: values without keys, pushed and popped.

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bpf_object::{MapSpec, MapType};

use super::{MapCore, UserMap, memory};
use crate::access::{Block, BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_NOEXIST};

/// A queue or a stack.
pub(super) struct QueueMap {
    core: MapCore,
    /// Whether the value pushed last is the one popped first.
    is_stack: bool,
    /// `max_entries` values, used in turn. Programs get copies, never addresses.
    values: Block,
    ends: Mutex<Ends>,
}

/// What of the values is in use.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    /// Index of the oldest value.
    oldest: u32,
    /// How many there are.
    count: u32,
}

impl QueueMap {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let values = memory::reserve(u64::from(spec.value_size).saturating_mul(u64::from(spec.max_entries)))?;
        let is_stack = spec.map_type == MapType::Stack;
        Ok(Self { core: MapCore::new(spec), is_stack, values, ends: Mutex::default() })
    }

    fn push(&self, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        if flags & BPF_NOEXIST != 0 || flags > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        let most = self.core.spec.max_entries;
        let mut ends = self.lock();
        if ends.count == most {
            if flags != BPF_EXIST {
                return Err(MapError::TooBig);
            }
            // Room is made at the expense of the oldest.
            ends.oldest = self.index(*ends, 1);
            ends.count -= 1;
        }
        if let Some(place) = self.value(self.index(*ends, ends.count)) {
            place.copy_from(value);
        }
        ends.count += 1;
        Ok(())
    }

    /// Copies the next value to `to`, which is zeroed if there is none, and removes it.
    fn get(&self, to: Place<'_>, remove: bool) -> Result<(), MapError> {
        let mut ends = self.lock();
        let Some(left) = ends.count.checked_sub(1) else {
            to.clear();
            return Err(MapError::NotFound);
        };
        let index = if self.is_stack { self.index(*ends, left) } else { ends.oldest };
        if let Some(place) = self.value(index) {
            to.copy_from(place);
        }
        if remove {
            if !self.is_stack {
                ends.oldest = self.index(*ends, 1);
            }
            ends.count = left;
        }
        Ok(())
    }

    /// Index of the value `after` the oldest.
    fn index(&self, ends: Ends, after: u32) -> u32 {
        let index = u64::from(ends.oldest) + u64::from(after);
        let index = index % u64::from(self.core.spec.max_entries.max(1));
        u32::try_from(index).unwrap_or(0)
    }

    fn value(&self, index: u32) -> Option<Place<'_>> {
        let size = u64::from(self.core.spec.value_size);
        self.values.place(u64::from(index) * size, size)
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadedMap for QueueMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, _: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        self.get(Place::over(value), false)
    }

    fn update(&self, _: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.push(Place::over(&mut value.to_vec()), flags)
    }

    fn delete(&self, _: &[u8]) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn lookup_and_delete(&self, _: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        self.get(Place::over(value), true)
    }
}

impl UserMap for QueueMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn update_elem(&self, _: &CpuSlot, _: Place<'_>, _: Place<'_>, _: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn push_elem(&self, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        self.push(value, flags)
    }

    fn pop_elem(&self, value: Place<'_>) -> Result<(), MapError> {
        self.get(value, true)
    }

    fn peek_elem(&self, value: Place<'_>) -> Result<(), MapError> {
        self.get(value, false)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(map_type: MapType, max_entries: u32) -> QueueMap {
        let spec = MapSpec { value_size: 3, max_entries, ..MapSpec::new("map", map_type) };
        QueueMap::create(spec).unwrap()
    }

    fn pop(map: &QueueMap) -> Result<Vec<u8>, MapError> {
        let mut value = vec![9; 3];
        map.lookup_and_delete(&[], &mut value, 0).map(|()| value)
    }

    #[test]
    fn a_queue_gives_the_oldest_first() {
        let map = map(MapType::Queue, 2);
        assert_eq!(pop(&map), Err(MapError::NotFound));
        assert_eq!(map.update(&[], &[1; 3], 0), Ok(()));
        assert_eq!(map.update(&[], &[2; 3], 0), Ok(()));
        assert_eq!(map.update(&[], &[3; 3], 0), Err(MapError::TooBig));
        // With `BPF_EXIST` the oldest makes room.
        assert_eq!(map.update(&[], &[3; 3], BPF_EXIST), Ok(()));
        let mut peeked = [0; 3];
        assert_eq!(map.lookup(&[], &mut peeked, 0), Ok(()));
        assert_eq!(peeked, [2; 3]);
        assert_eq!(pop(&map), Ok(vec![2; 3]));
        assert_eq!(pop(&map), Ok(vec![3; 3]));
        assert_eq!(pop(&map), Err(MapError::NotFound));
    }

    #[test]
    fn a_stack_gives_the_newest_first() {
        let map = map(MapType::Stack, 2);
        for round in 0..5 {
            map.update(&[], &[round; 3], BPF_EXIST).unwrap();
        }
        assert_eq!(pop(&map), Ok(vec![4; 3]));
        map.update(&[], &[7; 3], 0).unwrap();
        assert_eq!(pop(&map), Ok(vec![7; 3]));
        assert_eq!(pop(&map), Ok(vec![3; 3]));
        assert_eq!(pop(&map), Err(MapError::NotFound));
    }

    #[test]
    fn only_any_and_exist_push() {
        let map = map(MapType::Queue, 1);
        for flags in [BPF_NOEXIST, 3, 4, 1 << 40] {
            assert_eq!(map.update(&[], &[0; 3], flags), Err(MapError::Invalid), "{flags}");
        }
        assert_eq!(map.delete(&[]), Err(MapError::Invalid));
        assert_eq!(map.next_key(None, &mut []), Err(MapError::Invalid));
    }

    #[test]
    fn what_is_not_there_reads_as_zeroes() {
        let map = map(MapType::Stack, 1);
        let mut value = [1; 3];
        assert_eq!(map.pop_elem(Place::over(&mut value)), Err(MapError::NotFound));
        assert_eq!(value, [0; 3]);
    }
}
