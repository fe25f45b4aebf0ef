//! The maps of an app in this process.

mod arena;
mod array;
mod attributes;
mod bloom;
mod core;
mod create;
mod devices;
pub(crate) mod fields;
mod foreign;
mod hash;
mod hash_of_maps;
mod hosted;
mod indexed;
mod lpm_trie;
mod map_in_map;
mod memory;
mod percpu;
pub(crate) mod perf_event;
mod prog_array;
mod queue;
pub(crate) mod ring;
mod slots;
pub(crate) mod stack_trace;
pub(crate) mod storage;
pub(crate) mod structs;
mod visit;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bpf_object::{Btf, MapSpec, MapType, Program};
use sys::window::Window;

use self::arena::ArenaMap;
pub(crate) use self::core::MapCore;
pub(crate) use self::create::supported;
use self::hosted::HostedMap;
use self::ring::RingbufMap;
use crate::access::{BlockTable, Place};
use crate::arena::{Arena, ArenaOptions, ArenaSpec, UserAddr};
use crate::backend::LoadedMap;
use crate::cpu::{self, CpuSlot};
use crate::error::{LoadError, MapError, Unsupported, UnsupportedKind};
use crate::map::{BPF_ANY, Map};
use crate::user::Loaded;

/// What programs do with a map, beyond what the host does.
///
/// Keys and values are read where they lie. Everything that a program is given an address of stays where it is as long as the map
/// lives: elements that are deleted are used again, never freed.
#[allow(unused_variables, reason = "an operation that a type does not have uses none of its arguments")]
pub(crate) trait UserMap: LoadedMap {
    /// What all maps have.
    fn core(&self) -> &MapCore;

    /// Makes the memory of the values known to runs.
    fn add_memory(&self, table: &mut BlockTable);

    /// `bpf_map_lookup_elem`: the address of the value that the program on this CPU sees.
    fn lookup_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Option<u64> {
        None
    }

    /// `bpf_map_lookup_percpu_elem`: the same for another CPU.
    fn lookup_percpu_elem(&self, key: Place<'_>, cpu: u32) -> Option<u64> {
        None
    }

    /// `bpf_map_update_elem`, with the flags as the program gave them.
    fn update_elem(
        &self,
        cpu: &CpuSlot,
        key: Place<'_>,
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// `bpf_map_delete_elem`.
    fn delete_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// `bpf_map_push_elem`.
    fn push_elem(&self, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// `bpf_map_pop_elem`: fills `value`.
    fn pop_elem(&self, value: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// `bpf_map_peek_elem`: fills `value`; for a Bloom filter, tests it.
    fn peek_elem(&self, value: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// `bpf_for_each_map_elem`: calls `visit` with the addresses of key and value until it says `false`; the number of calls.
    fn for_each_elem(&self, cpu: &CpuSlot, visit: &mut dyn FnMut(u64, u64) -> bool) -> Result<u64, MapError> {
        Err(MapError::Unsupported)
    }

    /// The map that `bpf_map_lookup_elem` finds in a map of maps.
    fn map_at(&self, key: Place<'_>) -> Option<Arc<dyn UserMap>> {
        None
    }

    /// The map, if it is a ring buffer that programs fill.
    fn as_ring_buffer(&self) -> Option<&RingbufMap> {
        None
    }

    /// The program that `bpf_tail_call` enters for this index.
    fn program_at(&self, index: u32) -> Option<Arc<Loaded>> {
        None
    }

    /// What `lddw` of an address in the map's only value adds its offset to, and where the values of an array begin; 0 if there is no
    /// such thing.
    fn direct_value(&self) -> u64 {
        0
    }

    /// For what one type of map alone can do.
    fn as_any(&self) -> &dyn Any;
}

/// The maps of one object, created for programs of this process, the arena among them.
///
/// Programs that share a set share the memory. Cheap to clone; the memory goes with the last clone, program and map.
#[derive(Clone)]
pub struct MapSet {
    inner: Arc<Inner>,
}

struct Inner {
    specs: Arc<[MapSpec]>,
    maps: Vec<Arc<dyn UserMap>>,
    /// The host's side of each map.
    hosted: Vec<Arc<HostedMap>>,
    handles: Vec<u64>,
    values: Vec<u64>,
    table: BlockTable,
    arena: Option<(usize, Arena)>,
}

/// Where the arena of a set of maps is from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ArenaSource<'a> {
    /// Made for it; with `checked` it does without fault signals.
    New {
        /// See there.
        checked: bool,
    },
    /// Made before.
    Given(&'a Arena),
}

impl MapSet {
    /// Creates the maps of a linked program, with their initial contents.
    ///
    /// # Errors
    /// A type or attribute that is not supported, several arenas, or no memory.
    pub fn create(program: &Program) -> Result<Self, LoadError> {
        Self::create_with(&program.maps, program.btf.as_deref(), false)
    }

    /// Creates maps; `btf` has the types of their values. With `checked`, the arena does without fault signals.
    ///
    /// # Errors
    /// As for [`MapSet::create`].
    pub fn create_with(specs: &Arc<[MapSpec]>, btf: Option<&Btf>, checked: bool) -> Result<Self, LoadError> {
        Self::create_from(specs, btf, ArenaSource::New { checked })
    }

    /// The same, with an arena from this source.
    pub(crate) fn create_from(
        specs: &Arc<[MapSpec]>,
        btf: Option<&Btf>,
        source: ArenaSource<'_>,
    ) -> Result<Self, LoadError> {
        let unsupported: Vec<_> =
            specs.iter().filter(|spec| !create::supported(spec.map_type)).map(refused).collect();
        if !unsupported.is_empty() {
            return Err(LoadError::Unsupported(unsupported));
        }
        let mut arena = None;
        let mut maps: Vec<Arc<dyn UserMap>> = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            if spec.map_type == MapType::Arena {
                if let Some((first, _)) = arena {
                    let first = specs.get::<usize>(first).map_or_else(String::new, |s| s.name.clone());
                    return Err(LoadError::SeveralArenas { first, second: spec.name.clone() });
                }
                let created = create_arena(spec, source)?;
                maps.push(Arc::new(ArenaMap::new(spec.clone(), created.clone())));
                arena = Some((index, created));
            } else {
                let named = |source| LoadError::Map { map: spec.name.clone(), source };
                maps.push(create::create(&filled_in(spec), btf).map_err(named)?);
            }
        }
        let mut table = BlockTable::default();
        for map in &maps {
            map.add_memory(&mut table);
            let named = |source| LoadError::Map { map: map.spec().name.clone(), source };
            map.core().make_image(&**map).map_err(named)?;
            map.core().add_image(&mut table);
        }
        let handles = maps.iter().map(|map| map.core().handle()).collect();
        let values = maps.iter().map(|map| map.direct_value()).collect();
        let specs = Arc::clone(specs);
        let hosted = maps.iter().map(|map| Arc::new(HostedMap::new(Arc::clone(map)))).collect();
        let set = Self { inner: Arc::new(Inner { specs, maps, hosted, handles, values, table, arena }) };
        let named = |name: &str| set.maps().into_iter().find(|map| map.name() == name);
        let of_maps = [MapType::ArrayOfMaps, MapType::HashOfMaps];
        set.fill_slots(&of_maps, named, |map, key, inner| map.set_map(key, inner, BPF_ANY))?;
        Ok(set)
    }

    /// Stores in the slots of maps of these types that the object fills what `find` says they are to hold; what it does not know
    /// is left out.
    pub(crate) fn fill_slots<T>(
        &self,
        types: &[MapType],
        find: impl Fn(&str) -> Option<T>,
        store: impl Fn(&Map, &[u8], &T) -> Result<(), MapError>,
    ) -> Result<(), LoadError> {
        for map in self.maps().iter().filter(|map| types.contains(&map.spec().map_type)) {
            for slot in &map.spec().slots {
                let Some(target) = find(&slot.target) else { continue };
                let mut key = slot.index.to_le_bytes().to_vec();
                key.resize(map.spec().key_size as usize, 0);
                let named = |source| LoadError::Map { map: map.name().to_owned(), source };
                store(map, &key, &target).map_err(named)?;
            }
        }
        Ok(())
    }

    /// What the maps were created from.
    #[must_use]
    pub fn specs(&self) -> &Arc<[MapSpec]> {
        &self.inner.specs
    }

    /// Handles to the maps, in the order of their specifications.
    #[must_use]
    pub fn maps(&self) -> Vec<Map> {
        let handle = |map: &Arc<HostedMap>| Map::new(Arc::clone(map) as Arc<dyn LoadedMap>);
        self.inner.hosted.iter().map(handle).collect()
    }

    /// The arena, if there is one.
    #[must_use]
    pub fn arena(&self) -> Option<&Arena> {
        self.inner.arena.as_ref().map(|(_, arena)| arena)
    }

    pub(crate) fn window(&self) -> Option<&Window> {
        self.arena().map(|arena| &**arena.window())
    }

    /// Offset 0 of the arena's window. Without an arena no verified program accesses it.
    pub(crate) fn window_base(&self) -> u64 {
        self.window().map_or(0, Window::base)
    }

    pub(crate) fn user_vm_high(&self) -> u64 {
        self.arena().map_or(0, Arena::user_vm_high)
    }

    /// Per map, what `lddw MapIdx` loads: the address of the structure that programs see of it.
    pub(crate) fn handles(&self) -> &[u64] {
        &self.inner.handles
    }

    /// Per map, what `lddw MapIdxValue` adds its offset to.
    pub(crate) fn values(&self) -> &[u64] {
        &self.inner.values
    }

    /// The memory of all values and structures.
    pub(crate) fn table(&self) -> &BlockTable {
        &self.inner.table
    }

    /// The map with this index among those of the object, and the specification it was created from.
    #[inline]
    pub(crate) fn by_index(&self, index: u32) -> Option<(&dyn UserMap, &MapSpec)> {
        let index = index as usize;
        Some((&**self.inner.maps.get(index)?, self.inner.specs.get(index)?))
    }

    /// The map with this handle.
    pub(crate) fn map_of(&self, handle: u64) -> Option<&dyn UserMap> {
        self.inner.maps.get(self.index(handle)?).map(|map| &**map)
    }

    /// The arena, if this is its handle.
    pub(crate) fn arena_of(&self, handle: u64) -> Option<&Arena> {
        let (at, arena) = self.inner.arena.as_ref()?;
        (self.index(handle)? == *at).then_some(arena)
    }

    fn index(&self, handle: u64) -> Option<usize> {
        self.inner.handles.iter().position(|known| *known == handle)
    }

    /// Copies bytes at a user address of the arena; `false` if any is missing.
    pub(crate) fn read_arena(&self, address: u64, bytes: &mut [u8]) -> bool {
        let arena = self.arena().filter(|arena| arena.offset_of(UserAddr::new(address)).is_some());
        arena.is_some_and(|arena| arena.window().read_bytes(UserAddr::new(address).low32(), bytes).is_ok())
    }
}

impl fmt::Debug for MapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapSet").field("specs", &self.inner.specs).finish_non_exhaustive()
    }
}

/// The specification with the entries that the loader fills in.
fn filled_in(spec: &MapSpec) -> MapSpec {
    let cpus = u32::try_from(cpu::possible()).unwrap_or(u32::MAX);
    let page = u32::try_from(sys::PAGE_SIZE).unwrap_or(u32::MAX);
    MapSpec { max_entries: spec.entries(cpus, page), ..spec.clone() }
}

fn refused(spec: &MapSpec) -> Unsupported {
    Unsupported {
        program: None,
        name: spec.name.clone(),
        kind: UnsupportedKind::Map(spec.map_type),
        insn: None,
        line: None,
    }
}

/// Creates an arena and copies its globals to its start, or takes the one that there is, as it is.
fn create_arena(spec: &MapSpec, source: ArenaSource<'_>) -> Result<Arena, LoadError> {
    let named = |source| LoadError::Arena { map: spec.name.clone(), source };
    let attributes = ArenaSpec::from(spec);
    let checked = match source {
        ArenaSource::New { checked } => checked,
        ArenaSource::Given(arena) => {
            return arena.check_declared(&attributes, false).map_err(named).map(|()| arena.clone());
        }
    };
    let options = ArenaOptions { force_checked: checked, ..ArenaOptions::default() };
    let arena = Arena::create_with(&attributes, options).map_err(named)?;
    let pages = (spec.initial.len() as u64).div_ceil(sys::PAGE_SIZE);
    if pages > 0 {
        let start = arena.user_vm_start();
        let count = u32::try_from(pages).unwrap_or(u32::MAX);
        let window = arena.window();
        window.alloc_pages(start.get(), count).map_err(|error| named(error.into()))?;
        let written = window.write_bytes(start.low32(), &spec.initial);
        written.map_err(|_| named(sys::PageError::BadRange.into()))?;
    }
    Ok(arena)
}
