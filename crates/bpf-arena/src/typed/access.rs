//! Values in arenas: the typed half of [`Arena`].

use isa::Size;
use sys::AtomicOp;

use super::{ArenaInt, ArenaPtr, ArenaType, Memory};
use crate::arena::{Arena, ArenaError, PageCount, UserAddr};

/// An arena as [`Memory`], addressed by user addresses.
impl Memory for Arena {
    type Error = ArenaError;

    fn load(&self, at: u64, size: Size) -> Result<u64, ArenaError> {
        let at = UserAddr::new(at);
        match size {
            Size::B => self.read_u8(at).map(u64::from),
            Size::H => self.read_u16(at).map(u64::from),
            Size::W => self.read_u32(at).map(u64::from),
            Size::DW => self.read_u64(at),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low bits are what is written")]
    fn store(&self, at: u64, size: Size, value: u64) -> Result<(), ArenaError> {
        let at = UserAddr::new(at);
        match size {
            Size::B => self.write_u8(at, value as u8),
            Size::H => self.write_u16(at, value as u16),
            Size::W => self.write_u32(at, value as u32),
            Size::DW => self.write_u64(at, value),
        }
    }
}

/// Typed access. As for raw pointers of the host, a touch of a page that is not there populates it with zeroes, unless
/// the arena has `BPF_F_SEGV_ON_FAULT` or the page is reserved: then it is an error, as is any address outside the
/// arena. No pointer is ever followed unchecked.
impl Arena {
    /// Copies the value at `at`, integer by integer: none of them is torn, the value as a whole may be.
    ///
    /// # Errors
    /// Outside the arena, or a page is missing and may not be populated.
    pub fn read<T: ArenaType>(&self, at: ArenaPtr<T>) -> Result<T, ArenaError> {
        T::load_from(self, at.raw())
    }

    /// Copies a value to `at`, integer by integer. Padding is not written.
    ///
    /// # Errors
    /// Outside the arena, or a page is missing and may not be populated; what lies before it is written by then.
    pub fn write<T: ArenaType>(&self, at: ArenaPtr<T>, value: T) -> Result<(), ArenaError> {
        value.store_to(self, at.raw())
    }

    /// Allocates zeroed pages for `count` values of `T`, as `bpf_arena_alloc_pages` does.
    ///
    /// # Errors
    /// No free range is long enough, or there is no memory.
    pub fn alloc_array<T: ArenaType>(&self, count: u32) -> Result<ArenaPtr<T>, ArenaError> {
        let at = self.try_alloc_pages(None, pages_of::<T>(count))?;
        Ok(ArenaPtr::from_raw(at.get()))
    }

    /// Frees the pages that [`alloc_array`](Self::alloc_array) gave for as many values.
    pub fn free_array<T: ArenaType>(&self, at: ArenaPtr<T>, count: u32) {
        self.free_pages(UserAddr::new(at.raw()), pages_of::<T>(count));
    }

    /// Reads an integer before everything that follows.
    ///
    /// # Errors
    /// As [`fetch_add`](Self::fetch_add).
    pub fn load_acquire<T: ArenaInt>(&self, at: ArenaPtr<T>) -> Result<T, ArenaError> {
        let at = UserAddr::new(at.raw());
        Ok(T::from_bits(match T::SIZE {
            Size::DW => self.load_acquire_u64(at)?,
            _ => self.load_acquire_u32(at)?.into(),
        }))
    }

    /// Writes an integer after everything before.
    ///
    /// # Errors
    /// As [`fetch_add`](Self::fetch_add).
    pub fn store_release<T: ArenaInt>(&self, at: ArenaPtr<T>, value: T) -> Result<(), ArenaError> {
        let at = UserAddr::new(at.raw());
        match T::SIZE {
            Size::DW => self.store_release_u64(at, value.to_bits()),
            _ => self.store_release_u32(at, low32(value.to_bits())),
        }
    }

    /// Adds to an integer, wrapping, and gives what it was; sequentially consistent, with programs too.
    ///
    /// # Errors
    /// The address is not a multiple of the integer's size, lies outside the arena, or its page is missing and may not
    /// be populated.
    pub fn fetch_add<T: ArenaInt>(&self, at: ArenaPtr<T>, operand: T) -> Result<T, ArenaError> {
        self.atomic(at, AtomicOp::Add, operand)
    }

    /// Replaces an integer and gives what it was.
    ///
    /// # Errors
    /// As [`fetch_add`](Self::fetch_add).
    pub fn swap<T: ArenaInt>(&self, at: ArenaPtr<T>, value: T) -> Result<T, ArenaError> {
        self.atomic(at, AtomicOp::Xchg, value)
    }

    /// Replaces an integer if it is `expected`, and gives what it was: `expected` if it was replaced.
    ///
    /// # Errors
    /// As [`fetch_add`](Self::fetch_add).
    pub fn compare_exchange<T: ArenaInt>(
        &self,
        at: ArenaPtr<T>,
        expected: T,
        value: T,
    ) -> Result<T, ArenaError> {
        self.atomic(at, AtomicOp::CmpXchg { expected: expected.to_bits() }, value)
    }

    fn atomic<T: ArenaInt>(&self, at: ArenaPtr<T>, op: AtomicOp, operand: T) -> Result<T, ArenaError> {
        let at = UserAddr::new(at.raw());
        Ok(T::from_bits(match T::SIZE {
            Size::DW => self.atomic_u64(at, op, operand.to_bits())?,
            _ => self.atomic_u32(at, op, low32(operand.to_bits()))?.into(),
        }))
    }
}

fn pages_of<T: ArenaType>(count: u32) -> PageCount {
    let bytes = (T::SHAPE.size() as u64).saturating_mul(count.into());
    PageCount::new(u32::try_from(bytes.div_ceil(sys::PAGE_SIZE)).unwrap_or(u32::MAX))
}

#[allow(clippy::cast_possible_truncation, reason = "the integer has 4 bytes")]
fn low32(bits: u64) -> u32 {
    bits as u32
}
