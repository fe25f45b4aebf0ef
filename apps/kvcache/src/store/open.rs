//! Making a store, and taking over the one that an earlier server left, whatever moment it ended in.
//!
//! The table is the truth: what it leads to and what is a whole item is kept, everything else is free. A server that is killed
//! leaves at most slots that were given out and not linked, an item that is in both buckets of a split, and units that nothing uses
//! yet; each is put right. What cannot come of that - a header of another kind, a table that leads nowhere - is refused with
//! the reason. Single entries that lead to no whole item are dropped and counted.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use bpf_arena::arena::{Arena, ArenaError, ArenaSpec, PageCount};

use super::api::{KEY_MAX, Options};
use super::classes::Class;
use super::hash::{key_hash, low};
use super::heap::Heap;
use super::item::{self, Head};
use super::mem::Mem;
use super::table::{Entry, Extent, STRIPES, Table, segment_word};
use super::{Counts, Store, header, unit_byte};
use crate::layout::{
    ARENA_PAGES, BUCKET_BYTES, Bucket, FIRST_UNIT, Header, MAGIC, PAGE, SEGMENT_BUCKETS, SEGMENTS, UNIT,
    UNIT_FREE, UNIT_MORE, UNIT_OVERFLOW, UNIT_SEGMENT, UNITS, VERSION,
};

/// Fewest bytes of memory: header, table, and a slab.
pub const MEMORY_MIN: u64 = 1 << 20;

/// Most bytes of memory: what the arena has units for.
pub const MEMORY_MAX: u64 = (UNITS - FIRST_UNIT) as u64 * UNIT as u64;

/// Largest value that the largest slab holds.
pub const ITEM_MAX: u32 = 128 << 20;

/// More versions than there ever are.
const VERSIONS: u64 = 1 << 62;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The arena cannot be had.
    #[error("the arena: {0}")]
    Arena(#[from] ArenaError),
    /// The limit of memory is none that a store can have.
    #[error("{memory} bytes of memory: a store has {MEMORY_MIN} to {MEMORY_MAX}")]
    Memory {
        /// The limit.
        memory: u64,
    },
    /// The limit of values is none that a store can have.
    #[error(
        "values of {item_max} bytes: the limit is from 1024 to {ITEM_MAX} bytes, and at most half of the memory"
    )]
    ItemMax {
        /// The limit.
        item_max: u32,
    },
    /// There is no memory for an empty store.
    #[error("there is no memory for an empty store")]
    NoMemory,
    /// The arena is smaller than the store's.
    #[error("the arena has {pages} pages, not {ARENA_PAGES}")]
    Size {
        /// Its pages.
        pages: u32,
    },
    /// What is there is no store.
    #[error("the arena holds something else: it begins with {magic:#x}")]
    Foreign {
        /// Its first word.
        magic: u64,
    },
    /// The store is of another version.
    #[error("the store has version {found} of the layout, this server has {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The store has slabs for other values.
    #[error("the store takes values of {found} bytes, and {asked} were asked for")]
    OtherItemMax {
        /// The store's limit.
        found: u32,
        /// The limit asked for.
        asked: u32,
    },
    /// What the table leads to cannot be found.
    #[error("the table is damaged: {what} {value:#x}")]
    Damaged {
        /// What is impossible.
        what: &'static str,
        /// What it is.
        value: u64,
    },
}

/// What was found in a store that was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Items that are served again.
    pub items: u64,
    /// Entries that led to no whole item, and were dropped.
    pub dropped: u64,
    /// Entries that were in a second bucket, in which a split left them.
    pub moved: u64,
    /// Units that nothing used, and were given back.
    pub units: u64,
}

/// Slots of a slab that items are in.
struct Used {
    class: usize,
    slots: Vec<bool>,
}

impl Store {
    /// An empty store in an arena of its own.
    ///
    /// # Errors
    /// The options cannot be, or there is no memory.
    pub fn new(options: Options) -> Result<Self, OpenError> {
        let spec = ArenaSpec::new(PageCount::new(ARENA_PAGES));
        Ok(Self::over(Arena::create(&spec)?, options)?.0)
    }

    /// The store in an arena; a new one if it is empty. With it comes what was found there.
    ///
    /// # Errors
    /// What is there is no store that this server can use, or the options cannot be.
    pub fn over(arena: Arena, options: Options) -> Result<(Self, Option<Recovered>), OpenError> {
        check_options(&options)?;
        let pages = arena.page_count().get();
        if pages != ARENA_PAGES {
            return Err(OpenError::Size { pages });
        }
        let mem = Mem::new(arena);
        match mem.acquire(header(Header::magic)) {
            0 => Ok((Self::format(mem, options)?, None)),
            MAGIC => Self::recover(mem, options).map(|(store, recovered)| (store, Some(recovered))),
            magic => Err(OpenError::Foreign { magic }),
        }
    }

    fn format(mem: Mem, options: Options) -> Result<Self, OpenError> {
        if !mem.provide(0, header_pages()) {
            return Err(OpenError::NoMemory);
        }
        mem.clear(0, header_pages() * PAGE);
        mem.set_u32(header(Header::version), VERSION);
        mem.set_u32(header(Header::item_max), options.item_max);
        mem.set_u64(header(Header::seed), RandomState::new().hash_one(super::monotonic()));
        let store = Self::parts(mem, options);
        store.mem.set_u32(header(Header::epoch), store.now());
        if !store.table.format(&store.heap) {
            return Err(OpenError::NoMemory);
        }
        store.set_clock();
        store.mem.release(header(Header::magic), MAGIC);
        Ok(Self { epoch: store.mem.u32(header(Header::epoch)), ..store })
    }

    fn parts(mem: Mem, options: Options) -> Self {
        let limit = u32::try_from(options.memory / u64::from(PAGE)).unwrap_or(u32::MAX);
        mem.set_u32(header(Header::limit), limit);
        let heap = Heap::new(mem.clone(), options.item_max, limit, header_pages());
        let evicted_of = heap.classes().iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            heap,
            table: Table::new(mem.clone()),
            seed: mem.u64(header(Header::seed)),
            epoch: mem.u32(header(Header::epoch)),
            options,
            counts: Counts { evicted_of, ..Counts::default() },
            mem,
        }
    }

    fn recover(mem: Mem, options: Options) -> Result<(Self, Recovered), OpenError> {
        let (version, found) = (mem.u32(header(Header::version)), mem.u32(header(Header::item_max)));
        if version != VERSION {
            return Err(OpenError::Version { found: version });
        }
        if found != options.item_max {
            return Err(OpenError::OtherItemMax { found, asked: options.item_max });
        }
        // Programs that answer meanwhile see the change and pass up what they are at.
        mem.add(header(Header::layout), 1);
        let store = Self::parts(mem, options);
        store.check_versions()?;
        let mut recovered = Recovered::default();
        let kinds: Vec<u8> = (0..UNITS).map(|unit| store.mem.u8(unit_byte(unit))).collect();
        let extent = store.check_segments(&kinds)?;
        let mut used = store.find_slabs(&kinds);
        let overflow = store.check_items(extent, &kinds, &mut used, &mut recovered);
        store.adopt(&kinds, used, &overflow, &mut recovered);
        while store.heap.pages() > store.mem.u32(header(Header::limit)) && store.empty_a_slab() {}
        store.set_clock();
        Ok((store, recovered))
    }

    /// Versions are counted up from 0, and what was flushed had one.
    fn check_versions(&self) -> Result<(), OpenError> {
        let (last, flushed) = (self.mem.u64(header(Header::versions)), self.flushed());
        if last >= VERSIONS {
            return Err(OpenError::Damaged { what: "a last version of", value: last });
        }
        if flushed > last {
            return Err(OpenError::Damaged { what: "a flush up to version", value: flushed });
        }
        Ok(())
    }

    /// Every bucket that the table says there is must lie in a segment of its own.
    fn check_segments(&self, kinds: &[u8]) -> Result<Extent, OpenError> {
        let word = self.mem.u64(header(Header::table));
        let extent = Extent::from_word(word);
        let most = SEGMENTS * SEGMENT_BUCKETS;
        if !(STRIPES..=most).contains(&extent.buckets) || extent != Extent::of(extent.buckets) {
            return Err(OpenError::Damaged { what: "an extent of", value: word });
        }
        let mut seen = HashSet::new();
        for segment in 0..extent.buckets.div_ceil(SEGMENT_BUCKETS) {
            let place = self.mem.u32(segment_word(segment));
            let is_segment = place.is_multiple_of(UNIT)
                && kinds.get((place / UNIT) as usize) == Some(&UNIT_SEGMENT)
                && seen.insert(place);
            if !is_segment {
                return Err(OpenError::Damaged { what: "a segment at", value: place.into() });
            }
        }
        Ok(extent)
    }

    /// The slabs, without items yet. Of two that would lie on one another the first counts.
    fn find_slabs(&self, kinds: &[u8]) -> HashMap<u32, Used> {
        let mut slabs = HashMap::new();
        let mut from = FIRST_UNIT as usize;
        for (unit, kind) in kinds.iter().enumerate().skip(from) {
            let class = usize::from(*kind).wrapping_sub(1);
            let Some(Class { slots, span, .. }) = self.heap.classes().get(class) else { continue };
            let end = unit + *span as usize;
            let more =
                kinds.get(unit + 1..end).is_some_and(|more| more.iter().all(|kind| *kind == UNIT_MORE));
            if unit >= from && more {
                let slots = vec![false; *slots as usize];
                slabs.insert(u32::try_from(unit).unwrap_or(0), Used { class, slots });
                from = end;
            }
        }
        slabs
    }

    /// Goes through the table: keeps what is whole, drops the rest. The buckets that are overflowed to.
    fn check_items(
        &self,
        extent: Extent,
        kinds: &[u8],
        slabs: &mut HashMap<u32, Used>,
        recovered: &mut Recovered,
    ) -> HashSet<u32> {
        let mut overflow = HashSet::new();
        let mut last_version = self.mem.u64(header(Header::versions));
        for bucket in 0..extent.buckets {
            self.check_chain(bucket, kinds, &mut overflow, recovered);
            let mut seen: Vec<(u64, u32)> = Vec::new();
            for entry in self.table.entries(bucket).collect::<Vec<_>>() {
                let Some((head, hash, slot)) = self.whole_item(entry, slabs) else {
                    self.table.replace(entry, 0);
                    recovered.dropped += 1;
                    continue;
                };
                if extent.bucket(low(hash)) != bucket {
                    self.table.replace(entry, 0);
                    recovered.moved += 1;
                    continue;
                }
                // Twice the same: nothing that a crash leaves, but nothing that is to stay either.
                if std::mem::replace(slot, true) || self.is_second(&seen, hash, entry.place()) {
                    self.table.replace(entry, 0);
                    recovered.dropped += 1;
                    continue;
                }
                seen.push((hash, entry.place()));
                last_version = last_version.max(head.version);
                recovered.items += 1;
                self.counts.items.fetch_add(1, Ordering::Relaxed);
                self.counts.bytes.fetch_add(head.bytes().into(), Ordering::Relaxed);
            }
        }
        self.mem.set_u64(header(Header::versions), last_version);
        overflow
    }

    /// Cuts a chain where it leads to no bucket of its own.
    fn check_chain(&self, bucket: u32, kinds: &[u8], overflow: &mut HashSet<u32>, recovered: &mut Recovered) {
        let next = super::offset(Bucket::next);
        let mut at = self.table.bucket_place(bucket);
        loop {
            let place = self.mem.u32(at.wrapping_add(next));
            if place == 0 {
                return;
            }
            let is_bucket = place.is_multiple_of(BUCKET_BYTES)
                && kinds.get((place / UNIT) as usize) == Some(&UNIT_OVERFLOW)
                && overflow.insert(place);
            if !is_bucket {
                self.mem.set_u32(at.wrapping_add(next), 0);
                recovered.dropped += 1;
                return;
            }
            at = place;
        }
    }

    /// The item that an entry leads to, with its key's hash and its slot's mark, if it is one.
    fn whole_item<'s>(
        &self,
        entry: Entry,
        slabs: &'s mut HashMap<u32, Used>,
    ) -> Option<(Head, u64, &'s mut bool)> {
        let place = entry.place();
        // A slab is as long as its class says; its first unit is at most so many before.
        let unit = (0..=place / UNIT).rev().take(2 + ITEM_MAX as usize / UNIT as usize);
        let mut unit = unit.skip_while(|unit| self.mem.u8(unit_byte(*unit)) == UNIT_MORE);
        let unit = unit.next()?;
        let slab = slabs.get_mut(&unit)?;
        let Class { slot, .. } = *self.heap.classes().get(slab.class)?;
        let offset = place.checked_sub(unit * UNIT)?;
        let mark = slab.slots.get_mut((offset / slot) as usize).filter(|_| offset.is_multiple_of(slot))?;
        let head = Head::load(&self.mem, place);
        if head.version == 0 || head.bytes() > slot || head.size > self.options.item_max {
            return None;
        }
        let mut key = [0; KEY_MAX];
        let key = key.get_mut(..usize::from(head.key_size)).filter(|key| !key.is_empty())?;
        self.mem.read(item::key_place(place), key);
        let hash = key_hash(self.seed, key);
        (hash >> 32 == entry.word >> 32 && low(hash) == head.hash).then_some((head, hash, mark))
    }

    /// Whether one of these items has the key of this one.
    fn is_second(&self, seen: &[(u64, u32)], hash: u64, place: u32) -> bool {
        let key_of = |place: u32| {
            let mut key = vec![0; usize::from(Head::load(&self.mem, place).key_size)];
            self.mem.read(item::key_place(place), &mut key);
            key
        };
        seen.iter().any(|(other, at)| *other == hash && key_of(*at) == key_of(place))
    }

    /// Builds the lists of what is free, and gives back what nothing uses.
    fn adopt(
        &self,
        kinds: &[u8],
        slabs: HashMap<u32, Used>,
        overflow: &HashSet<u32>,
        recovered: &mut Recovered,
    ) {
        let mut kept: HashSet<u32> = HashSet::new();
        for (unit, Used { class, slots }) in slabs {
            let Some(Class { span, slot, .. }) = self.heap.classes().get(class).copied() else { continue };
            let free: Vec<u16> = (0_u16..).zip(&slots).filter(|(_, used)| !**used).map(|(n, _)| n).collect();
            free.iter().for_each(|n| item::retire(&self.mem, unit * UNIT + u32::from(*n) * slot));
            if self.heap.adopt(class, unit, free) {
                kept.extend(unit..unit + span);
            }
        }
        // Beyond its extent the table has nothing but what a split that was not completed left.
        let extent = self.table.extent().buckets;
        for bucket in extent..extent.next_multiple_of(SEGMENT_BUCKETS) {
            self.mem.clear(self.table.bucket_place(bucket), BUCKET_BYTES);
        }
        for segment in extent.div_ceil(SEGMENT_BUCKETS)..SEGMENTS {
            self.mem.set_u32(segment_word(segment), 0);
        }
        let segments = (0..SEGMENTS).map(|segment| (segment, self.mem.u32(segment_word(segment))));
        for (segment, place) in segments.filter(|(_, place)| *place != 0) {
            let is_segment = kinds.get((place / UNIT) as usize) == Some(&UNIT_SEGMENT);
            if is_segment && self.heap.adopt_unit(place / UNIT) {
                kept.insert(place / UNIT);
            } else {
                self.mem.set_u32(segment_word(segment), 0);
            }
        }
        for unit in overflow.iter().map(|place| place / UNIT).collect::<HashSet<_>>() {
            if self.heap.adopt_unit(unit) {
                kept.insert(unit);
                self.table.adopt_overflow(unit, overflow);
            }
        }
        let lost = (0_u32..).zip(kinds).skip(FIRST_UNIT as usize);
        for (unit, _) in lost.filter(|(unit, kind)| **kind != UNIT_FREE && !kept.contains(unit)) {
            self.mem.give_back(unit * UNIT, UNIT / PAGE);
            self.mem.give_back(crate::layout::touch_place(unit * UNIT), 1);
            self.mem.set_u8(unit_byte(unit), UNIT_FREE);
            recovered.units += 1;
        }
    }
}

pub(super) fn check_options(options: &Options) -> Result<(), OpenError> {
    let Options { memory, item_max, .. } = *options;
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&memory) {
        return Err(OpenError::Memory { memory });
    }
    if !(1024..=ITEM_MAX).contains(&item_max) || u64::from(item_max) > memory / 2 {
        return Err(OpenError::ItemMax { item_max });
    }
    Ok(())
}

fn header_pages() -> u32 {
    u32::try_from(size_of::<Header>()).unwrap_or(u32::MAX).div_ceil(PAGE)
}
