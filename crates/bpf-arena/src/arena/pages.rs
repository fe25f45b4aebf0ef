//! Pages of an arena: allocation with the kernel's results, and listing.

use sys::{PAGE_SIZE, PageError};

use super::{Arena, ArenaError, PageCount, UserAddr};
use crate::kernel::KernelPages;

/// No node in particular.
const NUMA_NO_NODE: i32 = -1;

impl Arena {
    /// Allocates zeroed pages: at `at` exactly, or where they fit lowest. `None` where `bpf_arena_alloc_pages` gives
    /// NULL; [`Self::try_alloc_pages`] says why.
    #[must_use]
    pub fn alloc_pages(&self, at: Option<UserAddr>, count: PageCount) -> Option<UserAddr> {
        self.try_alloc_pages(at, count).ok()
    }

    /// Allocates zeroed pages: at `at` exactly (whose low 32 bits count), or where they fit lowest.
    ///
    /// # Errors
    /// A page of the range is taken, no range is long enough, the limit is reached or the system has no memory.
    pub fn try_alloc_pages(&self, at: Option<UserAddr>, count: PageCount) -> Result<UserAddr, ArenaError> {
        let at = at.map_or(0, UserAddr::get);
        if let Some(kernel) = &self.kernel {
            return match kernel.alloc(self.fd(), at, count.get())? {
                0 => Err(PageError::Taken.into()),
                first => Ok(UserAddr::new(first)),
            };
        }
        Ok(UserAddr::new(self.window.alloc_pages(at, count.get())?))
    }

    /// Frees pages: they vanish from every mapping of every process. Only the low 32 bits of `at` count, rounded down
    /// to a page; the range is clamped to the arena, and pages in it that do not exist are fine.
    ///
    /// In the kernel this is more than `bpf_arena_free_pages`: if another thread is about to map a page at this moment, its page
    /// fault ends first. A program that frees a page while host code touches it for the first time can leave that process
    /// with a page that is the arena's no longer (seen with Linux 6.18).
    pub fn free_pages(&self, at: UserAddr, count: PageCount) {
        // The kernel's function has no result. Pages the system refuses to take away stay allocated and counted.
        let _ = match &self.kernel {
            Some(kernel) => self.free_in_kernel(kernel, at, count),
            None => self.window.free_pages(at.get(), count.get()),
        };
    }

    /// Frees pages of an arena in the kernel.
    ///
    /// The kernel takes pages out of all mappings, and lets go of them then. A thread whose page fault has found a page before
    /// maps it afterwards all the same: from then on this process would see a page that is the arena's no longer, and programs
    /// and other processes another one in its place. So such faults are waited for, and what they mapped is unmapped again.
    fn free_in_kernel(&self, kernel: &KernelPages, at: UserAddr, count: PageCount) -> Result<(), PageError> {
        kernel.free(self.fd(), at.get(), count.get())?;
        self.window.unmap_freed(at.get(), count.get());
        Ok(())
    }

    /// Keeps a range of pages from being allocated or populated, until it is freed.
    ///
    /// # Errors
    /// [`PageError::Taken`] (EBUSY) if a page of it is allocated or reserved, [`PageError::BadRange`] (EINVAL)
    /// outside the arena.
    pub fn reserve_pages(&self, at: UserAddr, count: PageCount) -> Result<(), ArenaError> {
        if let Some(kernel) = &self.kernel {
            return match kernel.reserve(self.fd(), at.get(), count.get())? {
                0 => Ok(()),
                -22 => Err(PageError::BadRange.into()),
                _ => Err(PageError::Taken.into()),
            };
        }
        Ok(self.window.reserve_pages(at.get(), count.get())?)
    }

    /// `bpf_arena_alloc_pages` with its raw arguments and result.
    #[must_use]
    pub(crate) fn kfunc_alloc(&self, address: u64, count: u32, node: i32, flags: u64) -> u64 {
        let node_exists = node == NUMA_NO_NODE || u32::try_from(node).is_ok_and(sys::host::has_numa_node);
        if flags != 0 || count == 0 || !node_exists {
            return 0;
        }
        self.window.alloc_pages(address, count).unwrap_or(0)
    }

    /// `bpf_arena_free_pages` with its raw arguments.
    pub(crate) fn kfunc_free(&self, pointer: u64, count: u32) {
        if pointer != 0 {
            self.free_pages(UserAddr::new(pointer), PageCount::new(count));
        }
    }

    /// `bpf_arena_reserve_pages` with its raw arguments and result.
    #[must_use]
    pub(crate) fn kfunc_reserve(&self, pointer: u64, count: u32) -> i32 {
        // The kernel answers 0 for nothing at all and for an unaligned pointer.
        if count == 0 || !pointer.is_multiple_of(PAGE_SIZE) {
            return 0;
        }
        match self.window.reserve_pages(pointer, count) {
            Ok(()) => 0,
            Err(error) => -error.errno().raw_os_error(),
        }
    }

    /// Pages that exist now, allocated or touched, in all processes together. Reserved ones are not counted. 0 for
    /// an arena of the kernel, which does not tell.
    #[must_use]
    pub fn pages_in_use(&self) -> PageCount {
        PageCount::new(self.window.pages_in_use())
    }

    /// Most pages that may exist at once.
    #[must_use]
    pub fn limit(&self) -> PageCount {
        PageCount::new(self.window.limit())
    }

    /// Limits how many pages may exist at once, in all processes together. Those beyond the limit stay.
    pub fn set_limit(&self, limit: PageCount) {
        self.window.set_limit(limit.get());
    }

    /// Addresses of the pages that exist, ascending. Pages that come or go meanwhile may be listed or not.
    #[must_use]
    pub fn page_addrs(&self) -> PageAddrs<'_> {
        PageAddrs { arena: self, next: Some(0) }
    }

    /// Copies of all pages that exist, by ascending address: for comparing arenas.
    ///
    /// # Errors
    /// Only for arenas of the kernel, whose pages cannot be listed ([`PageError::KernelArena`]).
    pub fn snapshot(&self) -> Result<Vec<(UserAddr, Vec<u8>)>, ArenaError> {
        if self.window.mode() == sys::window::Mode::Kernel {
            return Err(PageError::KernelArena.into());
        }
        let mut pages = Vec::new();
        for at in self.page_addrs() {
            let mut bytes = vec![0; 4096];
            // A page freed since it was listed is left out.
            if self.window.read_bytes(at.low32(), &mut bytes).is_ok() {
                pages.push((at, bytes));
            }
        }
        Ok(pages)
    }
}

/// Addresses of existing pages: see [`Arena::page_addrs`].
#[derive(Clone, Debug)]
pub struct PageAddrs<'a> {
    arena: &'a Arena,
    next: Option<u32>,
}

impl Iterator for PageAddrs<'_> {
    type Item = UserAddr;

    fn next(&mut self) -> Option<UserAddr> {
        let page = self.arena.window.next_page(self.next?);
        self.next = page.and_then(|page| page.checked_add(1));
        page.map(|page| self.arena.user_vm_start().wrapping_add(PageCount::new(page).bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ArenaSpec;
    use super::*;

    #[test]
    fn the_kfuncs_answer_as_the_kernel_does() {
        let arena = Arena::create(&ArenaSpec::new(PageCount::new(10))).unwrap();
        let start = arena.user_vm_start().get();
        assert_eq!(arena.kfunc_alloc(0, 1, NUMA_NO_NODE, 1), 0);
        assert_eq!(arena.kfunc_alloc(0, 0, NUMA_NO_NODE, 0), 0);
        assert_eq!(arena.kfunc_alloc(0, 1, -2, 0), 0);
        assert_eq!(arena.kfunc_alloc(0, 1, 4096, 0), 0);
        assert_eq!(arena.kfunc_alloc(0, 11, NUMA_NO_NODE, 0), 0);
        assert_eq!(arena.kfunc_alloc(0, 1, NUMA_NO_NODE, 0), start);
        assert_eq!(arena.kfunc_alloc(0, 1, 0, 0), start + PAGE_SIZE);
        arena.kfunc_free(0, 10);
        arena.kfunc_free(start, 0);
        assert_eq!(arena.pages_in_use(), PageCount::new(2));
        arena.kfunc_free(start & 0xffff_ffff, 1);
        assert_eq!(arena.pages_in_use(), PageCount::new(1));
        assert_eq!(arena.kfunc_reserve(start, 2), -sys::Errno::BUSY.raw_os_error());
        assert_eq!(arena.kfunc_reserve(start, 11), -sys::Errno::INVAL.raw_os_error());
        assert_eq!(arena.kfunc_reserve(start, 0), 0);
        assert_eq!(arena.kfunc_reserve(start, 1), 0);
        assert_eq!(arena.kfunc_alloc(0, 1, NUMA_NO_NODE, 0), start + 2 * PAGE_SIZE);
    }
}
