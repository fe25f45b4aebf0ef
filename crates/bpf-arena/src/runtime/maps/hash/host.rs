//! What the host does with a hash map.

use bpf_object::MapSpec;

use super::HashMap;
use super::table::Element;
use super::update::{Source, Update};
use crate::access::Place;
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::error::MapError;
use crate::map::BPF_F_LOCK;

impl LoadedMap for HashMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        let (element, _) = self.find(Place::over(&mut key.to_vec())).ok_or(MapError::NotFound)?;
        self.load(element, value, flags);
        Ok(())
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        let mut key = key.to_vec();
        let source = Source::Host(value);
        self.store(&Update::new(&self.table, self.host_cpu(), Place::over(&mut key), source, flags))
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.remove(self.host_cpu(), Place::over(&mut key.to_vec()), |_| {})
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        // A key that is not there (any more) starts over.
        let known = key.and_then(|key| self.find(Place::over(&mut key.to_vec())));
        let found = match known {
            Some((element, hash)) => self.table.after(element, hash),
            None => self.table.first_from(0),
        };
        found.and_then(|element| self.table.key(element)).ok_or(MapError::NotFound)?.read(next);
        Ok(())
    }

    fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        self.remove(self.host_cpu(), Place::over(&mut key.to_vec()), |element| {
            self.load(element, value, flags)
        })
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        self.read_buckets(batch)
    }

    fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        batch::update_each(self, keys, values, flags)
    }

    fn delete_batch(&self, keys: &[u8], _flags: u64) -> (usize, Result<(), MapError>) {
        batch::delete_each(self, keys)
    }

    fn has_lock(&self) -> bool {
        self.fields.has_lock()
    }

    fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }
}

impl HashMap {
    /// Copies the value of an element as the host has it.
    pub(super) fn load(&self, element: Element, to: &mut [u8], flags: u64) {
        if let Some(values) = &self.per_cpu {
            return values.load_all(element.0, to);
        }
        let Some(from) = self.own_value(element) else { return };
        if flags & BPF_F_LOCK == 0 {
            self.fields.read(from, to);
        } else {
            self.fields.locked(from, || self.fields.read(from, to));
        }
    }
}
