//! `BPF_MAP_TYPE_ARRAY_OF_MAPS`: maps whose values are maps.
//!
//! The host fills the slots; a program that looks one up is given the inner map, which its run keeps until it ends.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bpf_object::{Btf, MapSpec, MapType};
use isa::Size;

use super::fields::ValueFields;
use super::indexed::{index_of, next_index, put};
use super::slots::Slots;
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_ANY, Map};

/// A map's attribute: arrays of other lengths fit as inner maps.
const BPF_F_INNER_MAP: u32 = 1 << 12;

/// What the inner maps of a map have to be like.
#[derive(Debug)]
pub(super) struct Template {
    spec: MapSpec,
    /// Whether their values have a lock, and any fields of the kernel's own.
    has_lock: bool,
    has_fields: bool,
}

impl Template {
    /// Of a map that is being created.
    ///
    /// # Errors
    /// It does not say what it holds (`EBADF`), or maps of that type cannot be inside of others.
    pub(super) fn of(spec: &MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        use MapType as T;
        let inner = spec.inner.as_deref().ok_or(MapError::OtherEngine)?;
        match inner.map_type {
            T::ArrayOfMaps | T::HashOfMaps => Err(MapError::Invalid),
            T::ProgArray | T::StructOps | T::CgroupStorage | T::PercpuCgroupStorage => {
                Err(MapError::NoOperation)
            }
            _ => {
                let fields = ValueFields::of(inner, btf);
                let (has_lock, has_fields) = (fields.has_lock(), !fields.is_empty());
                Ok(Self { spec: inner.clone(), has_lock, has_fields })
            }
        }
    }

    /// The map behind a handle of the host, if it may be stored.
    ///
    /// # Errors
    /// It is another engine's, or differs from what the programs were verified with.
    pub(super) fn admit(&self, map: &Map) -> Result<Arc<dyn UserMap>, MapError> {
        let map = map.inner.user().ok_or(MapError::OtherEngine)?;
        let (wanted, given) = (&self.spec, map.spec());
        let any_length = wanted.map_type != MapType::Array || wanted.flags & BPF_F_INNER_MAP != 0;
        let fits = wanted.map_type == given.map_type
            && wanted.key_size == given.key_size
            && wanted.value_size == given.value_size
            && wanted.flags == given.flags
            && self.has_lock == map.has_lock()
            && self.has_fields == map.has_fields()
            && (any_length || wanted.max_entries == given.max_entries);
        if fits { Ok(Arc::clone(map)) } else { Err(MapError::Invalid) }
    }
}

/// An inner map, as a slot keeps it.
pub(super) struct Inner(Arc<dyn UserMap>);

/// An array of maps.
pub(super) struct ArrayOfMaps {
    core: MapCore,
    template: Template,
    slots: Slots<Inner>,
}

impl ArrayOfMaps {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        let (template, slots) = (Template::of(&spec, btf)?, Slots::new(spec.max_entries)?);
        Ok(Self { core: MapCore::new(spec), template, slots })
    }
}

impl LoadedMap for ArrayOfMaps {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        let inner = self.slots.get(index_of(key)?).ok_or(MapError::NotFound)?;
        put(value, inner.0.core().id);
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
        self.slots.replace(index, None).map(drop).ok_or(MapError::NotFound)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        next_index(key, next, self.core.spec.max_entries)
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        if batch.delete {
            return (0, Err(MapError::NoOperation));
        }
        batch::lookup_each(self, batch)
    }

    fn set_map(&self, key: &[u8], map: &Map, flags: u64) -> Result<(), MapError> {
        if flags != BPF_ANY {
            return Err(MapError::Invalid);
        }
        let index = index_of(key)?;
        if !self.slots.has(index) {
            return Err(MapError::TooBig);
        }
        self.slots.replace(index, Some(Arc::new(Inner(self.template.admit(map)?))));
        Ok(())
    }
}

impl UserMap for ArrayOfMaps {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn map_at(&self, key: Place<'_>) -> Option<Arc<dyn UserMap>> {
        let index = key.load(Size::W, Ordering::Relaxed);
        self.slots.get(u32::try_from(index).ok()?).map(|inner| Arc::clone(&inner.0))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
