//! The page allocator: which pages exist, among threads and processes, whatever any of them does.
//!
//! Two bits for each page, in shared memory: *taken* (allocated or populated by touch) and *reserved*. A page **exists**
//! if the file has it. Whoever holds the lock allocates, frees and reserves; **populating by touch takes no lock**, since
//! it happens in signal handlers. What holds whenever nobody is in the middle of something:
//!
//! 1. *A taken page exists, and a page that exists is taken.* So a page that is not taken is a hole in the file, and
//!    reads as zeros once it exists: no page is handed out with old contents, and none is ever cleared by hand.
//! 2. *A page is taken by one winner.* Allocating and populating both set its bit by `fetch_or`; whoever sees it clear
//!    before has it. An allocation that loses a page gives back what it got and searches again.
//! 3. *Bits are cleared after the page is gone.* Freeing punches the hole, then clears the bits. Populating sets the bit,
//!    makes the page exist, and **sets the bit again**. Freeing, after it cleared the bits, looks for pages that exist in
//!    its range all the same, and marks them taken: the touch that made such a page then comes after the free. If its
//!    page came too late to be found, the second setting of the bit comes after the clearing, and marks it. Touches are
//!    counted, so that a free that met none need not look.
//! 4. *`full` never hides a free page*: a bit there is set by the holder of the lock who then looks again whether the word
//!    still is full; who clears a bit of a word clears the word's bit in `full` afterwards.
//! 5. *What a dead process left is finished by the next holder* ([`Meta::unfinished`]): a free is done again, a
//!    reservation withdrawn, an allocation, of which nobody has the address, taken back.
//!
//! Where some process maps the arena without userfaultfd ([`Meta::is_unwatched`]) 1 is weaker: a touch by its host code
//! makes a page exist without marking it. Allocations then look for such pages, and count them as taken by that touch.
//!
//! Free of a page that is not taken is nothing (program's double free). Host code that writes to a page while it is freed
//! writes to the page before it vanishes or to a new one, and cannot tell which.

use core::sync::atomic::{AtomicU64, Ordering};

use super::backing::Backing;
use super::lock::Held;
use super::meta::{Meta, Operation};
use super::search::{TakenWords, lowest_fit, masks};
use super::uffd::Uffd;
use crate::{Errno, OsError, PAGE_SIZE, PageError};

/// An arena's allocator, over what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) backing: &'a Backing,
}

/// How a missing page is made to exist by a touch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Toucher<'a> {
    /// By userfaultfd, which watches the arena at this address.
    Uffd(&'a Uffd, u64),
    /// By an access to the page with this number; `false` if it failed.
    Access(fn(u64) -> bool, u64),
}

impl Pages<'_> {
    /// Allocates `count` pages at `at`, or the lowest that fit; the first page.
    pub(crate) fn alloc(self, at: Option<u32>, count: u32) -> Result<u32, PageError> {
        let pages = self.meta.shape().pages;
        if count == 0 || count > pages || at.is_some_and(|at| at > pages - count) {
            return Err(PageError::BadRange);
        }
        let held = self.lock()?;
        let limit = self.meta.limit();
        if limit < pages && self.in_use().saturating_add(count) > limit {
            return Err(PageError::Limit { limit });
        }
        loop {
            let start = match at {
                Some(start) if self.any_used(start, count) => return Err(PageError::Taken),
                Some(start) => start,
                None => lowest_fit(self.meta, count).ok_or(PageError::Taken)?,
            };
            self.meta.begin(Operation::Alloc, start, count);
            let got = self.claim(start, count);
            if got {
                let result = self.backing.populate(offset(start), offset(count));
                if result.is_err() {
                    // Back to what it was; an error of this would say less than the one we have.
                    let _ = self.release(start, count);
                }
                self.meta.end();
                drop(held);
                return result.map(|()| start).map_err(PageError::Os);
            }
            self.meta.end();
        }
    }

    /// Frees the pages of a range.
    pub(crate) fn free(self, start: u32, count: u32) -> Result<(), PageError> {
        let _held = self.lock()?;
        self.meta.begin(Operation::Free, start, count);
        let result = self.release(start, count);
        self.meta.end();
        result.map_err(PageError::Os)
    }

    /// Reserves the pages of a range, if all are free.
    pub(crate) fn reserve(self, start: u32, count: u32) -> Result<(), PageError> {
        let _held = self.lock()?;
        if self.meta.is_unwatched() {
            self.adopt(start, count);
        }
        if self.any_used(start, count) {
            return Err(PageError::Taken);
        }
        self.meta.begin(Operation::Reserve, start, count);
        set(self.meta.reserved(), start, count);
        // A touch that took a page meanwhile either sees the reservation, or is seen here.
        let result = if any(self.meta.taken(), start, count) {
            clear(self.meta.reserved(), start, count);
            Err(PageError::Taken)
        } else {
            self.note_full(start, count);
            Ok(())
        };
        self.meta.end();
        result
    }

    /// Makes a page exist as a touch by the host does. Takes no lock; callable from a signal handler.
    pub(crate) fn touch(self, page: u32, toucher: Toucher<'_>) -> Result<(), PageError> {
        let (word, bit) = self.meta.bit(page);
        let (taken, reserved) = match (self.meta.taken().get(word), self.meta.reserved().get(word)) {
            (Some(taken), Some(reserved)) if bit != 0 => (taken, reserved),
            _ => return Err(PageError::BadRange),
        };
        if reserved.load(Ordering::SeqCst) & bit != 0 {
            return Err(PageError::NotPopulated);
        }
        let _touching = self.meta.touching();
        let mine = taken.fetch_or(bit, Ordering::SeqCst) & bit == 0;
        if mine {
            let limit = self.meta.limit();
            let refused = if reserved.load(Ordering::SeqCst) & bit != 0 {
                Some(PageError::NotPopulated)
            } else if limit < self.meta.shape().pages && self.in_use() > limit {
                Some(PageError::Limit { limit })
            } else {
                None
            };
            if let Some(error) = refused {
                self.unmark(page);
                return Err(error);
            }
        }
        match toucher.fill(page) {
            Ok(()) => {
                taken.fetch_or(bit, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => {
                if mine {
                    self.unmark(page);
                }
                Err(PageError::Os(error))
            }
        }
    }

    /// Finishes what a process that died left, if there is anything.
    pub(crate) fn settle(self) -> Result<(), OsError> {
        if self.meta.unfinished().is_some() {
            drop(self.lock()?);
        }
        Ok(())
    }

    /// Whether a page exists for programs: it is taken, or host code touched it unwatched (and it is marked now).
    pub(crate) fn exists(self, page: u32) -> bool {
        let (word, bit) = self.meta.bit(page);
        let Some(taken) = self.meta.taken().get(word) else { return false };
        if taken.load(Ordering::Acquire) & bit != 0 {
            return true;
        }
        bit != 0 && self.meta.is_unwatched() && self.adopt(page, 1)
    }

    /// Pages taken, counted.
    pub(crate) fn in_use(self) -> u32 {
        self.meta.taken().iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// The first page from `from` on that is taken.
    pub(crate) fn next_taken(self, from: u32) -> Option<u32> {
        let (first, _) = self.meta.bit(from);
        for (number, word) in self.meta.taken().iter().enumerate().skip(first) {
            let above = if number == first { u64::MAX << (from % 64) } else { u64::MAX };
            let bits = word.load(Ordering::Acquire) & above;
            if bits != 0 {
                let page = u32::try_from(number).ok()?.checked_mul(64)?.checked_add(bits.trailing_zeros())?;
                return (page < self.meta.shape().pages).then_some(page);
            }
        }
        None
    }

    /// Takes the lock, and finishes what a dead holder left.
    fn lock(&self) -> Result<Held<'_>, OsError> {
        let held = self.meta.lock()?;
        if let Some((operation, start, count)) = self.meta.unfinished() {
            self.recover(operation, start, count);
            self.meta.end();
        }
        Ok(held)
    }

    fn recover(self, operation: Operation, start: u32, count: u32) {
        // Anything may be half done: forget which words are full.
        for full in self.meta.full() {
            full.store(0, Ordering::SeqCst);
        }
        match operation {
            // What the system refuses now it refused the process that died, too; the pages stay taken.
            Operation::Free => drop(self.release(start, count)),
            Operation::Reserve => clear(self.meta.reserved(), start, count),
            Operation::Alloc => self.take_back(start, count),
        }
    }

    /// Undoes an allocation of which nobody got the address. A page in it that is not all zeros was populated by host
    /// code at the same time, and stays.
    fn take_back(self, start: u32, count: u32) {
        let end = start + count;
        let mut at = start;
        while at < end {
            let kept = self.next_written(at, end).unwrap_or(end);
            let _ = self.release(at, kept - at);
            at = kept.saturating_add(1);
        }
    }

    /// The first page in `[from, end)` that holds anything but zeros.
    fn next_written(self, from: u32, end: u32) -> Option<u32> {
        let mut at = from;
        while let Some(found) = self.backing.next_touched(offset(at), offset(end)) {
            let page = u32::try_from(found / PAGE_SIZE).ok().filter(|&page| page < end)?;
            let mut bytes = [0; 4096];
            if self.backing.read(offset(page), &mut bytes) && bytes.iter().any(|&byte| byte != 0) {
                return Some(page);
            }
            at = page + 1;
            if at >= end {
                break;
            }
        }
        None
    }

    /// Marks a range of free pages as taken; `false`, with nothing changed, if a touch took one of them meanwhile.
    fn claim(self, start: u32, count: u32) -> bool {
        let mut claimed = 0;
        for (word, mask) in masks(start, count) {
            let before =
                self.meta.taken().get(word).map_or(mask, |taken| taken.fetch_or(mask, Ordering::SeqCst));
            if before & mask != 0 {
                if let Some(taken) = self.meta.taken().get(word) {
                    taken.fetch_and(!(mask & !before), Ordering::SeqCst);
                }
                clear(self.meta.taken(), start, claimed);
                // Touches that found our marks before we took them off made pages exist.
                self.adopt(start, count);
                return false;
            }
            claimed += mask.count_ones();
        }
        if self.meta.is_unwatched()
            && self.backing.next_touched(offset(start), offset(start + count)).is_some()
        {
            clear(self.meta.taken(), start, count);
            self.adopt(start, count);
            return false;
        }
        self.note_full(start, count);
        true
    }

    /// Takes pages away from everyone, then clears their bits.
    fn release(self, start: u32, count: u32) -> Result<(), OsError> {
        let quiet = self.meta.touches_if_quiet();
        let exist = self.meta.is_unwatched() || any(self.meta.taken(), start, count);
        if exist && count > 0 {
            self.backing.punch(offset(start), offset(count))?;
        }
        clear(self.meta.taken(), start, count);
        clear(self.meta.reserved(), start, count);
        for (word, _) in masks(start, count) {
            self.not_full(word);
        }
        // Looking for pages costs more than all the rest. A touch that is not counted here begins after the bits were
        // cleared, and sets its own.
        let overtaken = self.meta.is_unwatched() || quiet != Some(self.meta.touches_begun());
        if exist && overtaken {
            self.adopt(start, count);
        }
        Ok(())
    }

    /// Marks pages that exist and are not marked; whether there were any.
    fn adopt(self, start: u32, count: u32) -> bool {
        let (mut at, end) = (offset(start), offset(start + count));
        let mut found = false;
        while at < end {
            let Some(touched) = self.backing.next_touched(at, end) else { break };
            let Ok(page) = u32::try_from(touched / PAGE_SIZE) else { break };
            let (word, bit) = self.meta.bit(page);
            if let Some(taken) = self.meta.taken().get(word) {
                taken.fetch_or(bit, Ordering::SeqCst);
            }
            found = true;
            at = offset(page + 1);
        }
        found
    }

    /// Takes off the mark of a page that a touch set and could not keep.
    fn unmark(self, page: u32) {
        let (word, bit) = self.meta.bit(page);
        if let Some(taken) = self.meta.taken().get(word) {
            taken.fetch_and(!bit, Ordering::SeqCst);
        }
        self.not_full(word);
        // Another touch may have found the mark and made the page exist.
        self.adopt(page, 1);
    }

    fn any_used(self, start: u32, count: u32) -> bool {
        masks(start, count).any(|(word, mask)| TakenWords::taken(self.meta, word) & mask != 0)
    }

    fn note_full(self, start: u32, count: u32) {
        for (word, _) in masks(start, count) {
            let Some(full) = self.meta.full().get(word / 64) else { continue };
            if TakenWords::taken(self.meta, word) == u64::MAX {
                full.fetch_or(1 << (word % 64), Ordering::SeqCst);
                if TakenWords::taken(self.meta, word) != u64::MAX {
                    self.not_full(word);
                }
            }
        }
    }

    fn not_full(self, word: usize) {
        if let Some(full) = self.meta.full().get(word / 64) {
            let bit = 1 << (word % 64);
            if full.load(Ordering::SeqCst) & bit != 0 {
                full.fetch_and(!bit, Ordering::SeqCst);
            }
        }
    }
}

impl Toucher<'_> {
    /// Makes a page exist; nothing happens if it does.
    pub(crate) fn fill(self, page: u32) -> Result<(), OsError> {
        match self {
            Self::Uffd(uffd, start) => uffd.fill(start + offset(page)),
            Self::Access(access, start) if access(start + offset(page)) => Ok(()),
            Self::Access(..) => Err(OsError { call: "touch of a page", errno: Errno::NOMEM }),
        }
    }
}

/// Bytes from the arena's start to a page, or in so many pages.
fn offset(pages: u32) -> u64 {
    u64::from(pages) * PAGE_SIZE
}

fn any(words: &[AtomicU64], start: u32, count: u32) -> bool {
    masks(start, count)
        .any(|(word, mask)| words.get(word).is_some_and(|word| word.load(Ordering::SeqCst) & mask != 0))
}

fn set(words: &[AtomicU64], start: u32, count: u32) {
    for (word, mask) in masks(start, count) {
        if let Some(word) = words.get(word) {
            word.fetch_or(mask, Ordering::SeqCst);
        }
    }
}

fn clear(words: &[AtomicU64], start: u32, count: u32) {
    for (word, mask) in masks(start, count) {
        if let Some(word) = words.get(word) {
            word.fetch_and(!mask, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::meta::Shape;
    use super::*;

    struct Arena {
        backing: Backing,
        meta: Meta,
    }

    impl Arena {
        fn new(pages: u32) -> Self {
            let shape = Shape { pages, flags: 0, user_vm_start: 1 << 44 };
            let backing = Backing::anonymous(shape.file_bytes()).unwrap();
            let meta = Meta::create(&backing, shape).unwrap();
            Self { backing, meta }
        }

        fn pages(&self) -> Pages<'_> {
            Pages { meta: &self.meta, backing: &self.backing }
        }

        /// Pages the system says the file has, without those of the state.
        fn in_file(&self) -> u64 {
            let stat = rustix::fs::fstat(self.backing.fd()).unwrap();
            let state = self.backing.len().unwrap() / PAGE_SIZE - u64::from(self.meta.shape().pages);
            u64::try_from(stat.st_blocks).unwrap() * 512 / PAGE_SIZE - state
        }

        fn write(&self, page: u32) {
            rustix::io::pwrite(self.backing.fd(), &[1], offset(page) + 99).unwrap();
        }

        fn check(&self, in_use: u32) {
            assert_eq!((self.pages().in_use(), self.in_file()), (in_use, in_use.into()));
        }
    }

    #[test]
    fn an_allocation_that_died_is_taken_back_wherever_it_stopped() {
        for (claimed, populated) in [(0, 0), (40, 0), (100, 0), (100, 60), (100, 100)] {
            let arena = Arena::new(1000);
            arena.pages().alloc(None, 10).unwrap();
            arena.meta.begin(Operation::Alloc, 10, 100);
            set(arena.meta.taken(), 10, claimed);
            arena.backing.populate(offset(10), offset(populated)).unwrap();
            assert_eq!(arena.pages().alloc(None, 1).unwrap(), 10);
            arena.check(11);
        }
    }

    #[test]
    fn what_host_code_wrote_meanwhile_stays() {
        let arena = Arena::new(1000);
        arena.meta.begin(Operation::Alloc, 0, 100);
        set(arena.meta.taken(), 0, 100);
        arena.write(50);
        assert_eq!(arena.pages().alloc(None, 51).unwrap(), 51);
        arena.check(52);
        assert!(arena.pages().exists(50));
    }

    #[test]
    fn a_free_that_died_is_done_again_wherever_it_stopped() {
        for (punched, cleared) in [(0, 0), (40, 0), (70, 0), (70, 30), (70, 70)] {
            let arena = Arena::new(1000);
            arena.pages().alloc(None, 100).unwrap();
            arena.pages().reserve(100, 5).unwrap();
            arena.meta.begin(Operation::Free, 30, 75);
            arena.backing.punch(offset(30), offset(punched.max(1))).unwrap();
            clear(arena.meta.taken(), 30, cleared);
            assert_eq!(arena.pages().alloc(None, 71).unwrap(), 30);
            arena.check(101);
        }
    }

    #[test]
    fn what_is_written_after_a_death_was_settled_stays() {
        let arena = Arena::new(100);
        arena.pages().alloc(None, 20).unwrap();
        arena.meta.begin(Operation::Free, 0, 20);
        arena.pages().settle().unwrap();
        arena.check(0);
        arena.write(3);
        assert_eq!(arena.pages().alloc(Some(50), 1), Ok(50));
        assert_eq!(arena.in_file(), 2);
    }

    #[test]
    fn a_reservation_that_died_is_withdrawn() {
        let arena = Arena::new(100);
        arena.meta.begin(Operation::Reserve, 0, 100);
        set(arena.meta.reserved(), 0, 70);
        assert_eq!(arena.pages().alloc(None, 100).unwrap(), 0);
    }

    #[test]
    fn any_journal_is_survived() {
        for operation in [Operation::Alloc, Operation::Free, Operation::Reserve] {
            let arena = Arena::new(130);
            for (start, count) in [(0, u32::MAX), (u32::MAX, u32::MAX), (129, 2), (130, 0), (7, 0)] {
                arena.meta.begin(operation, start, count);
                assert!(arena.pages().free(0, 130).is_ok());
                assert_eq!(arena.pages().alloc(None, 130).unwrap(), 0);
            }
        }
    }

    #[test]
    fn full_words_are_skipped_and_found_again() {
        let arena = Arena::new(64 * 130);
        arena.pages().alloc(None, 64 * 130).unwrap();
        assert_eq!(arena.pages().alloc(None, 1), Err(PageError::Taken));
        for page in [64 * 129, 64 * 70 + 3, 64] {
            arena.pages().free(page, 1).unwrap();
            assert_eq!(arena.pages().alloc(None, 2), Err(PageError::Taken));
            assert_eq!(arena.pages().alloc(None, 1), Ok(page));
        }
        arena.pages().free(64 * 70 + 60, 10).unwrap();
        assert_eq!(arena.pages().alloc(None, 10), Ok(64 * 70 + 60));
        arena.check(64 * 130);
    }

    #[test]
    fn a_page_that_exists_unmarked_is_not_handed_out_where_accesses_are_checked() {
        let arena = Arena::new(10);
        arena.meta.set_unwatched();
        arena.write(3);
        assert_eq!(arena.pages().alloc(None, 4), Ok(4));
        assert_eq!(arena.pages().alloc(Some(3), 1), Err(PageError::Taken));
        assert_eq!(arena.pages().reserve(0, 4), Err(PageError::Taken));
        arena.check(5);
    }
}
