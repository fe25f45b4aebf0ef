//! Ring buffers that the host fills and programs drain.
//!
//! The host writes positions and records, so a program's side takes nothing of it for granted.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bpf_object::MapSpec;

use super::{BUSY, DISCARD, HEADER, Ring, Wakeup, whole_record};
use crate::access::{Block, BlockTable, Place};
use crate::backend::{LoadedMap, RingMemory};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::runtime::maps::{MapCore, UserMap, memory};

/// Most records that one call drains (`BPF_MAX_USER_RINGBUF_SAMPLES`).
const MAX_SAMPLES: u64 = 128 * 1024;

/// Most bytes of a record: what a dynptr can hold.
const MAX_SAMPLE: u32 = (1 << 24) - 1;

/// Bytes of a `struct bpf_dynptr`.
const DYNPTR_BYTES: u64 = 16;

/// A user ring buffer.
pub(crate) struct UserRingbufMap {
    core: MapCore,
    ring: Arc<Ring>,
    /// Whether a program is draining it: one at a time.
    busy: AtomicBool,
    /// Where the dynptr of the record being drained lies; used by the one who drains.
    dynptr: Arc<Block>,
}

/// What is at the consumer's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A record of so many bytes.
    Sample(u32),
    /// A record to skip.
    Skip(u32),
    /// Nothing yet.
    Nothing,
}

impl UserRingbufMap {
    /// Creates an empty one. The attributes have been checked.
    pub(in crate::runtime::maps) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let ring = Arc::new(Ring::new(spec.max_entries, true)?);
        let dynptr = Arc::new(memory::reserve(DYNPTR_BYTES)?);
        Ok(Self { core: MapCore::new(spec), ring, busy: AtomicBool::new(false), dynptr })
    }

    /// `bpf_user_ringbuf_drain`: has `visit` look at one record after the other, as long as it wants more. How many it has seen.
    ///
    /// # Errors
    /// Another run is draining it, or the host wrote nonsense.
    pub(crate) fn drain(
        &self,
        wakeup: Wakeup,
        mut visit: impl FnMut(Place<'_>) -> bool,
    ) -> Result<u64, MapError> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(MapError::Busy);
        }
        let draining = Draining(&self.busy);
        let (mut looked, mut seen, mut more) = (0, 0, true);
        let mut result = Ok(());
        while looked < MAX_SAMPLES && more {
            let size = match self.peek() {
                Ok(Next::Nothing) => break,
                Ok(Next::Skip(size)) => size,
                Ok(Next::Sample(size)) => {
                    let position = self.ring.consumer.load(Ordering::Relaxed).wrapping_add(HEADER);
                    let Some(place) = self.ring.place(position, u64::from(size)) else { break };
                    more = visit(place);
                    seen += 1;
                    size
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let position = self.ring.consumer.load(Ordering::Relaxed);
            self.ring.consumer.store(position.wrapping_add(whole_record(u64::from(size))), Ordering::Release);
            looked += 1;
        }
        drop(draining);
        match wakeup {
            Wakeup::Always => self.ring.signal.wake(),
            Wakeup::Adaptive if looked > 0 => self.ring.signal.wake(),
            _ => {}
        }
        result.map(|()| seen)
    }

    /// Where the one who drains keeps the dynptr of the record: memory that programs may access.
    pub(crate) fn dynptr_address(&self) -> u64 {
        self.dynptr.address()
    }

    /// What the host says is next.
    fn peek(&self) -> Result<Next, MapError> {
        let ring = &*self.ring;
        let producer = ring.producer.position.load(Ordering::Acquire);
        if !producer.is_multiple_of(8) {
            return Err(MapError::Invalid);
        }
        let consumer = ring.consumer.load(Ordering::Acquire);
        if consumer >= producer {
            return Ok(Next::Nothing);
        }
        let length = ring.length_at(consumer);
        let size = length & !(BUSY | DISCARD);
        let whole = whole_record(u64::from(size));
        if whole > producer - consumer {
            return Err(MapError::Invalid);
        }
        if whole > ring.size || size > MAX_SAMPLE {
            return Err(MapError::TooBig);
        }
        if length & DISCARD != 0 {
            return Ok(Next::Skip(size));
        }
        Ok(if length & BUSY != 0 { Next::Nothing } else { Next::Sample(size) })
    }
}

/// Lets others drain when it is dropped.
struct Draining<'m>(&'m AtomicBool);

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl LoadedMap for UserRingbufMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, _: &[u8], _: &mut [u8], _: u64) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn update(&self, _: &[u8], _: &[u8], _: u64) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn delete(&self, _: &[u8]) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn ring(&self) -> Result<Arc<dyn RingMemory>, MapError> {
        Ok(Arc::clone(&self.ring) as Arc<dyn RingMemory>)
    }
}

impl UserMap for UserRingbufMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        table.insert(Arc::clone(&self.ring.data), true);
        table.insert(Arc::clone(&self.dynptr), true);
    }

    fn update_elem(&self, _: &CpuSlot, _: Place<'_>, _: Place<'_>, _: u64) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use bpf_object::MapType;

    use super::*;

    fn map() -> UserRingbufMap {
        let spec = MapSpec { max_entries: 4096, ..MapSpec::new("ring", MapType::UserRingbuf) };
        UserRingbufMap::create(spec).unwrap()
    }

    /// Writes a record as a producer does, with this length word.
    fn produce(map: &UserRingbufMap, length: u32, bytes: &[u8]) {
        let ring = map.ring().unwrap();
        let at = ring.load_u64(4096);
        let offset = 8192 + (at & 4095);
        assert!(ring.write(offset + 8, bytes));
        ring.store_u32(offset, length);
        ring.store_u64(4096, at + whole_record(bytes.len() as u64));
    }

    fn drain(map: &UserRingbufMap) -> Result<Vec<Vec<u8>>, MapError> {
        let mut records = Vec::new();
        let count = map.drain(Wakeup::Adaptive, |place| {
            records.push(place.to_vec());
            true
        })?;
        assert_eq!(count, records.len() as u64);
        Ok(records)
    }

    #[test]
    fn records_come_in_order_and_discarded_ones_do_not() {
        let map = map();
        assert_eq!(drain(&map), Ok(vec![]));
        for round in 0..200u8 {
            produce(&map, 5, &[round; 5]);
            produce(&map, DISCARD | 100, &[9; 100]);
            produce(&map, 0, &[]);
            assert_eq!(drain(&map), Ok(vec![vec![round; 5], vec![]]));
        }
    }

    #[test]
    fn an_open_record_ends_it_and_so_does_the_program() {
        let map = map();
        produce(&map, 1, &[1]);
        produce(&map, BUSY | 1, &[2]);
        produce(&map, 1, &[3]);
        assert_eq!(drain(&map), Ok(vec![vec![1]]));
        let ring = map.ring().unwrap();
        ring.store_u32(8192 + 16, 1);
        assert_eq!(map.drain(Wakeup::Never, |_| false), Ok(1));
        assert_eq!(drain(&map), Ok(vec![vec![3]]));
    }

    #[test]
    fn nonsense_of_the_host_is_refused() {
        let map = map();
        let ring = map.ring().unwrap();
        ring.store_u64(4096, 7);
        assert_eq!(drain(&map), Err(MapError::Invalid));
        ring.store_u64(4096, 16);
        ring.store_u32(8192, 9);
        assert_eq!(drain(&map), Err(MapError::Invalid));
        ring.store_u64(4096, u64::MAX - 7);
        ring.store_u32(8192, 4096);
        assert_eq!(drain(&map), Err(MapError::TooBig));
        ring.store_u32(8192, 0x3fff_ffff);
        assert_eq!(drain(&map), Err(MapError::TooBig));
        // The host may take positions back as well.
        ring.store_u64(4096, 0);
        assert_eq!(drain(&map), Ok(vec![]));
    }

    #[test]
    fn one_run_drains_at_a_time() {
        let map = map();
        produce(&map, 1, &[1]);
        let inner = |_: Place<'_>| {
            assert_eq!(map.drain(Wakeup::Never, |_| true), Err(MapError::Busy));
            true
        };
        assert_eq!(map.drain(Wakeup::Never, inner), Ok(1));
        assert_eq!(map.drain(Wakeup::Never, |_| true), Ok(0));
    }
}
