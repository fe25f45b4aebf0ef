//! Memory of per-CPU values: one area for each CPU, so that no two CPUs write the same cache line, with one slot in each
//! for every element.

use std::sync::Arc;

use codegen::abi;

use super::fields::ValueFields;
use crate::access::{Block, Place};
use crate::cpu;
use crate::error::MapError;

/// The values of some number of elements, on every CPU.
pub(super) struct PerCpu {
    block: Arc<Block>,
    fields: ValueFields,
    slots: u64,
    /// Bytes of a value.
    size: usize,
    /// Bytes from one element's value to the next.
    stride: u64,
    /// Bytes from one CPU's values to the next CPU's.
    area: u64,
    cpus: u32,
}

impl PerCpu {
    /// Zeroes for so many elements with values of this size.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn new(value_size: u32, fields: ValueFields, elements: u32) -> Result<Self, MapError> {
        let cpus = u32::try_from(cpu::possible()).unwrap_or(u32::MAX);
        // Compiled code computes with the same numbers.
        let (stride, area) = (abi::value_stride(value_size), abi::per_cpu_area(value_size, elements));
        let bytes = area.saturating_mul(u64::from(cpus));
        let block = usize::try_from(bytes).ok().and_then(Block::new).ok_or(MapError::NoMemory { bytes })?;
        let (slots, size) = (u64::from(elements), value_size as usize);
        Ok(Self { block: Arc::new(block), fields, slots, size, stride, area, cpus })
    }

    /// The memory.
    pub(super) fn memory(&self) -> &Arc<Block> {
        &self.block
    }

    /// An element's value on a CPU, padding included; `None` if there is no such element or CPU.
    #[inline]
    pub(super) fn value(&self, element: u32, cpu: u32) -> Option<Place<'_>> {
        if u64::from(element) >= self.slots || cpu >= self.cpus {
            return None;
        }
        self.block.place(self.area * u64::from(cpu) + self.stride * u64::from(element), self.stride)
    }

    /// Copies a value for every CPU to an element, as the host gives them: one after the other, padding included.
    pub(super) fn store_all(&self, element: u32, from: &[u8]) {
        let stride = usize::try_from(self.stride).unwrap_or(usize::MAX);
        for (to, from) in self.all(element).zip(from.chunks(stride.max(1))) {
            if self.fields.is_empty() {
                to.write(from);
            } else {
                self.fields.write(to, from);
                self.fields.free(to);
            }
        }
    }

    /// Copies an element's values of all CPUs to the host.
    pub(super) fn load_all(&self, element: u32, to: &mut [u8]) {
        let stride = usize::try_from(self.stride).unwrap_or(usize::MAX);
        for (to, from) in to.chunks_mut(stride.max(1)).zip(self.all(element)) {
            if self.fields.is_empty() {
                from.read(to);
            } else {
                self.fields.read(from, to);
            }
        }
    }

    /// Copies a program's value to that of its CPU.
    pub(super) fn store(&self, element: u32, cpu: u32, from: Place<'_>) {
        if let Some(to) = self.value(element, cpu).and_then(|to| to.sub(0, self.size)) {
            self.fields.copy(to, from);
            self.fields.free(to);
        }
    }

    /// Fills an element that was not used with a program's value: the other CPUs' are zeroes.
    pub(super) fn fill(&self, element: u32, cpu: u32, from: Place<'_>) {
        self.store(element, cpu, from);
        (0..self.cpus).filter(|other| *other != cpu).for_each(|other| {
            if let Some(value) = self.value(element, other) {
                self.fields.clear(value);
            }
        });
    }

    /// Gives back what the values of an element own.
    pub(super) fn free(&self, element: u32) {
        if !self.fields.is_empty() {
            self.all(element).for_each(|value| self.fields.free(value));
        }
    }

    /// An element's values on all CPUs.
    fn all(&self, element: u32) -> impl Iterator<Item = Place<'_>> {
        (0..self.cpus).filter_map(move |cpu| self.value(element, cpu))
    }
}
