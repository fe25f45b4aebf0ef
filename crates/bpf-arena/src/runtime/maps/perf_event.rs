//! `BPF_MAP_TYPE_PERF_EVENT_ARRAY`: where `bpf_perf_event_output` sends what a program has to say.
//!
//! The kernel has an event in each slot, opened for one CPU. Here a slot has a function of the host, which is called in the
//! middle of the run that sends.

use std::any::Any;
use std::sync::Arc;

use bpf_object::MapSpec;

use super::indexed::{index_of, next_index};
use super::slots::Slots;
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::{self, CpuSlot};
use crate::error::MapError;
use crate::map::EventSink;

/// In the flags of a call: the slot of the CPU that the program runs on (`BPF_F_CURRENT_CPU`).
const CURRENT_CPU: u64 = 0xffff_ffff;

/// An array of functions.
pub(crate) struct PerfEventArray {
    core: MapCore,
    slots: Slots<Event>,
}

/// What a slot has.
struct Event {
    /// The one CPU that may send to it.
    cpu: u32,
    sink: EventSink,
}

impl PerfEventArray {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let slots = Slots::new(spec.max_entries)?;
        Ok(Self { core: MapCore::new(spec), slots })
    }

    /// Sends bytes to the function in the slot that the low half of `flags` names, from a program on this CPU.
    ///
    /// # Errors
    /// There is no such slot, nothing in it, or it is another CPU's.
    pub(crate) fn output(&self, flags: u64, cpu: u32, bytes: &[u8]) -> Result<(), MapError> {
        let event = self.event(flags, cpu)?;
        (event.sink)(cpu, bytes);
        Ok(())
    }

    /// Whether a program on this CPU may ask for the count of the event in a slot.
    ///
    /// # Errors
    /// As for [`PerfEventArray::output`].
    pub(crate) fn check(&self, flags: u64, cpu: u32) -> Result<(), MapError> {
        self.event(flags, cpu).map(drop)
    }

    fn event(&self, flags: u64, cpu: u32) -> Result<Arc<Event>, MapError> {
        let index = match flags & CURRENT_CPU {
            CURRENT_CPU => cpu,
            index => u32::try_from(index).unwrap_or(u32::MAX),
        };
        if !self.slots.has(index) {
            return Err(MapError::TooBig);
        }
        let event = self.slots.get(index).ok_or(MapError::NotFound)?;
        if event.cpu == cpu { Ok(event) } else { Err(MapError::Unsupported) }
    }
}

impl LoadedMap for PerfEventArray {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, _: &[u8], _: &mut [u8], _: u64) -> Result<(), MapError> {
        Err(MapError::NoOperation)
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

    /// One slot for each CPU, as far as there are slots.
    fn set_events(&self, sink: &EventSink) -> Result<(), MapError> {
        let cpus = u32::try_from(cpu::possible()).unwrap_or(u32::MAX);
        for cpu in (0..cpus).take_while(|cpu| self.slots.has(*cpu)) {
            self.slots.replace(cpu, Some(Arc::new(Event { cpu, sink: Arc::clone(sink) })));
        }
        Ok(())
    }
}

impl UserMap for PerfEventArray {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bpf_object::MapType;

    use super::*;

    #[test]
    fn a_slot_belongs_to_a_cpu() {
        let max_entries = u32::try_from(cpu::possible()).unwrap() + 1;
        let spec =
            MapSpec { key_size: 4, value_size: 4, max_entries, ..MapSpec::new("e", MapType::PerfEventArray) };
        let map = PerfEventArray::create(spec).unwrap();
        assert_eq!(map.output(CURRENT_CPU, 0, b"x"), Err(MapError::NotFound));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let sink: EventSink = Arc::new(move |cpu, bytes| log.lock().unwrap().push((cpu, bytes.to_vec())));
        map.set_events(&sink).unwrap();
        assert_eq!(map.output(CURRENT_CPU, 0, b"one"), Ok(()));
        assert_eq!(map.output(0, 0, b"two"), Ok(()));
        assert_eq!(map.output(0, 1, b"three"), Err(MapError::Unsupported));
        assert_eq!(map.output(u64::from(max_entries) - 1, 0, b""), Err(MapError::NotFound));
        assert_eq!(map.output(u64::from(max_entries), 0, b""), Err(MapError::TooBig));
        assert_eq!(*seen.lock().unwrap(), [(0, b"one".to_vec()), (0, b"two".to_vec())]);
        assert_eq!(map.delete(&[0; 4]), Ok(()));
        assert_eq!(map.output(0, 0, b"two"), Err(MapError::NotFound));
    }
}
