//! Memory of per-CPU values: one area for each CPU, so that no two CPUs write the same cache line, with one slot in each
//! for every element.

use std::sync::Arc;

use codegen::abi;

use super::value::Values;
use crate::access::{Block, Place};
use crate::cpu;
use crate::error::MapError;

/// The values of some number of elements, on every CPU.
pub(super) struct PerCpu {
    block: Arc<Block>,
    slots: u64,
    /// Bytes from one element's value to the next.
    stride: u64,
    /// Bytes from one CPU's values to the next CPU's.
    area: u64,
    cpus: u32,
}

impl PerCpu {
    /// Zeroes for so many elements.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn new(values: &Values, elements: u32) -> Result<Self, MapError> {
        let cpus = u32::try_from(cpu::possible()).unwrap_or(u32::MAX);
        let (stride, slots) = (values.stride(), u64::from(elements));
        // Compiled code computes with the same numbers.
        let area = abi::per_cpu_area(values.size(), elements);
        let bytes = area.saturating_mul(u64::from(cpus));
        let block = usize::try_from(bytes).ok().and_then(Block::new).ok_or(MapError::NoMemory { bytes })?;
        Ok(Self { block: Arc::new(block), slots, stride, area, cpus })
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

    /// An element's values on all CPUs.
    pub(super) fn all(&self, element: u32) -> impl Iterator<Item = Place<'_>> {
        (0..self.cpus).filter_map(move |cpu| self.value(element, cpu))
    }

    /// Copies a value for every CPU to an element, as the host gives them: one after the other, padding included.
    pub(super) fn store_all(&self, values: &Values, element: u32, from: Place<'_>) {
        for (to, from) in self.all(element).zip(self.each(from)) {
            values.store(to, from);
            values.release(to);
        }
    }

    /// Copies an element's values of all CPUs to the host.
    pub(super) fn load_all(&self, values: &Values, element: u32, to: Place<'_>) {
        self.each(to).zip(self.all(element)).for_each(|(to, from)| values.load(to, from));
    }

    /// Copies a program's value to that of its CPU.
    pub(super) fn store(&self, values: &Values, element: u32, cpu: u32, from: Place<'_>) {
        if let Some(to) = self.value(element, cpu).and_then(|to| to.sub(0, values.size() as usize)) {
            values.store(to, from);
            values.release(to);
        }
    }

    /// Fills an element that was not used with a program's value: the other CPUs' are zeroes.
    pub(super) fn fill(&self, values: &Values, element: u32, cpu: u32, from: Place<'_>) {
        self.store(values, element, cpu, from);
        (0..self.cpus).filter(|other| *other != cpu).for_each(|other| {
            if let Some(place) =
                self.value(element, other).and_then(|place| place.sub(0, values.size() as usize))
            {
                values.clear(place);
            }
        });
    }

    /// Gives back what the values of an element own.
    pub(super) fn release(&self, values: &Values, element: u32) {
        if values.has_fields() {
            self.all(element).for_each(|place| values.release(place));
        }
    }

    /// The values for each CPU in a place of the host.
    fn each<'m>(&self, host: Place<'m>) -> impl Iterator<Item = Place<'m>> + use<'m> {
        let stride = usize::try_from(self.stride).unwrap_or(usize::MAX);
        (0..host.len()).step_by(stride.max(1)).filter_map(move |at| host.sub(at, stride))
    }
}
