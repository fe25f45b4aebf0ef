//! `BPF_MAP_TYPE_PROG_ARRAY`: the programs that `bpf_tail_call` enters.
//!
//! A slot does not keep its program: a program keeps its maps, and would otherwise never go once it were in one of them. With the
//! last handle to the program the slot is empty.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use bpf_object::{MapSpec, ProgType};

use super::indexed::{index_of, next_index, put};
use super::slots::Slots;
use super::{MapCore, UserMap};
use crate::Program;
use crate::access::{BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::BPF_ANY;
use crate::user::Loaded;

/// A program array.
pub(super) struct ProgArray {
    core: MapCore,
    slots: Slots<Weak<Loaded>>,
    /// What all its programs have in common: set by the first.
    kind: OnceLock<Kind>,
}

/// What programs that call each other have to agree in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    prog_type: Option<ProgType>,
    attach_type: Option<u32>,
    xdp_frags: bool,
    is_compiled: bool,
}

impl ProgArray {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let slots = Slots::new(spec.max_entries)?;
        Ok(Self { core: MapCore::new(spec), slots, kind: OnceLock::new() })
    }

    fn at(&self, index: u32) -> Option<Arc<Loaded>> {
        self.slots.get(index)?.upgrade()
    }
}

impl LoadedMap for ProgArray {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        put(value, self.at(index_of(key)?).ok_or(MapError::NotFound)?.id);
        Ok(())
    }

    fn update(&self, _: &[u8], _: &[u8], _: u64) -> Result<(), MapError> {
        Err(MapError::OtherEngine)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let index = index_of(key)?;
        if !self.slots.has(index) {
            return Err(MapError::TooBig);
        }
        let old = self.slots.replace(index, None).and_then(|program| program.upgrade());
        old.map(drop).ok_or(MapError::NotFound)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        next_index(key, next, self.core.spec.max_entries)
    }

    fn set_program(&self, key: &[u8], program: &Program, flags: u64) -> Result<(), MapError> {
        if flags != BPF_ANY {
            return Err(MapError::Invalid);
        }
        let index = index_of(key)?;
        if !self.slots.has(index) {
            return Err(MapError::TooBig);
        }
        let loaded = &program.user().ok_or(MapError::OtherEngine)?.inner;
        let kind = Kind::of(loaded);
        if kind.prog_type == Some(ProgType::Ext) || *self.kind.get_or_init(|| kind) != kind {
            return Err(MapError::Invalid);
        }
        self.slots.replace(index, Some(Arc::new(Arc::downgrade(loaded))));
        Ok(())
    }
}

impl UserMap for ProgArray {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn program_at(&self, index: u32) -> Option<Arc<Loaded>> {
        self.at(index)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Kind {
    fn of(loaded: &Loaded) -> Self {
        let kind = &loaded.image.verified.program().kind;
        Self {
            prog_type: kind.prog_type,
            attach_type: kind.attach_type,
            xdp_frags: kind.xdp_frags,
            is_compiled: loaded.machine.is_some(),
        }
    }
}
