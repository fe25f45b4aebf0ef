//! Executable memory that is never writable at the same time.

use core::ffi::c_void;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::arena::to_usize;
use crate::{Errno, OsError, PAGE_SIZE};

/// Machine code in executable memory, with a page without access before and after it. Unmapped on drop.
///
/// The memory is written while it is not executable, and never changes once it is.
#[derive(Debug)]
pub struct CodeMemory {
    // Invariant: `[start - PAGE_SIZE, start + room + PAGE_SIZE)` is a mapping of this value; the pages between the two
    // guards are readable and executable and nothing else.
    start: u64,
    room: u64,
    len: usize,
    /// Whether the addresses are never used again.
    retire: bool,
}

impl CodeMemory {
    /// Copies position-independent machine code into executable memory.
    ///
    /// # Errors
    /// There is no code, no memory for it, or the system forbids executable memory.
    pub fn new(text: &[u8]) -> Result<Self, OsError> {
        if text.is_empty() {
            return Err(OsError { call: "mmap", errno: Errno::INVAL });
        }
        let room = (text.len() as u64).next_multiple_of(PAGE_SIZE);
        let whole = to_usize(room + 2 * PAGE_SIZE);
        // SAFETY: no address is asked for, so nothing can be replaced.
        let guard =
            unsafe { mmap_anonymous(core::ptr::null_mut(), whole, ProtFlags::empty(), MapFlags::PRIVATE) }
                .map_err(OsError::of("mmap"))?;
        let start = guard.expose_provenance() as u64 + PAGE_SIZE;
        let memory = Self { start, room, len: text.len(), retire: false };
        memory.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
        let target: *mut u8 = core::ptr::with_exposed_provenance_mut(to_usize(start));
        // SAFETY: `room` is at least the text's length, writable, and nobody else knows of it.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), target, text.len()) };
        memory.protect(MprotectFlags::READ | MprotectFlags::EXEC)?;
        crate::arch::flush_code(start, room);
        Ok(memory)
    }

    /// Keeps the addresses from being used again when this is dropped, for those who look them up in a list that only
    /// grows. The memory itself is given back.
    pub fn retire_addresses(&mut self) {
        self.retire = true;
    }

    /// Address of the first byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Number of bytes of code.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "code is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    fn protect(&self, to: MprotectFlags) -> Result<(), OsError> {
        let start: *mut c_void = core::ptr::with_exposed_provenance_mut(to_usize(self.start));
        // SAFETY: the pages between the guards, which this value owns and nobody executes yet.
        unsafe { mprotect(start, to_usize(self.room), to) }.map_err(OsError::of("mprotect"))
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        let guard: *mut c_void = core::ptr::with_exposed_provenance_mut(to_usize(self.start - PAGE_SIZE));
        let whole = to_usize(self.room + 2 * PAGE_SIZE);
        if self.retire {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
            // SAFETY: replaces the mapping of this value; whoever executes the code holds it.
            let result = unsafe { mmap_anonymous(guard, whole, ProtFlags::empty(), flags) };
            // Where even that fails, the code stays, which does no harm.
            debug_assert!(result.is_ok(), "replacing an owned mapping");
            return;
        }
        // SAFETY: the mapping of this value; whoever executes the code holds it.
        let result = unsafe { munmap(guard, whole) };
        debug_assert!(result.is_ok(), "munmap of an owned range");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_never_writable_and_executable() {
        let text = vec![0xc3; 5000];
        let memory = CodeMemory::new(&text).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line =
            |address: u64| maps.lines().find(|line| line.starts_with(&format!("{address:x}-"))).unwrap();
        assert!(line(memory.start()).contains(" r-xp "), "{maps}");
        assert!(line(memory.start() + 8192).contains(" ---p "), "{maps}");
        assert!(!maps.contains("rwx"), "{maps}");
        assert_eq!(memory.len(), 5000);
    }

    #[test]
    fn retired_addresses_are_not_used_again() {
        let mut memory = CodeMemory::new(&[0xc3]).unwrap();
        memory.retire_addresses();
        let start = memory.start();
        drop(memory);
        let later: Vec<_> = (0..64).map(|_| CodeMemory::new(&[0xc3; 2]).unwrap()).collect();
        assert!(later.iter().all(|memory| memory.start() != start));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let range = |line: &str| {
            let (first, last) = line.split_once(' ')?.0.split_once('-')?;
            Some((u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?))
        };
        let holds = |line: &&str| range(line).is_some_and(|(first, last)| first <= start && start < last);
        assert!(maps.lines().find(holds).unwrap().contains(" ---p "), "{maps}");
    }

    #[test]
    fn no_code_is_an_error() {
        assert_eq!(CodeMemory::new(&[]).unwrap_err().errno, Errno::INVAL);
    }
}
