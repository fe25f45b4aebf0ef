//! Memory that values are copied out of and into.

use std::cell::Cell;

use isa::Size;

/// Memory that is read and written by width: an arena, the value of a data map, or plain bytes.
pub trait Memory {
    /// Why an access can fail.
    type Error;

    /// Reads an integer in one access; the result is zero-extended.
    ///
    /// # Errors
    /// There is no readable memory at this address.
    fn load(&self, at: u64, size: Size) -> Result<u64, Self::Error>;

    /// Writes the low bits of an integer in one access.
    ///
    /// # Errors
    /// There is no writable memory at this address.
    fn store(&self, at: u64, size: Size, value: u64) -> Result<(), Self::Error>;
}

/// Bytes of the host, addressed from 0.
#[derive(Debug)]
pub struct Bytes<'a>(&'a [Cell<u8>]);

/// An access past the end of [`Bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {at} with {size} bytes is outside of the {len} bytes there are")]
pub struct OutOfBytes {
    /// First byte accessed.
    pub at: u64,
    /// Number of bytes accessed.
    pub size: u8,
    /// Number of bytes there are.
    pub len: usize,
}

impl<'a> Bytes<'a> {
    /// These bytes as memory.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self(Cell::from_mut(bytes).as_slice_of_cells())
    }

    fn range(&self, at: u64, size: Size) -> Result<&[Cell<u8>], OutOfBytes> {
        let bytes = size.bytes();
        let found = usize::try_from(at).ok().and_then(|start| {
            let end = start.checked_add(usize::from(bytes))?;
            self.0.get(start..end)
        });
        found.ok_or(OutOfBytes { at, size: bytes, len: self.0.len() })
    }
}

impl Memory for Bytes<'_> {
    type Error = OutOfBytes;

    fn load(&self, at: u64, size: Size) -> Result<u64, OutOfBytes> {
        Ok(self.range(at, size)?.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(byte.get())))
    }

    fn store(&self, at: u64, size: Size, value: u64) -> Result<(), OutOfBytes> {
        self.range(at, size)?.iter().zip(value.to_le_bytes()).for_each(|(cell, byte)| cell.set(byte));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ArenaPtr, ArenaType};
    use super::*;

    #[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Inner {
        a: u8,
        b: i16,
    }

    #[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Outer {
        first: [Inner; 2],
        next: ArenaPtr<Outer>,
        low: i32,
        high: u64,
    }

    #[test]
    fn a_value_survives_the_way_to_memory_and_back() {
        let value = Outer {
            first: [Inner { a: 1, b: -2 }, Inner { a: 255, b: i16::MIN }],
            next: ArenaPtr::from_raw(0x1000_0000_1000),
            low: -3,
            high: u64::MAX - 1,
        };
        let mut bytes = [0xaa; size_of::<Outer>() + 8];
        assert_eq!(value.store_to(&Bytes::new(&mut bytes), 8), Ok(()));
        assert_eq!(bytes[8..16], [1, 0xaa, 0xfe, 0xff, 255, 0xaa, 0, 0x80], "padding is left alone");
        assert_eq!(bytes[16..24], 0x1000_0000_1000u64.to_le_bytes());
        assert_eq!(Outer::load_from(&Bytes::new(&mut bytes), 8), Ok(value));
    }

    #[test]
    fn accesses_past_the_end_are_errors() {
        let mut bytes = [0u8; 16];
        let memory = Bytes::new(&mut bytes);
        assert_eq!(u64::load_from(&memory, 9), Err(OutOfBytes { at: 9, size: 8, len: 16 }));
        assert_eq!(u64::load_from(&memory, u64::MAX), Err(OutOfBytes { at: u64::MAX, size: 8, len: 16 }));
        assert_eq!(7u8.store_to(&memory, 16), Err(OutOfBytes { at: 16, size: 1, len: 16 }));
        assert_eq!(<[u32; 5]>::load_from(&memory, 0), Err(OutOfBytes { at: 16, size: 4, len: 16 }));
    }
}
