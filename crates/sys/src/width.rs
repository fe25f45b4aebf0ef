//! Widths and operations of single accesses.

/// Bytes of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 1 byte.
    B1,
    /// 2 bytes.
    B2,
    /// 4 bytes.
    B4,
    /// 8 bytes.
    B8,
}

impl Width {
    /// The width in bytes.
    #[must_use]
    pub fn bytes(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }
}

/// An atomic read-modify-write, named as the instruction set does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// `old + operand`, wrapping.
    Add,
    /// `old | operand`.
    Or,
    /// `old & operand`.
    And,
    /// `old ^ operand`.
    Xor,
    /// `operand`.
    Xchg,
    /// `operand` if the old value is `expected`.
    CmpXchg {
        /// Compared with the old value, at the access's width.
        expected: u64,
    },
}

/// An access met a page that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no page at {address:#x}")]
pub struct Missing {
    /// User address of the first byte of the access (window base plus the 32-bit pointer plus the offset; it lies
    /// outside the arena when the pointer does).
    pub address: u64,
}
