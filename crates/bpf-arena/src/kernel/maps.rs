//! An object's maps in the kernel.

use std::os::fd::AsFd;
use std::sync::Arc;

use bpf_object::{KindTag, MapOrigin, MapSpec, MapType, Object};
use sys::bpf::{BpfError, Errno, Map, MapBtf, MapMemory, MapOptions, possible_cpus};

use super::KernelError;
use super::btf::LoadedBtf;
use super::running::Running;
use crate::UpdateMode;
use crate::arena::{Arena, ArenaError, ArenaSpec, PageCount};
use crate::backend::LoadedMap;
use crate::error::MapError;

/// A map in the kernel, with its memory when that can be mapped.
#[derive(Debug)]
pub(super) struct KernelMap {
    spec: MapSpec,
    /// Of data sections that can be mapped.
    memory: Option<MapMemory>,
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
) -> Result<Vec<Arc<KernelMap>>, KernelError> {
    let creator = Creator { object, btf, running };
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
pub(super) fn store_descriptor(
    map: &KernelMap,
    index: u32,
    fd: std::os::fd::BorrowedFd<'_>,
) -> Result<(), KernelError> {
    use std::os::fd::AsRawFd;
    let value = fd.as_raw_fd().to_ne_bytes();
    map.map
        .update(&index.to_ne_bytes(), &value, sys::bpf::UpdateMode::Any)
        .map_err(|source| KernelError::Map { map: map.spec.name.clone(), source })
}

/// What maps of one object are created with.
struct Creator<'a> {
    object: &'a Object,
    btf: Option<&'a LoadedBtf>,
    running: &'a Running,
}

impl Creator<'_> {
    fn create(&self, spec: &MapSpec) -> Result<KernelMap, KernelError> {
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
            map.update(&0_u32.to_ne_bytes(), &value, sys::bpf::UpdateMode::Any).map_err(failed)?;
        }
        let memory = if is_data && spec.flags & bpf_object::BPF_F_MMAPABLE != 0 && !read_only {
            let refused = |errno| KernelError::Mapping { map: spec.name.clone(), errno };
            Some(map.mmap().map_err(refused)?)
        } else {
            None
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

/// Entries, with what libbpf fills in: a ring buffer is a power of two pages, a perf event array as large as the machine.
fn entries(spec: &MapSpec) -> u32 {
    match spec.map_type {
        MapType::PerfEventArray if spec.max_entries == 0 => {
            u32::try_from(possible_cpus()).unwrap_or(u32::MAX)
        }
        MapType::Ringbuf | MapType::UserRingbuf => {
            let page = u32::try_from(sys::bpf::page_size()).unwrap_or(4096);
            spec.max_entries.max(page).checked_next_power_of_two().unwrap_or(spec.max_entries)
        }
        _ => spec.max_entries,
    }
}

/// Whether the map is a data section: an array of one value with the section's contents.
fn is_data(spec: &MapSpec) -> bool {
    !matches!(spec.origin, MapOrigin::Declared) && spec.map_type == MapType::Array
}

fn holds_maps(kind: MapType) -> bool {
    matches!(kind, MapType::ArrayOfMaps | MapType::HashOfMaps)
}

impl LoadedMap for KernelMap {
    fn spec(&self) -> &MapSpec {
        &self.spec
    }

    fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.map.value_bytes()];
        Ok(self.map.lookup(key, &mut value).map_err(map_error)?.then_some(value))
    }

    fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        let mode = match mode {
            UpdateMode::Any => sys::bpf::UpdateMode::Any,
            UpdateMode::NoExist => sys::bpf::UpdateMode::Create,
            UpdateMode::Exist => sys::bpf::UpdateMode::Replace,
        };
        self.map.update(key, value, mode).map_err(map_error)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        if self.map.delete(key).map_err(map_error)? { Ok(()) } else { Err(MapError::NotFound) }
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        let mut next = vec![0; self.map.key_bytes()];
        Ok(self.map.next_key(key, &mut next).map_err(map_error)?.then_some(next))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        self.check_data()?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = offset.saturating_add(bytes.len() as u64);
        if let Some(memory) = &self.memory {
            return if memory.read(at, bytes) { Ok(()) } else { Err(MapError::OutOfRange { offset, end }) };
        }
        let value = self.lookup(&0_u32.to_ne_bytes())?.ok_or(MapError::NotFound)?;
        let part =
            value.get(at..at.saturating_add(bytes.len())).ok_or(MapError::OutOfRange { offset, end })?;
        bytes.copy_from_slice(part);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        self.check_data()?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = offset.saturating_add(bytes.len() as u64);
        if let Some(memory) = &self.memory {
            return if memory.write(at, bytes) { Ok(()) } else { Err(MapError::OutOfRange { offset, end }) };
        }
        let key = 0_u32.to_ne_bytes();
        let mut value = self.lookup(&key)?.ok_or(MapError::NotFound)?;
        let part =
            value.get_mut(at..at.saturating_add(bytes.len())).ok_or(MapError::OutOfRange { offset, end })?;
        part.copy_from_slice(bytes);
        self.update(&key, &value, UpdateMode::Any)
    }
}

impl KernelMap {
    fn check_data(&self) -> Result<(), MapError> {
        if is_data(&self.spec) { Ok(()) } else { Err(MapError::Unsupported) }
    }
}

fn map_error(error: BpfError) -> MapError {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    match error {
        BpfError::Size { what: "key", expected, got } => {
            MapError::KeySize { expected: size(expected), given: got }
        }
        BpfError::Size { expected, got, .. } => MapError::ValueSize { expected: size(expected), given: got },
        other => match other.errno() {
            Some(Errno::NOENT) => MapError::NotFound,
            Some(Errno::EXIST) => MapError::Exists,
            Some(Errno::TOOBIG) => MapError::TooBig,
            Some(Errno::PERM) => MapError::ReadOnly,
            Some(Errno::OPNOTSUPP) => MapError::Unsupported,
            Some(errno) => MapError::Os { errno: errno.raw_os_error() },
            None => MapError::Unsupported,
        },
    }
}
