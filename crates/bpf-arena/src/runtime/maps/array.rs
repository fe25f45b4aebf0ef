//! `BPF_MAP_TYPE_ARRAY` and `PERCPU_ARRAY`, and the global data sections, which are arrays of one value.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bpf_object::{BPF_F_RDONLY_PROG, Btf, MapOrigin, MapSpec, MapType};
use codegen::abi;
use isa::Size;

use super::fields::ValueFields;
use super::percpu::PerCpu;
use super::visit::Indices;
use super::{MapCore, UserMap};
use crate::access::{Block, BlockTable, Place};
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};

/// An array.
pub(super) struct ArrayMap {
    core: MapCore,
    fields: ValueFields,
    storage: Storage,
    /// The keys of callbacks.
    indices: Indices,
    /// `.rodata` once it is loaded: nobody writes it any more.
    frozen: bool,
}

/// Where the values lie.
enum Storage {
    /// One after the other.
    Shared { block: Arc<Block>, stride: u64 },
    /// On each CPU.
    PerCpu(PerCpu),
}

impl ArrayMap {
    /// Creates it with its initial contents. The attributes have been checked.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn create(spec: &MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        let (spec, fields) = (spec.clone(), ValueFields::of(spec, btf));
        let storage = if spec.map_type == MapType::PercpuArray {
            Storage::PerCpu(PerCpu::new(spec.value_size, fields.clone(), spec.max_entries)?)
        } else {
            let stride = abi::value_stride(spec.value_size);
            let bytes = stride.saturating_mul(u64::from(spec.max_entries));
            let block = usize::try_from(bytes).ok().and_then(Block::new);
            let block = block.ok_or(MapError::NoMemory { bytes })?;
            if let Some(place) = block.place(0, u64::from(spec.value_size)) {
                place.write(&spec.initial);
                fields.init(place);
            }
            Storage::Shared { block: Arc::new(block), stride }
        };
        let frozen = matches!(spec.origin, MapOrigin::Data { read_only: true, .. } | MapOrigin::Kconfig);
        Ok(Self { core: MapCore::new(spec), fields, storage, indices: Indices::new()?, frozen })
    }

    /// An index in the map, read from a program's memory.
    #[inline]
    fn index(&self, key: Place<'_>) -> Option<u32> {
        let index = u32::try_from(key.load(Size::W, Ordering::Relaxed)).ok()?;
        (index < self.core.spec.max_entries).then_some(index)
    }

    /// An index in the map, as the host gives it.
    fn host_index(&self, key: &[u8]) -> Result<Option<u32>, MapError> {
        let key =
            <[u8; 4]>::try_from(key).map_err(|_| MapError::KeySize { expected: 4, given: key.len() })?;
        Ok(Some(u32::from_le_bytes(key)).filter(|index| *index < self.core.spec.max_entries))
    }

    /// The value at an index, as a program on this CPU sees it.
    #[inline]
    fn value(&self, index: u32, cpu: impl FnOnce() -> u32) -> Option<Place<'_>> {
        match &self.storage {
            Storage::Shared { block, stride } => {
                block.place(u64::from(index) * stride, u64::from(self.core.spec.value_size))
            }
            Storage::PerCpu(values) => values.value(index, cpu()),
        }
    }

    /// A range of the values where they lie.
    fn range(&self, offset: u64, len: usize) -> Result<Place<'_>, MapError> {
        let Storage::Shared { block, stride } = &self.storage else { return Err(MapError::Unsupported) };
        let end = offset.saturating_add(len as u64);
        // The padding behind the last value is nobody's.
        let padding = stride - u64::from(self.core.spec.value_size);
        let inside = end <= block.len() as u64 - padding;
        let place = if inside { block.place(offset, len as u64) } else { None };
        place.ok_or(MapError::OutOfRange { offset, end })
    }

    /// What is checked before a value is stored; the index.
    fn check_update(&self, index: Option<u32>, flags: u64) -> Result<u32, MapError> {
        if flags & !BPF_F_LOCK > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        let index = index.ok_or(MapError::TooBig)?;
        if flags & BPF_NOEXIST != 0 {
            return Err(MapError::Exists);
        }
        if flags & BPF_F_LOCK != 0 && !self.fields.has_lock() {
            return Err(MapError::Invalid);
        }
        Ok(index)
    }

    /// Replaces a value, and ends what it owned.
    fn store(&self, value: Place<'_>, flags: u64, copy: impl FnOnce()) {
        if flags & BPF_F_LOCK == 0 {
            copy();
        } else {
            self.fields.locked(value, copy);
        }
        self.fields.free(value);
    }
}

impl Drop for ArrayMap {
    fn drop(&mut self) {
        if self.fields.is_empty() {
            return;
        }
        for index in 0..self.core.spec.max_entries {
            match &self.storage {
                Storage::PerCpu(values) => values.free(index),
                Storage::Shared { .. } => {
                    if let Some(value) = self.value(index, || 0) {
                        self.fields.free(value);
                    }
                }
            }
        }
    }
}

impl LoadedMap for ArrayMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        let index = self.host_index(key)?.ok_or(MapError::NotFound)?;
        match &self.storage {
            Storage::PerCpu(values) => values.load_all(index, value),
            Storage::Shared { .. } => {
                let from = self.value(index, || 0).ok_or(MapError::NotFound)?;
                if flags & BPF_F_LOCK == 0 {
                    self.fields.read(from, value);
                } else {
                    self.fields.locked(from, || self.fields.read(from, value));
                }
            }
        }
        Ok(())
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        if value.len() != self.value_bytes() {
            return Err(MapError::ValueSize { expected: self.core.spec.value_size, given: value.len() });
        }
        let index = self.check_update(self.host_index(key)?, flags)?;
        match &self.storage {
            Storage::PerCpu(values) => values.store_all(index, value),
            Storage::Shared { .. } => {
                let to = self.value(index, || 0).ok_or(MapError::TooBig)?;
                self.store(to, flags, || self.fields.write(to, value));
            }
        }
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.host_index(key)?;
        Err(MapError::Invalid)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        // An index past the end starts over.
        let index = match key.map(|key| self.host_index(key)).transpose()?.flatten() {
            None => 0,
            Some(last) if last + 1 == self.core.spec.max_entries => return Err(MapError::NotFound),
            Some(index) => index + 1,
        };
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
        self.fields.has_lock()
    }

    fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        self.range(offset, bytes.len())?.read(bytes);
        if self.core.spec.max_entries == 1 {
            self.fields.hide(usize::try_from(offset).unwrap_or(usize::MAX), bytes);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        let range = self.range(offset, bytes.len())?;
        if self.fields.is_empty() {
            range.write(bytes);
            return Ok(());
        }
        // The only values with fields that the host may write in place are data sections.
        let value = self.value(0, || 0).filter(|_| self.core.spec.max_entries == 1);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.fields.write_at(value.ok_or(MapError::Unsupported)?, offset, bytes);
        Ok(())
    }
}

impl UserMap for ArrayMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        let writable = !self.frozen && self.core.spec.flags & BPF_F_RDONLY_PROG == 0;
        let block = match &self.storage {
            Storage::Shared { block, .. } => block,
            Storage::PerCpu(values) => values.memory(),
        };
        table.insert(Arc::clone(block), writable);
        table.insert(Arc::clone(self.indices.memory()), false);
    }

    #[inline]
    fn lookup_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Option<u64> {
        let index = self.index(key)?;
        Some(self.value(index, || cpu.get())?.address())
    }

    fn lookup_percpu_elem(&self, key: Place<'_>, cpu: u32) -> Option<u64> {
        let Storage::PerCpu(values) = &self.storage else { return None };
        Some(values.value(self.index(key)?, cpu)?.address())
    }

    fn update_elem(
        &self,
        cpu: &CpuSlot,
        key: Place<'_>,
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        let index = self.check_update(self.index(key), flags)?;
        match &self.storage {
            Storage::PerCpu(values) => values.store(index, cpu.get(), value),
            Storage::Shared { .. } => {
                let to = self.value(index, || 0).ok_or(MapError::TooBig)?;
                self.store(to, flags, || self.fields.copy(to, value));
            }
        }
        Ok(())
    }

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn for_each_elem(&self, cpu: &CpuSlot, visit: &mut dyn FnMut(u64, u64) -> bool) -> Result<u64, MapError> {
        let key = self.indices.begin(cpu.get());
        let mut visited = 0;
        for index in 0..self.core.spec.max_entries {
            let (Some(key), Some(value)) = (key.set(index), self.value(index, || cpu.get())) else { break };
            visited += 1;
            if !visit(key, value.address()) {
                break;
            }
        }
        Ok(visited)
    }

    fn direct_value(&self) -> u64 {
        match &self.storage {
            Storage::Shared { block, .. } => block.address(),
            Storage::PerCpu(values) => values.memory().address(),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu;
    use crate::map::BPF_ANY;

    fn spec(value_size: u32, max_entries: u32) -> MapSpec {
        MapSpec { key_size: 4, value_size, max_entries, ..MapSpec::new("map", MapType::Array) }
    }

    fn create(spec: MapSpec) -> ArrayMap {
        ArrayMap::create(&spec, None).unwrap()
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
        map.lookup_elem(&CpuSlot::default(), Place::over(&mut key(index)))
    }

    #[test]
    fn elements_as_the_kernel_has_them() {
        let map = create(spec(3, 2));
        assert_eq!(look(&map, &key(1)), Ok(vec![0; 3]));
        assert_eq!(look(&map, &key(2)), Err(MapError::NotFound));
        assert_eq!(map.update(&key(1), &[1, 2, 3], BPF_ANY), Ok(()));
        assert_eq!(map.update(&key(1), &[4, 5, 6], BPF_EXIST), Ok(()));
        assert_eq!(look(&map, &key(1)), Ok(vec![4, 5, 6]));
        assert_eq!(look(&map, &key(0)), Ok(vec![0; 3]));
        assert_eq!(map.update(&key(1), &[1, 2, 3], BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(map.update(&key(2), &[1, 2, 3], BPF_ANY), Err(MapError::TooBig));
        assert_eq!(map.update(&key(2), &[1, 2, 3], BPF_NOEXIST), Err(MapError::TooBig));
        assert_eq!(map.update(&key(2), &[1, 2, 3], 8), Err(MapError::Invalid));
        assert_eq!(map.delete(&key(0)), Err(MapError::Invalid));
        assert_eq!(look(&map, &[0]), Err(MapError::KeySize { expected: 4, given: 1 }));
        assert_eq!(map.update(&key(0), &[0], BPF_ANY), Err(MapError::ValueSize { expected: 3, given: 1 }));
        assert_eq!(next(&map, None), Ok(0));
        assert_eq!(next(&map, Some(0)), Ok(1));
        assert_eq!(next(&map, Some(1)), Err(MapError::NotFound));
        assert_eq!(next(&map, Some(7)), Ok(0));
        assert_eq!(next(&map, Some(u32::MAX)), Ok(0));
        assert_eq!(address(&map, 1), address(&map, 0).map(|a| a + 8));
        assert_eq!(address(&map, 2), None);
    }

    #[test]
    fn data_sections_are_read_and_written_in_place() {
        let map = create(MapSpec { initial: vec![1, 2], ..spec(8, 1) });
        let mut bytes = [0; 3];
        map.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 0]);
        map.write_at(6, &[7, 8]).unwrap();
        assert!(matches!(map.write_at(7, &[7, 8]), Err(MapError::OutOfRange { offset: 7, end: 9 })));
        assert_eq!(look(&map, &key(0)), Ok(vec![1, 2, 0, 0, 0, 0, 7, 8]));
        assert_ne!(map.direct_value(), 0);
    }

    #[test]
    fn an_array_too_large_for_memory() {
        let huge = ArrayMap::create(&spec(i32::MAX as u32, u32::MAX), None);
        assert!(matches!(huge, Err(MapError::NoMemory { .. })));
    }

    #[test]
    fn each_cpu_has_its_values() {
        let map = create(MapSpec { map_type: MapType::PercpuArray, ..spec(4, 3) });
        let cpus = cpu::possible();
        assert_eq!(map.value_bytes(), 8 * cpus);
        let values: Vec<u8> = (1..).take(8 * cpus).collect();
        assert_eq!(map.update(&key(2), &values, BPF_ANY), Ok(()));
        assert_eq!(look(&map, &key(2)), Ok(values.clone()));
        assert_eq!(look(&map, &key(1)), Ok(vec![0; 8 * cpus]));
        assert_eq!(map.update(&key(2), &values, BPF_F_LOCK), Err(MapError::Invalid));
        assert_eq!(map.update(&key(2), &values, BPF_NOEXIST), Err(MapError::Exists));
        let slot = CpuSlot::default();
        let own = map.lookup_elem(&slot, Place::over(&mut key(2)));
        assert_eq!(own, map.lookup_percpu_elem(Place::over(&mut key(2)), slot.get()));
        assert_eq!(map.lookup_percpu_elem(Place::over(&mut key(2)), u32::try_from(cpus).unwrap()), None);
        // A program replaces what it can see of its own value.
        let mut new = [9; 4];
        assert_eq!(map.update_elem(&slot, Place::over(&mut key(2)), Place::over(&mut new), 0), Ok(()));
        let mut expected = values;
        expected[8 * slot.get() as usize..][..4].fill(9);
        assert_eq!(look(&map, &key(2)), Ok(expected));
    }

    #[test]
    fn visits_in_order_and_inside_of_each_other() {
        let map = create(spec(8, 4));
        let mut table = BlockTable::default();
        map.add_memory(&mut table);
        let slot = CpuSlot::default();
        let mut seen = Vec::new();
        let visited = map.for_each_elem(&slot, &mut |outer, value| {
            assert_eq!(Some(value), address(&map, u32::try_from(seen.len()).unwrap()));
            let inner = map.for_each_elem(&CpuSlot::default(), &mut |inner, _| {
                assert_ne!(inner, outer);
                false
            });
            assert_eq!(inner, Ok(1));
            seen.push(
                map.indices.memory().place(outer - map.indices.memory().address(), 4).unwrap().to_vec(),
            );
            seen.len() < 3
        });
        assert_eq!(visited, Ok(3));
        assert_eq!(seen, [key(0), key(1), key(2)]);
    }
}
