//! `BPF_MAP_TYPE_HASH`, `PERCPU_HASH`, `LRU_HASH` and `LRU_PERCPU_HASH`.
//!
//! All have a [`Table`] of elements that exist from the beginning and are used again and again, so that addresses that programs were given
//! stay good. They differ in who hands out elements (a [`Pool`], or an [`Lru`] that evicts entries when there are none) and in
//! where values lie (in the elements, or in [`PerCpu`] areas).
//!
//! Replacing a value takes another element, which is put before the old one in their chain: a reader finds one of them at any moment,
//! and never a value that is half written. Per-CPU values are replaced where they are.
//!
//! `BPF_F_NO_PREALLOC` makes no difference but in what a program may see of a deleted value: memory is not touched before it is used.

mod batch;
mod host;
mod key;
mod links;
mod lru;
mod pool;
mod seed;
#[cfg(test)]
mod stress;
mod table;
#[cfg(test)]
mod tests;

use std::any::Any;

use bpf_object::{BPF_F_RDONLY_PROG, Btf, MapSpec, MapType};

use self::key::Key;
use self::lru::{Evict, Lru};
use self::pool::Pool;
use self::seed::Seed;
use self::table::{Element, Shape, Table};
use super::attributes::{BPF_F_NO_COMMON_LRU, BPF_F_ZERO_SEED};
use super::percpu::PerCpu;
use super::value::Values;
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::cpu::{self, CpuSlot};
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};

/// A hash map of any of the four types.
pub(super) struct HashMap {
    core: MapCore,
    values: Values,
    table: Table,
    free: Free,
    /// Where the values lie, if not in the elements.
    per_cpu: Option<PerCpu>,
}

/// The kernel's hash function (`jhash`) of bytes.
pub(super) fn jhash(bytes: Place<'_>, seed: u32) -> u32 {
    seed::jhash(&Key::new(bytes), seed)
}

/// Who hands out elements.
enum Free {
    Pool(Pool),
    Lru(Lru),
}

/// Who updates a map, and on which CPU.
#[derive(Clone, Copy, Debug)]
enum Writer {
    /// A program has a value for its own CPU.
    Program(u32),
    /// The host has a value for each CPU. Its own one says which elements are at hand.
    Host(u32),
}

impl Writer {
    fn cpu(self) -> u32 {
        match self {
            Self::Program(cpu) | Self::Host(cpu) => cpu,
        }
    }
}

impl HashMap {
    /// An empty map. The attributes have been checked.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn create(spec: &MapSpec, btf: Option<&Btf>) -> Result<Self, MapError> {
        let mut spec = spec.clone();
        let cpus = u32::try_from(cpu::possible()).unwrap_or(u32::MAX);
        let is_lru = matches!(spec.map_type, MapType::LruHash | MapType::LruPercpuHash);
        let is_per_cpu = matches!(spec.map_type, MapType::PercpuHash | MapType::LruPercpuHash);
        let common = spec.flags & BPF_F_NO_COMMON_LRU == 0;
        if is_lru && !common {
            // Each CPU has as many, and at least one.
            let rounded = spec.max_entries.checked_next_multiple_of(cpus);
            spec.max_entries = rounded.unwrap_or(spec.max_entries - spec.max_entries % cpus);
        }
        let entries = spec.max_entries;
        let buckets = entries.checked_next_power_of_two().ok_or(MapError::TooBig)?;
        let values = Values::new(&spec, btf);
        let per_cpu = if is_per_cpu { Some(PerCpu::new(&values, entries)?) } else { None };
        let has_spares = !is_lru && !is_per_cpu;
        let free = if is_lru {
            Free::Lru(Lru::new(entries, cpus, common))
        } else {
            Free::Pool(Pool::new(entries, cpus, has_spares))
        };
        let header = if is_lru { links::HEADER_BYTES } else { pool::HEADER_BYTES };
        let shape = Shape {
            header: table::LINK_BYTES + header,
            key: spec.key_size,
            value: if is_per_cpu { 0 } else { values.stride() },
            elements: if has_spares { entries.saturating_add(cpus) } else { entries },
            buckets,
        };
        let seed = if spec.flags & BPF_F_ZERO_SEED == 0 { Seed::random() } else { Seed::Zero };
        let table = Table::new(shape, seed).map_err(|bytes| MapError::NoMemory { bytes })?;
        Ok(Self { core: MapCore::new(spec), values, table, free, per_cpu })
    }

    /// The element with a key, and the key's hash.
    #[inline]
    fn find(&self, key: Place<'_>) -> Option<(Element, u32)> {
        let key = Key::new(key);
        let hash = self.table.hash(&key);
        Some((self.table.find(hash, &key)?, hash))
    }

    /// The value of a key where it lies, for maps that have a hash map inside.
    pub(super) fn value_of(&self, key: Place<'_>) -> Option<Place<'_>> {
        self.own_value(self.find(key)?.0)
    }

    /// The same by a program, which counts as a use of the entry.
    #[inline]
    fn find_and_use(&self, key: Place<'_>) -> Option<Element> {
        let (element, _) = self.find(key)?;
        if matches!(self.free, Free::Lru(_)) {
            Lru::mark(&self.table, element);
        }
        Some(element)
    }

    /// The value of an element as a program on this CPU sees it.
    #[inline]
    fn value(&self, element: Element, cpu: impl FnOnce() -> u32) -> Option<Place<'_>> {
        match &self.per_cpu {
            None => self.table.value(element),
            Some(values) => values.value(element.0, cpu()),
        }
    }

    /// The value of an element that is not per CPU, without the padding behind it.
    fn own_value(&self, element: Element) -> Option<Place<'_>> {
        self.table.value(element)?.sub(0, self.values.size() as usize)
    }

    fn update_as(
        &self,
        writer: Writer,
        key: Place<'_>,
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        let allowed = if self.locks_values() { flags & !BPF_F_LOCK } else { flags };
        if allowed > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        let key = Key::new(key);
        let hash = self.table.hash(&key);
        match (&self.free, &self.per_cpu) {
            (Free::Pool(pool), None) => self.replace(pool, writer, (&key, hash), value, flags),
            (Free::Pool(pool), Some(values)) => {
                let take = || pool.take(&self.table, writer.cpu()).ok_or(MapError::TooBig);
                self.update_in_place(values, writer, (&key, hash), value, flags, take)
            }
            (Free::Lru(lru), None) => self.replace_recent(lru, writer, (&key, hash), value, flags),
            (Free::Lru(lru), Some(values)) => {
                self.update_recent_in_place(lru, values, writer, (&key, hash), value, flags)
            }
        }
    }

    /// Whether `BPF_F_LOCK` means something to this type of map.
    fn locks_values(&self) -> bool {
        self.core.spec.map_type == MapType::Hash
    }

    /// An update of a plain hash map.
    fn replace(
        &self,
        pool: &Pool,
        writer: Writer,
        (key, hash): (&Key<'_>, u32),
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        let locked = flags & BPF_F_LOCK != 0;
        if locked {
            if !self.values.has_lock() {
                return Err(MapError::Invalid);
            }
            let known = self.table.find(hash, key);
            check_exists(known.is_some(), flags)?;
            if let Some(to) = known.and_then(|element| self.own_value(element)) {
                self.values.store_locked(to, value);
                return Ok(());
            }
        }
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let old = bucket.find(hash, key);
        check_exists(old.is_some(), flags)?;
        if locked && let Some(to) = old.and_then(|element| self.own_value(element)) {
            self.values.store_locked(to, value);
            return Ok(());
        }
        let new = match old {
            Some(_) => pool.take_spare(writer.cpu()),
            None => pool.take(&self.table, writer.cpu()),
        };
        let new = new.ok_or(MapError::TooBig)?;
        self.table.set_key(new, key);
        if let Some(to) = self.own_value(new) {
            self.values.store(to, value);
        }
        bucket.insert(new, hash);
        let Some(old) = old else { return Ok(()) };
        bucket.remove(old);
        drop(bucket);
        self.release(old);
        pool.give_spare(writer.cpu(), old);
        Ok(())
    }

    /// An update of a map whose values are replaced where they are.
    fn update_in_place(
        &self,
        values: &PerCpu,
        writer: Writer,
        (key, hash): (&Key<'_>, u32),
        value: Place<'_>,
        flags: u64,
        take: impl FnOnce() -> Result<Element, MapError>,
    ) -> Result<(), MapError> {
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let known = bucket.find(hash, key);
        check_exists(known.is_some(), flags)?;
        if let Some(element) = known {
            if matches!(self.free, Free::Lru(_)) {
                Lru::mark(&self.table, element);
            }
            match writer {
                Writer::Program(cpu) => values.store(&self.values, element.0, cpu, value),
                Writer::Host(_) => values.store_all(&self.values, element.0, value),
            }
            return Ok(());
        }
        let element = take()?;
        self.table.set_key(element, key);
        match writer {
            Writer::Program(cpu) => values.fill(&self.values, element.0, cpu, value),
            Writer::Host(_) => values.store_all(&self.values, element.0, value),
        }
        bucket.insert(element, hash);
        Ok(())
    }

    /// An update of an LRU hash map. The element is taken first, and an entry evicted for it if need be, whatever comes of the
    /// update: the kernel may not take one while it holds a bucket's lock either.
    fn replace_recent(
        &self,
        lru: &Lru,
        writer: Writer,
        (key, hash): (&Key<'_>, u32),
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        let new = lru.take(&self.table, self, writer.cpu(), hash).ok_or(MapError::NoMemory { bytes: 0 })?;
        self.table.set_key(new, key);
        if let Some(to) = self.own_value(new) {
            self.values.store(to, value);
        }
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let old = bucket.find(hash, key);
        let checked = check_exists(old.is_some(), flags);
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

    /// An update of an LRU hash map with per-CPU values.
    fn update_recent_in_place(
        &self,
        lru: &Lru,
        values: &PerCpu,
        writer: Writer,
        key: (&Key<'_>, u32),
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        let mut new = None;
        if flags != BPF_EXIST {
            new = lru.take(&self.table, self, writer.cpu(), key.1);
            if new.is_none() {
                return Err(MapError::NoMemory { bytes: 0 });
            }
        }
        let take = || new.take().ok_or(MapError::NotFound);
        let result = self.update_in_place(values, writer, key, value, flags, take);
        if let Some(unused) = new {
            lru.give(&self.table, unused);
        }
        result
    }

    /// Removes the entry with a key, after `look` has seen it.
    fn remove(&self, cpu: u32, key: Place<'_>, look: impl FnOnce(Element)) -> Result<(), MapError> {
        let key = Key::new(key);
        let hash = self.table.hash(&key);
        let bucket = self.table.lock(hash).ok_or(MapError::Invalid)?;
        let element = bucket.find(hash, &key).ok_or(MapError::NotFound)?;
        look(element);
        bucket.remove(element);
        drop(bucket);
        self.give(cpu, element);
        Ok(())
    }

    /// Takes back an element that has been removed.
    fn give(&self, cpu: u32, element: Element) {
        self.release(element);
        match &self.free {
            Free::Pool(pool) => pool.give(&self.table, cpu, element),
            Free::Lru(lru) => lru.give(&self.table, element),
        }
    }

    /// Gives back what the value of an element owns.
    fn release(&self, element: Element) {
        if !self.values.has_fields() {
            return;
        }
        match &self.per_cpu {
            Some(values) => values.release(&self.values, element.0),
            None => {
                if let Some(value) = self.own_value(element) {
                    self.values.release(value);
                }
            }
        }
    }
}

impl Evict for HashMap {
    fn evict(&self, element: Element) -> bool {
        let Some(bucket) = self.table.lock(self.table.hash_of(element)) else { return false };
        let removed = bucket.remove(element);
        drop(bucket);
        if removed {
            self.release(element);
        }
        removed
    }
}

impl UserMap for HashMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        let writable = self.core.spec.flags & BPF_F_RDONLY_PROG == 0;
        table.insert(self.table.memory().clone(), writable);
        if let Some(values) = &self.per_cpu {
            table.insert(values.memory().clone(), writable);
        }
    }

    fn lookup_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Option<u64> {
        let element = self.find_and_use(key)?;
        Some(self.value(element, || cpu.get())?.address())
    }

    fn lookup_percpu_elem(&self, key: Place<'_>, cpu: u32) -> Option<u64> {
        let values = self.per_cpu.as_ref().filter(|_| (cpu as usize) < cpu::possible())?;
        Some(values.value(self.find_and_use(key)?.0, cpu)?.address())
    }

    fn update_elem(
        &self,
        cpu: &CpuSlot,
        key: Place<'_>,
        value: Place<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        self.update_as(Writer::Program(cpu.get()), key, value, flags)
    }

    fn delete_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Result<(), MapError> {
        self.remove(cpu.get(), key, |_| {})
    }

    fn for_each_elem(&self, cpu: &CpuSlot, visit: &mut dyn FnMut(u64, u64) -> bool) -> Result<u64, MapError> {
        let mut visited = 0;
        for bucket in 0..self.table.buckets() {
            let mut at = self.table.first_in(bucket);
            while let Some(element) = at {
                // What follows is looked up before: the callback may delete this entry.
                at = self.table.next(element);
                let (key, value) = (self.table.key(element), self.value(element, || cpu.get()));
                let (Some(key), Some(value)) = (key, value) else { break };
                visited += 1;
                if !visit(key.address(), value.address()) {
                    return Ok(visited);
                }
            }
        }
        Ok(visited)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What the flags of an update say about the entry it is for.
fn check_exists(exists: bool, flags: u64) -> Result<(), MapError> {
    match flags & !BPF_F_LOCK {
        BPF_NOEXIST if exists => Err(MapError::Exists),
        BPF_EXIST if !exists => Err(MapError::NotFound),
        _ => Ok(()),
    }
}
