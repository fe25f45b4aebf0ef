//! Memory in kinds that the heap does not have: much of it that is rarely touched, and rings.

use crate::arena::backing::Backing;
use crate::arena::mapping::Mapping;
use crate::{Errno, OsError, PAGE_SIZE, WindowError};

/// Zeroed memory that takes none from the system until it is touched, page by page. It may be far larger than the machine's.
#[derive(Debug)]
pub struct LazyMemory {
    mapping: Mapping,
}

impl LazyMemory {
    /// `len` bytes, rounded up to pages.
    ///
    /// # Errors
    /// The system refuses: there are no such addresses, or it keeps strict accounts of memory.
    pub fn new(len: u64) -> Result<Self, OsError> {
        let whole = len.max(1).checked_next_multiple_of(PAGE_SIZE);
        let len = whole.ok_or(OsError { call: "mmap", errno: Errno::NOMEM })?;
        Ok(Self { mapping: Mapping::zeroed(len)? })
    }

    /// Address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.mapping.start()
    }
}

/// Longest ring whose pages are all there from the beginning. One after the other, they cost who writes them more than what is
/// written.
const POPULATED: u64 = 64 << 20;

/// Memory whose end is its beginning: `len` bytes that can be seen at `address()` and again at `address() + len`, so that
/// what runs past the end of the ring is still one range of addresses.
///
/// Zeroed at first, taken from the system as soon as it is made (a large one page by page as it is touched), given back on drop.
/// Not inherited by forked children.
#[derive(Debug)]
pub struct RingMapping {
    // Invariant: `2 * len` bytes, both halves map the first `len` bytes of one file that cannot shrink.
    mapping: Mapping,
    len: u64,
}

impl RingMapping {
    /// A ring of `len` bytes, a positive number of pages.
    ///
    /// # Errors
    /// `len` is not a number of pages, or the system refuses.
    pub fn new(len: u64) -> Result<Self, WindowError> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) || len > u64::from(u32::MAX) + 1 {
            return Err(OsError { call: "mmap of a ring", errno: Errno::INVAL }.into());
        }
        let file = Backing::anonymous(len)?;
        let mapping = Mapping::reserve_aligned(2 * len, PAGE_SIZE, 0)?;
        mapping.place(file.fd(), mapping.start(), len)?;
        mapping.place(file.fd(), mapping.start() + len, len)?;
        if len <= POPULATED {
            mapping.populate(len);
        }
        Ok(Self { mapping, len })
    }

    /// Address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.mapping.start()
    }

    /// Bytes of the ring. Twice as many can be addressed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a ring has at least a page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn word(ring: &RingMapping, at: u64) -> &AtomicU64 {
        assert!(at + 8 <= 2 * ring.len() && at.is_multiple_of(8));
        let address = usize::try_from(ring.address() + at).unwrap();
        let pointer = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: inside of the ring's two mappings (asserted), aligned, and alive as long as the borrow.
        unsafe { AtomicU64::from_ptr(pointer) }
    }

    #[test]
    fn both_halves_are_the_same_memory() {
        let ring = RingMapping::new(2 * PAGE_SIZE).unwrap();
        assert_eq!(word(&ring, PAGE_SIZE).load(Ordering::Relaxed), 0);
        word(&ring, 8).store(7, Ordering::Relaxed);
        assert_eq!(word(&ring, 2 * PAGE_SIZE + 8).load(Ordering::Relaxed), 7);
        word(&ring, 4 * PAGE_SIZE - 8).store(9, Ordering::Relaxed);
        assert_eq!(word(&ring, 2 * PAGE_SIZE - 8).load(Ordering::Relaxed), 9);
    }

    #[test]
    fn much_memory_costs_nothing() {
        let memory = LazyMemory::new(1 << 40).unwrap();
        let address = usize::try_from(memory.address() + (1 << 39)).unwrap();
        let pointer = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: inside of the mapping, aligned, and alive as long as `memory`.
        let word = unsafe { AtomicU64::from_ptr(pointer) };
        assert_eq!(word.swap(5, Ordering::Relaxed), 0);
        assert!(LazyMemory::new(u64::MAX).is_err());
        assert!(LazyMemory::new(1 << 60).is_err());
    }

    #[test]
    fn only_whole_pages_will_do() {
        assert!(RingMapping::new(0).is_err());
        assert!(RingMapping::new(PAGE_SIZE + 8).is_err());
        assert!(RingMapping::new(1 << 33).is_err());
    }
}
