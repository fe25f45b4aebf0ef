//! From instructions to bytes: the exact inverse of the decoder.

use crate::{Code, Endian, Form, Insn, InsnIdx, RawInsn};

/// The slots of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The first (mostly only) slot.
    pub first: RawInsn,
    /// The second slot of a `lddw`.
    pub second: Option<RawInsn>,
}

/// An [`Insn`] value that no bytes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The offset of a short jump has 16 bits; `gotol` reaches farther.
    #[error("jump offset {offset} does not fit 16 bits")]
    JumpOffset {
        /// The offset, in slots.
        offset: i32,
    },
    /// The combination does not exist: a sign-extending load of 8 bytes, an atomic addition of one byte, a
    /// compare-and-exchange that does not fetch.
    #[error("no encoding for {0:?}")]
    NoSuchForm(Insn),
}

/// An instruction of a program that has no encoding, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction {at}: {source}")]
pub struct CodeError {
    /// Slot index.
    pub at: InsnIdx,
    /// What is wrong with it.
    pub source: EncodeError,
}

impl Insn {
    /// The fields of the instruction, one slot or two.
    ///
    /// ```
    /// use bpf_arena_isa::{Imm64, Insn, Reg};
    ///
    /// let insn = Insn::LoadImm64 { dst: Reg::R1, value: Imm64::Const(0x1_0000_0002) };
    /// let slots = insn.encode()?;
    /// assert_eq!((slots.first.imm, slots.second.map(|s| s.imm)), (2, Some(1)));
    /// # Ok::<(), bpf_arena_isa::EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// If no bytes stand for the value.
    pub fn encode(&self) -> Result<Encoded, EncodeError> {
        let Some((form, fields)) = Form::of(self) else {
            return Err(match *self {
                Self::Jump { offset, .. } => EncodeError::JumpOffset { offset },
                insn => EncodeError::NoSuchForm(insn),
            });
        };
        let second = (form.slots() == 2).then(|| RawInsn { imm: fields.next_imm, ..RawInsn::default() });
        Ok(Encoded { first: fields.raw, second })
    }
}

impl Code {
    /// The code as bytes.
    ///
    /// # Errors
    /// At the first instruction that has no encoding, with its index.
    pub fn encode(&self, endian: Endian) -> Result<Vec<u8>, CodeError> {
        let mut bytes = Vec::with_capacity(self.len().saturating_mul(RawInsn::BYTES));
        for (at, insn) in self.iter() {
            let Encoded { first, second } = insn.encode().map_err(|source| CodeError { at, source })?;
            bytes.extend(first.to_bytes(endian));
            bytes.extend(second.into_iter().flat_map(|slot| slot.to_bytes(endian)));
        }
        Ok(bytes)
    }
}
