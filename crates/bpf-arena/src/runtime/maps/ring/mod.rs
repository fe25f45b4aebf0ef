//! `BPF_MAP_TYPE_RINGBUF` and `BPF_MAP_TYPE_USER_RINGBUF`: records of any length in a ring, from programs to the host or from
//! the host to programs.
//!
//! The layout is the kernel's, and is what the host's side reads ([`RingMemory`]): positions count bytes and never go back; a record
//! is a header of 8 bytes, whose first word is the length with two flags, and its data, rounded up to 8 bytes; the data area can be
//! read on past its end, where it begins again.

mod produce;
mod signal;
mod user;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use isa::Size;

use self::signal::Signal;
use crate::access::{Block, Place};
use crate::backend::RingMemory;
use crate::error::MapError;

pub(crate) use self::produce::{Reserved, RingbufMap};
pub(crate) use self::user::UserRingbufMap;

/// Bytes of a record's header.
pub(crate) const HEADER: u64 = 8;

/// In a record's length: it is being written (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;

/// In a record's length: nobody is to look at it (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARD: u32 = 1 << 30;

/// Offsets of the parts of a ring as they are mapped: the consumer's position, the producer's, and the data.
const CONSUMER_AT: u64 = 0;
const PRODUCER_AT: u64 = sys::PAGE_SIZE;
const DATA_AT: u64 = 2 * sys::PAGE_SIZE;

/// Positions and data, and who waits for them.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The data, twice in a row.
    data: Arc<Block>,
    size: u64,
    consumer: CachePadded<AtomicU64>,
    producer: CachePadded<Producer>,
    signal: Signal,
    /// Which side waits for the other.
    host_produces: bool,
}

/// What a record that is reserved changes: all in one line of the cache, which goes from thread to thread with the lock.
#[derive(Debug, Default)]
struct Producer {
    position: AtomicU64,
    /// Position up to which all records are committed, as far as the last reservation saw; only used under the lock.
    pending: AtomicU64,
    /// Held by the one who reserves.
    locked: AtomicBool,
}

impl Ring {
    /// An empty ring of `size` bytes: a power of two, and whole pages.
    fn new(size: u32, host_produces: bool) -> Result<Self, MapError> {
        let size = u64::from(size);
        let data = Block::ring(size).ok_or(MapError::NoMemory { bytes: size })?;
        Ok(Self {
            data: Arc::new(data),
            size,
            consumer: CachePadded::default(),
            producer: CachePadded::default(),
            signal: Signal::default(),
            host_produces,
        })
    }

    /// Bytes between the positions.
    fn unread(&self) -> u64 {
        let consumer = self.consumer.load(Ordering::Acquire);
        self.producer.position.load(Ordering::Acquire).wrapping_sub(consumer)
    }

    /// The length word of the record at a position, flags included.
    fn length_at(&self, position: u64) -> u32 {
        let place = self.data.place(position & (self.size - 1), HEADER);
        place.map_or(BUSY, |place| low32(place.load(Size::W, Ordering::Acquire)))
    }

    /// `len` bytes at a position; they may go on past the end, at most once around.
    fn place(&self, position: u64, len: u64) -> Option<Place<'_>> {
        self.data.place(position & (self.size - 1), len)
    }

    /// Whether the host could go on.
    fn is_ready(&self) -> bool {
        let unread = self.unread();
        if self.host_produces {
            return unread < self.size;
        }
        unread != 0 && self.length_at(self.consumer.load(Ordering::Acquire)) & BUSY == 0
    }

    /// The part of the ring that an offset lies in.
    fn part(&self, offset: u64) -> Part {
        match offset {
            CONSUMER_AT => Part::Consumer,
            PRODUCER_AT => Part::Producer,
            at if at >= DATA_AT => Part::Data(at - DATA_AT),
            _ => Part::Nothing,
        }
    }
}

/// What lies at an offset.
enum Part {
    Consumer,
    Producer,
    Data(u64),
    Nothing,
}

impl RingMemory for Ring {
    fn data_bytes(&self) -> u64 {
        self.size
    }

    fn load_u64(&self, offset: u64) -> u64 {
        match self.part(offset) {
            Part::Consumer => self.consumer.load(Ordering::Acquire),
            Part::Producer => self.producer.position.load(Ordering::Acquire),
            Part::Data(at) => {
                self.data.place(at, 8).map_or(0, |place| place.load(Size::DW, Ordering::Acquire))
            }
            Part::Nothing => 0,
        }
    }

    fn store_u64(&self, offset: u64, value: u64) {
        match self.part(offset) {
            Part::Consumer => self.consumer.store(value, Ordering::Release),
            Part::Producer => self.producer.position.store(value, Ordering::Release),
            Part::Data(at) => {
                if let Some(place) = self.data.place(at, 8) {
                    place.store(Size::DW, value, Ordering::Release);
                }
            }
            Part::Nothing => {}
        }
    }

    fn load_u32(&self, offset: u64) -> u32 {
        let Part::Data(at) = self.part(offset) else { return low32(self.load_u64(offset)) };
        self.data.place(at, 4).map_or(0, |place| low32(place.load(Size::W, Ordering::Acquire)))
    }

    fn store_u32(&self, offset: u64, value: u32) {
        if let Part::Data(at) = self.part(offset)
            && let Some(place) = self.data.place(at, 4)
        {
            place.store(Size::W, u64::from(value), Ordering::Release);
        }
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let Part::Data(at) = self.part(offset) else { return false };
        let place = self.data.place(at, bytes.len() as u64);
        place.inspect(|place| place.read(bytes)).is_some()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Part::Data(at) = self.part(offset) else { return false };
        let place = self.data.place(at, bytes.len() as u64);
        place.inspect(|place| place.write(bytes)).is_some()
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.signal.wait(timeout, || self.is_ready())
    }
}

/// Bytes that a record of `len` bytes takes.
fn whole_record(len: u64) -> u64 {
    (len + HEADER).next_multiple_of(8)
}

/// What the calls that announce something do for those who wait (`BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// As is due.
    Adaptive,
    Never,
    Always,
}

impl Wakeup {
    const NO: u64 = 1;
    const FORCE: u64 = 2;

    /// The flags of a call, those that mean something else ignored. Always goes before never.
    pub(crate) fn from_flags(flags: u64) -> Self {
        if flags & Self::FORCE != 0 {
            Self::Always
        } else if flags & Self::NO != 0 {
            Self::Never
        } else {
            Self::Adaptive
        }
    }

    /// The same; `None` if there are other flags.
    pub(crate) fn checked(flags: u64) -> Option<Self> {
        (flags & !(Self::NO | Self::FORCE) == 0).then(|| Self::from_flags(flags))
    }
}

/// The low half.
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low32(value: u64) -> u32 {
    value as u32
}
