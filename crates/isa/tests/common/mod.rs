//! What several tests need.

use bpf_arena_isa::{Form, Insn, RawField, RawInsn};

/// An instruction of this form with the given operands, as far as the form has them. Registers are taken
/// modulo 11.
pub(crate) fn instance(form: &Form, dst: u8, src: u8, offset: i16, imm: i32, next_imm: i32) -> Insn {
    let operand = |field: RawField, value: i32| form.fixed(field).unwrap_or(value);
    let register =
        |field, number: u8| u8::try_from(operand(field, i32::from(number % 11))).expect("a number");
    let first = RawInsn {
        opcode: form.opcode,
        dst_reg: register(RawField::DstReg, dst),
        src_reg: register(RawField::SrcReg, src),
        offset: i16::try_from(operand(RawField::Offset, offset.into())).expect("16 bits"),
        imm: operand(RawField::Imm, imm),
    };
    let second = RawInsn { imm: operand(RawField::NextImm, next_imm), ..RawInsn::default() };
    Insn::decode(first, (form.slots() == 2).then_some(second)).expect("every operand value is allowed")
}

/// Offsets and distances at the edges of their field.
pub(crate) const OFFSETS: [i16; 7] = [0, 1, -1, 8, -512, i16::MAX, i16::MIN];
