//! The state of an arena that all its processes share, in the file behind the pages.
//!
//! Untrusted: another process may write anything here at any moment. The sizes that bound every index are copied out
//! once, when attaching, and checked against the file; what is read later only ever selects pages of the arena.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::backing::Backing;
use super::lock::{self, Held};
use super::mapping::Mapping;
use super::search::TakenWords;
use super::to_usize;
use crate::{Errno, OsError, PAGE_SIZE, WindowError};

const MAGIC: u64 = u64::from_le_bytes(*b"bpfarena");
const VERSION: u32 = 1;
const MAX_PAGES: u32 = 1 << 20;

/// What the arena is; written once, before anyone else has the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) pages: u32,
    pub(crate) flags: u32,
    pub(crate) user_vm_start: u64,
}

impl Shape {
    /// Checks the rules for pages and address.
    pub(crate) fn check(self) -> Result<Self, WindowError> {
        let Self { pages, user_vm_start: address, .. } = self;
        if pages == 0 || pages > MAX_PAGES {
            return Err(WindowError::PageCount { pages: pages.into() });
        }
        let last = address.checked_add(self.bytes() - 1);
        if !address.is_multiple_of(PAGE_SIZE) || last.is_none_or(|last| last >> 32 != address >> 32) {
            return Err(WindowError::Address { address, pages });
        }
        Ok(self)
    }

    /// Bytes of the arena.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.pages) * PAGE_SIZE
    }

    /// Bytes of the file: pages, then the words of the state, then the header in the last page.
    pub(crate) fn file_bytes(self) -> u64 {
        self.bytes() + self.meta_bytes()
    }

    fn words(self) -> usize {
        to_usize(u64::from(self.pages).div_ceil(64))
    }

    /// Words of the summary: one bit for each word of pages.
    fn groups(self) -> usize {
        self.words().div_ceil(64)
    }

    fn meta_bytes(self) -> u64 {
        let words = 2 * self.words() + self.groups();
        (PAGE_SIZE + 8 * words as u64).next_multiple_of(PAGE_SIZE)
    }
}

/// The last page of the file.
#[repr(C)]
#[derive(Debug)]
struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    pages: AtomicU32,
    user_vm_start: AtomicU64,
    flags: AtomicU32,
    /// Most pages in use.
    limit: AtomicU32,
    /// Set for good once some process maps the arena without userfaultfd: pages may then come to exist unnoticed.
    unwatched: AtomicU32,
    lock: AtomicU32,
    /// What the holder of the lock is doing.
    journal: Journal,
    /// Touches that have begun and that have ended, in all processes.
    touches_begun: AtomicU64,
    touches_ended: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= 4096, "the header has one page");

#[repr(C)]
#[derive(Debug)]
struct Journal {
    operation: AtomicU32,
    start: AtomicU32,
    count: AtomicU32,
}

/// What a holder of the lock that died left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Alloc,
    Free,
    Reserve,
}

impl Operation {
    fn number(self) -> u32 {
        match self {
            Self::Alloc => 1,
            Self::Free => 2,
            Self::Reserve => 3,
        }
    }
}

/// The shared state, mapped.
#[derive(Debug)]
pub(crate) struct Meta {
    shape: Shape,
    // Invariant: maps `shape.meta_bytes()` bytes of the file, which cannot shrink.
    mapping: Mapping,
}

impl Meta {
    /// Writes the state of a new arena into its empty file.
    pub(crate) fn create(backing: &Backing, shape: Shape) -> Result<Self, WindowError> {
        // All of it exists from the start, so that no later touch can run out of memory.
        backing.populate(shape.bytes(), shape.meta_bytes())?;
        let meta = Self::map(backing, shape)?;
        let header = meta.header();
        header.version.store(VERSION, Ordering::Relaxed);
        header.pages.store(shape.pages, Ordering::Relaxed);
        header.user_vm_start.store(shape.user_vm_start, Ordering::Relaxed);
        header.flags.store(shape.flags, Ordering::Relaxed);
        header.limit.store(shape.pages, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(meta)
    }

    /// Maps the state of an arena that someone else made.
    pub(crate) fn attach(backing: &Backing, trusted: bool) -> Result<Self, WindowError> {
        let not_an_arena = |reason| WindowError::NotAnArena { reason };
        if !trusted && !backing.cannot_shrink() {
            return Err(WindowError::NotSealed);
        }
        let len = backing.len()?;
        let shape = read_header(backing, len).ok_or(not_an_arena("no header"))?;
        let shape = shape.check().map_err(|_| not_an_arena("its size or address is impossible"))?;
        if shape.file_bytes() != len {
            return Err(not_an_arena("its size is not that of the file"));
        }
        Ok(Self::map(backing, shape)?)
    }

    fn map(backing: &Backing, shape: Shape) -> Result<Self, OsError> {
        let mapping = Mapping::file(backing.fd(), shape.bytes(), shape.meta_bytes())?;
        Ok(Self { shape, mapping })
    }

    /// What the arena is, as it was when this process mapped it.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Pages that are allocated or populated, or about to be.
    pub(crate) fn taken(&self) -> &[AtomicU64] {
        self.words_at(0, self.shape.words())
    }

    /// Pages that are kept from being allocated.
    pub(crate) fn reserved(&self) -> &[AtomicU64] {
        self.words_at(self.shape.words(), self.shape.words())
    }

    /// Words of which every page is taken or reserved. A clear bit says nothing.
    pub(crate) fn full(&self) -> &[AtomicU64] {
        self.words_at(2 * self.shape.words(), self.shape.groups())
    }

    /// The word and bit of a page in `taken` and `reserved`; the bit is 0 past the end.
    pub(crate) fn bit(&self, page: u32) -> (usize, u64) {
        let word = to_usize(u64::from(page) / 64);
        (word, if page < self.shape.pages { 1 << (page % 64) } else { 0 })
    }

    /// Most pages that may be in use.
    pub(crate) fn limit(&self) -> u32 {
        self.header().limit.load(Ordering::Relaxed).min(self.shape.pages)
    }

    /// Sets the limit.
    pub(crate) fn set_limit(&self, pages: u32) {
        self.header().limit.store(pages.min(self.shape.pages), Ordering::Relaxed);
    }

    /// Whether pages may come to exist without being marked first.
    pub(crate) fn is_unwatched(&self) -> bool {
        self.header().unwatched.load(Ordering::Relaxed) != 0
    }

    /// Says that from now on pages may come to exist without being marked first.
    pub(crate) fn set_unwatched(&self) {
        self.header().unwatched.store(1, Ordering::SeqCst);
    }

    /// Takes the lock of the allocator.
    pub(crate) fn lock(&self) -> Result<Held<'_>, OsError> {
        let errno = Errno::DEADLK;
        lock::lock(&self.header().lock).ok_or(OsError { call: "lock of the arena", errno })
    }

    /// Notes that a touch is about to make a page exist, until the result is dropped.
    pub(crate) fn touching(&self) -> Touching<'_> {
        self.header().touches_begun.fetch_add(1, Ordering::SeqCst);
        Touching { ended: &self.header().touches_ended }
    }

    /// How many touches have begun, if none is in progress. A process that died in one leaves it in progress for good.
    pub(crate) fn touches_if_quiet(&self) -> Option<u64> {
        // In this order: what has begun by the second reading had ended by the first.
        let ended = self.header().touches_ended.load(Ordering::SeqCst);
        let begun = self.touches_begun();
        (begun == ended).then_some(begun)
    }

    /// How many touches have begun.
    pub(crate) fn touches_begun(&self) -> u64 {
        self.header().touches_begun.load(Ordering::SeqCst)
    }

    /// Notes what is about to be done to a range.
    pub(crate) fn begin(&self, operation: Operation, start: u32, count: u32) {
        let journal = &self.header().journal;
        journal.start.store(start, Ordering::Relaxed);
        journal.count.store(count, Ordering::Relaxed);
        journal.operation.store(operation.number(), Ordering::Release);
    }

    /// Notes that it is done.
    pub(crate) fn end(&self) {
        self.header().journal.operation.store(0, Ordering::Release);
    }

    /// What was begun and not ended, with its range clamped to the arena.
    pub(crate) fn unfinished(&self) -> Option<(Operation, u32, u32)> {
        let journal = &self.header().journal;
        let number = journal.operation.load(Ordering::Acquire);
        let operations = [Operation::Alloc, Operation::Free, Operation::Reserve];
        let operation = operations.into_iter().find(|operation| operation.number() == number)?;
        let start = journal.start.load(Ordering::Relaxed).min(self.shape.pages);
        let count = journal.count.load(Ordering::Relaxed).min(self.shape.pages - start);
        Some((operation, start, count))
    }

    fn header(&self) -> &Header {
        let address = to_usize(self.mapping.end() - PAGE_SIZE);
        // SAFETY: the last page of the mapping, page-aligned, lives as long as `self`, and only has atomic fields.
        unsafe { &*core::ptr::with_exposed_provenance::<Header>(address) }
    }

    fn words_at(&self, first: usize, count: usize) -> &[AtomicU64] {
        let address = to_usize(self.mapping.start()) + 8 * first;
        let words = core::ptr::with_exposed_provenance::<AtomicU64>(address);
        // SAFETY: the callers' ranges lie in the words that `meta_bytes` counts; atomics, so others may write.
        unsafe { core::slice::from_raw_parts(words, count) }
    }
}

/// A touch in progress.
#[derive(Debug)]
pub(crate) struct Touching<'a> {
    ended: &'a AtomicU64,
}

impl Drop for Touching<'_> {
    fn drop(&mut self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the last page of a file of `len` bytes says the arena is; nothing checked but that it is a header.
fn read_header(backing: &Backing, len: u64) -> Option<Shape> {
    let mut bytes = [0; 28];
    if !backing.read(len.checked_sub(PAGE_SIZE)?, &mut bytes) {
        return None;
    }
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (pages, rest) = rest.split_first_chunk::<4>()?;
    let (user_vm_start, rest) = rest.split_first_chunk::<8>()?;
    let (flags, _) = rest.split_first_chunk::<4>()?;
    if u64::from_ne_bytes(*magic) != MAGIC || u32::from_ne_bytes(*version) != VERSION {
        return None;
    }
    Some(Shape {
        pages: u32::from_ne_bytes(*pages),
        flags: u32::from_ne_bytes(*flags),
        user_vm_start: u64::from_ne_bytes(*user_vm_start),
    })
}

/// Taken or reserved, as an allocation sees it.
impl TakenWords for Meta {
    fn words(&self) -> usize {
        self.shape.words()
    }

    fn taken(&self, word: usize) -> u64 {
        let read = |words: &[AtomicU64]| words.get(word).map_or(u64::MAX, |w| w.load(Ordering::SeqCst));
        let past_the_end = match self.shape.pages % 64 {
            rest if rest != 0 && word + 1 == self.shape.words() => u64::MAX << rest,
            _ => 0,
        };
        read(Meta::taken(self)) | read(self.reserved()) | past_the_end
    }

    fn next_with_space(&self, word: usize) -> usize {
        for (group, full) in self.full().iter().enumerate().skip(word / 64) {
            let before = if group == word / 64 { word % 64 } else { 0 };
            let space = !full.load(Ordering::SeqCst) & (u64::MAX << before);
            if space != 0 {
                return group * 64 + space.trailing_zeros() as usize;
            }
        }
        usize::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(pages: u32) -> Shape {
        Shape { pages, flags: 0x400, user_vm_start: 1 << 44 }
    }

    fn attach(backing: &Backing) -> Result<Meta, WindowError> {
        Meta::attach(&Backing::attach(rustix::io::dup(backing.fd()).unwrap()), false)
    }

    #[test]
    fn what_is_created_can_be_attached() {
        for pages in [1, 2, 63, 64, 65, 1000, 16383, 16384, 20000, 1 << 19, (1 << 20) - 1, 1 << 20] {
            let shape = shape(pages);
            let backing = Backing::anonymous(shape.file_bytes()).unwrap();
            Meta::create(&backing, shape).unwrap();
            assert_eq!(attach(&backing).unwrap().shape(), shape, "{pages}");
        }
    }

    #[test]
    fn what_is_no_arena_is_refused() {
        let backing = Backing::anonymous(10 * PAGE_SIZE).unwrap();
        assert!(matches!(attach(&backing), Err(WindowError::NotAnArena { .. })));
        let unsealed = memfd();
        assert!(matches!(Meta::attach(&unsealed, false), Err(WindowError::NotSealed)));
        let backing = Backing::anonymous(shape(10).file_bytes()).unwrap();
        let meta = Meta::create(&backing, shape(10)).unwrap();
        for address in [1_u64, u64::MAX << 12, (1 << 32) - PAGE_SIZE] {
            meta.header().user_vm_start.store(address, Ordering::Relaxed);
            assert!(matches!(attach(&backing), Err(WindowError::NotAnArena { .. })), "{address:#x}");
        }
        meta.header().user_vm_start.store(PAGE_SIZE, Ordering::Relaxed);
        for pages in [0, 9, 11, 1 << 20, u32::MAX] {
            meta.header().pages.store(pages, Ordering::Relaxed);
            assert!(matches!(attach(&backing), Err(WindowError::NotAnArena { .. })), "{pages}");
        }
    }

    #[test]
    fn a_hostile_journal_stays_in_the_arena() {
        let backing = Backing::anonymous(shape(10).file_bytes()).unwrap();
        let meta = Meta::create(&backing, shape(10)).unwrap();
        assert_eq!(meta.unfinished(), None);
        meta.begin(Operation::Free, 7, u32::MAX);
        assert_eq!(meta.unfinished(), Some((Operation::Free, 7, 3)));
        meta.begin(Operation::Reserve, u32::MAX, u32::MAX);
        assert_eq!(meta.unfinished(), Some((Operation::Reserve, 10, 0)));
        meta.header().journal.operation.store(77, Ordering::Relaxed);
        assert_eq!(meta.unfinished(), None);
    }

    fn memfd() -> Backing {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let fd = rustix::fs::memfd_create(c"test", flags).unwrap();
        rustix::fs::ftruncate(&fd, 10 * PAGE_SIZE).unwrap();
        Backing::attach(fd)
    }
}
