//! From bytes to instructions. As strict as the kernel: a field that a form does not use must be zero.

use crate::{Code, Endian, Form, Insn, InsnIdx, RawInsn, form::Fields, table};

/// A field of an encoded instruction, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RawField {
    /// Destination register.
    DstReg,
    /// Source register or selector.
    SrcReg,
    /// 16-bit offset or selector.
    Offset,
    /// 32-bit immediate or selector.
    Imm,
    /// The immediate of the second slot of a `lddw`.
    NextImm,
}

impl RawField {
    /// Every field, in the order in which the decoder looks at them.
    pub const ALL: [Self; 5] = [Self::DstReg, Self::SrcReg, Self::Offset, Self::Imm, Self::NextImm];
}

impl core::fmt::Display for RawField {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::DstReg => "dst_reg",
            Self::SrcReg => "src_reg",
            Self::Offset => "offset",
            Self::Imm => "imm",
            Self::NextImm => "imm of the second slot",
        })
    }
}

/// Why a slot is not an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No instruction has this opcode byte.
    #[error("unknown opcode {0:#04x}")]
    Opcode(u8),
    /// There are registers 0 to 10.
    #[error("{field} names register {number}: there are r0 to r10")]
    Register {
        /// `DstReg` or `SrcReg`.
        field: RawField,
        /// The number found, 11 to 15.
        number: u8,
    },
    /// The instruction does not use the field, which then must be zero.
    #[error("reserved field {field} is {value}, not 0")]
    Reserved {
        /// The field.
        field: RawField,
        /// What it holds.
        value: i32,
    },
    /// The field selects among the instructions of this opcode, and selects none.
    #[error("{field} {value} selects no instruction of opcode {opcode:#04x}")]
    Selector {
        /// The opcode byte.
        opcode: u8,
        /// The field.
        field: RawField,
        /// What it holds.
        value: i32,
    },
    /// The first slot of a `lddw` is the last slot.
    #[error("the second slot of a 64-bit immediate load is missing")]
    MissingSecondSlot,
    /// Everything but `imm` must be zero in the second slot of a `lddw`.
    #[error("second slot of a 64-bit immediate load is {0}: only its imm may be non-zero")]
    SecondSlot(RawInsn),
}

/// Why bytes are not a sequence of instructions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The length is no multiple of 8.
    #[error("{bytes} bytes are no whole number of 8-byte instructions")]
    PartialSlot {
        /// Number of bytes given.
        bytes: usize,
    },
    /// More slots than an [`InsnIdx`] can count.
    #[error("{slots} instructions are more than 2^32 - 1")]
    TooLong {
        /// Number of slots given.
        slots: usize,
    },
    /// A slot is not an instruction.
    #[error("instruction {at} ({raw}): {why}")]
    Refused {
        /// Slot index.
        at: InsnIdx,
        /// The slot's fields.
        raw: RawInsn,
        /// What is wrong with it.
        why: Refusal,
    },
}

/// Decodes little-endian code: [`decode_endian`] with [`Endian::Little`].
///
/// ```
/// use bpf_arena_isa::{decode, Insn, InsnIdx};
///
/// let code = decode(&[0xb7, 0, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])?;
/// assert_eq!(code.len(), 2);
/// assert_eq!(code.get(InsnIdx(1)), Some(Insn::Exit));
/// # Ok::<(), bpf_arena_isa::DecodeError>(())
/// ```
///
/// # Errors
/// See [`decode_endian`].
pub fn decode(bytes: &[u8]) -> Result<Code, DecodeError> {
    decode_endian(bytes, Endian::Little)
}

/// Decodes the bytes of an executable section or of a program.
///
/// Jump and call targets are not looked at: whether they exist is the verifier's question.
///
/// # Errors
/// At the first slot that is not an instruction, with its index, its fields and the reason; if the length is no
/// multiple of eight.
pub fn decode_endian(bytes: &[u8], endian: Endian) -> Result<Code, DecodeError> {
    let (slots, rest) = bytes.as_chunks::<{ RawInsn::BYTES }>();
    if !rest.is_empty() {
        return Err(DecodeError::PartialSlot { bytes: bytes.len() });
    }
    if u32::try_from(slots.len()).is_err() {
        return Err(DecodeError::TooLong { slots: slots.len() });
    }
    let mut code = Code::new();
    let mut slots = slots.iter().map(|slot| RawInsn::from_bytes(*slot, endian));
    while let Some(raw) = slots.next() {
        let second = if raw.opcode == table::LDDW { slots.next() } else { None };
        match Insn::decode(raw, second) {
            Ok(insn) => code.push(insn),
            Err(why) => {
                let at = InsnIdx(u32::try_from(code.len()).unwrap_or(u32::MAX));
                return Err(DecodeError::Refused { at, raw, why });
            }
        };
    }
    Ok(code)
}

impl Insn {
    /// Decodes one instruction. `second` is the slot that follows; it is looked at only if [`RawInsn::is_wide`].
    ///
    /// ```
    /// use bpf_arena_isa::{Insn, RawField, RawInsn, Refusal};
    ///
    /// let exit = RawInsn { opcode: 0x95, ..RawInsn::default() };
    /// assert_eq!(Insn::decode(exit, None), Ok(Insn::Exit));
    ///
    /// let odd = RawInsn { imm: 1, ..exit };
    /// assert_eq!(Insn::decode(odd, None), Err(Refusal::Reserved { field: RawField::Imm, value: 1 }));
    /// ```
    ///
    /// # Errors
    /// If the opcode is unknown, a reserved field is not zero, or a register does not exist.
    pub fn decode(first: RawInsn, second: Option<RawInsn>) -> Result<Self, Refusal> {
        let candidates = Form::with_opcode(first.opcode);
        if candidates.is_empty() {
            return Err(Refusal::Opcode(first.opcode));
        }
        let mut fields = Fields { raw: first, next_imm: 0 };
        if first.is_wide() {
            let second = second.ok_or(Refusal::MissingSecondSlot)?;
            if second != (RawInsn { imm: second.imm, ..RawInsn::default() }) {
                return Err(Refusal::SecondSlot(second));
            }
            fields.next_imm = second.imm;
        }
        let matches = |form: &&Form, field| form.fixed(field).is_none_or(|v| v == fields.get(field));
        match candidates.iter().copied().find(|form| RawField::ALL.iter().all(|&field| matches(form, field)))
        {
            Some(form) => (form.read)(&fields),
            None => Err(refusal(candidates, &fields)),
        }
    }
}

impl RawInsn {
    /// Whether this is the first of two slots.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.opcode == table::LDDW
    }
}

/// Names the first field that rules out the forms which the fields before it left over.
#[cold]
fn refusal(candidates: &[&'static Form], fields: &Fields) -> Refusal {
    let mut left: Vec<&Form> = candidates.to_vec();
    for field in RawField::ALL {
        let value = fields.get(field);
        let fits = |form: &&Form| form.fixed(field).is_none_or(|v| v == value);
        if left.iter().any(fits) {
            left.retain(fits);
        } else if left.iter().all(|form| form.fixed(field) == Some(0)) {
            return Refusal::Reserved { field, value };
        } else {
            return Refusal::Selector { opcode: fields.raw.opcode, field, value };
        }
    }
    Refusal::Opcode(fields.raw.opcode)
}
