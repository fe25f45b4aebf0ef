//! An object's maps in the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bpf_object::{KindTag, MapOrigin, MapSpec, MapType, Object};
use sys::bpf::{BpfError, Errno, Map, MapBtf, MapMemory, MapOptions, RingPages, possible_cpus};

use super::KernelError;
use super::btf::LoadedBtf;
use super::running::Running;
use crate::arena::{Arena, ArenaError, ArenaSpec, PageCount};
use crate::backend::{BatchRead, LoadedMap, RingMemory};
use crate::error::MapError;

/// The kernel's own number for "not supported", which no other system call gives.
const ENOTSUPP: i32 = 524;

/// A map in the kernel, with its memory when that can be mapped.
#[derive(Debug)]
pub(crate) struct KernelMap {
    spec: MapSpec,
    /// Of arrays that can be mapped: data sections from the start, others when they are first accessed in place,
    /// because a mapped array cannot be frozen.
    memory: OnceLock<MapMemory>,
    /// Of arenas.
    arena: Option<Arena>,
    map: Map,
}

impl KernelMap {
    pub(super) fn map(&self) -> &Map {
        &self.map
    }

    pub(super) fn arena(&self) -> Option<&Arena> {
        self.arena.as_ref()
    }
}

/// Creates every map, with its initial contents. Arenas are mapped before anything else happens: programs that use them
/// cannot be loaded earlier. Slots that hold programs stay empty.
pub(super) fn create_all(
    object: &Object,
    specs: &[MapSpec],
    btf: Option<&LoadedBtf>,
    running: &Running,
    arena: Option<&Arena>,
) -> Result<Vec<Arc<KernelMap>>, KernelError> {
    let creator = Creator { object, btf, running, arena };
    let mut maps = Vec::with_capacity(specs.len());
    for spec in specs {
        maps.push(Arc::new(creator.create(spec)?));
    }
    for (spec, map) in specs.iter().zip(&maps) {
        if !holds_maps(spec.map_type) {
            continue;
        }
        for slot in &spec.slots {
            let (index, target) = (slot.index, slot.target.clone());
            let inner = object
                .map(&target)
                .and_then(|(i, _)| maps.get(i))
                .ok_or_else(|| KernelError::NoSlotTarget { map: spec.name.clone(), index, target })?;
            store_descriptor(map, index, inner.map.as_fd())?;
        }
    }
    Ok(maps)
}

/// Stores an object's descriptor as the value of an index: maps of maps, program arrays.
pub(super) fn store_descriptor(map: &KernelMap, index: u32, fd: BorrowedFd<'_>) -> Result<(), KernelError> {
    let value = fd.as_raw_fd().to_ne_bytes();
    map.map
        .update(&index.to_ne_bytes(), &value, sys::bpf::ANY)
        .map_err(|source| KernelError::Map { map: map.spec.name.clone(), source })
}

/// What maps of one object are created with.
struct Creator<'a> {
    object: &'a Object,
    btf: Option<&'a LoadedBtf>,
    running: &'a Running,
    /// In the place of an arena that the object declares.
    arena: Option<&'a Arena>,
}

impl Creator<'_> {
    fn create(&self, spec: &MapSpec) -> Result<KernelMap, KernelError> {
        if let Some(arena) = self.arena.filter(|_| spec.map_type == MapType::Arena) {
            return take_arena(spec, arena);
        }
        let failed = |source| KernelError::Map { map: spec.name.clone(), source };
        if spec.map_type == MapType::StructOps && self.struct_ops_type(spec).is_none() {
            let name = self.object.btf.as_ref().zip(spec.value_btf).map(|(btf, id)| btf.name(id).to_owned());
            return Err(KernelError::NoStructOps {
                map: spec.name.clone(),
                c_type: name.unwrap_or_default(),
            });
        }
        let map = self.create_empty(spec).map_err(failed)?;
        let read_only = matches!(spec.origin, MapOrigin::Data { read_only: true, .. } | MapOrigin::Kconfig);
        let is_data = is_data(spec);
        if is_data && !spec.initial.is_empty() {
            let mut value = spec.initial.clone();
            value.resize(map.value_bytes(), 0);
            map.update(&0_u32.to_ne_bytes(), &value, sys::bpf::ANY).map_err(failed)?;
        }
        let memory = if is_data && is_mappable(spec) && !read_only {
            let refused = |errno| KernelError::Mapping { map: spec.name.clone(), errno };
            OnceLock::from(map.mmap().map_err(refused)?)
        } else {
            OnceLock::new()
        };
        if read_only {
            map.freeze().map_err(failed)?;
        }
        let arena = if spec.map_type == MapType::Arena {
            let refused = |source| KernelError::Arena { map: spec.name.clone(), source };
            Some(map_arena(spec, &map).map_err(failed)?.map_err(refused)?)
        } else {
            None
        };
        Ok(KernelMap { spec: spec.clone(), memory, arena, map })
    }

    /// Creates a map without its contents; without BTF types if the kernel does not want them for this map.
    fn create_empty(&self, spec: &MapSpec) -> Result<Map, BpfError> {
        // A map of maps is created from an example of what it will hold.
        let inner = match &spec.inner {
            Some(inner) if holds_maps(spec.map_type) => Some(self.create_empty(inner)?),
            _ => None,
        };
        let table = self.struct_ops_type(spec);
        let types = self.btf.filter(|_| spec.map_type.takes_types()).and_then(|btf| {
            let (key, value) = (spec.key_btf.map_or(0, |id| id.0), spec.value_btf.map_or(0, |id| id.0));
            (value != 0).then(|| match table {
                Some((vmlinux_value, _)) => MapBtf { fd: btf.fd.as_fd(), key: 0, value: 0, vmlinux_value },
                None => MapBtf { fd: btf.fd.as_fd(), key, value, vmlinux_value: 0 },
            })
        });
        let options = MapOptions {
            name: &spec.name,
            map_type: spec.map_type as u32,
            key_size: spec.key_size,
            value_size: table.map_or(spec.value_size, |(_, size)| size),
            max_entries: entries(spec),
            flags: spec.flags,
            numa_node: spec.numa_node,
            extra: spec.extra,
            inner: inner.as_ref().map(AsFd::as_fd),
            btf: types,
        };
        match Map::create(&options) {
            Err(BpfError::Call { .. }) if types.is_some() => {
                Map::create(&MapOptions { btf: None, ..options })
            }
            result => result,
        }
    }

    /// For a `struct_ops` table: id and size of the kernel's type that holds one.
    fn struct_ops_type(&self, spec: &MapSpec) -> Option<(u32, u32)> {
        if spec.map_type != MapType::StructOps {
            return None;
        }
        let name = self.object.btf.as_ref()?.name(spec.value_btf?);
        let id = self.running.btf.find(&format!("bpf_struct_ops_{name}"), KindTag::Struct)?;
        let size = self.running.btf.size_of(id)?;
        Some((id.0, u32::try_from(size).ok()?))
    }
}

/// An arena that there is already, in the place of one that the object declares.
fn take_arena(spec: &MapSpec, arena: &Arena) -> Result<KernelMap, KernelError> {
    let refused = |source| KernelError::Arena { map: spec.name.clone(), source };
    arena.check_declared(&ArenaSpec::from(spec), true).map_err(refused)?;
    let fd = arena.fd().try_clone_to_owned().map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::MFILE, Errno::from_raw_os_error);
        KernelError::Mapping { map: spec.name.clone(), errno }
    })?;
    let map = Map::from_fd(fd).map_err(|source| KernelError::Map { map: spec.name.clone(), source })?;
    Ok(KernelMap { spec: spec.clone(), memory: OnceLock::new(), arena: Some(arena.clone()), map })
}

/// Maps an arena into this process, at the address it asks for, and puts its globals where they belong.
fn map_arena(spec: &MapSpec, map: &Map) -> Result<Result<Arena, ArenaError>, BpfError> {
    let attributes = ArenaSpec::from(spec);
    let fd = map.try_clone()?.into_fd();
    Ok(Arena::of_kernel(fd, &attributes).and_then(|arena| {
        if arena.segv_on_fault() && !spec.initial.is_empty() {
            // A touch does not make pages here.
            let pages = spec.initial.len().div_ceil(sys::bpf::page_size());
            let pages = PageCount::new(u32::try_from(pages).unwrap_or(u32::MAX));
            arena.try_alloc_pages(Some(arena.user_vm_start()), pages)?;
        }
        arena.write_bytes(arena.user_vm_start(), &spec.initial)?;
        Ok(arena)
    }))
}

/// Entries, with what the loader fills in.
fn entries(spec: &MapSpec) -> u32 {
    let cpus = u32::try_from(possible_cpus()).unwrap_or(u32::MAX);
    spec.entries(cpus, u32::try_from(sys::bpf::page_size()).unwrap_or(4096))
}

/// Whether the map is a data section: an array of one value with the section's contents.
fn is_data(spec: &MapSpec) -> bool {
    !matches!(spec.origin, MapOrigin::Declared) && spec.map_type == MapType::Array
}

fn is_mappable(spec: &MapSpec) -> bool {
    spec.map_type == MapType::Array && spec.flags & bpf_object::BPF_F_MMAPABLE != 0
}

fn holds_maps(kind: MapType) -> bool {
    matches!(kind, MapType::ArrayOfMaps | MapType::HashOfMaps)
}

/// Whether values are maps or programs, which the host does not store as bytes.
fn holds_objects(kind: MapType) -> bool {
    holds_maps(kind) || kind == MapType::ProgArray
}

impl LoadedMap for KernelMap {
    fn spec(&self) -> &MapSpec {
        &self.spec
    }

    fn value_bytes(&self) -> usize {
        self.map.value_bytes()
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        present(self.map.lookup(key, value, flags))
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        if holds_objects(self.spec.map_type) {
            // The value would be a descriptor: of whatever this process has under that number.
            return Err(MapError::OtherEngine);
        }
        self.map.update(key, value, flags).map_err(map_error)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        present(self.map.delete(key))
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        present(self.map.next_key(key, next))
    }

    fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        present(self.map.lookup_and_delete(key, value, flags))
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        counted(self.map.lookup_batch(&mut sys::bpf::BatchRead {
            from: batch.from,
            next: batch.next,
            keys: batch.keys,
            values: batch.values,
            flags: batch.flags,
            delete: batch.delete,
        }))
    }

    fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        if holds_objects(self.spec.map_type) {
            return (0, Err(MapError::OtherEngine));
        }
        counted(self.map.update_batch(keys, values, flags))
    }

    fn delete_batch(&self, keys: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        counted(self.map.delete_batch(keys, flags))
    }

    fn freeze(&self) -> Result<(), MapError> {
        self.map.freeze().map_err(map_error)
    }

    fn set_map(&self, key: &[u8], map: &crate::Map, flags: u64) -> Result<(), MapError> {
        if !holds_maps(self.spec.map_type) {
            return Err(MapError::Invalid);
        }
        let inner = map.inner.kernel().ok_or(MapError::OtherEngine)?;
        self.store(key, inner.map.as_fd(), flags)
    }

    fn set_program(&self, key: &[u8], program: &crate::Program, flags: u64) -> Result<(), MapError> {
        if self.spec.map_type != MapType::ProgArray {
            return Err(MapError::Invalid);
        }
        let program = program.kernel().ok_or(MapError::OtherEngine)?;
        self.store(key, program.as_fd(), flags)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        let memory = self.memory()?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = offset.saturating_add(bytes.len() as u64);
        if let Some(memory) = memory {
            return if memory.read(at, bytes) { Ok(()) } else { Err(MapError::OutOfRange { offset, end }) };
        }
        let value = self.only_value()?;
        let part =
            value.get(at..at.saturating_add(bytes.len())).ok_or(MapError::OutOfRange { offset, end })?;
        bytes.copy_from_slice(part);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        let memory = self.memory()?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = offset.saturating_add(bytes.len() as u64);
        if let Some(memory) = memory {
            return if memory.write(at, bytes) { Ok(()) } else { Err(MapError::OutOfRange { offset, end }) };
        }
        let mut value = self.only_value()?;
        let part =
            value.get_mut(at..at.saturating_add(bytes.len())).ok_or(MapError::OutOfRange { offset, end })?;
        part.copy_from_slice(bytes);
        self.update(&0_u32.to_ne_bytes(), &value, sys::bpf::ANY)
    }

    fn ring(&self) -> Result<Arc<dyn RingMemory>, MapError> {
        if !matches!(self.spec.map_type, MapType::Ringbuf | MapType::UserRingbuf) {
            return Err(MapError::Invalid);
        }
        Ok(Arc::new(KernelRing(self.map.ring().map_err(map_error)?)))
    }

    fn kernel(&self) -> Option<&KernelMap> {
        Some(self)
    }
}

impl KernelMap {
    /// The memory to access in place; `None` for data sections that are not mapped.
    fn memory(&self) -> Result<Option<&MapMemory>, MapError> {
        if let Some(memory) = self.memory.get() {
            return Ok(Some(memory));
        }
        if is_data(&self.spec) {
            return Ok(None);
        }
        if !is_mappable(&self.spec) {
            return Err(MapError::Unsupported);
        }
        let mapped = self.map.mmap().map_err(errno_error)?;
        Ok(Some(self.memory.get_or_init(|| mapped)))
    }

    /// The value of a data section that is not mapped.
    fn only_value(&self) -> Result<Vec<u8>, MapError> {
        let mut value = vec![0; self.map.value_bytes()];
        LoadedMap::lookup(self, &0_u32.to_ne_bytes(), &mut value, 0)?;
        Ok(value)
    }

    /// Stores an object's descriptor.
    fn store(&self, key: &[u8], fd: BorrowedFd<'_>, flags: u64) -> Result<(), MapError> {
        self.map.update(key, &fd.as_raw_fd().to_ne_bytes(), flags).map_err(map_error)
    }
}

/// A ring buffer of the kernel, mapped here.
struct KernelRing(RingPages);

impl RingMemory for KernelRing {
    fn data_bytes(&self) -> u64 {
        self.0.data_bytes()
    }

    fn load_u64(&self, offset: u64) -> u64 {
        self.0.load_u64(offset)
    }

    fn store_u64(&self, offset: u64, value: u64) {
        self.0.store_u64(offset, value);
    }

    fn load_u32(&self, offset: u64) -> u32 {
        self.0.load_u32(offset)
    }

    fn store_u32(&self, offset: u64, value: u32) {
        self.0.store_u32(offset, value);
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.0.read(offset, bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        self.0.write(offset, bytes)
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.0.wait(timeout)
    }
}

fn present(result: Result<bool, BpfError>) -> Result<(), MapError> {
    if result.map_err(map_error)? { Ok(()) } else { Err(MapError::NotFound) }
}

fn counted(result: Result<(usize, Result<(), BpfError>), BpfError>) -> (usize, Result<(), MapError>) {
    match result {
        Ok((count, result)) => (count, result.map_err(map_error)),
        Err(error) => (0, Err(map_error(error))),
    }
}

fn map_error(error: BpfError) -> MapError {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    match error {
        BpfError::Size { what: "key", expected, got } => {
            MapError::KeySize { expected: size(expected), given: got }
        }
        BpfError::Size { expected, got, .. } => MapError::ValueSize { expected: size(expected), given: got },
        other => other.errno().map_or(MapError::Unsupported, errno_error),
    }
}

fn errno_error(errno: Errno) -> MapError {
    match errno {
        Errno::NOENT => MapError::NotFound,
        Errno::EXIST => MapError::Exists,
        Errno::TOOBIG => MapError::TooBig,
        Errno::PERM => MapError::ReadOnly,
        Errno::OPNOTSUPP => MapError::Unsupported,
        Errno::INVAL => MapError::Invalid,
        Errno::BUSY => MapError::Busy,
        Errno::NOSPC => MapError::NoSpace,
        errno if errno.raw_os_error() == ENOTSUPP => MapError::NoOperation,
        errno => MapError::Os { errno: errno.raw_os_error() },
    }
}
