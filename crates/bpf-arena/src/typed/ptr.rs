//! Pointers as programs store them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use super::{ArenaType, Memory, Shape};

/// A pointer into an arena, as a program stores it: the full address at which user space maps the arena.
///
/// It is a number with a type, not a promise: it may be null or lead anywhere. The arena checks it on each use.
/// `ArenaPtr<()>` stands for C's `void __arena *`, or for a pointer whose target the host does not care about.
#[repr(transparent)]
pub struct ArenaPtr<T> {
    address: u64,
    target: PhantomData<fn() -> T>,
}

/// A field of the structure `S`: where it lies and what it is. `#[derive(ArenaType)]` makes one for each field.
pub struct Field<S, T> {
    offset: u64,
    types: PhantomData<fn(S) -> T>,
}

impl<T> ArenaPtr<T> {
    /// The null pointer.
    pub const NULL: Self = Self::from_raw(0);

    /// The pointer with this address.
    #[must_use]
    pub const fn from_raw(address: u64) -> Self {
        Self { address, target: PhantomData }
    }

    /// The address.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.address
    }

    /// Whether it is null: all of it 0, which is what programs store for NULL.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.address == 0
    }

    /// The same address with another type.
    #[must_use]
    pub const fn cast<U>(self) -> ArenaPtr<U> {
        ArenaPtr::from_raw(self.address)
    }

    /// The address `bytes` further on. Like a program's arithmetic, it stays in the 4 GiB window: the low 32 bits wrap.
    #[must_use]
    pub const fn byte_add(self, bytes: i64) -> Self {
        const LOW: u64 = 0xffff_ffff;
        let low = self.address.wrapping_add(bytes.cast_unsigned()) & LOW;
        Self::from_raw(self.address & !LOW | low)
    }
}

impl<T: ArenaType> ArenaPtr<T> {
    /// The element `count` further on in an array of `T`.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "as on raw pointers: elements, not addresses")]
    pub const fn add(self, count: i64) -> Self {
        self.byte_add((T::SHAPE.size() as i64).wrapping_mul(count))
    }

    /// The pointer to a field: `node.field(Node::value)`.
    #[must_use]
    pub const fn field<U>(self, field: Field<T, U>) -> ArenaPtr<U> {
        self.byte_add(field.offset.cast_signed()).cast()
    }
}

impl<T: ArenaType, const N: usize> ArenaPtr<[T; N]> {
    /// The pointer to an element, or `None` past the end.
    #[must_use]
    pub const fn element(self, index: usize) -> Option<ArenaPtr<T>> {
        if index < N { Some(self.cast::<T>().add(index as i64)) } else { None }
    }
}

impl<S, T> Field<S, T> {
    /// The field at this offset in bytes. The derive calls it; a wrong offset reads other bytes, nothing worse.
    #[must_use]
    pub const fn at(offset: usize) -> Self {
        Self { offset: offset as u64, types: PhantomData }
    }

    /// Its offset in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

impl<T: ArenaType> ArenaType for ArenaPtr<T> {
    const SHAPE: Shape = Shape::Pointer { target: || T::SHAPE };
    const ZERO: Self = Self::NULL;

    fn load_from<M: Memory + ?Sized>(memory: &M, at: u64) -> Result<Self, M::Error> {
        u64::load_from(memory, at).map(Self::from_raw)
    }

    fn store_to<M: Memory + ?Sized>(&self, memory: &M, at: u64) -> Result<(), M::Error> {
        self.address.store_to(memory, at)
    }
}

// Written by hand because a derive would ask the same of `T`.

impl<T> Clone for ArenaPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ArenaPtr<T> {}

impl<T> Default for ArenaPtr<T> {
    fn default() -> Self {
        Self::NULL
    }
}

impl<T> PartialEq for ArenaPtr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl<T> Eq for ArenaPtr<T> {}

impl<T> PartialOrd for ArenaPtr<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for ArenaPtr<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.address.cmp(&other.address)
    }
}

impl<T> Hash for ArenaPtr<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl<T> fmt::Debug for ArenaPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)
    }
}

impl<T> fmt::Display for ArenaPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<S, T> Clone for Field<S, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, T> Copy for Field<S, T> {}

impl<S, T> fmt::Debug for Field<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({})", self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(ArenaType, Clone, Copy)]
    #[repr(C)]
    struct Pair {
        small: u16,
        list: [u32; 3],
    }

    #[test]
    fn arithmetic_counts_elements_and_stays_in_the_window() {
        let p = ArenaPtr::<u64>::from_raw(0x1000_0000_0ff8);
        assert_eq!(p.add(2).raw(), 0x1000_0000_1008);
        assert_eq!(p.add(-1).raw(), 0x1000_0000_0ff0);
        assert_eq!(p.byte_add(-0xff9).raw(), 0x1000_ffff_ffff);
        assert_eq!(p.add(i64::MAX).raw(), 0x1000_0000_0ff0);
        assert!(
            !ArenaPtr::<u8>::from_raw(0x1000_0000_0000).is_null(),
            "the first page of an arena may lie there"
        );
    }

    #[test]
    fn projection_gives_fields_and_elements() {
        let p = ArenaPtr::<Pair>::from_raw(0x1000);
        assert_eq!(p.field(Pair::small).raw(), 0x1000);
        assert_eq!(p.field(Pair::list).raw(), 0x1004);
        assert_eq!(p.field(Pair::list).element(2).map(ArenaPtr::raw), Some(0x100c));
        assert_eq!(p.field(Pair::list).element(3), None);
        assert_eq!(p.add(1).raw(), 0x1010);
    }
}
