//! The host's side of ring buffers.

use std::sync::Arc;
use std::time::Duration;

use bpf_object::MapType;

use crate::Map;
use crate::backend::RingMemory;
use crate::error::MapError;

/// A record that is being written (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;
/// A record that was given up (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARD: u32 = 1 << 30;
/// Bytes before a record's data: its length and flags, and four that are the kernel's.
const HEADER_BYTES: u64 = 8;
/// Where the positions and the data lie.
const CONSUMER_AT: u64 = 0;
const PRODUCER_AT: u64 = sys::PAGE_SIZE;
const DATA_AT: u64 = 2 * sys::PAGE_SIZE;

/// Why a ring buffer cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// A record does not fit the ring: something wrote to it that is no producer.
    #[error("the record at position {position} has {bytes} bytes in a ring of {ring}")]
    Corrupt {
        /// Bytes since the ring was made.
        position: u64,
        /// The record's length.
        bytes: u64,
        /// Bytes of the ring.
        ring: u64,
    },
    /// There is no room for the record until programs have taken others out.
    #[error("no room for a record of {bytes} bytes")]
    Full {
        /// The record's length.
        bytes: u64,
    },
    /// A record that the ring can never hold.
    #[error("a record of {bytes} bytes in a ring of {ring}")]
    TooLarge {
        /// The record's length.
        bytes: u64,
        /// Bytes of the ring.
        ring: u64,
    },
}

/// Takes records out of a `BPF_MAP_TYPE_RINGBUF` that programs fill, in the order in which they were reserved.
///
/// There is one consumer's position in a ring buffer: two of these on one map share it, and must not be used at the same time.
///
/// ```no_run
/// # fn f(app: &bpf_arena::App) -> Result<(), Box<dyn std::error::Error>> {
/// let mut events = app.map("events")?.ring_buffer()?;
/// let mut record = Vec::new();
/// while events.wait(std::time::Duration::from_secs(1)) {
///     while events.take(&mut record)? {
///         println!("{record:?}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct RingBuffer {
    memory: Arc<dyn RingMemory>,
}

/// Puts records into a `BPF_MAP_TYPE_USER_RINGBUF` that programs drain.
///
/// There is one producer's position in a ring buffer: two of these on one map share it, and must not be used at the same time.
pub struct UserRingBuffer {
    memory: Arc<dyn RingMemory>,
}

impl Map {
    /// The host's side of a ring buffer that programs fill.
    ///
    /// # Errors
    /// The map is none, or its memory cannot be mapped.
    pub fn ring_buffer(&self) -> Result<RingBuffer, MapError> {
        let is_one = self.spec().map_type == MapType::Ringbuf;
        let memory = if is_one { self.inner.ring()? } else { return Err(MapError::Invalid) };
        Ok(RingBuffer { memory })
    }

    /// The host's side of a ring buffer that programs drain.
    ///
    /// # Errors
    /// The map is none, or its memory cannot be mapped.
    pub fn user_ring_buffer(&self) -> Result<UserRingBuffer, MapError> {
        let is_one = self.spec().map_type == MapType::UserRingbuf;
        let memory = if is_one { self.inner.ring()? } else { return Err(MapError::Invalid) };
        Ok(UserRingBuffer { memory })
    }
}

impl RingBuffer {
    /// Copies the next record to `record`, in place of what is in it, and makes its room free; `false` if there is
    /// none that is complete. Records that were discarded are passed over.
    ///
    /// # Errors
    /// [`RingError::Corrupt`]; the ring is of no more use then.
    pub fn take(&mut self, record: &mut Vec<u8>) -> Result<bool, RingError> {
        let ring = self.memory.data_bytes();
        loop {
            let position = self.memory.load_u64(CONSUMER_AT);
            let ready = self.memory.load_u64(PRODUCER_AT).wrapping_sub(position);
            if ready == 0 {
                return Ok(false);
            }
            let at = DATA_AT + position % ring.max(1);
            let header = self.memory.load_u32(at);
            if header & BUSY != 0 {
                return Ok(false);
            }
            let bytes = u64::from(header & !(BUSY | DISCARD));
            let corrupt = RingError::Corrupt { position, bytes, ring };
            if whole(bytes) > ready.min(ring) {
                return Err(corrupt);
            }
            let wanted = header & DISCARD == 0;
            if wanted {
                record.resize(usize::try_from(bytes).map_err(|_| corrupt)?, 0);
                if !self.memory.read(at + HEADER_BYTES, record) {
                    return Err(corrupt);
                }
            }
            self.memory.store_u64(CONSUMER_AT, position.wrapping_add(whole(bytes)));
            if wanted {
                return Ok(true);
            }
        }
    }

    /// Bytes that are written or being written and not taken yet, headers included.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.memory.load_u64(PRODUCER_AT).wrapping_sub(self.memory.load_u64(CONSUMER_AT))
    }

    /// Waits until there is something to take, at most so long; whether there is. Records submitted with
    /// `BPF_RB_NO_WAKEUP` wake nobody.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        self.memory.wait(timeout)
    }
}

impl UserRingBuffer {
    /// Appends a record.
    ///
    /// # Errors
    /// There is no room, now or ever.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RingError> {
        let (ring, bytes) = (self.memory.data_bytes(), record.len() as u64);
        let length = u32::try_from(bytes).ok().filter(|length| length & (BUSY | DISCARD) == 0);
        let length = length.filter(|_| whole(bytes) <= ring).ok_or(RingError::TooLarge { bytes, ring })?;
        let position = self.memory.load_u64(PRODUCER_AT);
        let used = position.wrapping_sub(self.memory.load_u64(CONSUMER_AT));
        if whole(bytes) > ring.saturating_sub(used) {
            return Err(RingError::Full { bytes });
        }
        let at = DATA_AT + position % ring.max(1);
        if !self.memory.write(at + HEADER_BYTES, record) {
            return Err(RingError::TooLarge { bytes, ring });
        }
        self.memory.store_u32(at, length);
        self.memory.store_u32(at + 4, 0);
        // Programs look at the record once the position is past it.
        self.memory.store_u64(PRODUCER_AT, position.wrapping_add(whole(bytes)));
        Ok(())
    }

    /// Bytes that programs have not taken yet, headers included.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.memory.load_u64(PRODUCER_AT).wrapping_sub(self.memory.load_u64(CONSUMER_AT))
    }

    /// Waits until programs have made room, at most so long; whether there is some.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        self.memory.wait(timeout)
    }
}

/// Bytes that a record takes.
fn whole(bytes: u64) -> u64 {
    (bytes + HEADER_BYTES).next_multiple_of(8)
}

impl std::fmt::Debug for RingBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingBuffer").field("pending", &self.pending_bytes()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for UserRingBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRingBuffer").field("pending", &self.pending_bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bpf_object::MapSpec;

    use super::*;
    use crate::MapSet;

    fn map(map_type: MapType) -> Map {
        let spec = MapSpec { max_entries: 4096, ..MapSpec::new("ring", map_type) };
        MapSet::create_with(&Arc::from([spec]), None, false).unwrap().maps().remove(0)
    }

    #[test]
    fn what_no_producer_writes_is_an_error() {
        let map = map(MapType::Ringbuf);
        let memory = map.inner.ring().unwrap();
        let mut ring = map.ring_buffer().unwrap();
        let mut record = Vec::new();
        assert_eq!(ring.take(&mut record), Ok(false));
        memory.store_u64(PRODUCER_AT, 16);
        memory.store_u32(DATA_AT, 9);
        let corrupt = |bytes| Err(RingError::Corrupt { position: 0, bytes, ring: 4096 });
        assert_eq!(ring.take(&mut record), corrupt(9));
        memory.store_u64(PRODUCER_AT, 1 << 40);
        memory.store_u32(DATA_AT, 8000);
        assert_eq!(ring.take(&mut record), corrupt(8000));
        memory.store_u32(DATA_AT, BUSY | 8000);
        assert_eq!(ring.take(&mut record), Ok(false));
        memory.store_u32(DATA_AT, 8);
        assert_eq!(ring.take(&mut record), Ok(true));
        assert_eq!(record, [0; 8]);
    }

    #[test]
    fn records_are_pushed_until_there_is_no_room() {
        let map = map(MapType::UserRingbuf);
        let mut ring = map.user_ring_buffer().unwrap();
        assert!(ring.wait(Duration::ZERO));
        assert_eq!(ring.push(&[0; 4089]), Err(RingError::TooLarge { bytes: 4089, ring: 4096 }));
        for _ in 0..4 {
            assert_eq!(ring.push(&[7; 1000]), Ok(()));
        }
        assert_eq!(ring.pending_bytes(), 4 * 1008);
        assert_eq!(ring.push(&[7; 57]), Err(RingError::Full { bytes: 57 }));
        assert_eq!(ring.push(&[7; 56]), Ok(()));
        // A program drains it.
        let memory = map.inner.ring().unwrap();
        memory.store_u64(CONSUMER_AT, 4096);
        assert_eq!(ring.push(&[7; 57]), Ok(()));
        assert!(map.ring_buffer().is_err());
    }
}
