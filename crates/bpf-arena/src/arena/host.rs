//! Host reads and writes by address.
//!
//! A touch of a missing page populates it, as a host's raw pointer would; with `BPF_F_SEGV_ON_FAULT` and for reserved
//! pages it is an error. Every address is checked: one found in the arena is as good as any number.

use sys::{AtomicOp, Missing, PAGE_SIZE, PageError, Width};

use super::{Arena, ArenaError, UserAddr};

/// Populating a page and touching it may be overtaken by others that free it; after so many times it counts as missing.
const ATTEMPTS: u32 = 1000;

macro_rules! truncate {
    ($value:expr, $int:ty) => {{
        #[allow(clippy::cast_possible_truncation, reason = "the access was of this width")]
        #[allow(trivial_numeric_casts, reason = "one of the widths is that of the value")]
        let value = $value as $int;
        value
    }};
}

macro_rules! integers {
    ($($read:ident, $write:ident, $int:ty, $width:expr;)*) => {$(
        #[doc = concat!("Reads a `", stringify!($int), "` in one access, at any alignment.")]
        ///
        /// # Errors
        /// Outside the arena, or the page is missing and may not be populated.
        pub fn $read(&self, at: UserAddr) -> Result<$int, ArenaError> {
            let value = self.touch(at, $width, |low| self.window.load(low, 0, $width))?;
            Ok(truncate!(value, $int))
        }

        #[doc = concat!("Writes a `", stringify!($int), "` in one access, at any alignment.")]
        ///
        /// # Errors
        /// Outside the arena, or the page is missing and may not be populated.
        pub fn $write(&self, at: UserAddr, value: $int) -> Result<(), ArenaError> {
            self.touch(at, $width, |low| self.window.store(low, 0, $width, value.into()))
        }
    )*};
}

impl Arena {
    integers! {
        read_u8, write_u8, u8, Width::B1;
        read_u16, write_u16, u16, Width::B2;
        read_u32, write_u32, u32, Width::B4;
        read_u64, write_u64, u64, Width::B8;
    }

    /// Copies bytes out. Concurrent writers may be seen in part.
    ///
    /// # Errors
    /// Outside the arena, or a page is missing and may not be populated; `out` may be partly filled.
    pub fn read_bytes(&self, at: UserAddr, out: &mut [u8]) -> Result<(), ArenaError> {
        let low = self.check(at, out.len() as u64)?;
        self.retry(1, || self.window.read_bytes(low, out))
    }

    /// Copies bytes in. Concurrent readers may see a part.
    ///
    /// # Errors
    /// Outside the arena, or a page is missing and may not be populated; the bytes before it are written.
    pub fn write_bytes(&self, at: UserAddr, bytes: &[u8]) -> Result<(), ArenaError> {
        let low = self.check(at, bytes.len() as u64)?;
        self.retry(1, || self.window.write_bytes(low, bytes))
    }

    /// Reads a `u32` before anything that follows.
    ///
    /// # Errors
    /// As [`Self::atomic_u32`].
    pub fn load_acquire_u32(&self, at: UserAddr) -> Result<u32, ArenaError> {
        let value = self.touch_aligned(at, Width::B4, |low| self.window.load_acquire(low, 0, Width::B4))?;
        Ok(truncate!(value, u32))
    }

    /// Reads a `u64` before anything that follows.
    ///
    /// # Errors
    /// As [`Self::atomic_u64`].
    pub fn load_acquire_u64(&self, at: UserAddr) -> Result<u64, ArenaError> {
        self.touch_aligned(at, Width::B8, |low| self.window.load_acquire(low, 0, Width::B8))
    }

    /// Writes a `u32` after everything before.
    ///
    /// # Errors
    /// As [`Self::atomic_u32`].
    pub fn store_release_u32(&self, at: UserAddr, value: u32) -> Result<(), ArenaError> {
        self.touch_aligned(at, Width::B4, |low| self.window.store_release(low, 0, Width::B4, value.into()))
    }

    /// Writes a `u64` after everything before.
    ///
    /// # Errors
    /// As [`Self::atomic_u64`].
    pub fn store_release_u64(&self, at: UserAddr, value: u64) -> Result<(), ArenaError> {
        self.touch_aligned(at, Width::B8, |low| self.window.store_release(low, 0, Width::B8, value))
    }

    /// A sequentially consistent read-modify-write; the old value.
    ///
    /// # Errors
    /// The address is not a multiple of 4, lies outside the arena, or the page is missing and may not be populated.
    pub fn atomic_u32(&self, at: UserAddr, op: AtomicOp, operand: u32) -> Result<u32, ArenaError> {
        let operand = operand.into();
        let old =
            self.touch_aligned(at, Width::B4, |low| self.window.atomic(low, 0, Width::B4, op, operand))?;
        Ok(truncate!(old, u32))
    }

    /// A sequentially consistent read-modify-write; the old value.
    ///
    /// # Errors
    /// The address is not a multiple of 8, lies outside the arena, or the page is missing and may not be populated.
    pub fn atomic_u64(&self, at: UserAddr, op: AtomicOp, operand: u64) -> Result<u64, ArenaError> {
        self.touch_aligned(at, Width::B8, |low| self.window.atomic(low, 0, Width::B8, op, operand))
    }

    fn touch_aligned<T>(
        &self,
        at: UserAddr,
        width: Width,
        access: impl FnMut(u32) -> Result<T, Missing>,
    ) -> Result<T, ArenaError> {
        let bytes = width.bytes();
        if !at.get().is_multiple_of(bytes.into()) {
            return Err(ArenaError::Misaligned { at, width: bytes });
        }
        self.touch(at, width, access)
    }

    fn touch<T>(
        &self,
        at: UserAddr,
        width: Width,
        mut access: impl FnMut(u32) -> Result<T, Missing>,
    ) -> Result<T, ArenaError> {
        let low = self.check(at, width.bytes().into())?;
        self.retry(width.bytes(), || access(low))
    }

    /// The window offset of a range that lies in the arena.
    fn check(&self, at: UserAddr, bytes: u64) -> Result<u32, ArenaError> {
        let offset = at.get().checked_sub(self.window.user_vm_start());
        let end = offset.and_then(|offset| offset.checked_add(bytes));
        match end {
            Some(end) if end <= self.page_count().bytes() => Ok(at.low32()),
            _ => Err(ArenaError::OutOfBounds { at, bytes }),
        }
    }

    /// Populates what an access misses, until it does not. `span` bytes from the address that is missing on may be in
    /// missing pages: an access that straddles two pages does not say which.
    fn retry<T>(&self, span: u8, mut access: impl FnMut() -> Result<T, Missing>) -> Result<T, ArenaError> {
        let mut missing = match access() {
            Ok(value) => return Ok(value),
            Err(Missing { address }) => UserAddr::new(address),
        };
        for _ in 0..ATTEMPTS {
            let last = missing.wrapping_add(u64::from(span) - 1);
            let straddles = missing.get() / PAGE_SIZE != last.get() / PAGE_SIZE;
            for at in std::iter::once(missing).chain(straddles.then_some(last)) {
                match self.window.populate(at.low32()) {
                    Ok(()) => {}
                    Err(PageError::NotPopulated) => return Err(ArenaError::Missing { at }),
                    Err(error) => return Err(error.into()),
                }
            }
            match access() {
                Ok(value) => return Ok(value),
                Err(Missing { address }) => missing = UserAddr::new(address),
            }
        }
        Err(ArenaError::Missing { at: missing })
    }
}
