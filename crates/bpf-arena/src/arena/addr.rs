//! Addresses, offsets and counts of an arena, which are never bare integers.

use std::fmt;

/// An address as host code and user pointers in the arena have it: 64 bits, or 0 for NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct UserAddr(u64);

impl UserAddr {
    /// Makes an address of its number.
    #[must_use]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether it is NULL: programs see any pointer whose low 32 bits are 0 as NULL.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.low32() == 0
    }

    /// What a program's arena pointer keeps of it: the offset in the 4 GiB window.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    pub const fn low32(self) -> u32 {
        self.0 as u32
    }

    /// The address `bytes` further, wrapping as pointers do.
    #[must_use]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Bytes from the arena's first page on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ArenaOffset(u64);

impl ArenaOffset {
    /// Makes an offset of its number of bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page it lies in, counted from the arena's first.
    #[must_use]
    pub const fn page(self) -> u64 {
        self.0 / sys::PAGE_SIZE
    }
}

impl fmt::Display for ArenaOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:#x}", self.0)
    }
}

/// A number of pages of 4096 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PageCount(u32);

impl PageCount {
    /// That many pages.
    #[must_use]
    pub const fn new(pages: u32) -> Self {
        Self(pages)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes in so many pages.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * sys::PAGE_SIZE
    }
}

impl fmt::Display for PageCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} page{plural}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_decided_by_the_low_half() {
        assert!(UserAddr::new(0).is_null());
        assert!(UserAddr::new(1 << 44).is_null());
        assert!(!UserAddr::new((1 << 44) + 8).is_null());
    }

    #[test]
    fn display() {
        assert_eq!(UserAddr::new(0x1000).to_string(), "0x1000");
        assert_eq!(ArenaOffset::new(16).to_string(), "+0x10");
        assert_eq!(PageCount::new(1).to_string(), "1 page");
        assert_eq!(PageCount::new(1 << 20).bytes(), 1 << 32);
    }
}
