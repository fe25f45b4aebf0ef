//! The memory of one arena: a 4 GiB window of addresses of which the arena's pages are part.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::{AtomicOp, Missing, OsError, PageError, Width, WindowError};

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

/// An arena's memory in this process.
#[derive(Debug)]
pub struct Window {
    base: u64,
    user_vm_start: u64,
    pages: u32,
    flags: u32,
    mode: Mode,
    fd: OwnedFd,
}

fn refused() -> OsError {
    OsError { call: "mmap", errno: rustix::io::Errno::NOSYS }
}

impl Window {
    /// Creates an arena.
    ///
    /// # Errors
    /// The address is taken or impossible, or the system refused: see [`WindowError`].
    pub fn create(spec: WindowSpec) -> Result<Self, WindowError> {
        let _ = spec;
        Err(refused().into())
    }

    /// Maps an arena made by another process, at the same address, from its descriptor ([`Self::fd`]).
    ///
    /// # Errors
    /// Not an arena, or its address is taken in this process: see [`WindowError`].
    pub fn attach(fd: OwnedFd) -> Result<Self, WindowError> {
        let _ = fd;
        Err(refused().into())
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
        let _ = (map, pages, flags, user_vm_start);
        Err(refused().into())
    }

    /// Address of offset 0 of the 4 GiB window that programs address: `base + u32(pointer) + offset`. A multiple of
    /// 4 GiB.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// User address of the arena's first page. Its low 32 bits are the page's offset in the window.
    #[must_use]
    pub fn user_vm_start(&self) -> u64 {
        self.user_vm_start
    }

    /// Pages of the arena, existing or not.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Map flags it was created with.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// How missing pages are noticed.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The descriptor that is the arena; pass a duplicate to another process for [`Self::attach`].
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// The user address for an address inside the window, as the fault handler records them.
    #[must_use]
    pub fn user_address(&self, address: u64) -> u64 {
        address.wrapping_sub(self.base).wrapping_add(self.user_vm_start & !0xffff_ffff)
    }

    /// Reads at `base + ptr + offset`, zero-extended. Any pointer, any alignment, one access of the machine.
    ///
    /// # Errors
    /// A byte of it lies in no existing page.
    pub fn load(&self, ptr: u32, offset: i16, width: Width) -> Result<u64, Missing> {
        let _ = width;
        Err(self.missing(ptr, offset))
    }

    /// Writes the low bytes of `value`; otherwise as [`Self::load`].
    ///
    /// # Errors
    /// A byte of it lies in no existing page; nothing is written.
    pub fn store(&self, ptr: u32, offset: i16, width: Width, value: u64) -> Result<(), Missing> {
        let _ = (width, value);
        Err(self.missing(ptr, offset))
    }

    /// As [`Self::load`], ordered before all later accesses.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_acquire(&self, ptr: u32, offset: i16, width: Width) -> Result<u64, Missing> {
        self.load(ptr, offset, width)
    }

    /// As [`Self::store`], ordered after all earlier accesses.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_release(&self, ptr: u32, offset: i16, width: Width, value: u64) -> Result<(), Missing> {
        self.store(ptr, offset, width, value)
    }

    /// A sequentially consistent read-modify-write of 4 (any width below 8) or 8 bytes; the old value, zero-extended.
    ///
    /// # Errors
    /// A byte of it lies in no existing page; nothing is written.
    pub fn atomic(
        &self,
        ptr: u32,
        offset: i16,
        width: Width,
        op: AtomicOp,
        operand: u64,
    ) -> Result<u64, Missing> {
        let _ = (width, op, operand);
        Err(self.missing(ptr, offset))
    }

    /// Copies bytes out, from window offset `at` on, without any promise about writers at the same time.
    ///
    /// # Errors
    /// A byte lies in no existing page; `out` may be partly filled.
    pub fn read_bytes(&self, at: u32, out: &mut [u8]) -> Result<(), Missing> {
        let _ = out;
        Err(self.missing(at, 0))
    }

    /// Copies bytes in, to window offset `at` on.
    ///
    /// # Errors
    /// A byte lies in no existing page; those before it are written.
    pub fn write_bytes(&self, at: u32, bytes: &[u8]) -> Result<(), Missing> {
        let _ = bytes;
        Err(self.missing(at, 0))
    }

    /// `bpf_arena_alloc_pages`: zeroed pages at `address`, or where they fit lowest if it is 0. The user address of
    /// the first.
    ///
    /// # Errors
    /// The kfunc's NULL, with the reason.
    pub fn alloc_pages(&self, address: u64, count: u32) -> Result<u64, PageError> {
        let _ = (address, count);
        Err(PageError::Os(refused()))
    }

    /// `bpf_arena_free_pages`: pages vanish from every mapping of every process. Only the low 32 bits of `address`
    /// count, rounded down; the range is clamped to the arena.
    ///
    /// # Errors
    /// The operating system refused (the kfunc has no result; the pages are free all the same).
    pub fn free_pages(&self, address: u64, count: u32) -> Result<(), PageError> {
        let _ = (address, count);
        Err(PageError::Os(refused()))
    }

    /// `bpf_arena_reserve_pages`: keeps a range from being allocated and from being populated by touch.
    ///
    /// # Errors
    /// [`PageError::Taken`] (EBUSY) or [`PageError::BadRange`] (EINVAL).
    pub fn reserve_pages(&self, address: u64, count: u32) -> Result<(), PageError> {
        let _ = (address, count);
        Err(PageError::Os(refused()))
    }

    /// Populates the page at a window offset as a host touch does; nothing happens if it exists.
    ///
    /// # Errors
    /// Outside the arena, reserved, `BPF_F_SEGV_ON_FAULT`, or no memory.
    pub fn populate(&self, at: u32) -> Result<(), PageError> {
        let _ = at;
        Err(PageError::Os(refused()))
    }

    /// Pages allocated or populated at this moment, counted one by one. 0 for arenas of the kernel.
    #[must_use]
    pub fn pages_in_use(&self) -> u32 {
        0
    }

    /// The first page (by number) from `from` on that is allocated or populated.
    #[must_use]
    pub fn next_page(&self, from: u32) -> Option<u32> {
        let _ = from;
        None
    }

    /// Most pages that may be in use at once, in all processes; at most (and at first) [`Self::pages`].
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.pages
    }

    /// Sets [`Self::limit`]. Pages in use beyond it stay.
    pub fn set_limit(&self, pages: u32) {
        let _ = pages;
    }

    fn missing(&self, ptr: u32, offset: i16) -> Missing {
        Missing {
            address: (self.user_vm_start & !0xffff_ffff)
                .wrapping_add(u64::from(ptr))
                .wrapping_add_signed(i64::from(offset)),
        }
    }
}
