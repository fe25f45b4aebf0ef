//! A map of this process as its host uses it: what the commands of bpf(2) check before they come to the map's type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bpf_object::{MapOrigin, MapSpec, MapType};

use super::UserMap;
use crate::Program;
use crate::backend::{BatchRead, LoadedMap, RingMemory};
use crate::error::MapError;
use crate::map::{BPF_F_LOCK, BPF_F_RDONLY, BPF_F_WRONLY, EventSink, Map};

/// The host's side of a map: permissions, freezing, sizes and flags (`kernel/bpf/syscall.c`), then the map itself.
pub(super) struct HostedMap {
    map: Arc<dyn UserMap>,
    key_bytes: usize,
    value_bytes: usize,
    /// `BPF_MAP_FREEZE`: the host writes no more. Set once, with no writer inside.
    frozen: AtomicBool,
    /// Host operations that write at the moment; a map is only frozen when there is none.
    writers: AtomicUsize,
}

/// The operations on many elements at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BatchOp {
    Read,
    Take,
    Update,
    Delete,
}

impl BatchOp {
    /// Whether maps of this type have it.
    fn is_of(self, map_type: MapType) -> bool {
        use MapType as T;
        match map_type {
            T::Hash | T::PercpuHash | T::LruHash | T::LruPercpuHash | T::HashOfMaps => true,
            T::LpmTrie => self != Self::Take,
            T::Array | T::PercpuArray | T::ArrayOfMaps => matches!(self, Self::Read | Self::Update),
            _ => false,
        }
    }
}

/// Counts a host operation that writes.
struct Writing<'m>(&'m AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl HostedMap {
    /// The host's side of a map that has its initial contents.
    pub(super) fn new(map: Arc<dyn UserMap>) -> Self {
        let frozen =
            matches!(map.spec().origin, MapOrigin::Data { read_only: true, .. } | MapOrigin::Kconfig);
        let (key_bytes, value_bytes) = (map.key_bytes(), map.value_bytes());
        Self { map, key_bytes, value_bytes, frozen: AtomicBool::new(frozen), writers: AtomicUsize::new(0) }
    }

    fn may_read(&self) -> Result<(), MapError> {
        if self.map.spec().flags & BPF_F_WRONLY == 0 { Ok(()) } else { Err(MapError::ReadOnly) }
    }

    fn begin_write(&self) -> Result<Writing<'_>, MapError> {
        self.writers.fetch_add(1, Ordering::SeqCst);
        let writing = Writing(&self.writers);
        let may = self.map.spec().flags & BPF_F_RDONLY == 0 && !self.frozen.load(Ordering::SeqCst);
        if may { Ok(writing) } else { Err(MapError::ReadOnly) }
    }

    /// `BPF_F_LOCK` needs a lock in the value.
    fn check_lock(&self, flags: u64) -> Result<(), MapError> {
        if flags & BPF_F_LOCK == 0 || self.map.has_lock() { Ok(()) } else { Err(MapError::Invalid) }
    }

    /// What operations that take no other flag allow.
    fn only_lock(flags: u64) -> Result<(), MapError> {
        if flags & !BPF_F_LOCK == 0 { Ok(()) } else { Err(MapError::Invalid) }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), MapError> {
        if key.len() == self.key_bytes {
            return Ok(());
        }
        let expected = u32::try_from(self.key_bytes).unwrap_or(u32::MAX);
        Err(MapError::KeySize { expected, given: key.len() })
    }

    fn check_value(&self, value: &[u8]) -> Result<(), MapError> {
        if value.len() == self.value_bytes {
            return Ok(());
        }
        let expected = u32::try_from(self.value_bytes).unwrap_or(u32::MAX);
        Err(MapError::ValueSize { expected, given: value.len() })
    }

    /// Checks that there are such batches, and keys and values are whole and as many.
    fn check_batch(
        &self,
        batch: BatchOp,
        keys: &[u8],
        values: Option<&[u8]>,
        flags: u64,
    ) -> Result<(), MapError> {
        if !batch.is_of(self.map.spec().map_type) {
            return Err(MapError::NoOperation);
        }
        let count = keys.len().checked_div(self.key_bytes).unwrap_or(0);
        if keys.len() != count.saturating_mul(self.key_bytes) {
            return self.check_key(keys);
        }
        if let Some(values) = values
            && values.len() != count.saturating_mul(self.value_bytes)
        {
            return self.check_value(values);
        }
        Self::only_lock(flags)?;
        self.check_lock(flags)
    }

    /// Whether the values of this type are maps or programs, which the host does not store as bytes.
    fn holds_objects(&self) -> bool {
        use MapType as T;
        matches!(self.map.spec().map_type, T::ArrayOfMaps | T::HashOfMaps | T::ProgArray)
    }
}

impl LoadedMap for HostedMap {
    fn spec(&self) -> &MapSpec {
        self.map.spec()
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        self.check_key(key)?;
        self.check_value(value)?;
        Self::only_lock(flags)?;
        self.may_read()?;
        self.check_lock(flags)?;
        self.map.lookup(key, value, flags)
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.check_key(key)?;
        self.check_value(value)?;
        let _writing = self.begin_write()?;
        self.check_lock(flags)?;
        if self.holds_objects() {
            // The value would be a descriptor, which nothing here has.
            return Err(MapError::OtherEngine);
        }
        self.map.update(key, value, flags)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.check_key(key)?;
        let _writing = self.begin_write()?;
        self.map.delete(key)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        key.map_or(Ok(()), |key| self.check_key(key))?;
        self.check_key(next)?;
        self.may_read()?;
        self.map.next_key(key, next)
    }

    fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        self.check_key(key)?;
        self.check_value(value)?;
        Self::only_lock(flags)?;
        self.may_read()?;
        let _writing = self.begin_write()?;
        if flags != 0 && matches!(self.spec().map_type, MapType::Queue | MapType::Stack) {
            return Err(MapError::Invalid);
        }
        self.check_lock(flags)?;
        self.map.lookup_and_delete(key, value, flags)
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        let operation = if batch.delete { BatchOp::Take } else { BatchOp::Read };
        let allowed = || {
            self.may_read()?;
            let writing = if batch.delete { Some(self.begin_write()?) } else { None };
            let cursor = self.key_bytes.max(size_of::<u32>());
            if batch.from.is_some_and(|from| from.len() < cursor) || batch.next.len() < cursor {
                return Err(MapError::Invalid);
            }
            self.check_batch(operation, batch.keys, Some(batch.values), batch.flags)?;
            Ok(writing)
        };
        match allowed() {
            Ok(_writing) => self.map.lookup_batch(batch),
            Err(error) => (0, Err(error)),
        }
    }

    fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        let allowed = || {
            let writing = self.begin_write()?;
            self.check_batch(BatchOp::Update, keys, Some(values), flags)?;
            if self.holds_objects() { Err(MapError::OtherEngine) } else { Ok(writing) }
        };
        match allowed() {
            Ok(_writing) => self.map.update_batch(keys, values, flags),
            Err(error) => (0, Err(error)),
        }
    }

    fn delete_batch(&self, keys: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        let allowed = || {
            self.begin_write().and_then(|w| self.check_batch(BatchOp::Delete, keys, None, flags).map(|()| w))
        };
        match allowed() {
            Ok(_writing) => self.map.delete_batch(keys, flags),
            Err(error) => (0, Err(error)),
        }
    }

    fn freeze(&self) -> Result<(), MapError> {
        if self.spec().map_type == MapType::StructOps || self.map.has_fields() {
            return Err(MapError::NoOperation);
        }
        if self.spec().flags & BPF_F_RDONLY != 0 || self.frozen.swap(true, Ordering::SeqCst) {
            return Err(MapError::ReadOnly);
        }
        // Writers look at the flag after they have counted themselves: each either is seen here or sees the flag.
        if self.writers.load(Ordering::SeqCst) > 0 {
            self.frozen.store(false, Ordering::SeqCst);
            return Err(MapError::Busy);
        }
        Ok(())
    }

    fn set_map(&self, key: &[u8], map: &Map, flags: u64) -> Result<(), MapError> {
        self.check_key(key)?;
        let _writing = self.begin_write()?;
        self.map.set_map(key, map, flags)
    }

    fn set_program(&self, key: &[u8], program: &Program, flags: u64) -> Result<(), MapError> {
        self.check_key(key)?;
        let _writing = self.begin_write()?;
        self.map.set_program(key, program, flags)
    }

    fn set_events(&self, sink: &EventSink) -> Result<(), MapError> {
        let _writing = self.begin_write()?;
        self.map.set_events(sink)
    }

    fn ring(&self) -> Result<Arc<dyn RingMemory>, MapError> {
        // The host writes one of the positions.
        let _writing = self.begin_write()?;
        self.map.ring()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        self.map.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        let _writing = self.begin_write()?;
        self.map.write_at(offset, bytes)
    }

    fn has_lock(&self) -> bool {
        self.map.has_lock()
    }

    fn has_fields(&self) -> bool {
        self.map.has_fields()
    }

    fn user(&self) -> Option<&Arc<dyn UserMap>> {
        Some(&self.map)
    }
}

#[cfg(test)]
mod tests {
    use super::super::array::ArrayMap;
    use super::*;
    use crate::map::BPF_ANY;

    fn hosted(spec: MapSpec) -> HostedMap {
        let spec = MapSpec { key_size: 4, value_size: 8, max_entries: 2, ..spec };
        HostedMap::new(Arc::new(ArrayMap::create(&spec, None).unwrap()))
    }

    fn new(flags: u32) -> HostedMap {
        hosted(MapSpec { flags, ..MapSpec::new("map", MapType::Array) })
    }

    #[test]
    fn sizes_and_flags_come_first() {
        let map = new(0);

        assert_eq!(map.lookup(&[0; 3], &mut [0; 8], 0), Err(MapError::KeySize { expected: 4, given: 3 }));
        assert_eq!(map.update(&[0; 4], &[0; 9], 0), Err(MapError::ValueSize { expected: 8, given: 9 }));
        assert_eq!(map.lookup(&[0; 4], &mut [0; 8], 8), Err(MapError::Invalid));
        assert_eq!(map.lookup(&[0; 4], &mut [0; 8], BPF_F_LOCK), Err(MapError::Invalid));
        assert_eq!(map.update_batch(&[0; 7], &[0; 8], 0).1, Err(MapError::KeySize { expected: 4, given: 7 }));
        assert_eq!(map.update_batch(&[0; 8], &[0; 16], 0), (2, Ok(())));
        assert_eq!(map.delete_batch(&[0; 8], 0), (0, Err(MapError::NoOperation)));
    }

    #[test]
    fn a_frozen_map_is_read_only_to_the_host() {
        let map = new(0);
        assert_eq!(map.update(&[0; 4], &[1; 8], BPF_ANY), Ok(()));
        assert_eq!(map.freeze(), Ok(()));
        assert_eq!(map.update(&[0; 4], &[2; 8], BPF_ANY), Err(MapError::ReadOnly));
        assert_eq!(map.delete(&[0; 4]), Err(MapError::ReadOnly));
        assert_eq!(map.freeze(), Err(MapError::ReadOnly));
        let mut value = [0; 8];
        assert_eq!(map.lookup(&[0; 4], &mut value, 0), Ok(()));
        assert_eq!(value, [1; 8]);
    }

    #[test]
    fn permissions_of_the_host() {
        let read_only = new(BPF_F_RDONLY);
        assert_eq!(read_only.update(&[0; 4], &[2; 8], BPF_ANY), Err(MapError::ReadOnly));
        assert_eq!(read_only.lookup(&[0; 4], &mut [0; 8], 0), Ok(()));
        let write_only = new(BPF_F_WRONLY);
        assert_eq!(write_only.update(&[0; 4], &[2; 8], BPF_ANY), Ok(()));
        assert_eq!(write_only.lookup(&[0; 4], &mut [0; 8], 0), Err(MapError::ReadOnly));
        assert_eq!(write_only.next_key(None, &mut [0; 4]), Err(MapError::ReadOnly));
    }

    #[test]
    fn constants_stay() {
        let origin = MapOrigin::Data { section: ".rodata".to_owned(), read_only: true };
        let map = hosted(MapSpec { origin, ..MapSpec::new(".rodata", MapType::Array) });
        assert_eq!(map.write_at(0, &[1]), Err(MapError::ReadOnly));
        assert_eq!(map.update(&[0; 4], &[1; 8], BPF_ANY), Err(MapError::ReadOnly));
    }
}
