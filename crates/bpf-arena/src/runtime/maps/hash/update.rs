//! Inserting and replacing, by program and host.

use super::Free;
use super::HashMap;
use super::key::Key;
use super::lru::Lru;
use super::pool::Pool;
use super::table::{Element, Table};
use crate::access::Place;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};
use crate::runtime::maps::fields::ValueFields;
use crate::runtime::maps::percpu::PerCpu;

/// What is to be stored.
pub(super) struct Update<'u> {
    key: Key<'u>,
    hash: u32,
    value: Source<'u>,
    flags: u64,
    /// Whose elements are at hand.
    cpu: u32,
}

/// Where the new value is.
#[derive(Clone, Copy)]
pub(super) enum Source<'v> {
    /// A program has one, for its own CPU.
    Program(Place<'v>),
    /// The host has one for each CPU, if the values are per CPU.
    Host(&'v [u8]),
}

impl<'u> Update<'u> {
    /// An update as a helper or the host asks for it.
    pub(super) fn new(table: &Table, cpu: u32, key: Place<'u>, value: Source<'u>, flags: u64) -> Self {
        let key = Key::new(key);
        Self { hash: table.hash(&key), key, value, flags, cpu }
    }

    fn is_locked(&self) -> bool {
        self.flags & BPF_F_LOCK != 0
    }

    /// What the flags say about the entry that there is or is not.
    fn check(&self, exists: bool) -> Result<(), MapError> {
        match self.flags & !BPF_F_LOCK {
            BPF_NOEXIST if exists => Err(MapError::Exists),
            BPF_EXIST if !exists => Err(MapError::NotFound),
            _ => Ok(()),
        }
    }

    /// Copies the value to one of the map.
    fn copy_to(&self, fields: &ValueFields, to: Place<'_>) {
        match self.value {
            Source::Program(from) => fields.copy(to, from),
            Source::Host(from) => fields.write(to, from),
        }
    }

    /// Copies the value to those of the CPUs it is for.
    fn replace(&self, values: &PerCpu, element: Element) {
        match self.value {
            Source::Program(from) => values.store(element.0, self.cpu, from),
            Source::Host(from) => values.store_all(element.0, from),
        }
    }

    /// The same for an element that holds nothing.
    fn fill(&self, values: &PerCpu, element: Element) {
        match self.value {
            Source::Program(from) => values.fill(element.0, self.cpu, from),
            Source::Host(from) => values.store_all(element.0, from),
        }
    }
}

impl HashMap {
    /// Does it.
    ///
    /// # Errors
    /// As the kernel's: bad flags, an entry that is there or not, a full map.
    pub(super) fn store(&self, update: &Update<'_>) -> Result<(), MapError> {
        // Only plain hash maps know what to do with a lock.
        let plain = matches!((&self.free, &self.per_cpu), (Free::Pool(_), None));
        if update.flags & !(if plain { BPF_F_LOCK } else { 0 }) > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        match (&self.free, &self.per_cpu) {
            (Free::Pool(pool), None) => self.replace(pool, update),
            (Free::Pool(pool), Some(values)) => {
                let take = || pool.take(&self.table, update.cpu).ok_or(MapError::TooBig);
                self.replace_in_place(values, update, take)
            }
            (Free::Lru(lru), None) => self.replace_recent(lru, update),
            (Free::Lru(lru), Some(values)) => self.replace_recent_in_place(lru, values, update),
        }
    }

    /// A plain hash map: another element takes the old one's place.
    fn replace(&self, pool: &Pool, update: &Update<'_>) -> Result<(), MapError> {
        let Update { hash, ref key, cpu, .. } = *update;
        if update.is_locked() {
            if !self.fields.has_lock() {
                return Err(MapError::Invalid);
            }
            let known = self.table.find(hash, key);
            update.check(known.is_some())?;
            if let Some(element) = known {
                self.copy_locked(update, element);
                return Ok(());
            }
        }
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let old = bucket.find(hash, key);
        update.check(old.is_some())?;
        if update.is_locked()
            && let Some(element) = old
        {
            self.copy_locked(update, element);
            return Ok(());
        }
        let Some(old) = old else {
            let new = pool.take(&self.table, cpu).ok_or(MapError::TooBig)?;
            self.prepare(new, update);
            bucket.insert(new, hash);
            return Ok(());
        };
        let (new, vacancy) = pool.take_spare(cpu).ok_or(MapError::TooBig)?;
        self.prepare(new, update);
        bucket.insert(new, hash);
        bucket.remove(old);
        drop(bucket);
        self.release(old);
        vacancy.fill(old);
        Ok(())
    }

    /// Values per CPU: they are replaced where they are.
    fn replace_in_place(
        &self,
        values: &PerCpu,
        update: &Update<'_>,
        take: impl FnOnce() -> Result<Element, MapError>,
    ) -> Result<(), MapError> {
        let Update { hash, ref key, .. } = *update;
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let known = bucket.find(hash, key);
        update.check(known.is_some())?;
        if let Some(element) = known {
            if matches!(self.free, Free::Lru(_)) {
                Lru::mark(&self.table, element);
            }
            update.replace(values, element);
            return Ok(());
        }
        let element = take()?;
        self.table.set_key(element, key);
        update.fill(values, element);
        bucket.insert(element, hash);
        Ok(())
    }

    /// An LRU map. The element is taken first, and an entry evicted for it if need be, whatever comes of the update: eviction
    /// locks buckets, so none can be locked before.
    fn replace_recent(&self, lru: &Lru, update: &Update<'_>) -> Result<(), MapError> {
        let Update { hash, ref key, cpu, .. } = *update;
        let new = lru.take(&self.table, self, cpu, hash).ok_or(MapError::NoElement)?;
        self.prepare(new, update);
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let old = bucket.find(hash, key);
        let checked = update.check(old.is_some());
        if checked.is_ok() {
            bucket.insert(new, hash);
            if let Some(old) = old {
                Lru::mark(&self.table, new);
                bucket.remove(old);
            }
        }
        drop(bucket);
        if let Some(unused) = if checked.is_err() { Some(new) } else { old } {
            self.release(unused);
            lru.give(&self.table, unused);
        }
        checked
    }

    /// An LRU map with values per CPU.
    fn replace_recent_in_place(
        &self,
        lru: &Lru,
        values: &PerCpu,
        update: &Update<'_>,
    ) -> Result<(), MapError> {
        let mut new = None;
        if update.flags != BPF_EXIST {
            new = lru.take(&self.table, self, update.cpu, update.hash);
            if new.is_none() {
                return Err(MapError::NoElement);
            }
        }
        let result = self.replace_in_place(values, update, || new.take().ok_or(MapError::NotFound));
        if let Some(unused) = new {
            lru.give(&self.table, unused);
        }
        result
    }

    /// Gives an element that is in no chain its key and value.
    fn prepare(&self, element: Element, update: &Update<'_>) {
        self.table.set_key(element, &update.key);
        if let Some(to) = self.own_value(element) {
            update.copy_to(&self.fields, to);
        }
    }

    /// Replaces a value where it is, while holding its lock.
    fn copy_locked(&self, update: &Update<'_>, element: Element) {
        if let Some(to) = self.own_value(element) {
            self.fields.locked(to, || update.copy_to(&self.fields, to));
        }
    }
}
