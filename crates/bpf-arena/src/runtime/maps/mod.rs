//! The maps of an app in this process.

mod arena;
mod array;
pub(crate) mod structs;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bpf_object::{Btf, MapSpec, MapType, Program};
use sys::window::Window;

use self::arena::ArenaMap;
use self::array::ArrayMap;
use crate::access::BlockTable;
use crate::arena::{Arena, ArenaOptions, ArenaSpec, UserAddr};
use crate::backend::LoadedMap;
use crate::error::{LoadError, MapError, Unsupported, UnsupportedKind};
use crate::map::Map;

/// What programs need of a map beyond what the host uses.
pub(crate) trait UserMap: LoadedMap {
    /// Address of the value of `key`, for programs to read and write.
    fn value_address(&self, key: &[u8]) -> Option<u64>;

    /// What `lddw` of an address in the map's only value adds its offset to; 0 if it cannot be used so.
    fn direct_value(&self) -> u64;

    /// Makes the memory of the values known to runs.
    fn add_memory(&self, table: &mut BlockTable);
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
    first_handle: u64,
    handles: Vec<u64>,
    values: Vec<u64>,
    table: BlockTable,
    arena: Option<(usize, Arena)>,
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
        let unsupported: Vec<_> =
            specs.iter().filter(|spec| !supported(spec.map_type)).map(refused).collect();
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
                let created = create_arena(spec, checked)?;
                maps.push(Arc::new(ArenaMap::new(spec.clone(), created.clone())));
                arena = Some((index, created));
            } else {
                let map = ArrayMap::create(spec.clone(), btf.and_then(|btf| lock_of(spec, btf)));
                let named = |source| LoadError::Map { map: spec.name.clone(), source };
                maps.push(Arc::new(map.map_err(named)?));
            }
        }
        let mut table = BlockTable::default();
        maps.iter().for_each(|map| map.add_memory(&mut table));
        let images = structs::images(&maps).ok_or_else(no_memory(&maps))?;
        let first_handle = images.address();
        let step = usize::try_from(structs::STRIDE).unwrap_or(usize::MAX);
        let handles = (first_handle..).step_by(step).take(maps.len()).collect();
        table.insert(Arc::new(images), false);
        let values = maps.iter().map(|map| map.direct_value()).collect();
        let specs = Arc::clone(specs);
        Ok(Self { inner: Arc::new(Inner { specs, maps, first_handle, handles, values, table, arena }) })
    }

    /// What the maps were created from.
    #[must_use]
    pub fn specs(&self) -> &Arc<[MapSpec]> {
        &self.inner.specs
    }

    /// Handles to the maps, in the order of their specifications.
    #[must_use]
    pub fn maps(&self) -> Vec<Map> {
        let handle = |map: &Arc<dyn UserMap>| Map::new(Arc::clone(map) as Arc<dyn LoadedMap>);
        self.inner.maps.iter().map(handle).collect()
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
        let offset = handle.checked_sub(self.inner.first_handle)?;
        offset.is_multiple_of(structs::STRIDE).then_some(())?;
        usize::try_from(offset / structs::STRIDE).ok()
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

fn no_memory(maps: &[Arc<dyn UserMap>]) -> impl FnOnce() -> LoadError {
    let map = maps.first().map_or_else(String::new, |map| map.spec().name.clone());
    let bytes = structs::STRIDE.saturating_mul(maps.len() as u64);
    move || LoadError::Map { map, source: MapError::NoMemory { bytes } }
}

fn supported(map_type: MapType) -> bool {
    matches!(map_type, MapType::Array | MapType::Arena)
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

/// Where the lock lies in a map's values: a member of type `struct bpf_spin_lock`.
fn lock_of(spec: &MapSpec, btf: &Btf) -> Option<Range<u64>> {
    let value = btf.composite(spec.value_btf?)?;
    let is_lock = |member: &&bpf_object::Member| btf.name(btf.resolve(member.ty)) == "bpf_spin_lock";
    let lock = value.members.iter().find(is_lock)?;
    let start = u64::from(lock.bit_offset) / 8;
    Some(start..start + btf.size_of(lock.ty)?)
}

/// Creates an arena and copies its globals to its start.
fn create_arena(spec: &MapSpec, checked: bool) -> Result<Arena, LoadError> {
    let named = |source| LoadError::Arena { map: spec.name.clone(), source };
    let attributes = ArenaSpec::from(spec);
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
