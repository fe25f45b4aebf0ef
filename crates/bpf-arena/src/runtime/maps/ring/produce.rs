//! Ring buffers that programs fill.
//!
//! Any number of programs write records at the same time: each reserves a range in order, under a lock that is held for a few
//! instructions, writes it in its own time, and commits it. The host reads up to the first record that is not committed.
//! A run keeps a list of what it has reserved, so that records are committed by who reserved them, and that what a run
//! leaves behind because it was ended is discarded: nobody waits for it for ever.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bpf_object::MapSpec;
use isa::{AtomicOp, Size};

use super::{BUSY, DISCARD, HEADER, Ring, Wakeup, whole_record};
use crate::access::{BlockTable, Place};
use crate::backend::{LoadedMap, RingMemory};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::runtime::maps::{MapCore, UserMap};

/// Most bytes of a record.
const MAX_RECORD: u64 = u32::MAX as u64 / 4;

/// Pages before the data, as the kernel counts them in a record's header: its own, and the two positions'.
const PAGES_BEFORE: u64 = 3;

/// Attempts to take the lock before the thread gives up its time slice.
const SPINS: u32 = 64;

/// A ring buffer.
pub(crate) struct RingbufMap {
    core: MapCore,
    ring: Arc<Ring>,
}

impl RingbufMap {
    /// Creates an empty one. The attributes have been checked.
    pub(in crate::runtime::maps) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let ring = Arc::new(Ring::new(spec.max_entries, false)?);
        Ok(Self { core: MapCore::new(spec), ring })
    }

    /// Reserves a record of `size` bytes: where its data begins. `None` if there is no room.
    pub(crate) fn reserve(&self, size: u64) -> Option<Place<'_>> {
        let ring = &*self.ring;
        if size > MAX_RECORD {
            return None;
        }
        let whole = whole_record(size);
        if whole > ring.size {
            return None;
        }
        let consumer = ring.consumer.load(Ordering::Acquire);
        let _guard = self.lock();
        let begin = ring.producer.position.load(Ordering::Relaxed);
        let end = begin.wrapping_add(whole);
        let pending = self.first_pending(begin);
        // One byte always stays free, between the oldest record that is needed and the newest.
        if end.wrapping_sub(consumer) >= ring.size || end.wrapping_sub(pending) >= ring.size {
            return None;
        }
        let record = ring.place(begin, whole)?;
        let page = (begin & (ring.size - 1)) / sys::PAGE_SIZE + PAGES_BEFORE;
        record.store(Size::DW, page << 32 | u64::from(BUSY) | size, Ordering::Relaxed);
        ring.producer.position.store(end, Ordering::Release);
        record.sub(usize::try_from(HEADER).ok()?, usize::try_from(size).ok()?)
    }

    /// Ends the writing of the record whose data is at this address.
    pub(crate) fn commit(&self, data: u64, wakeup: Wakeup, discard: bool) {
        let ring = &*self.ring;
        let Some(at) = data.checked_sub(HEADER).and_then(|header| header.checked_sub(ring.data.address()))
        else {
            return;
        };
        let Some(header) = ring.data.place(at, HEADER) else { return };
        let length = header.load(Size::W, Ordering::Relaxed) & !u64::from(BUSY);
        let length = if discard { length | u64::from(DISCARD) } else { length };
        if wakeup == Wakeup::Never {
            return header.store(Size::W, length, Ordering::Release);
        }
        // Announced to the reader before its position is looked at: either it sees the record, or it is seen to wait.
        header.fetch(Size::W, AtomicOp::Xchg, length, 0);
        let next = ring.consumer.load(Ordering::SeqCst) & (ring.size - 1);
        match wakeup {
            Wakeup::Always => ring.signal.wake(),
            // Who reads has read everything before: it may be waiting for this record.
            Wakeup::Adaptive if next == at => ring.signal.wake(),
            _ => {}
        }
    }

    /// `bpf_ringbuf_query`.
    pub(crate) fn query(&self, what: u64) -> u64 {
        match what {
            0 => self.ring.unread(),
            1 => self.ring.size,
            2 => self.ring.consumer.load(Ordering::Acquire),
            3 => self.ring.producer.position.load(Ordering::Acquire),
            _ => 0,
        }
    }

    /// The position of the first record that is not committed, `end` if all are.
    fn first_pending(&self, end: u64) -> u64 {
        let pending = &self.ring.producer.pending;
        let mut position = pending.load(Ordering::Relaxed);
        while position < end {
            let length = self.ring.length_at(position);
            if length & BUSY != 0 {
                break;
            }
            position += whole_record(u64::from(length & !DISCARD));
        }
        let position = position.min(end);
        pending.store(position, Ordering::Relaxed);
        position
    }

    fn lock(&self) -> Guard<'_> {
        let locked = &self.ring.producer.locked;
        let mut spins = 0u32;
        while locked.swap(true, Ordering::Acquire) {
            while locked.load(Ordering::Relaxed) {
                spins += 1;
                if spins.is_multiple_of(SPINS) { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        }
        Guard(locked)
    }
}

/// Holds the lock.
struct Guard<'m>(&'m AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl LoadedMap for RingbufMap {
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

impl UserMap for RingbufMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        table.insert(Arc::clone(&self.ring.data), true);
    }

    fn update_elem(&self, _: &CpuSlot, _: Place<'_>, _: Place<'_>, _: u64) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn delete_elem(&self, _: &CpuSlot, _: Place<'_>) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    fn as_ring_buffer(&self) -> Option<&RingbufMap> {
        Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The records that a run has reserved and not yet given up. What is left when the run ends is discarded.
#[derive(Default)]
pub(crate) struct Reserved<'r> {
    // Most programs have one at a time: no memory is asked for then.
    last: Option<(u64, &'r RingbufMap)>,
    earlier: Vec<(u64, &'r RingbufMap)>,
}

impl<'r> Reserved<'r> {
    /// Notes a record by the address of its data.
    #[inline]
    pub(crate) fn add(&mut self, data: u64, map: &'r RingbufMap) {
        self.earlier.extend(self.last.replace((data, map)));
    }

    /// Takes a record off the list; `None` if it is not there.
    #[inline]
    pub(crate) fn take(&mut self, data: u64) -> Option<&'r RingbufMap> {
        if let Some((address, map)) = self.last
            && address == data
        {
            self.last = self.earlier.pop();
            return Some(map);
        }
        let index = self.earlier.iter().position(|(address, _)| *address == data)?;
        Some(self.earlier.remove(index).1)
    }

    /// Discards what is left.
    pub(crate) fn clear(&mut self) {
        for (data, map) in self.last.take().into_iter().chain(self.earlier.drain(..)) {
            map.commit(data, Wakeup::Adaptive, true);
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use std::time::Duration;

    use bpf_object::MapType;

    use super::*;

    fn map(pages: u32) -> RingbufMap {
        let max_entries = pages * 4096;
        RingbufMap::create(MapSpec { max_entries, ..MapSpec::new("ring", MapType::Ringbuf) }).unwrap()
    }

    /// Reads the next committed record, as a consumer does.
    fn next(map: &RingbufMap) -> Option<Vec<u8>> {
        let ring = map.ring().unwrap();
        loop {
            let (consumer, producer) = (ring.load_u64(0), ring.load_u64(4096));
            if consumer == producer {
                return None;
            }
            let at = 8192 + (consumer & (ring.data_bytes() - 1));
            let length = ring.load_u32(at);
            if length & BUSY != 0 {
                return None;
            }
            let size = length & !DISCARD;
            let mut bytes = vec![0; size as usize];
            assert!(ring.read(at + 8, &mut bytes));
            ring.store_u64(0, consumer + whole_record(u64::from(size)));
            if length & DISCARD == 0 {
                return Some(bytes);
            }
        }
    }

    fn output(map: &RingbufMap, bytes: &[u8]) -> bool {
        let Some(place) = map.reserve(bytes.len() as u64) else { return false };
        place.write(bytes);
        map.commit(place.address(), Wakeup::Adaptive, false);
        true
    }

    #[test]
    fn records_are_read_in_the_order_of_reservation() {
        let map = map(1);
        let first = map.reserve(3).unwrap();
        assert!(output(&map, b"second"));
        assert_eq!(next(&map), None);
        assert_eq!((map.query(0), map.query(1), map.query(2), map.query(3)), (32, 4096, 0, 32));
        first.write(b"one");
        map.commit(first.address(), Wakeup::Adaptive, false);
        assert_eq!(next(&map).unwrap(), b"one");
        assert_eq!(next(&map).unwrap(), b"second");
        assert_eq!(next(&map), None);
        assert_eq!((map.query(0), map.query(2), map.query(7)), (0, 32, 0));
    }

    #[test]
    fn a_full_ring_takes_nothing_and_a_read_makes_room() {
        let map = map(1);
        assert!(map.reserve(4096).is_none());
        assert!(map.reserve(4096 - 8).is_none());
        assert!(map.reserve(u64::MAX).is_none());
        let all = map.reserve(4096 - 16).unwrap();
        assert!(map.reserve(0).is_none());
        map.commit(all.address(), Wakeup::Adaptive, true);
        // It is committed but not read.
        assert!(map.reserve(0).is_none());
        assert_eq!(next(&map), None);
        assert!(map.reserve(0).is_some());
    }

    #[test]
    fn a_record_over_the_end_is_one_piece() {
        let map = map(1);
        for round in 0..100u8 {
            let record: Vec<u8> = (0..1000).map(|i| round.wrapping_add(i as u8)).collect();
            assert!(output(&map, &record));
            assert_eq!(next(&map).unwrap(), record);
        }
    }

    #[test]
    fn the_oldest_open_record_holds_the_ring_up() {
        let map = map(1);
        let open = map.reserve(8).unwrap();
        assert!(output(&map, &[0; 56]));
        // The reader may say that it has read everything: an open record is not overwritten.
        let mut end = map.query(3);
        map.ring().unwrap().store_u64(0, end);
        while output(&map, &[0; 56]) {
            end += 64;
            map.ring().unwrap().store_u64(0, end);
        }
        assert!(map.query(3) < 4096);
        map.commit(open.address(), Wakeup::Adaptive, false);
        assert!(output(&map, &[0; 56]));
    }

    #[test]
    fn a_run_discards_what_it_leaves() {
        let map = map(1);
        {
            let mut reserved = Reserved::default();
            for _ in 0..3 {
                reserved.add(map.reserve(8).unwrap().address(), &map);
            }
            let second = map.query(3) - 16 - 16;
            let data = map.ring.data.address() + second + 8;
            assert!(reserved.take(data).is_some());
            assert!(reserved.take(data).is_none());
            map.commit(data, Wakeup::Adaptive, false);
            assert_eq!(next(&map), None);
        }
        assert_eq!(next(&map).unwrap(), [0; 8]);
        assert_eq!((next(&map), map.query(0)), (None, 0));
    }

    #[test]
    fn many_writers_and_a_waiting_reader() {
        const EACH: u32 = 5000;
        let map = map(1);
        std::thread::scope(|scope| {
            for writer in 0..4u32 {
                let map = &map;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let record = [writer.to_le_bytes(), number.to_le_bytes()].concat();
                        while !output(map, &record) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut expected = [0u32; 4];
            while expected.iter().any(|next| *next < EACH) {
                match next(&map) {
                    Some(record) => {
                        let [writer, number] =
                            [0, 4].map(|at| u32::from_le_bytes(record[at..at + 4].try_into().unwrap()));
                        assert_eq!(expected[writer as usize], number);
                        expected[writer as usize] += 1;
                    }
                    None => assert!(map.ring.wait(Duration::from_secs(60))),
                }
            }
        });
        assert_eq!(map.query(0), 0);
    }
}
