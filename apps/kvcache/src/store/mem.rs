//! The arena by offsets, the way the program sees it: what is not there reads as 0, and writes to it are lost.
//!
//! So a store whose contents are damaged gives wrong answers at worst where its checks do not notice, and never anything else.
//! Nothing here orders accesses but what is named so.

use bpf_arena::arena::{Arena, PageCount, UserAddr};
use bpf_arena::typed::{ArenaPtr, ArenaType};

use crate::layout::{PAGE, UNIT};

/// The arena.
#[derive(Clone, Debug)]
pub(super) struct Mem {
    arena: Arena,
    start: UserAddr,
}

impl Mem {
    pub(super) fn new(arena: Arena) -> Self {
        Self { start: arena.user_vm_start(), arena }
    }

    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    #[inline]
    fn at(&self, offset: u32) -> UserAddr {
        self.start.wrapping_add(offset.into())
    }

    #[inline]
    pub(super) fn u8(&self, offset: u32) -> u8 {
        self.arena.read_u8(self.at(offset)).unwrap_or(0)
    }

    #[inline]
    pub(super) fn set_u8(&self, offset: u32, value: u8) {
        let _ = self.arena.write_u8(self.at(offset), value);
    }

    #[inline]
    pub(super) fn u32(&self, offset: u32) -> u32 {
        self.arena.read_u32(self.at(offset)).unwrap_or(0)
    }

    #[inline]
    pub(super) fn set_u32(&self, offset: u32, value: u32) {
        let _ = self.arena.write_u32(self.at(offset), value);
    }

    #[inline]
    pub(super) fn u64(&self, offset: u32) -> u64 {
        self.arena.read_u64(self.at(offset)).unwrap_or(0)
    }

    #[inline]
    pub(super) fn set_u64(&self, offset: u32, value: u64) {
        let _ = self.arena.write_u64(self.at(offset), value);
    }

    /// Reads before everything that follows.
    #[inline]
    pub(super) fn acquire(&self, offset: u32) -> u64 {
        self.arena.load_acquire_u64(self.at(offset)).unwrap_or(0)
    }

    /// Writes after everything before.
    #[inline]
    pub(super) fn release(&self, offset: u32, value: u64) {
        let _ = self.arena.store_release_u64(self.at(offset), value);
    }

    /// Adds and gives the sum.
    #[inline]
    pub(super) fn add(&self, offset: u32, by: u64) -> u64 {
        let word = ArenaPtr::<u64>::from_raw(self.at(offset).get());
        self.arena.fetch_add(word, by).unwrap_or(0).wrapping_add(by)
    }

    /// A structure, integer by integer.
    pub(super) fn value<T: ArenaType + Default>(&self, offset: u32) -> T {
        self.arena.read(ArenaPtr::from_raw(self.at(offset).get())).unwrap_or_default()
    }

    #[inline]
    pub(super) fn read(&self, offset: u32, out: &mut [u8]) {
        let _ = self.arena.read_bytes(self.at(offset), out);
    }

    #[inline]
    pub(super) fn write(&self, offset: u32, bytes: &[u8]) {
        let _ = self.arena.write_bytes(self.at(offset), bytes);
    }

    /// Fills with zeroes.
    pub(super) fn clear(&self, offset: u32, bytes: u32) {
        let zeroes = [0; PAGE as usize];
        let mut at = offset;
        let end = offset.saturating_add(bytes);
        while at < end {
            let now = (end - at).min(PAGE);
            self.write(at, zeroes.get(..now as usize).unwrap_or_default());
            at += now;
        }
    }

    /// Has the pages of a range exist. Whether there is memory for them.
    pub(super) fn provide(&self, offset: u32, pages: u32) -> bool {
        if self.arena.try_alloc_pages(Some(self.at(offset)), PageCount::new(pages)).is_ok() {
            return true;
        }
        // Some exist already: a server that was killed may have made them. A touch makes the others.
        (0..pages).all(|page| {
            let at = self.at(offset.saturating_add(page * PAGE));
            self.arena.read_u8(at).and_then(|value| self.arena.write_u8(at, value)).is_ok()
        })
    }

    /// Gives the pages of a range back.
    pub(super) fn give_back(&self, offset: u32, pages: u32) {
        self.arena.free_pages(self.at(offset), PageCount::new(pages));
    }
}

/// Pages of a unit.
pub(super) const UNIT_PAGES: u32 = UNIT / PAGE;
