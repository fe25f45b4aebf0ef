//! The Internet checksum (RFC 1071, RFC 1624) as the kernel computes with it: ones' complement sums of 32 bits that are not
//! reduced, and checksum fields of 16 bits, both in the order in which memory holds them.

/// A field of zero that means "there is a checksum" (`CSUM_MANGLED_0`).
pub(crate) const MANGLED_ZERO: u16 = 0xffff;

/// A ones' complement sum of 32 bits (`__wsum`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) u32);

impl Sum {
    /// The sum of bytes, which begin at an even place, and of what was summed before. The 32 bits are those that the kernel
    /// gets on x86-64, which adds up words of 64 bits.
    pub(crate) fn of(bytes: &[u8], before: Self) -> Self {
        let mut sum = u64::from(before.0);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            sum = add64(sum, u64::from_le_bytes(word));
        }
        let folded = sum.wrapping_add(sum.rotate_right(32)) >> 32;
        #[allow(clippy::cast_possible_truncation, reason = "shifted by 32 bits")]
        Self(folded as u32)
    }

    /// The sum of both.
    pub(crate) fn add(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Self(sum.wrapping_add(u32::from(carry)))
    }

    /// This sum without the other.
    pub(crate) fn sub(self, other: Self) -> Self {
        self.add(other.not())
    }

    /// The complement.
    pub(crate) fn not(self) -> Self {
        Self(!self.0)
    }

    /// With the sum of a block that begins at `offset` of what this is the sum of: bytes at odd places count in the other half
    /// of their word.
    pub(crate) fn add_block(self, block: Self, offset: usize) -> Self {
        self.add(block.at(offset))
    }

    /// Without such a block.
    pub(crate) fn sub_block(self, block: Self, offset: usize) -> Self {
        self.add(block.not().at(offset))
    }

    /// As the field that holds it: folded to 16 bits and complemented.
    pub(crate) fn fold(self) -> u16 {
        let sum = (self.0 >> 16) + (self.0 & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        #[allow(clippy::cast_possible_truncation, reason = "two foldings leave 16 bits")]
        let folded = sum as u16;
        !folded
    }

    fn at(self, offset: usize) -> Self {
        if offset.is_multiple_of(2) { self } else { Self(self.0.rotate_right(8)) }
    }
}

/// The field after the difference of what it covers was added.
pub(crate) fn replace_by_difference(field: u16, difference: Sum) -> u16 {
    difference.add(Sum(u32::from(field)).not()).fold()
}

/// The field after a word of 16 bits under it was replaced.
pub(crate) fn replace2(field: u16, from: u16, to: u16) -> u16 {
    !add16(add16(!field, !from), to)
}

/// The field after a word of 32 bits under it was replaced.
pub(crate) fn replace4(field: u16, from: u32, to: u32) -> u16 {
    Sum(u32::from(field)).not().sub(Sum(from)).add(Sum(to)).fold()
}

fn add64(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u64::from(carry))
}

fn add16(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u16::from(carry))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of the example in RFC 1624's ancestors: its checksum is 0xb861.
    const HEADER: [u8; 20] =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];

    fn checksum(bytes: &[u8]) -> u16 {
        Sum::of(bytes, Sum::default()).fold()
    }

    #[test]
    fn a_known_header() {
        assert_eq!(checksum(&HEADER).to_le_bytes(), [0xb8, 0x61]);
        let mut complete = HEADER;
        complete[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert_eq!(checksum(&complete), 0);
    }

    #[test]
    fn replacing_is_summing_again() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let mut bytes: Vec<u8> = (0..64).map(|_| random.u8(..)).collect();
            let before = checksum(&bytes);
            let from = [bytes[8], bytes[9], bytes[10], bytes[11]];
            let to: [u8; 4] = std::array::from_fn(|_| random.u8(..));
            bytes[8..12].copy_from_slice(&to);
            let after = checksum(&bytes);
            // Both zeroes of the ones' complement are zero.
            let same =
                |field: u16| field == after || (field ^ after) == 0xffff && field.is_multiple_of(0xffff);
            assert!(same(replace4(before, u32::from_le_bytes(from), u32::from_le_bytes(to))));
            let half = |four: [u8; 4], at: usize| u16::from_le_bytes([four[at], four[at + 1]]);
            let step = replace2(before, half(from, 0), half(to, 0));
            assert!(same(replace2(step, half(from, 2), half(to, 2))));
            let difference = Sum(u32::from_le_bytes(to)).sub(Sum(u32::from_le_bytes(from)));
            assert!(same(replace_by_difference(before, difference)));
        }
    }

    #[test]
    fn blocks_join_at_even_and_odd_places() {
        let bytes: Vec<u8> = (0..41_u8).map(|i| i.wrapping_mul(37)).collect();
        let whole = Sum::of(&bytes, Sum::default());
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            let (head, tail) = (Sum::of(head, Sum::default()), Sum::of(tail, Sum::default()));
            assert_eq!(head.add_block(tail, at).fold(), whole.fold(), "{at}");
            // Nothing is the other zero.
            let rest = whole.sub_block(tail, at).fold();
            assert_eq!(rest % 0xffff, head.fold() % 0xffff, "{at}");
        }
    }
}
