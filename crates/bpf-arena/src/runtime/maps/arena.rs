//! `BPF_MAP_TYPE_ARENA` seen as a map: it has no elements.

use std::any::Any;

use bpf_object::MapSpec;

use super::{MapCore, UserMap};
use crate::access::BlockTable;
use crate::arena::Arena;
use crate::backend::LoadedMap;
use crate::error::MapError;

/// An arena among the maps.
pub(super) struct ArenaMap {
    core: MapCore,
    arena: Arena,
}

impl ArenaMap {
    pub(super) fn new(spec: MapSpec, arena: Arena) -> Self {
        Self { core: MapCore::new(spec), arena }
    }
}

impl LoadedMap for ArenaMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, _: &[u8], _: &mut [u8], _: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn update(&self, _: &[u8], _: &[u8], _: u64) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    fn delete(&self, _: &[u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }
}

impl UserMap for ArenaMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn direct_value(&self) -> u64 {
        self.arena.user_vm_start().get()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
