//! Reading numbers out of bytes in either byte order. No method can panic; past the end is `None`.

use isa::Endian;

/// A cursor over bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    endian: Endian,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], endian: Endian) -> Self {
        Self { bytes, at: 0, endian }
    }

    /// Bytes from the start to the next read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[b]| b)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let bytes = self.array()?;
        Some(match self.endian {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        })
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_byte_order_and_the_end_is_none() {
        let bytes = [1, 2, 3, 4, 5, 6, 7];
        let mut little = Reader::new(&bytes, Endian::Little);
        assert_eq!(little.u32(), Some(0x0403_0201));
        assert_eq!(little.u32(), None, "three bytes are left");
        assert_eq!(little.u8(), Some(5));
        assert_eq!(little.take(2), Some(&[6, 7][..]));
        assert!(little.is_empty());
        let mut big = Reader::new(&bytes, Endian::Big);
        assert_eq!(big.i32(), Some(0x0102_0304));
        assert_eq!(big.take(usize::MAX), None);
        assert_eq!(big.position(), 4);
    }
}
