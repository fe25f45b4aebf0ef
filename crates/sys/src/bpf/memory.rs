//! A map's memory inside this process.

#![allow(
    unsafe_code,
    reason = "the kernel and programs write this memory at any moment; it is read and written by width"
)]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// A shared mapping of a map: programs and other processes may change it at any moment, so it is copied in and
/// out, never borrowed. Naturally aligned words of 1, 2, 4 and 8 bytes are copied whole. Unmapped on drop.
#[derive(Debug)]
pub struct MapMemory {
    // Invariant: `[base, base + len)` is a readable mapping owned by this value, and a writable one if `writable`.
    base: usize,
    len: usize,
    map_len: usize,
    writable: bool,
}

impl MapMemory {
    /// Maps `bytes` bytes (rounded up to pages) of a map, at `address` exactly if that is not 0.
    pub(super) fn new(fd: BorrowedFd<'_>, bytes: usize, address: usize) -> Result<Self, Errno> {
        Self::map(fd, 0, bytes, address, true)
    }

    /// Maps `bytes` bytes of a map from an offset of whole pages on, wherever there is room.
    pub(super) fn part(fd: BorrowedFd<'_>, offset: u64, bytes: usize, writable: bool) -> Result<Self, Errno> {
        Self::map(fd, offset, bytes, 0, writable)
    }

    fn map(
        fd: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
        address: usize,
        writable: bool,
    ) -> Result<Self, Errno> {
        let map_len = bytes.checked_next_multiple_of(rustix::param::page_size()).ok_or(Errno::INVAL)?;
        let fixed = if address == 0 { MapFlags::empty() } else { MapFlags::FIXED_NOREPLACE };
        let hint = core::ptr::with_exposed_provenance_mut(address);
        let flags = MapFlags::SHARED | fixed;
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: with an address it is NOREPLACE, so no existing mapping can be touched.
        let base = unsafe { rustix::mm::mmap(hint, map_len, access, flags, fd, offset) }?;
        Ok(Self { base: base.expose_provenance(), len: bytes, map_len, writable })
    }

    /// Address of the first byte.
    #[must_use]
    pub fn base(&self) -> usize {
        self.base
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes out; `false`, and nothing copied, if they are not all inside.
    ///
    /// For an arena: touching a missing page populates it, or with `BPF_F_SEGV_ON_FAULT` raises SIGSEGV.
    pub fn read(&self, at: usize, out: &mut [u8]) -> bool {
        if !self.contains(at, out.len()) {
            return false;
        }
        let mut address = self.base + at;
        let mut rest = out;
        while !rest.is_empty() {
            let word = word_at(address, rest.len());
            let (now, later) = rest.split_at_mut(word);
            let value = load(address, word).to_ne_bytes();
            now.copy_from_slice(value.get(..word).unwrap_or_default());
            address += word;
            rest = later;
        }
        true
    }

    /// Copies bytes in; `false`, and nothing copied, if they do not all fit. Missing arena pages as for [`Self::read`].
    pub fn write(&self, at: usize, bytes: &[u8]) -> bool {
        if !self.writable || !self.contains(at, bytes.len()) {
            return false;
        }
        let mut address = self.base + at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = word_at(address, rest.len());
            let (now, later) = rest.split_at(word);
            let mut value = [0; 8];
            for (to, from) in value.iter_mut().zip(now) {
                *to = *from;
            }
            store(address, word, u64::from_ne_bytes(value));
            address += word;
            rest = later;
        }
        true
    }

    /// Reads an aligned 64-bit word, with acquire order; `None` outside.
    pub(super) fn load_u64(&self, at: usize) -> Option<u64> {
        let at = self.word(at, 8)?;
        // SAFETY: `word` saw to place and alignment.
        Some(unsafe { AtomicU64::from_ptr(at.cast()) }.load(Ordering::Acquire))
    }

    /// Reads an aligned 32-bit word, with acquire order; `None` outside.
    pub(super) fn load_u32(&self, at: usize) -> Option<u32> {
        let at = self.word(at, 4)?;
        // SAFETY: `word` saw to place and alignment.
        Some(unsafe { AtomicU32::from_ptr(at.cast()) }.load(Ordering::Acquire))
    }

    /// Writes an aligned 64-bit word, with release order; nothing outside of what may be written.
    pub(super) fn store_u64(&self, at: usize, value: u64) {
        if let Some(at) = self.word(at, 8).filter(|_| self.writable) {
            // SAFETY: `word` saw to place and alignment, and it may be written.
            unsafe { AtomicU64::from_ptr(at.cast()) }.store(value, Ordering::Release);
        }
    }

    /// Writes an aligned 32-bit word, with release order; nothing outside of what may be written.
    pub(super) fn store_u32(&self, at: usize, value: u32) {
        if let Some(at) = self.word(at, 4).filter(|_| self.writable) {
            // SAFETY: `word` saw to place and alignment, and it may be written.
            unsafe { AtomicU32::from_ptr(at.cast()) }.store(value, Ordering::Release);
        }
    }

    /// The aligned word of so many bytes, if it lies inside.
    fn word(&self, at: usize, bytes: usize) -> Option<*mut u8> {
        let inside = self.contains(at, bytes) && at.is_multiple_of(bytes);
        inside.then(|| core::ptr::with_exposed_provenance_mut(self.base + at))
    }

    fn contains(&self, at: usize, bytes: usize) -> bool {
        at.checked_add(bytes).is_some_and(|end| end <= self.len)
    }
}

impl Drop for MapMemory {
    fn drop(&mut self) {
        let base = core::ptr::with_exposed_provenance_mut(self.base);
        // SAFETY: the mapping is ours (the type's invariant) and nobody can hold a reference into it.
        let _ = unsafe { rustix::mm::munmap(base, self.map_len) };
    }
}

/// The widest word that is aligned at `address` and not longer than `left` bytes.
fn word_at(address: usize, left: usize) -> usize {
    [8, 4, 2].into_iter().find(|&w| address.is_multiple_of(w) && w <= left).unwrap_or(1)
}

/// Little-endian machines only: the value's low bytes are the word.
fn load(address: usize, word: usize) -> u64 {
    let at = core::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY (all four): callers stay inside the mapping (`contains`), `word_at` aligned the address, and shared
    // memory is only ever touched by atomics.
    match word {
        // SAFETY: see above.
        8 => unsafe { AtomicU64::from_ptr(at.cast()) }.load(Relaxed),
        // SAFETY: see above.
        4 => unsafe { AtomicU32::from_ptr(at.cast()) }.load(Relaxed).into(),
        // SAFETY: see above.
        2 => unsafe { AtomicU16::from_ptr(at.cast()) }.load(Relaxed).into(),
        // SAFETY: see above.
        _ => unsafe { AtomicU8::from_ptr(at) }.load(Relaxed).into(),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the word's bytes are the value's low bytes")]
fn store(address: usize, word: usize, value: u64) {
    let at = core::ptr::with_exposed_provenance_mut::<u8>(address);
    // The argument for each line is the one in `load`.
    match word {
        // SAFETY: inside the mapping, aligned by `word_at`.
        8 => unsafe { AtomicU64::from_ptr(at.cast()) }.store(value, Relaxed),
        // SAFETY: inside the mapping, aligned by `word_at`.
        4 => unsafe { AtomicU32::from_ptr(at.cast()) }.store(value as u32, Relaxed),
        // SAFETY: inside the mapping, aligned by `word_at`.
        2 => unsafe { AtomicU16::from_ptr(at.cast()) }.store(value as u16, Relaxed),
        // SAFETY: inside the mapping.
        _ => unsafe { AtomicU8::from_ptr(at) }.store(value as u8, Relaxed),
    }
}
