//! The memory of one arena: a 4 GiB window of addresses of which the arena's pages are part.

mod access;
mod memory;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::arena::meta::Shape;
use crate::arena::pages::Pages;
use crate::fault::Watched;
use crate::{PAGE_SIZE, PageError, WindowError};

pub(crate) use self::memory::Memory;
use self::memory::WINDOW;

/// `BPF_F_SEGV_ON_FAULT`: a host touch of a missing page is a fault instead of an allocation.
pub const SEGV_ON_FAULT: u32 = 1 << 17;

/// How missing pages are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The hardware faults: accesses cost nothing, generated code may access the window directly.
    Userfaultfd,
    /// Each access asks the page table of the arena first (`userfaultfd` is refused here): generated code must call
    /// the runtime.
    Checked,
    /// The kernel owns the arena (a BPF map).
    Kernel,
}

/// What to create.
#[derive(Debug, Default)]
pub struct WindowSpec {
    /// Pages of the arena, at most 2^20.
    pub pages: u32,
    /// Address of the first page, or `None` for anywhere.
    pub user_vm_start: Option<u64>,
    /// Map flags, of which [`SEGV_ON_FAULT`] matters here; the others are kept for those that attach.
    pub flags: u32,
    /// Use [`Mode::Checked`] even if `userfaultfd` is available.
    pub force_checked: bool,
    /// A file on tmpfs to hold the arena instead of anonymous memory. Its contents are lost.
    pub file: Option<OwnedFd>,
}

/// An arena's memory in this process. Unmapped on drop.
#[derive(Debug)]
pub struct Window {
    memory: Arc<Memory>,
    // Withdrawn on drop; the handler's table holds references of its own.
    _watched: Vec<Watched>,
}

impl Window {
    /// Creates an arena.
    ///
    /// # Errors
    /// The address is taken or impossible, or the system refused: see [`WindowError`].
    pub fn create(spec: WindowSpec) -> Result<Self, WindowError> {
        Self::over(Memory::create(spec)?)
    }

    /// Maps an arena made by another process, at the same address, from its descriptor ([`Self::fd`]).
    ///
    /// # Errors
    /// Not an arena, or its address is taken in this process: see [`WindowError`].
    pub fn attach(fd: OwnedFd) -> Result<Self, WindowError> {
        Self::over(Memory::attach(fd, false)?)
    }

    /// Maps an arena that lies in a file which nobody shrinks meanwhile: files that have a name cannot be kept from shrinking.
    /// Whoever does it all the same ends this process at its next look at the allocator's state.
    ///
    /// # Errors
    /// As for [`Self::attach`].
    pub fn attach_file(file: OwnedFd) -> Result<Self, WindowError> {
        Self::over(Memory::attach(file, true)?)
    }

    /// Maps an arena of the kernel. `user_vm_start` is its `map_extra`, or `None` if that is 0.
    ///
    /// # Errors
    /// The address is taken or impossible, or the system refused: see [`WindowError`].
    pub fn of_kernel(
        map: OwnedFd,
        pages: u32,
        flags: u32,
        user_vm_start: Option<u64>,
    ) -> Result<Self, WindowError> {
        let shape = Shape { pages, flags, user_vm_start: user_vm_start.unwrap_or(0) }.check()?;
        Self::over(Memory::of_kernel(map, shape, user_vm_start.is_none())?)
    }

    /// Address of offset 0 of the 4 GiB window that programs address: `base + u32(pointer) + offset`. A multiple of
    /// 4 GiB.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.memory.base
    }

    /// User address of the arena's first page. Its low 32 bits are the page's offset in the window.
    #[must_use]
    pub fn user_vm_start(&self) -> u64 {
        self.memory.shape.user_vm_start
    }

    /// Pages of the arena, existing or not.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.memory.shape.pages
    }

    /// Map flags it was created with.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.memory.shape.flags
    }

    /// How missing pages are noticed.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.memory.mode
    }

    /// The descriptor that is the arena; pass a duplicate to another process for [`Self::attach`].
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memory.backing.fd()
    }

    /// The user address for an address inside the window, as the fault handler records them.
    #[must_use]
    pub fn user_address(&self, address: u64) -> u64 {
        address.wrapping_sub(self.base()).wrapping_add(self.user_base())
    }

    /// `bpf_arena_alloc_pages`: zeroed pages at `address`, or where they fit lowest if it is 0. The user address of
    /// the first.
    ///
    /// # Errors
    /// The kfunc's NULL, with the reason.
    pub fn alloc_pages(&self, address: u64, count: u32) -> Result<u64, PageError> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(PageError::BadRange);
        }
        let at = if address == 0 { None } else { Some(self.page_of(address)) };
        let first = self.allocator()?.alloc(at, count)?;
        Ok(self.user_vm_start() + u64::from(first) * PAGE_SIZE)
    }

    /// `bpf_arena_free_pages`: pages vanish from every mapping of every process. Only the low 32 bits of `address`
    /// count, rounded down; the range is clamped to the arena.
    ///
    /// # Errors
    /// The operating system refused to take the pages away; they stay allocated. The kfunc has no result.
    pub fn free_pages(&self, address: u64, count: u32) -> Result<(), PageError> {
        let allocator = self.allocator()?;
        let arena = self.user_vm_start() % WINDOW;
        let start = (address % WINDOW) & !(PAGE_SIZE - 1);
        let end = (start + u64::from(count) * PAGE_SIZE).min(arena + self.memory.shape.bytes());
        let start = start.max(arena);
        let page = |at: u64| u32::try_from((at - arena) / PAGE_SIZE).map_err(|_| PageError::BadRange);
        if start >= end { Ok(()) } else { allocator.free(page(start)?, page(end)? - page(start)?) }
    }

    /// For an arena of the kernel: takes pages that it has let go of out of this process's mapping, also those that a page fault
    /// which has begun is about to map. Pages that it has stay, and are mapped again when they are touched.
    pub fn unmap_freed(&self, address: u64, count: u32) {
        let address = self.user_base() + address % WINDOW;
        self.memory.unmap_freed(address & !(PAGE_SIZE - 1), u64::from(count) * PAGE_SIZE);
    }

    /// `bpf_arena_reserve_pages`: keeps a range from being allocated and from being populated by touch.
    ///
    /// # Errors
    /// [`PageError::Taken`] (EBUSY) or [`PageError::BadRange`] (EINVAL).
    pub fn reserve_pages(&self, address: u64, count: u32) -> Result<(), PageError> {
        let page = self.page_of(address);
        let pages = self.pages();
        if !address.is_multiple_of(PAGE_SIZE) || count > pages || page > pages - count {
            return Err(PageError::BadRange);
        }
        self.allocator()?.reserve(page, count)
    }

    /// Populates the page at a window offset as a host touch does; nothing happens if it exists.
    ///
    /// # Errors
    /// Outside the arena, reserved, `BPF_F_SEGV_ON_FAULT`, or no memory.
    pub fn populate(&self, at: u32) -> Result<(), PageError> {
        let address = self.user_base() + u64::from(at);
        let page = self.memory.user_page(address).ok_or(PageError::BadRange)?;
        match self.memory.touch(page) {
            Err(PageError::NotPopulated) if self.allocator().is_ok_and(|pages| pages.exists(page)) => Ok(()),
            other => other,
        }
    }

    /// Pages allocated or populated at this moment, counted one by one. 0 for arenas of the kernel.
    #[must_use]
    pub fn pages_in_use(&self) -> u32 {
        self.memory.pages().map_or(0, |pages| pages.in_use())
    }

    /// The first page (by number) from `from` on that is allocated or populated.
    #[must_use]
    pub fn next_page(&self, from: u32) -> Option<u32> {
        self.memory.pages()?.next_taken(from)
    }

    /// Most pages that may be in use at once, in all processes; at most (and at first) [`Self::pages`].
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.memory.meta.as_ref().map_or(self.pages(), |meta| meta.limit())
    }

    /// Sets [`Self::limit`]. Pages in use beyond it stay.
    pub fn set_limit(&self, pages: u32) {
        if let Some(meta) = &self.memory.meta {
            meta.set_limit(pages);
        }
    }

    fn over(memory: Memory) -> Result<Self, WindowError> {
        let memory = Arc::new(memory);
        let ranges: Vec<_> = memory.ranges().collect();
        let watched = ranges.into_iter().map(|(start, end)| Watched::new(start, end, Arc::clone(&memory)));
        Ok(Self { _watched: watched.collect::<Result<_, _>>()?, memory })
    }

    /// User address that window offset 0 stands for.
    fn user_base(&self) -> u64 {
        self.user_vm_start() & !(WINDOW - 1)
    }

    /// The page at an address of which the low 32 bits count; past the arena's last if it lies outside.
    fn page_of(&self, address: u64) -> u32 {
        let offset = address.wrapping_sub(self.user_vm_start()) % WINDOW;
        u32::try_from(offset / PAGE_SIZE).unwrap_or(u32::MAX)
    }

    fn allocator(&self) -> Result<Pages<'_>, PageError> {
        self.memory.pages().ok_or(PageError::KernelArena)
    }
}
