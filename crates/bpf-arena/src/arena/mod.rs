//! Arenas: creation, pages, host access.
//!
//! An arena is up to 4 GiB of sparse memory that programs and host share, at one address in every process that maps
//! it. Pages exist once they are allocated, or once the host touches them (unless the arena has
//! `BPF_F_SEGV_ON_FAULT`). Programs, other threads and other processes may write at any moment: bytes are copied in
//! and out, nothing here ever gives a reference into the arena, and a pointer found in it is checked before use.
//!
//! **The address.** `map_extra` of the specification is the user address of the first page. If it is 0, a free
//! address is chosen at creation, and never one that crosses a 4 GiB boundary. Every process that attaches has the
//! arena at that same address, or cannot attach.

mod addr;
mod error;
mod host;
mod pages;
mod spec;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::kernel::KernelPages;
use bpf_object::{BPF_F_NO_USER_CONV, BPF_F_SEGV_ON_FAULT};
use sys::bpf::{MAP_TYPE_ARENA, Map, MapOptions};
use sys::window::{Mode, Window, WindowSpec};

pub use addr::{ArenaOffset, PageCount, UserAddr};
pub use error::{ArenaError, ElementOp};
pub use pages::PageAddrs;
pub use spec::{ArenaSpec, SpecError};

/// How an arena gets its memory.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ArenaOptions {
    /// Do without `userfaultfd` even where it is available: slower, for tests and for hosts that need the
    /// descriptor count low.
    pub force_checked: bool,
    /// A file on tmpfs that holds the arena instead of anonymous memory; its contents are lost.
    pub file: Option<OwnedFd>,
    /// Most pages in use at once; `None`: all of them.
    pub limit: Option<PageCount>,
}

/// An arena mapped into this process. Clones share it; it is unmapped with the last one.
#[derive(Clone, Debug)]
pub struct Arena {
    window: Arc<Window>,
    /// Page functions of an arena in the kernel.
    kernel: Option<Arc<KernelPages>>,
}

impl Arena {
    /// Creates an arena.
    ///
    /// # Errors
    /// [`ArenaError::Spec`] for attributes the kernel refuses, [`ArenaError::Memory`] if the address is taken or
    /// memory cannot be had.
    pub fn create(spec: &ArenaSpec) -> Result<Self, ArenaError> {
        Self::create_with(spec, ArenaOptions::default())
    }

    /// Creates an arena with options.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_with(spec: &ArenaSpec, options: ArenaOptions) -> Result<Self, ArenaError> {
        spec.check()?;
        let window = Window::create(WindowSpec {
            pages: spec.max_entries,
            user_vm_start: (spec.map_extra != 0).then_some(spec.map_extra),
            flags: spec.map_flags,
            force_checked: options.force_checked,
            file: options.file,
        })?;
        if let Some(limit) = options.limit {
            window.set_limit(limit.get());
        }
        Ok(Self::over(window))
    }

    /// Maps an arena that another process created, from its descriptor, at the same address.
    ///
    /// # Errors
    /// The descriptor is not an arena, or the address is taken here.
    pub fn attach(fd: OwnedFd) -> Result<Self, ArenaError> {
        Ok(Self::over(Window::attach(fd)?))
    }

    /// Maps an arena that was created in a file ([`ArenaOptions::file`]), at the same address: by another process, or by one that
    /// has ended. Its contents are as they were left.
    ///
    /// A file with a name cannot be kept from being shrunk. Who does that ends the processes that have the arena mapped (SIGBUS),
    /// so let nobody else write the file.
    ///
    /// # Errors
    /// The file is not an arena, or the address is taken.
    pub fn attach_file(file: OwnedFd) -> Result<Self, ArenaError> {
        Ok(Self::over(Window::attach_file(file)?))
    }

    /// Creates an arena in the kernel (a BPF map), which any number of objects can be loaded with
    /// ([`KernelEngine::arena`](crate::kernel::KernelEngine::arena)).
    ///
    /// # Errors
    /// The attributes are not allowed, the kernel refuses, or the address is taken.
    pub fn create_in_kernel(spec: &ArenaSpec) -> Result<Self, ArenaError> {
        spec.check()?;
        let map = Map::create(&MapOptions {
            name: "arena",
            map_type: MAP_TYPE_ARENA,
            max_entries: spec.max_entries,
            flags: spec.map_flags,
            extra: spec.map_extra,
            ..MapOptions::default()
        })?;
        Self::of_kernel(map.into_fd(), spec)
    }

    /// Gives an arena in the kernel a name in a BPF file system: it exists as long as the name does.
    ///
    /// # Errors
    /// The name is taken, it does not lie in a BPF file system, or the arena is not in the kernel.
    pub fn pin(&self, path: &Path) -> Result<(), ArenaError> {
        Ok(sys::bpf::pin(self.fd(), path)?)
    }

    /// Maps the arena in the kernel with this name, at the address that it was created with. One that was created without an
    /// address can be mapped by its first process alone.
    ///
    /// # Errors
    /// There is no such name, it is no arena's, or the address is taken here.
    pub fn open_pinned(path: &Path) -> Result<Self, ArenaError> {
        let map = Map::from_fd(sys::bpf::open_pinned(path)?)?;
        let info = *map.info();
        if info.map_type != MAP_TYPE_ARENA {
            return Err(ArenaError::NoArena { map_type: info.map_type });
        }
        let spec = ArenaSpec {
            max_entries: info.max_entries,
            map_flags: info.flags,
            map_extra: info.extra,
            key_size: info.key_size,
            value_size: info.value_size,
        };
        Self::of_kernel(map.into_fd(), &spec)
    }

    /// Whether it is a map in the kernel, as that engine needs it, or memory of the user engine.
    #[must_use]
    pub fn is_in_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// Maps an arena of the kernel engine.
    pub(crate) fn of_kernel(map: OwnedFd, spec: &ArenaSpec) -> Result<Self, ArenaError> {
        let start = (spec.map_extra != 0).then_some(spec.map_extra);
        let window = Window::of_kernel(map, spec.max_entries, spec.map_flags, start)?;
        Ok(Self { window: Arc::new(window), kernel: Some(Arc::default()) })
    }

    /// Whether it can be the arena that an object declares, in the kernel or not.
    pub(crate) fn check_declared(&self, spec: &ArenaSpec, in_kernel: bool) -> Result<(), ArenaError> {
        let own = (self.page_count().get(), self.map_flags(), self.is_in_kernel());
        let declared = (spec.max_entries, spec.map_flags, in_kernel);
        let elsewhere = spec.map_extra != 0 && spec.map_extra != self.user_vm_start().get();
        if own != declared || elsewhere {
            let at = self.user_vm_start();
            return Err(ArenaError::OtherArena {
                pages: PageCount::new(own.0),
                flags: own.1,
                at,
                in_kernel: own.2,
            });
        }
        Ok(())
    }

    fn over(window: Window) -> Self {
        Self { window: Arc::new(window), kernel: None }
    }

    /// The memory below.
    pub(crate) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// The descriptor that is the arena: send it to another process to [`Self::attach`] there.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.window.fd()
    }

    /// User address of the first page.
    #[must_use]
    pub fn user_vm_start(&self) -> UserAddr {
        UserAddr::new(self.window.user_vm_start())
    }

    /// Pages of the arena, existing or not (`max_entries`).
    #[must_use]
    pub fn page_count(&self) -> PageCount {
        PageCount::new(self.window.pages())
    }

    /// `BPF_F_*` it was created with.
    #[must_use]
    pub fn map_flags(&self) -> u32 {
        self.window.flags()
    }

    /// Whether a host touch of a missing page is an error instead of an allocation.
    #[must_use]
    pub fn segv_on_fault(&self) -> bool {
        self.map_flags() & BPF_F_SEGV_ON_FAULT != 0
    }

    /// The high half that `addr_space_cast(.., 1, 0)` puts above a non-zero low half; 0 with `BPF_F_NO_USER_CONV`.
    #[must_use]
    pub fn user_vm_high(&self) -> u64 {
        match self.map_flags() & BPF_F_NO_USER_CONV {
            0 => self.window.user_vm_start() & !0xffff_ffff,
            _ => 0,
        }
    }

    /// The user address a program's 32-bit arena pointer stands for; NULL for 0.
    #[must_use]
    pub fn user_addr(&self, low32: u32) -> UserAddr {
        let high = self.window.user_vm_start() & !0xffff_ffff;
        UserAddr::new(if low32 == 0 { 0 } else { high | u64::from(low32) })
    }

    /// Where in the arena an address lies, if it does.
    #[must_use]
    pub fn offset_of(&self, at: UserAddr) -> Option<ArenaOffset> {
        let offset = at.get().checked_sub(self.window.user_vm_start())?;
        (offset < self.page_count().bytes()).then_some(ArenaOffset::new(offset))
    }

    /// The address of an offset, if the arena is that large.
    #[must_use]
    pub fn addr_of(&self, offset: ArenaOffset) -> Option<UserAddr> {
        let inside = offset.get() < self.page_count().bytes();
        inside.then(|| self.user_vm_start().wrapping_add(offset.get()))
    }

    /// Whether missing pages are noticed by hardware faults: if not, each access of a program asks first.
    #[must_use]
    pub fn faults_in_hardware(&self) -> bool {
        self.window.mode() != Mode::Checked
    }

    /// Element operations: an arena has none.
    ///
    /// # Errors
    /// Always: [`ArenaError::NoElements`], as the kernel EINVAL for lookup and EOPNOTSUPP for the others.
    pub fn element(&self, operation: ElementOp) -> Result<std::convert::Infallible, ArenaError> {
        Err(ArenaError::NoElements { operation })
    }
}
