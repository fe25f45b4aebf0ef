//! Ranges of addresses owned by a value.

use core::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::to_usize;
use crate::{OsError, WindowError};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A range of addresses, unmapped on drop. Not inherited by forked children.
#[derive(Debug)]
pub(crate) struct Mapping {
    // Invariant: `[start, start + len)` was mapped by this value and nobody else unmaps or replaces any of it.
    start: u64,
    len: u64,
}

impl Mapping {
    /// Keeps `len` bytes of addresses free of anything, wherever the first multiple of `align` in them is at offset
    /// `before`. No memory is used; any access faults.
    pub(crate) fn reserve_aligned(len: u64, align: u64, before: u64) -> Result<Self, OsError> {
        // SAFETY: no address is asked for, so nothing can be replaced.
        let raw = unsafe {
            mmap_anonymous(core::ptr::null_mut(), to_usize(len + align), ProtFlags::empty(), reserve_flags())
        };
        let raw = raw.map_err(OsError::of("mmap"))?;
        let whole = Self { start: raw.expose_provenance() as u64, len: len + align };
        let start = (whole.start + before).next_multiple_of(align) - before;
        let kept = whole.trim(start, len)?;
        kept.not_for_children()?;
        Ok(kept)
    }

    /// Maps `len` zeroed bytes of memory, anywhere, readable and writable.
    pub(crate) fn zeroed(len: u64) -> Result<Self, OsError> {
        // SAFETY: no address is asked for, so nothing can be replaced.
        let raw =
            unsafe { mmap_anonymous(core::ptr::null_mut(), to_usize(len), READ_WRITE, reserve_flags()) };
        let raw = raw.map_err(OsError::of("mmap"))?;
        Ok(Self { start: raw.expose_provenance() as u64, len })
    }

    /// Keeps exactly `[start, start + len)` free of anything.
    pub(crate) fn reserve_at(start: u64, len: u64) -> Result<Self, WindowError> {
        let flags = reserve_flags() | MapFlags::FIXED_NOREPLACE;
        // SAFETY: NOREPLACE, so nothing can be replaced.
        let raw = unsafe { mmap_anonymous(pointer(start), to_usize(len), ProtFlags::empty(), flags) };
        Self::exactly(raw, start, len)
    }

    /// Maps `len` bytes of a file at exactly `start`, readable and writable.
    pub(crate) fn file_at(fd: BorrowedFd<'_>, start: u64, len: u64) -> Result<Self, WindowError> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: NOREPLACE, so nothing can be replaced.
        let raw = unsafe { mmap(pointer(start), to_usize(len), READ_WRITE, flags, fd, 0) };
        Self::exactly(raw, start, len)
    }

    /// Maps `len` bytes of a file from `offset` on, anywhere, readable and writable.
    pub(crate) fn file(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self, OsError> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so nothing can be replaced.
        let raw = unsafe { mmap(core::ptr::null_mut(), to_usize(len), READ_WRITE, flags, fd, offset) };
        let raw = raw.map_err(OsError::of("mmap"))?;
        let mapping = Self { start: raw.expose_provenance() as u64, len };
        mapping.not_for_children()?;
        Ok(mapping)
    }

    /// Puts the first `len` bytes of a file over a part of this reservation.
    pub(crate) fn place(&self, fd: BorrowedFd<'_>, start: u64, len: u64) -> Result<(), OsError> {
        let inside = start >= self.start && start + len <= self.start + self.len;
        if !inside {
            return Err(OsError { call: "mmap", errno: Errno::INVAL });
        }
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: what is replaced is a part of this reservation, which nobody uses yet.
        let raw = unsafe { mmap(pointer(start), to_usize(len), READ_WRITE, flags, fd, 0) };
        raw.map_err(OsError::of("mmap"))?;
        self.not_for_children()
    }

    /// First address.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Address after the last.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    fn exactly(raw: Result<*mut c_void, Errno>, start: u64, len: u64) -> Result<Self, WindowError> {
        let taken = WindowError::AddressTaken { start, end: start.saturating_add(len) };
        let mapping = match raw {
            Ok(raw) => Self { start: raw.expose_provenance() as u64, len },
            Err(Errno::EXIST) => return Err(taken),
            Err(errno) => return Err(OsError { call: "mmap", errno }.into()),
        };
        // Kernels before 4.17 take the address as a hint.
        if mapping.start != start {
            return Err(taken);
        }
        mapping.not_for_children()?;
        Ok(mapping)
    }

    /// Gives back what lies outside `[start, start + len)`.
    fn trim(self, start: u64, len: u64) -> Result<Self, OsError> {
        let (low, high, end) = (self.start, start + len, self.end());
        core::mem::forget(self);
        let kept = Self { start, len };
        for (from, to) in [(low, start), (high, end)] {
            if from < to {
                // SAFETY: part of the mapping just made, outside the part that is kept.
                unsafe { munmap(pointer(from), to_usize(to - from)) }.map_err(OsError::of("munmap"))?;
            }
        }
        Ok(kept)
    }

    /// Has the system give memory for the first `len` bytes now; what it refuses, it gives when it is touched.
    pub(crate) fn populate(&self, len: u64) {
        let len = len.min(self.len);
        // SAFETY: the range is ours; the advice changes no byte. Kernels before 5.14 do not know it.
        let _ = unsafe { madvise(pointer(self.start), to_usize(len), Advice::LinuxPopulateWrite) };
    }

    /// Waits until every page fault that has begun in this mapping, in any thread, has ended; then unmaps the pages of
    /// `[start, start + len)` here, so that the next access to each faults again. Of a file's pages nothing is lost.
    pub(crate) fn unmap_pages(&self, start: u64, len: u64) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        // Changing an attribute of a mapping excludes faults in it. This one is about reading ahead in files. A change by one
        // thread would leave another nothing to change; the system makes them wait for one another anyway.
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for advice in [Advice::Random, Advice::Normal] {
            // SAFETY: the range is ours; the advice changes no byte.
            let _ = unsafe { madvise(pointer(self.start), to_usize(self.len), advice) };
        }
        let (start, end) = (start.max(self.start), start.saturating_add(len).min(self.end()));
        if start < end {
            // SAFETY: the range is ours; what is shared keeps its bytes.
            let _ = unsafe { madvise(pointer(start), to_usize(end - start), Advice::LinuxDontNeed) };
        }
    }

    fn not_for_children(&self) -> Result<(), OsError> {
        // SAFETY: the range is ours; the advice changes nothing in this process.
        unsafe { madvise(pointer(self.start), to_usize(self.len), Advice::LinuxDontFork) }
            .map_err(OsError::of("madvise(MADV_DONTFORK)"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever used it held this value.
        let result = unsafe { munmap(pointer(self.start), to_usize(self.len)) };
        debug_assert!(result.is_ok(), "munmap of an owned range");
    }
}

fn reserve_flags() -> MapFlags {
    MapFlags::PRIVATE | MapFlags::NORESERVE
}

fn pointer(address: u64) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(to_usize(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aligned_reservation_is_where_it_was_asked_to_be() {
        let mapping = Mapping::reserve_aligned(0x30000, 0x10_0000, 0x8000).unwrap();
        assert_eq!((mapping.start() + 0x8000) % 0x10_0000, 0);
        assert_eq!(mapping.end() - mapping.start(), 0x30000);
    }

    #[test]
    fn a_taken_address_is_told_and_a_freed_one_can_be_had() {
        // Far below what the system hands out by itself: other tests map memory at the same time.
        let (start, len) = (0x2000_0000_0000, 0x30000);
        let first = Mapping::reserve_at(start, len).unwrap();
        let again = Mapping::reserve_at(start + 0x1000, len);
        assert!(matches!(again, Err(WindowError::AddressTaken { start: at, .. }) if at == start + 0x1000));
        drop(first);
        assert_eq!(Mapping::reserve_at(start, len).unwrap().start(), start);
    }
}
