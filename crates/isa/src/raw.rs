//! Instruction slots as they lie in memory (RFC 9669 section 3): fields only, no meaning.

/// Byte order of an object. It decides the order of the bytes in `offset` and `imm` and which half of the
/// second byte holds `dst_reg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Endian {
    /// `bpfel`: what clang emits on x86-64 and arm64.
    #[default]
    Little,
    /// `bpfeb`.
    Big,
}

/// One 8-byte slot, split into its fields. Any eight bytes are a `RawInsn`; [`Insn::decode`] gives it a meaning.
///
/// [`Insn::decode`]: crate::Insn::decode
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawInsn {
    /// Class, and what the class needs: operation and source, or size and mode.
    pub opcode: u8,
    /// Destination register number, 0 to 15. Only the low four bits reach [`Self::to_bytes`].
    pub dst_reg: u8,
    /// Source register number or a selector, 0 to 15. Only the low four bits reach [`Self::to_bytes`].
    pub src_reg: u8,
    /// Signed offset of jumps and memory accesses; a selector in some forms.
    pub offset: i16,
    /// Signed immediate; a selector in some forms.
    pub imm: i32,
}

impl RawInsn {
    /// Bytes in one slot.
    pub const BYTES: usize = 8;

    /// Splits a slot into its fields.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES], endian: Endian) -> Self {
        let [opcode, regs, o0, o1, i0, i1, i2, i3] = bytes;
        let (low, high) = (regs & 0xf, regs >> 4);
        match endian {
            Endian::Little => Self {
                opcode,
                dst_reg: low,
                src_reg: high,
                offset: i16::from_le_bytes([o0, o1]),
                imm: i32::from_le_bytes([i0, i1, i2, i3]),
            },
            Endian::Big => Self {
                opcode,
                dst_reg: high,
                src_reg: low,
                offset: i16::from_be_bytes([o0, o1]),
                imm: i32::from_be_bytes([i0, i1, i2, i3]),
            },
        }
    }

    /// The inverse of [`Self::from_bytes`].
    #[must_use]
    pub fn to_bytes(self, endian: Endian) -> [u8; Self::BYTES] {
        let (dst, src) = (self.dst_reg & 0xf, self.src_reg & 0xf);
        let (regs, [o0, o1], [i0, i1, i2, i3]) = match endian {
            Endian::Little => (src << 4 | dst, self.offset.to_le_bytes(), self.imm.to_le_bytes()),
            Endian::Big => (dst << 4 | src, self.offset.to_be_bytes(), self.imm.to_be_bytes()),
        };
        [self.opcode, regs, o0, o1, i0, i1, i2, i3]
    }
}

impl core::fmt::Display for RawInsn {
    /// The eight bytes in hexadecimal, little endian, as `objdump` prints them.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, byte) in self.to_bytes(Endian::Little).iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders() {
        // r3 += 0x01020304 with offset 0x0506 and src_reg 9, so that every byte is distinct.
        let raw = RawInsn { opcode: 0x07, dst_reg: 3, src_reg: 9, offset: 0x0506, imm: 0x0102_0304 };
        assert_eq!(raw.to_bytes(Endian::Little), [0x07, 0x93, 6, 5, 4, 3, 2, 1]);
        assert_eq!(raw.to_bytes(Endian::Big), [0x07, 0x39, 5, 6, 1, 2, 3, 4]);
        for endian in [Endian::Little, Endian::Big] {
            assert_eq!(RawInsn::from_bytes(raw.to_bytes(endian), endian), raw);
        }
        assert_eq!(raw.to_string(), "07 93 06 05 04 03 02 01");
    }
}
