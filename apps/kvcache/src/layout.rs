//! What lies in the arena: the types and numbers that the store and the program share.
//!
//! `bpf/kvcache.h` says the same in C. Loading the program compares the structures, field by field, with its type
//! information, and the constants with its enumeration (see [`crate::fast`]), so that a difference is an error that names it.
//!
//! Places in the arena are **offsets** from its start, 32 bits wide: the store works at any address. Offset 0 means "none".
//!
//! ```text
//! 0             header: words, segments of the table, kinds of units
//! 16 MiB        touch words: the one of what lies at `offset` is at `offset >> 4`
//! 256 MiB       units of 64 KiB: slabs of items, segments of the hash table
//! 4 GiB         end
//! ```

use bpf_arena::typed::ArenaType;

use crate::store::hash;

/// First word of the header.
pub const MAGIC: u64 = u64::from_le_bytes(*b"kvcache\x01");

/// Changes with the layout: a store of another version is refused.
pub const VERSION: u32 = 2;

/// Pages of the arena: all that 32 bits address.
pub const ARENA_PAGES: u32 = 1 << 20;

/// Bytes of a page.
pub const PAGE: u32 = 4096;

/// Bytes of a unit, in which memory changes its role.
pub const UNIT: u32 = 1 << 16;

/// Units of the arena, those that are never given out among them.
pub const UNITS: u32 = 1 << 16;

/// The first unit that is given out.
pub const FIRST_UNIT: u32 = 4096;

/// What items' places are multiples of.
pub const GRAIN: u32 = 64;

/// Buckets of a segment, which is one unit.
pub const SEGMENT_BUCKETS: u32 = UNIT / BUCKET_BYTES;

/// Most segments.
pub const SEGMENTS: u32 = 1 << 14;

/// Bytes of a bucket: a line of the cache.
pub const BUCKET_BYTES: u32 = 64;

/// Entries of a bucket.
pub const ENTRIES: u32 = 7;

/// Bytes of [`Item`].
pub const ITEM_BYTES: u32 = 40;

/// Most addresses the program answers for.
pub const ADDRESSES: usize = 16;

/// Where the program runs, and counts: XDP, traffic control.
pub const PATHS: usize = 2;

/// CPUs that count apart from each other; more of them share.
pub const CPUS: u32 = 256;

/// Bit of a touch word: used since the clock's hand was here.
pub const TOUCH_USED: u32 = 1 << 31;

/// Bit of a touch word: used since it was stored.
pub const TOUCH_FETCHED: u32 = 1 << 30;

/// Bits of a touch word: seconds since [`Header::epoch`].
pub const TOUCH_SECONDS: u32 = TOUCH_FETCHED - 1;

/// Bits by which an item's place is larger than that of its touch word.
pub const TOUCH_SHIFT: u32 = 4;

/// Bit of [`Item::state`]: see [`Meta::stale`](crate::store::Meta::stale). The program leaves such items to user space.
pub const ITEM_STALE: u8 = 1;

/// Bit of [`Item::state`]: see [`Meta::won`](crate::store::Meta::won).
pub const ITEM_WON: u8 = 2;

/// Kind of a unit that is free.
pub const UNIT_FREE: u8 = 0;

/// Kind of a unit that belongs to the slab beginning before it.
pub const UNIT_MORE: u8 = 0xff;

/// Kind of a unit that is a segment of the table.
pub const UNIT_SEGMENT: u8 = 0xfe;

/// Kind of a unit of buckets that others overflow into.
pub const UNIT_OVERFLOW: u8 = 0xfd;

/// An IPv6 address, or an IPv4 address mapped into one.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq, Eq)]
#[arena(name = "kv_address")]
#[repr(C)]
pub struct Address {
    /// In network order.
    pub bytes: [u8; 16],
}

/// `struct kv_header`: what lies at the arena's start, the program's variable `kv`.
///
/// It is never read or written as a whole while others use it, but word by word.
#[derive(ArenaType, Clone, Copy)]
#[arena(name = "kv_header")]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`], once the store is complete.
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Most bytes of a value.
    pub item_max: u32,
    /// What hashes begin with: keeps those who choose keys from choosing buckets.
    pub seed: u64,
    /// Number of buckets in the high half, and in the low half the mask of the next power of two.
    pub table: u64,
    /// Changes whenever memory takes on another role. A reader in whose time it changed has read nothing.
    pub layout: u64,
    /// Items up to this version are flushed.
    pub flushed: u64,
    /// Nanoseconds between the monotonic clock and the clock that items end by.
    pub clock: u64,
    /// The second, as of late.
    pub now: u32,
    /// The second that touch words count from.
    pub epoch: u32,
    /// UDP port that the program answers for; 0 for none.
    pub port: u32,
    /// How many of [`Header::addresses`] are in use; 0 for any address.
    pub address_count: u32,
    /// Addresses that the program answers for.
    pub addresses: [Address; ADDRESSES],
    /// Most bytes of a datagram of an answer by the program.
    pub reply_max: u32,
    /// Whether the program in traffic control looks only at what the one at XDP leaves to it.
    pub tc_behind: u32,
    /// Not used: what writers change lies in another line of the cache.
    pub reserved: [u64; 6],
    /// The last version that was given to an item.
    pub versions: u64,
    /// When what is there then is flushed; 0 for never.
    pub flush_at: u32,
    /// Pages that may be in use.
    pub limit: u32,
    /// Not used: the segments begin a line.
    pub spare: [u64; 6],
    /// Where the segments of the table are.
    pub segments: [u32; SEGMENTS as usize],
    /// What each unit is: one of `UNIT_*`, or the size class of its items, counted from 1.
    pub units: [u8; UNITS as usize],
    /// What the program counts: for each of [`PATHS`], for each of [`CPUS`].
    pub counters: [Counters; PATHS * CPUS as usize],
}

/// `struct kv_item`: what an item begins with. The key follows, the value at the next multiple of 8.
#[derive(ArenaType, Clone, Copy, Debug)]
#[arena(name = "kv_item")]
#[repr(C)]
pub struct Item {
    /// Unique among all that was ever stored; 0 for what is not, or not yet, or no longer an item. Written last.
    pub version: u64,
    /// The number that clients know.
    pub cas: u64,
    /// The client's flags.
    pub flags: u32,
    /// The second it ends, or 0.
    pub expires: u32,
    /// Bytes of the value.
    pub size: u32,
    /// The low half of the key's hash.
    pub hash: u32,
    /// The second it was stored, counted as in touch words.
    pub stored: u32,
    /// Bytes of the key.
    pub key_size: u8,
    /// `ITEM_*`.
    pub state: u8,
    /// Not used.
    pub spare: u16,
}

/// `struct kv_bucket`.
#[derive(ArenaType, Clone, Copy, Debug)]
#[arena(name = "kv_bucket")]
#[repr(C)]
pub struct Bucket {
    /// Items: the high half of the hash above the place; 0 for none.
    pub entries: [u64; 7],
    /// Where the next bucket of the chain is, or 0. Never changes while the table has contents.
    pub next: u32,
    /// Not used.
    pub spare: u32,
}

/// `struct kv_counters`: how often the program came to each outcome, on one CPU.
#[derive(ArenaType, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[arena(name = "kv_counters")]
#[repr(C)]
pub struct Counters {
    /// Packets it answered.
    pub answered: u64,
    /// Requests passed up because a key is not there, or has ended.
    pub misses: u64,
    /// Packets that are no request for the store.
    pub foreign: u64,
    /// Requests of other commands, malformed ones, and those of items that user space is to look at, passed up.
    pub other: u64,
    /// Requests passed up because the answer does not fit a packet.
    pub too_long: u64,
    /// Requests passed up because a writer changed what was read.
    pub contended: u64,
    /// Requests that XDP had the answer to, but no room for, and left to traffic control.
    pub handed_on: u64,
    /// Keys found in packets it answered.
    pub hits: u64,
}

impl Counters {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            answered: self.answered.wrapping_add(other.answered),
            misses: self.misses.wrapping_add(other.misses),
            foreign: self.foreign.wrapping_add(other.foreign),
            other: self.other.wrapping_add(other.other),
            too_long: self.too_long.wrapping_add(other.too_long),
            contended: self.contended.wrapping_add(other.contended),
            handed_on: self.handed_on.wrapping_add(other.handed_on),
            hits: self.hits.wrapping_add(other.hits),
        }
    }
}

/// `struct kv_constants`: the numbers that both sides have to agree on, as the program has them.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq, Eq)]
#[arena(name = "kv_constants")]
#[repr(C)]
pub struct Constants {
    version: u32,
    segment_buckets: u32,
    touch_used: u32,
    touch_fetched: u32,
    touch_shift: u32,
    item_bytes: u32,
    cpus: u32,
    spare: u32,
    hash_multiplier: u64,
    hash_finisher: u64,
}

impl Constants {
    /// As the store has them.
    pub const OWN: Self = Self {
        version: VERSION,
        segment_buckets: SEGMENT_BUCKETS,
        touch_used: TOUCH_USED,
        touch_fetched: TOUCH_FETCHED,
        touch_shift: TOUCH_SHIFT,
        item_bytes: ITEM_BYTES,
        cpus: CPUS,
        spare: 0,
        hash_multiplier: hash::MULTIPLIER,
        hash_finisher: hash::FINISHER,
    };
}

/// Where the touch word of the item at `place` is.
#[must_use]
pub const fn touch_place(place: u32) -> u32 {
    place >> TOUCH_SHIFT
}

/// Bytes of an item in front of its value.
#[must_use]
pub const fn value_offset(key_size: u8) -> u32 {
    (ITEM_BYTES + key_size as u32).next_multiple_of(8)
}

const _: () = {
    assert!(size_of::<Item>() == ITEM_BYTES as usize);
    assert!(size_of::<Bucket>() == BUCKET_BYTES as usize);
    assert!(std::mem::offset_of!(Header, versions) % 64 == 0);
    assert!(std::mem::offset_of!(Header, segments) % 64 == 0);
    assert!(std::mem::offset_of!(Header, counters) % 64 == 0);
    assert!(size_of::<Counters>() == 64);
    assert!(size_of::<Header>() < touch_place(FIRST_UNIT * UNIT) as usize);
};
