//! Accesses to a window: total, whatever the pointer.
//!
//! Every address `base + u32 + i16` lies in the window or its guards, and an access of this crate's primitives to a page
//! that does not exist ends at their landing. So an access is one instruction, and a missing page is a value. Where
//! nothing faults ([`Mode::Checked`]) the bits of the page are asked first; for arenas of the kernel, which have no
//! window of ours around them, the bounds.

use super::{Mode, Window};
use crate::arch::{self, Accessed, Primitive};
use crate::{AtomicOp, Missing, PAGE_SIZE, Width};

/// Primitives for 1, 2, 4 and 8 bytes.
type ByWidth = [Primitive; 4];

const LOAD: ByWidth = [arch::load1, arch::load2, arch::load4, arch::load8];
const STORE: ByWidth = [arch::store1, arch::store2, arch::store4, arch::store8];
const ACQUIRE: ByWidth = [arch::acquire1, arch::acquire2, arch::acquire4, arch::acquire8];
const RELEASE: ByWidth = [arch::release1, arch::release2, arch::release4, arch::release8];

fn of_width(primitives: ByWidth, width: Width) -> Primitive {
    let [one, two, four, eight] = primitives;
    match width {
        Width::B1 => one,
        Width::B2 => two,
        Width::B4 => four,
        Width::B8 => eight,
    }
}

impl Window {
    /// Reads at `base + ptr + offset`, zero-extended. Any pointer, any alignment, one access of the machine.
    ///
    /// # Errors
    /// A byte of it lies in no existing page.
    #[inline]
    pub fn load(&self, ptr: u32, offset: i16, width: Width) -> Result<u64, Missing> {
        self.access(of_width(LOAD, width), ptr, offset, width, [0, 0])
    }

    /// Writes the low bytes of `value`; otherwise as [`Self::load`].
    ///
    /// # Errors
    /// A byte of it lies in no existing page; nothing is written.
    #[inline]
    pub fn store(&self, ptr: u32, offset: i16, width: Width, value: u64) -> Result<(), Missing> {
        self.access(of_width(STORE, width), ptr, offset, width, [value, 0]).map(drop)
    }

    /// As [`Self::load`], ordered before all later accesses.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_acquire(&self, ptr: u32, offset: i16, width: Width) -> Result<u64, Missing> {
        self.access(of_width(ACQUIRE, width), ptr, offset, width, [0, 0])
    }

    /// As [`Self::store`], ordered after all earlier accesses.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_release(&self, ptr: u32, offset: i16, width: Width, value: u64) -> Result<(), Missing> {
        self.access(of_width(RELEASE, width), ptr, offset, width, [value, 0]).map(drop)
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
        let (four, eight): (Primitive, Primitive) = match op {
            AtomicOp::Add => (arch::add4, arch::add8),
            AtomicOp::Or => (arch::or4, arch::or8),
            AtomicOp::And => (arch::and4, arch::and8),
            AtomicOp::Xor => (arch::xor4, arch::xor8),
            AtomicOp::Xchg => (arch::xchg4, arch::xchg8),
            AtomicOp::CmpXchg { .. } => (arch::cmpxchg4, arch::cmpxchg8),
        };
        let expected = if let AtomicOp::CmpXchg { expected } = op { expected } else { 0 };
        let (primitive, width) = if width == Width::B8 { (eight, width) } else { (four, Width::B4) };
        self.access(primitive, ptr, offset, width, [operand, expected])
    }

    /// Copies bytes out, from window offset `at` on, without any promise about writers at the same time.
    ///
    /// # Errors
    /// A byte lies in no existing page (the error names the first such); those before it are copied.
    pub fn read_bytes(&self, at: u32, out: &mut [u8]) -> Result<(), Missing> {
        let buffer = out.as_mut_ptr().expose_provenance() as u64;
        self.copy(at, out.len() as u64, |done, address, len| {
            // SAFETY: `len` bytes at `done` lie in `out`; the other side is in the window, where faults are handled.
            unsafe { arch::copy(buffer + done, address, len) }
        })
    }

    /// Copies bytes in, to window offset `at` on.
    ///
    /// # Errors
    /// A byte lies in no existing page (the error names the first such); those before it are written.
    pub fn write_bytes(&self, at: u32, bytes: &[u8]) -> Result<(), Missing> {
        let buffer = bytes.as_ptr().expose_provenance() as u64;
        self.copy(at, bytes.len() as u64, |done, address, len| {
            // SAFETY: `len` bytes at `done` lie in `bytes`; the other side is in the window, where faults are handled.
            unsafe { arch::copy(address, buffer + done, len) }
        })
    }

    #[inline]
    fn access(
        &self,
        primitive: Primitive,
        ptr: u32,
        offset: i16,
        width: Width,
        [operand, expected]: [u64; 2],
    ) -> Result<u64, Missing> {
        let at = i64::from(ptr) + i64::from(offset);
        let missing = Missing { address: self.user_base().wrapping_add_signed(at) };
        if self.memory.mode != Mode::Userfaultfd && !self.may_touch(at, width.bytes().into()) {
            return Err(missing);
        }
        let address = self.memory.base.wrapping_add_signed(at);
        // SAFETY: the address lies in the window or its guards (or in the arena, for the kernel's), where nothing but
        // this arena is mapped and faults end at the primitive's landing.
        let accessed = unsafe { primitive(address, operand, expected) };
        if accessed.missing == 0 { Ok(accessed.value) } else { Err(missing) }
    }

    /// Copies in one go, or page by page where pages are to be asked for; `copy(done, address, len)` does it.
    fn copy(&self, at: u32, len: u64, copy: impl Fn(u64, u64, u64) -> Accessed) -> Result<(), Missing> {
        let start = u64::from(at);
        let mut done = 0;
        while done < len {
            let from = start + done;
            let missing = |at: u64| Missing { address: self.user_base().wrapping_add(at) };
            let now = match self.memory.mode {
                // Never past the window, behind whose guard something else may lie.
                Mode::Userfaultfd => (len - done).min(super::memory::WINDOW.saturating_sub(from)),
                _ => (len - done).min(PAGE_SIZE - from % PAGE_SIZE),
            };
            let unwatched = self.memory.mode != Mode::Userfaultfd;
            if now == 0 || (unwatched && !self.may_touch(from.cast_signed(), now)) {
                return Err(missing(from));
            }
            let accessed = copy(done, self.memory.base + from, now);
            if accessed.missing != 0 {
                return Err(missing(from + now.saturating_sub(accessed.value)));
            }
            done += now;
        }
        Ok(())
    }

    /// Whether `len` bytes (at most a page) at window offset `at` lie in the arena and, where accesses are checked, in
    /// pages that exist.
    fn may_touch(&self, at: i64, len: u64) -> bool {
        let arena = self.memory.shape.user_vm_start % super::memory::WINDOW;
        let start = u64::try_from(at).ok().and_then(|at| at.checked_sub(arena));
        let Some(start) = start.filter(|start| start + len <= self.memory.shape.bytes()) else {
            return false;
        };
        let (Some(pages), Ok(first), Ok(last)) = (
            self.memory.pages(),
            u32::try_from(start / PAGE_SIZE),
            u32::try_from((start + len.saturating_sub(1)) / PAGE_SIZE),
        ) else {
            return self.memory.mode == Mode::Kernel;
        };
        pages.exists(first) && (first == last || pages.exists(last))
    }
}
