//! What a row of the instruction table is, and how rows are found.

use std::sync::LazyLock;

use crate::{Insn, RawField, RawInsn, Refusal, Reg, table};

/// Conformance group of RFC 9669 section 2.4 that an instruction belongs to. `Base64` includes `Base32`,
/// `Atomic64` includes `Atomic32`, `DivMul64` includes `DivMul32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// `base32`: what every implementation has.
    Base32,
    /// `base64`.
    Base64,
    /// `atomic32`.
    Atomic32,
    /// `atomic64`.
    Atomic64,
    /// `divmul32`.
    DivMul32,
    /// `divmul64`.
    DivMul64,
    /// `packet`: the deprecated `LD_ABS` and `LD_IND`.
    Packet,
    /// Not in the RFC: emitted by clang or known to Linux only.
    Linux,
}

impl Group {
    /// The label the RFC gives the group; `linux` for what is not in the RFC.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Base32 => "base32",
            Self::Base64 => "base64",
            Self::Atomic32 => "atomic32",
            Self::Atomic64 => "atomic64",
            Self::DivMul32 => "divmul32",
            Self::DivMul64 => "divmul64",
            Self::Packet => "packet",
            Self::Linux => "linux",
        }
    }
}

/// The fields of an instruction before they have a meaning: one slot, and the `imm` of the second slot of a
/// `lddw`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) raw: RawInsn,
    pub(crate) next_imm: i32,
}

impl Fields {
    pub(crate) fn get(&self, field: RawField) -> i32 {
        match field {
            RawField::DstReg => self.raw.dst_reg.into(),
            RawField::SrcReg => self.raw.src_reg.into(),
            RawField::Offset => self.raw.offset.into(),
            RawField::Imm => self.raw.imm,
            RawField::NextImm => self.next_imm,
        }
    }

    pub(crate) fn dst(&self) -> Result<Reg, Refusal> {
        register(RawField::DstReg, self.raw.dst_reg)
    }

    pub(crate) fn src(&self) -> Result<Reg, Refusal> {
        register(RawField::SrcReg, self.raw.src_reg)
    }
}

fn register(field: RawField, number: u8) -> Result<Reg, Refusal> {
    Reg::new(number).ok_or(Refusal::Register { field, number })
}

/// A set of [`RawField`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldSet(pub(crate) u8);

impl FieldSet {
    pub(crate) fn has(self, field: RawField) -> bool {
        self.0 & (1 << field as u8) != 0
    }
}

/// One form of instruction: a row of the table from which decoder, encoder, disassembler and assembler follow.
///
/// A slot is of this form if its opcode is [`opcode`](Self::opcode) and every field that carries no operand
/// has the value given here.
#[derive(Debug)]
pub struct Form {
    /// The opcode byte.
    pub opcode: u8,
    /// The RFC's conformance group.
    pub group: Group,
    /// How the kernel writes it: the text with a `{hole}` for each operand.
    pub syntax: &'static str,
    /// Other spellings the assembler accepts: those of LLVM, where they differ.
    pub aliases: &'static [&'static str],
    // Values of the fields that carry no operand.
    pub(crate) fixed: Fields,
    pub(crate) operands: FieldSet,
    pub(crate) read: fn(&Fields) -> Result<Insn, Refusal>,
    pub(crate) write: fn(&Insn) -> Option<Fields>,
}

impl Form {
    /// The value a field must have in this form, or `None` if it carries an operand. `NextImm` is the `imm` of
    /// the second slot and only means something where [`slots`](Self::slots) is 2.
    #[must_use]
    pub fn fixed(&self, field: RawField) -> Option<i32> {
        (!self.operands.has(field)).then(|| self.fixed.get(field))
    }

    /// Slots the instruction takes.
    #[must_use]
    pub fn slots(&self) -> usize {
        if self.opcode == table::LDDW { 2 } else { 1 }
    }

    /// Every form, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        INDEX.all.iter().copied()
    }

    /// The forms that share an opcode byte: none if the byte is not an instruction.
    #[must_use]
    pub fn with_opcode(opcode: u8) -> &'static [&'static Self] {
        INDEX.by_opcode.get(usize::from(opcode)).map_or(&[], Vec::as_slice)
    }

    /// The form and fields of an instruction, if it has an encoding.
    pub(crate) fn of(insn: &Insn) -> Option<(&'static Self, Fields)> {
        let candidates = INDEX.by_kind.get(kind(insn))?;
        candidates.iter().find_map(|form| Some((*form, (form.write)(insn)?)))
    }
}

impl Insn {
    /// The conformance group the instruction belongs to; `None` for a value with no encoding (a sign-extending
    /// load of 8 bytes, for one).
    #[must_use]
    pub fn group(&self) -> Option<Group> {
        Form::of(self).map(|(form, _)| form.group)
    }

    /// The row of the instruction table; `None` for a value with no encoding.
    #[must_use]
    pub fn form(&self) -> Option<&'static Form> {
        Form::of(self).map(|(form, _)| form)
    }
}

struct Index {
    all: Vec<&'static Form>,
    by_opcode: Vec<Vec<&'static Form>>,
    by_kind: Vec<Vec<&'static Form>>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let all: Vec<&'static Form> = table::sections().into_iter().flatten().collect();
    let mut by_opcode = vec![Vec::new(); 256];
    let mut by_kind = vec![Vec::new(); KINDS];
    for &form in &all {
        if let Some(list) = by_opcode.get_mut(usize::from(form.opcode)) {
            list.push(form);
        }
        // Zero is a valid value of every operand, so that `read` gives an example of the form.
        let list = (form.read)(&form.fixed).ok().and_then(|example| by_kind.get_mut(kind(&example)));
        if let Some(list) = list {
            list.push(form);
        }
    }
    Index { all, by_opcode, by_kind }
});

const KINDS: usize = 19;

/// A dense number per variant of [`Insn`], so that the encoder looks at few rows.
fn kind(insn: &Insn) -> usize {
    match insn {
        Insn::Alu { .. } => 0,
        Insn::Neg { .. } => 1,
        Insn::Mov { .. } => 2,
        Insn::MovSx { .. } => 3,
        Insn::ByteSwap { .. } => 4,
        Insn::AddrSpaceCast { .. } => 5,
        Insn::LoadImm64 { .. } => 6,
        Insn::Load { .. } => 7,
        Insn::Store { .. } => 8,
        Insn::Atomic { .. } => 9,
        Insn::LoadAcquire { .. } => 10,
        Insn::StoreRelease { .. } => 11,
        Insn::LoadPacket { .. } => 12,
        Insn::Jump { .. } => 13,
        Insn::Branch { .. } => 14,
        Insn::MayGoto { .. } => 15,
        Insn::IndirectJump { .. } => 16,
        Insn::Call { .. } => 17,
        Insn::Exit => 18,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_an_example_of_its_kind() {
        let indexed: usize = INDEX.by_kind.iter().map(Vec::len).sum();
        assert_eq!(indexed, INDEX.all.len());
        assert!(INDEX.by_kind.iter().all(|rows| !rows.is_empty()));
    }

    #[test]
    fn no_two_rows_match_the_same_slot() {
        const FIELDS: [RawField; 5] = RawField::ALL;
        for (i, a) in INDEX.all.iter().enumerate() {
            for b in INDEX.all.iter().skip(i + 1).filter(|b| b.opcode == a.opcode) {
                let differ = FIELDS.iter().any(|&f| match (a.fixed(f), b.fixed(f)) {
                    (Some(x), Some(y)) => x != y,
                    _ => false,
                });
                assert!(differ, "{} and {} overlap", a.syntax, b.syntax);
            }
        }
    }
}
