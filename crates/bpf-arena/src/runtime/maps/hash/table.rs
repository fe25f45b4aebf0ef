//! Buckets and chains: where the elements of a hash map lie and how they are found.
//!
//! Readers take no lock. Elements are recycled while readers look at them, so a reader may be led from one chain into
//! another; each chain therefore ends in the number of its bucket, and who arrives at another's end starts again. So does who
//! found nothing in a chain that something was taken out of meanwhile: the bucket counts that. A reader
//! compares the number and the key of what it meets, in this order, and a writer sets them in the opposite one.
//!
//! Writers of one bucket exclude each other. What they write is:
//!
//! ```text
//! bucket    +0 link of the first element     +4 lock, and how often an element was taken out
//! element   +0 link of the next, +4 hash     +8 what the pool or the list of recent use keeps there
//!           key, filled up with zeroes to a multiple of 8        value
//! ```
//!
//! Programs write values, and only verification keeps them from writing more; links are checked like any other number that is read
//! from shared memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::key::Key;
use super::seed::Seed;
use crate::access::{Block, Place};

/// Bytes of a bucket.
const BUCKET: u64 = 8;
/// Bytes of a word.
const WORD: u64 = 8;
/// Words of an element's link and hash.
const LINK_WORDS: usize = 1;
/// Bytes of an element's link and hash.
pub(super) const LINK_BYTES: u64 = 8;
/// The bit of a bucket's lock that says that it is held; the others count what was taken out.
const HELD: u32 = 1;
/// Attempts to take a lock before the thread gives up its time slice.
const SPINS: u32 = 64;

/// The number of an element in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element(pub(super) u32);

/// What follows in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u32);

impl Link {
    /// Marks the end of a chain; the other bits are its bucket.
    const END: u32 = 1 << 31;

    fn to(element: Element) -> Self {
        Self(element.0 + 1)
    }

    fn end_of(bucket: u32) -> Self {
        Self(Self::END | bucket)
    }

    /// The element; `None` at the end.
    #[inline]
    fn element(self) -> Option<Element> {
        // A bucket that was never used holds 0.
        if self.0 & Self::END != 0 { None } else { self.0.checked_sub(1).map(Element) }
    }
}

/// Sizes of an element's parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes before the key, a multiple of 8.
    pub(super) header: u64,
    /// Bytes of a key.
    pub(super) key: u32,
    /// Bytes of the value in an element, a multiple of 8.
    pub(super) value: u64,
    /// How many elements there are.
    pub(super) elements: u32,
    /// How many buckets: a power of two.
    pub(super) buckets: u32,
}

/// A hash table over elements that somebody else hands out.
pub(super) struct Table {
    buckets: Block,
    elements: Arc<Block>,
    key_bytes: u64,
    key_offset: u64,
    value_offset: u64,
    value_bytes: u64,
    stride: u64,
    /// Where the key begins in an element, and the words of one element.
    key_word: usize,
    stride_words: usize,
    mask: u32,
    count: u32,
    seed: Seed,
}

/// A bucket that is locked.
pub(super) struct Bucket<'t> {
    table: &'t Table,
    link: &'t AtomicU32,
    lock: &'t AtomicU32,
    number: u32,
}

impl Table {
    /// An empty table; how many bytes it would have if there is no memory.
    pub(super) fn new(shape: Shape, seed: Seed) -> Result<Self, u64> {
        let padded_key = u64::from(shape.key).next_multiple_of(8);
        let value_offset = shape.header + padded_key;
        let stride = value_offset + shape.value;
        let bytes = stride.saturating_mul(u64::from(shape.elements));
        let bucket_bytes = BUCKET * u64::from(shape.buckets);
        let block = |bytes: u64| usize::try_from(bytes).ok().and_then(Block::new);
        let (Some(buckets), Some(elements)) = (block(bucket_bytes), block(bytes)) else {
            return Err(bytes.saturating_add(bucket_bytes));
        };
        Ok(Self {
            buckets,
            elements: Arc::new(elements),
            key_bytes: u64::from(shape.key),
            key_word: usize_of(shape.header / WORD),
            stride_words: usize_of(stride / WORD),
            key_offset: shape.header,
            value_offset,
            value_bytes: shape.value,
            stride,
            mask: shape.buckets - 1,
            count: shape.elements,
            seed,
        })
    }

    /// The memory of the elements.
    pub(super) fn memory(&self) -> &Arc<Block> {
        &self.elements
    }

    /// All elements, in a chain or not.
    pub(super) fn all(&self) -> impl Iterator<Item = Element> + use<> {
        (0..self.count).map(Element)
    }

    /// Number of buckets.
    pub(super) fn buckets(&self) -> u32 {
        self.mask + 1
    }

    /// The number of a key.
    #[inline]
    pub(super) fn hash(&self, key: &Key<'_>) -> u32 {
        self.seed.hash(key)
    }

    /// The element with this key, found without a lock.
    #[inline]
    pub(super) fn find(&self, hash: u32, key: &Key<'_>) -> Option<Element> {
        let number = hash & self.mask;
        let (first, lock) = self.bucket(number)?;
        let words = self.elements.words();
        loop {
            let removals = lock.load(Acquire) & !HELD;
            let mut link = Link(first.load(Acquire));
            while let Some(element) = link.element() {
                let (header, key_words) = self.element(words, element)?;
                let header = header.load(Acquire);
                if high(header) == hash && key.is(key_words) {
                    return Some(element);
                }
                link = Link(low(header));
            }
            // An entry that is being replaced may be missed: the new element was put before where this walk began, and the old
            // one taken out before it came there. (The kernel's readers do miss it.) Who passed by the old one has read a link
            // that was written after the removal was counted.
            let unchanged = || removals == lock.load(Acquire) & !HELD;
            if (link.0 == 0 || link == Link::end_of(number)) && unchanged() {
                return None;
            }
        }
    }

    /// Locks the bucket of a hash.
    #[inline]
    pub(super) fn lock(&self, hash: u32) -> Option<Bucket<'_>> {
        let number = hash & self.mask;
        let (link, lock) = self.bucket(number)?;
        let take = || {
            let word = lock.load(Relaxed);
            word & HELD == 0 && lock.compare_exchange(word, word | HELD, Acquire, Relaxed).is_ok()
        };
        if !take() {
            wait_until(take);
        }
        Some(Bucket { table: self, link, lock, number })
    }

    /// The first element of this bucket or of one behind it.
    pub(super) fn first_from(&self, bucket: u32) -> Option<Element> {
        (bucket..=self.mask).find_map(|number| self.first_in(number))
    }

    /// The first element of a bucket.
    pub(super) fn first_in(&self, bucket: u32) -> Option<Element> {
        Link(self.bucket(bucket)?.0.load(Acquire)).element()
    }

    /// The element behind this one in its chain.
    pub(super) fn next(&self, element: Element) -> Option<Element> {
        self.link(element).element()
    }

    /// The first element behind the one with this hash, in its chain or another's.
    pub(super) fn after(&self, element: Element, hash: u32) -> Option<Element> {
        self.next(element).or_else(|| self.first_from((hash & self.mask).checked_add(1)?))
    }

    /// The key of an element.
    #[inline]
    pub(super) fn key(&self, element: Element) -> Option<Place<'_>> {
        self.part(element, self.key_offset, self.key_bytes)
    }

    /// The value of an element, up to a multiple of 8.
    #[inline]
    pub(super) fn value(&self, element: Element) -> Option<Place<'_>> {
        self.part(element, self.value_offset, self.value_bytes)
    }

    /// What the header of an element has behind link and hash: the number with this index.
    #[inline]
    pub(super) fn header(&self, element: Element, index: usize) -> Option<&AtomicU32> {
        self.elements.halves().get(2 * (element.0 as usize * self.stride_words + LINK_WORDS) + index)
    }

    /// The hash of an element.
    #[inline]
    pub(super) fn hash_of(&self, element: Element) -> u32 {
        self.first_word(element).map_or(0, |word| high(word.load(Relaxed)))
    }

    /// Gives an element that is in no chain its key.
    #[inline]
    pub(super) fn set_key(&self, element: Element, key: &Key<'_>) {
        if let Some((_, words)) = self.element(self.elements.words(), element) {
            key.store(words);
        }
    }

    /// Gives an element that is in no chain its hash. Readers may still be on it and find their way on.
    pub(super) fn set_hash(&self, element: Element, hash: u32) {
        self.write_header(element, hash, self.link(element));
    }

    #[inline]
    fn link(&self, element: Element) -> Link {
        Link(self.first_word(element).map_or(0, |word| low(word.load(Acquire))))
    }

    #[inline]
    fn write_header(&self, element: Element, hash: u32, link: Link) {
        if let Some(word) = self.first_word(element) {
            word.store(u64::from(hash) << 32 | u64::from(link.0), Release);
        }
    }

    /// The link of a bucket and its lock.
    #[inline]
    fn bucket(&self, number: u32) -> Option<(&AtomicU32, &AtomicU32)> {
        match self.buckets.halves().get(2 * number as usize..)? {
            [link, lock, ..] => Some((link, lock)),
            _ => None,
        }
    }

    /// Link and hash of an element.
    #[inline]
    fn first_word(&self, element: Element) -> Option<&AtomicU64> {
        self.elements.words().get(element.0 as usize * self.stride_words)
    }

    /// Link and hash of an element among the words of all, and its words from the key on.
    #[inline]
    fn element<'w>(
        &self,
        words: &'w [AtomicU64],
        element: Element,
    ) -> Option<(&'w AtomicU64, &'w [AtomicU64])> {
        let element = words.get(element.0 as usize * self.stride_words..)?;
        Some((element.first()?, element.get(self.key_word..)?))
    }

    #[inline]
    fn part(&self, element: Element, offset: u64, len: u64) -> Option<Place<'_>> {
        self.elements.place(u64::from(element.0) * self.stride + offset, len)
    }
}

impl Bucket<'_> {
    /// The element with this key.
    pub(super) fn find(&self, hash: u32, key: &Key<'_>) -> Option<Element> {
        let words = self.table.elements.words();
        self.elements().find(|element| {
            let known = self.table.element(words, *element);
            known.is_some_and(|(header, words)| high(header.load(Relaxed)) == hash && key.is(words))
        })
    }

    /// The elements, in their order.
    pub(super) fn elements(&self) -> impl Iterator<Item = Element> + '_ {
        std::iter::successors(self.first().element(), |element| self.table.next(*element))
    }

    /// Puts an element that is in no chain, with its key and value, before all others.
    pub(super) fn insert(&self, element: Element, hash: u32) {
        let first = self.first();
        let next = if first.0 == 0 { Link::end_of(self.number) } else { first };
        self.table.write_header(element, hash, next);
        self.link.store(Link::to(element).0, Release);
    }

    /// Takes an element out; `false` if it is not in this chain. Readers that are on it find their way on.
    pub(super) fn remove(&self, element: Element) -> bool {
        let mut before = None;
        for at in self.elements() {
            if at == element {
                let next = self.table.link(element);
                // Only who holds the lock writes it. Readers that see what is written below see this too.
                self.lock.store(self.lock.load(Relaxed).wrapping_add(2 * HELD), Release);
                match before {
                    None => self.link.store(next.0, Release),
                    Some(before) => self.table.write_header(before, self.table.hash_of(before), next),
                }
                return true;
            }
            before = Some(at);
        }
        false
    }

    fn first(&self) -> Link {
        Link(self.link.load(Acquire))
    }
}

impl Drop for Bucket<'_> {
    fn drop(&mut self) {
        self.lock.store(self.lock.load(Relaxed) & !HELD, Release);
    }
}

/// Tries until it is true. Threads that may not even be running hold the lock: after some time, the time slice is given up.
#[cold]
fn wait_until(mut taken: impl FnMut() -> bool) {
    let mut spins = 0u32;
    while !taken() {
        spins += 1;
        if spins.is_multiple_of(SPINS) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low(word: u64) -> u32 {
    word as u32
}

#[inline]
fn high(word: u64) -> u32 {
    low(word >> 32)
}

#[inline]
fn usize_of(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
