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
mod update;

use std::any::Any;

use bpf_object::{BPF_F_RDONLY_PROG, Btf, MapSpec, MapType};
use codegen::abi;

use self::key::Key;
use self::lru::{Evict, Lru};
use self::pool::Pool;
use self::seed::Seed;
use self::table::{Element, Shape, Table};
use self::update::{Source, Update};
use super::attributes::{BPF_F_NO_COMMON_LRU, BPF_F_ZERO_SEED};
use super::fields::ValueFields;
use super::percpu::PerCpu;
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::cpu::{self, CpuSlot};
use crate::error::MapError;

/// A hash map of any of the four types.
pub(super) struct HashMap {
    core: MapCore,
    fields: ValueFields,
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
        let fields = ValueFields::of(&spec, btf);
        let per_cpu =
            if is_per_cpu { Some(PerCpu::new(spec.value_size, fields.clone(), entries)?) } else { None };
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
            value: if is_per_cpu { 0 } else { abi::value_stride(spec.value_size) },
            elements: if has_spares { entries.saturating_add(cpus) } else { entries },
            buckets,
        };
        let seed = if spec.flags & BPF_F_ZERO_SEED == 0 { Seed::random() } else { Seed::Zero };
        let table = Table::new(shape, seed).map_err(|bytes| MapError::NoMemory { bytes })?;
        Ok(Self { core: MapCore::new(spec), fields, table, free, per_cpu })
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
        self.table.value(element)?.sub(0, self.core.spec.value_size as usize)
    }

    /// The CPU whose elements a program takes. It has it for itself only where that shows: who needs no CPU should not wait
    /// for one.
    fn cpu(&self, slot: &CpuSlot) -> u32 {
        match (&self.free, &self.per_cpu) {
            (Free::Pool(_), None) => cpu::of_thread(),
            _ => slot.get(),
        }
    }

    /// The CPU whose elements the host takes. Recently used elements are on the lists of the thread's own runs.
    fn host_cpu(&self) -> u32 {
        match &self.free {
            Free::Pool(_) => cpu::of_thread(),
            Free::Lru(_) => cpu::nearest(),
        }
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
        if self.fields.is_empty() {
            return;
        }
        match &self.per_cpu {
            Some(values) => values.free(element.0),
            None => {
                if let Some(value) = self.own_value(element) {
                    self.fields.free(value);
                }
            }
        }
    }
}

impl Drop for HashMap {
    fn drop(&mut self) {
        // Of all elements: a program may have stored something in a deleted one.
        if !self.fields.is_empty() {
            self.table.all().for_each(|element| self.release(element));
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
        let source = Source::Program(value);
        self.store(&Update::new(&self.table, self.cpu(cpu), key, source, flags))
    }

    fn delete_elem(&self, cpu: &CpuSlot, key: Place<'_>) -> Result<(), MapError> {
        self.remove(self.cpu(cpu), key, |_| {})
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
