//! `BPF_MAP_TYPE_ARRAY`, and the global data sections, which are arrays of one value.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bpf_object::{BPF_F_RDONLY_PROG, Btf, MapOrigin, MapSpec};
use isa::Size;

use super::{MapCore, UserMap};
use crate::access::{Block, BlockTable, Place};
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};

/// Values lie one after the other, each at a multiple of this.
const VALUE_ALIGN: u64 = 8;

/// An array.
pub(super) struct ArrayMap {
    core: MapCore,
    block: Arc<Block>,
    stride: u64,
    /// The lock in each value, which copies in and out leave alone.
    lock: Option<Range<u64>>,
    /// `.rodata` once it is loaded: nobody writes it any more.
    frozen: bool,
}

impl ArrayMap {
    /// Creates it with its initial contents.
    pub(super) fn create(spec: MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        let lock = btf.and_then(|btf| lock_of(&spec, btf));
        Self::create_with(spec, lock)
    }

    fn create_with(spec: MapSpec, lock: Option<Range<u64>>) -> Result<Self, MapError> {
        let bad = |attribute, value: u32| MapError::BadAttribute { attribute, value: u64::from(value) };
        if spec.key_size != 4 {
            return Err(bad("key_size", spec.key_size));
        }
        if spec.value_size == 0 || i32::try_from(spec.value_size).is_err() {
            return Err(bad("value_size", spec.value_size));
        }
        if spec.max_entries == 0 {
            return Err(bad("max_entries", 0));
        }
        let stride = u64::from(spec.value_size).next_multiple_of(VALUE_ALIGN);
        let bytes = stride.saturating_mul(u64::from(spec.max_entries));
        let block = usize::try_from(bytes).ok().and_then(Block::new).ok_or(MapError::NoMemory { bytes })?;
        if let Some(place) = block.place(0, u64::from(spec.value_size)) {
            place.write(&spec.initial);
        }
        let frozen = matches!(spec.origin, MapOrigin::Data { read_only: true, .. } | MapOrigin::Kconfig);
        Ok(Self { core: MapCore::new(spec), block: Arc::new(block), stride, lock, frozen })
    }

    /// The value at a key; `None` past the end.
    fn value(&self, key: &[u8]) -> Result<Option<Place<'_>>, MapError> {
        let Ok(key) = <[u8; 4]>::try_from(key) else {
            return Err(MapError::KeySize { expected: 4, given: key.len() });
        };
        let index = u32::from_le_bytes(key);
        if index >= self.core.spec.max_entries {
            return Ok(None);
        }
        Ok(self.block.place(u64::from(index) * self.stride, u64::from(self.core.spec.value_size)))
    }

    /// A range of the only value.
    fn range(&self, offset: u64, len: usize) -> Result<Place<'_>, MapError> {
        let end = offset.saturating_add(len as u64);
        if end > u64::from(self.core.spec.value_size) {
            return Err(MapError::OutOfRange { offset, end });
        }
        self.block.place(offset, len as u64).ok_or(MapError::OutOfRange { offset, end })
    }
}

impl LoadedMap for ArrayMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _flags: u64) -> Result<(), MapError> {
        self.value(key)?.ok_or(MapError::NotFound)?.read(value);
        if let Some(lock) = &self.lock {
            value.iter_mut().zip(0..).filter(|(_, at)| lock.contains(at)).for_each(|(byte, _)| *byte = 0);
        }
        Ok(())
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        if value.len() as u64 != u64::from(self.core.spec.value_size) {
            return Err(MapError::ValueSize { expected: self.core.spec.value_size, given: value.len() });
        }
        if flags & !BPF_F_LOCK > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        let place = self.value(key)?.ok_or(MapError::TooBig)?;
        if flags & BPF_NOEXIST != 0 {
            return Err(MapError::Exists);
        }
        match self.lock.as_ref().and_then(|lock| split(value, lock)) {
            None => place.write(value),
            Some((before, after)) => {
                place.write(before);
                if let Some(place) = place.at(value.len() - after.len()) {
                    place.write(after);
                }
            }
        }
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.value(key)?;
        Err(MapError::Invalid)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        let index = match key.map(<[u8; 4]>::try_from) {
            Some(Ok(bytes)) => u32::from_le_bytes(bytes).checked_add(1).unwrap_or(0),
            Some(Err(_)) => return Err(MapError::KeySize { expected: 4, given: key.map_or(0, <[u8]>::len) }),
            None => 0,
        };
        // An index past the end starts over, as in the kernel.
        let index = if index > self.core.spec.max_entries { 0 } else { index };
        if index >= self.core.spec.max_entries {
            return Err(MapError::NotFound);
        }
        next.iter_mut().zip(index.to_le_bytes()).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        if batch.delete {
            return (0, Err(MapError::NoOperation));
        }
        batch::lookup_each(self, batch)
    }

    fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        batch::update_each(self, keys, values, flags)
    }

    fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    fn has_fields(&self) -> bool {
        self.lock.is_some()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        self.range(offset, bytes.len())?.read(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        self.range(offset, bytes.len())?.write(bytes);
        Ok(())
    }
}

impl UserMap for ArrayMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        let writable = !self.frozen && self.core.spec.flags & BPF_F_RDONLY_PROG == 0;
        table.insert(Arc::clone(&self.block), writable);
    }

    fn lookup_elem(&self, _: &CpuSlot, key: Place<'_>) -> Option<u64> {
        let index = key.load(Size::W, Ordering::Relaxed);
        let place = self.block.place(index * self.stride, u64::from(self.core.spec.value_size));
        place.filter(|_| index < u64::from(self.core.spec.max_entries)).map(|place| place.address())
    }

    fn update_elem(&self, _: &CpuSlot, key: Place<'_>, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        self.update(&key.to_vec(), &value.to_vec(), flags)
    }

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn direct_value(&self) -> u64 {
        self.block.address()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What lies before and after the lock.
fn split<'v>(value: &'v [u8], lock: &Range<u64>) -> Option<(&'v [u8], &'v [u8])> {
    let (start, end) = (usize::try_from(lock.start).ok()?, usize::try_from(lock.end).ok()?);
    Some((value.get(..start)?, value.get(end..)?))
}

/// Where the lock lies in a map's values: a member of type `struct bpf_spin_lock`.
fn lock_of(spec: &MapSpec, btf: &Btf) -> Option<Range<u64>> {
    let value = btf.composite(spec.value_btf?)?;
    let is_lock = |member: &&bpf_object::Member| btf.name(btf.resolve(member.ty)) == "bpf_spin_lock";
    let lock = value.members.iter().find(is_lock)?;
    let start = u64::from(lock.bit_offset) / 8;
    Some(start..start + btf.size_of(lock.ty)?)
}

#[cfg(test)]
mod tests {
    use bpf_object::MapType;

    use super::*;
    use crate::map::BPF_ANY;

    fn spec(value_size: u32, max_entries: u32) -> MapSpec {
        MapSpec { key_size: 4, value_size, max_entries, ..MapSpec::new("map", MapType::Array) }
    }

    fn look(map: &ArrayMap, key: &[u8]) -> Result<Vec<u8>, MapError> {
        let mut value = vec![0; map.value_bytes()];
        map.lookup(key, &mut value, 0).map(|()| value)
    }

    fn next(map: &ArrayMap, index: Option<u32>) -> Result<u32, MapError> {
        let mut next = [0; 4];
        map.next_key(index.map(key).as_ref().map(<[u8; 4]>::as_slice), &mut next)?;
        Ok(u32::from_le_bytes(next))
    }

    fn key(index: u32) -> [u8; 4] {
        index.to_le_bytes()
    }

    fn address(map: &ArrayMap, index: u32) -> Option<u64> {
        let block = Block::new(4).unwrap();
        let place = block.place(0, 4).unwrap();
        place.write(&key(index));
        map.lookup_elem(&CpuSlot::default(), place)
    }

    #[test]
    fn elements_as_the_kernel_has_them() {
        let map = ArrayMap::create_with(spec(3, 2), None).unwrap();
        assert_eq!(look(&map, &key(1)), Ok(vec![0; 3]));
        assert_eq!(look(&map, &key(2)), Err(MapError::NotFound));
        assert_eq!(map.update(&key(1), &[1, 2, 3], BPF_ANY), Ok(()));
        assert_eq!(map.update(&key(1), &[4, 5, 6], BPF_EXIST), Ok(()));
        assert_eq!(look(&map, &key(1)), Ok(vec![4, 5, 6]));
        assert_eq!(look(&map, &key(0)), Ok(vec![0; 3]));
        assert_eq!(map.update(&key(1), &[1, 2, 3], BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(map.update(&key(2), &[1, 2, 3], BPF_ANY), Err(MapError::TooBig));
        assert_eq!(map.delete(&key(0)), Err(MapError::Invalid));
        assert_eq!(look(&map, &[0]), Err(MapError::KeySize { expected: 4, given: 1 }));
        assert_eq!(map.update(&key(0), &[0], BPF_ANY), Err(MapError::ValueSize { expected: 3, given: 1 }));
        assert_eq!(next(&map, None), Ok(0));
        assert_eq!(next(&map, Some(0)), Ok(1));
        assert_eq!(next(&map, Some(1)), Err(MapError::NotFound));
        assert_eq!(next(&map, Some(7)), Ok(0));
        assert_eq!(address(&map, 1), address(&map, 0).map(|a| a + 8));
        assert_eq!(address(&map, 2), None);
    }

    #[test]
    fn bad_attributes_are_refused() {
        assert!(ArrayMap::create_with(spec(0, 1), None).is_err());
        assert!(ArrayMap::create_with(spec(1, 0), None).is_err());
        assert!(ArrayMap::create_with(MapSpec { key_size: 8, ..spec(1, 1) }, None).is_err());
        let huge = ArrayMap::create_with(spec(i32::MAX as u32, u32::MAX), None);
        assert!(matches!(huge, Err(MapError::NoMemory { .. })));
    }

    #[test]
    fn data_sections_are_read_and_written_in_place() {
        let map = ArrayMap::create_with(MapSpec { initial: vec![1, 2], ..spec(8, 1) }, None).unwrap();
        let mut bytes = [0; 3];
        map.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 0]);
        map.write_at(6, &[7, 8]).unwrap();
        assert!(matches!(map.write_at(7, &[7, 8]), Err(MapError::OutOfRange { offset: 7, end: 9 })));
        assert_eq!(look(&map, &key(0)), Ok(vec![1, 2, 0, 0, 0, 0, 7, 8]));
        assert_ne!(map.direct_value(), 0);
    }

    #[test]
    fn a_lock_is_left_alone() {
        let map = ArrayMap::create_with(spec(12, 1), Some(4..8)).unwrap();
        map.write_at(0, &[1; 12]).unwrap();
        assert_eq!(look(&map, &key(0)), Ok(vec![1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]));
        map.update(&key(0), &[2; 12], BPF_ANY).unwrap();
        let mut bytes = [0; 12];
        map.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
    }
}
