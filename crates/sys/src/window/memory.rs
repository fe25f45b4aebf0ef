//! One arena's memory in this process: where it lies, and what keeps it there.

use std::os::fd::OwnedFd;

use super::{Mode, SEGV_ON_FAULT, WindowSpec};
use crate::arena::backing::Backing;
use crate::arena::mapping::Mapping;
use crate::arena::meta::{Meta, Shape};
use crate::arena::pages::{Pages, Toucher};
use crate::arena::uffd::Uffd;
use crate::{PAGE_SIZE, PageError, WindowError, arch};

/// Bytes that a 32-bit pointer can address.
pub(super) const WINDOW: u64 = 1 << 32;

/// Bytes without access before and after a window: more than a 16-bit offset and an access reach.
const GUARD: u64 = 1 << 16;

/// Where the arena begins in a window that is ours to choose: pointers near NULL then never meet a page.
const NULL_GUARD: u64 = 1 << 16;

/// Everything this process has of an arena.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) shape: Shape,
    /// Address of window offset 0.
    pub(super) base: u64,
    pub(super) mode: Mode,
    pub(super) backing: Backing,
    /// `None` for an arena of the kernel.
    pub(super) meta: Option<Meta>,
    uffd: Option<Uffd>,
    // Never read: they keep the addresses.
    place: Place,
}

/// Addresses of an arena.
#[derive(Debug)]
struct Place {
    base: u64,
    /// The window and its guards, the arena in it.
    window: Option<Mapping>,
    /// The arena at its user address, if that is not in the window.
    user: Option<Mapping>,
}

impl Memory {
    pub(super) fn create(spec: WindowSpec) -> Result<Self, WindowError> {
        check_page_size()?;
        let shape =
            Shape { pages: spec.pages, flags: spec.flags, user_vm_start: spec.user_vm_start.unwrap_or(0) };
        let mut shape = shape.check()?;
        let backing = match spec.file {
            Some(file) => Backing::of_file(file, shape.file_bytes())?,
            None => Backing::anonymous(shape.file_bytes())?,
        };
        let place = match spec.user_vm_start {
            Some(_) => Place::at_user_address(&backing, shape)?,
            None => {
                let window = reserve_window()?;
                let base = window.start() + GUARD;
                shape.user_vm_start = base + NULL_GUARD.min(WINDOW - shape.bytes());
                window.place(backing.fd(), shape.user_vm_start, shape.bytes())?;
                Place { base, window: Some(window), user: None }
            }
        };
        let meta = Meta::create(&backing, shape)?;
        Ok(Self::over(shape, place, backing, meta, spec.force_checked))
    }

    pub(super) fn attach(fd: OwnedFd, trusted: bool) -> Result<Self, WindowError> {
        check_page_size()?;
        let backing = Backing::attach(fd);
        let meta = Meta::attach(&backing, trusted)?;
        let shape = meta.shape();
        let place = Place::at_user_address(&backing, shape)?;
        // Before anybody here writes into pages that a process which died was about to free.
        Pages { meta: &meta, backing: &backing }.settle()?;
        Ok(Self::over(shape, place, backing, meta, false))
    }

    pub(super) fn of_kernel(map: OwnedFd, mut shape: Shape, anywhere: bool) -> Result<Self, WindowError> {
        check_page_size()?;
        let backing = Backing::attach(map);
        let user = if anywhere {
            Mapping::file(backing.fd(), 0, shape.bytes())?
        } else {
            Mapping::file_at(backing.fd(), shape.user_vm_start, shape.bytes())?
        };
        shape.user_vm_start = user.start();
        let base = shape.user_vm_start & !(WINDOW - 1);
        let place = Place { base, window: None, user: Some(user) };
        Ok(Self { shape, base, mode: Mode::Kernel, backing, meta: None, uffd: None, place })
    }

    fn over(shape: Shape, place: Place, backing: Backing, meta: Meta, force_checked: bool) -> Self {
        let uffd = if force_checked { None } else { place.watch(shape).ok() };
        if uffd.is_none() {
            meta.set_unwatched();
        }
        let mode = if uffd.is_some() { Mode::Userfaultfd } else { Mode::Checked };
        Self { shape, base: place.base, mode, backing, meta: Some(meta), uffd, place }
    }

    /// The ranges of addresses that belong to the arena, pages or not.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        [&self.place.window, &self.place.user]
            .into_iter()
            .flatten()
            .map(|mapping| (mapping.start(), mapping.end()))
    }

    /// The page at a user address.
    pub(crate) fn user_page(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.shape.user_vm_start)?;
        let page = u32::try_from(offset / PAGE_SIZE).ok()?;
        (page < self.shape.pages).then_some(page)
    }

    /// Makes a page exist as a touch by host code does, or says that the touch is a fault. Callable from a signal
    /// handler.
    pub(crate) fn touch(&self, page: u32) -> Result<(), PageError> {
        let start = self.shape.user_vm_start;
        let by_access = Toucher::Access(read_succeeds, start);
        let Some(pages) = self.pages() else {
            return by_access.fill(page).map_err(|_| PageError::NotPopulated);
        };
        if self.shape.flags & SEGV_ON_FAULT != 0 {
            return Err(PageError::NotPopulated);
        }
        pages.touch(page, self.uffd.as_ref().map_or(by_access, |uffd| Toucher::Uffd(uffd, start)))
    }

    /// Takes pages that an arena of the kernel has let go of out of its mapping here.
    pub(super) fn unmap_freed(&self, start: u64, len: u64) {
        if let (Mode::Kernel, Some(user)) = (self.mode, &self.place.user) {
            user.unmap_pages(start, len);
        }
    }

    /// The allocator; `None` for an arena of the kernel.
    pub(super) fn pages(&self) -> Option<Pages<'_>> {
        Some(Pages { meta: self.meta.as_ref()?, backing: &self.backing })
    }
}

impl Place {
    /// The arena at the user address of `shape`: in its own window if all of that is free, so that programs' addresses and
    /// user addresses are the same; otherwise mapped there, and again in a window elsewhere.
    fn at_user_address(backing: &Backing, shape: Shape) -> Result<Self, WindowError> {
        let (start, bytes) = (shape.user_vm_start, shape.bytes());
        let base = start & !(WINDOW - 1);
        if let Some(low) = base.checked_sub(GUARD)
            && let Ok(window) = Mapping::reserve_at(low, WINDOW + 2 * GUARD)
        {
            window.place(backing.fd(), start, bytes)?;
            return Ok(Self { base, window: Some(window), user: None });
        }
        let user = Mapping::file_at(backing.fd(), start, bytes)?;
        let window = reserve_window()?;
        let base = window.start() + GUARD;
        window.place(backing.fd(), base + start % WINDOW, bytes)?;
        Ok(Self { base, window: Some(window), user: Some(user) })
    }

    /// Has missing pages noticed wherever the arena is mapped.
    fn watch(&self, shape: Shape) -> Result<Uffd, crate::OsError> {
        let uffd = Uffd::new()?;
        uffd.watch(self.base + shape.user_vm_start % WINDOW, shape.bytes())?;
        if let Some(user) = &self.user {
            uffd.watch(user.start(), shape.bytes())?;
        }
        Ok(uffd)
    }
}

fn reserve_window() -> Result<Mapping, crate::OsError> {
    Mapping::reserve_aligned(WINDOW + 2 * GUARD, WINDOW, GUARD)
}

/// Touches a page by reading, which for an arena without userfaultfd makes the system populate it.
fn read_succeeds(address: u64) -> bool {
    // SAFETY: the address of a page of an arena of this process; a fault there is handled.
    let accessed = unsafe { arch::add8(address, 0, 0) };
    accessed.missing == 0
}

fn check_page_size() -> Result<(), WindowError> {
    match rustix::param::page_size() {
        4096 => Ok(()),
        bytes => Err(WindowError::PageSize { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::meta::Operation;

    #[test]
    fn who_attaches_finishes_what_a_dead_process_began() {
        let spec = WindowSpec { pages: 10, ..WindowSpec::default() };
        let first = Memory::create(spec).unwrap();
        let pages = first.pages().unwrap();
        assert_eq!(pages.alloc(None, 4), Ok(0));
        pages.meta.begin(Operation::Free, 1, 2);
        let file = first.backing.fd().try_clone_to_owned().unwrap();
        drop(first);
        let next = Memory::attach(file, false).unwrap();
        let pages = next.pages().unwrap();
        assert_eq!((pages.meta.unfinished(), pages.in_use()), (None, 2));
    }
}
