//! What is no instruction, and how the decoder says so.

#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use bpf_arena_isa::{DecodeError, InsnIdx, RawField, RawInsn, Refusal, decode};

fn refusal(slot: [u8; 8]) -> Refusal {
    match decode(&slot) {
        Err(DecodeError::Refused { at: InsnIdx(0), why, .. }) => why,
        other => panic!("{slot:02x?}: {other:?}"),
    }
}

fn reserved(field: RawField, value: i32) -> Refusal {
    Refusal::Reserved { field, value }
}

#[test]
fn reserved_fields_as_the_kernel_refuses_them() {
    use RawField::{DstReg, Imm, Offset, SrcReg};
    let cases = [
        ("neg, src_reg", [0x87, 0x10, 0, 0, 0, 0, 0, 0], reserved(SrcReg, 1)),
        ("neg, imm", [0x87, 0, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("mov reg, imm", [0xbf, 0x10, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("mov imm, src_reg", [0xb7, 0x10, 0, 0, 1, 0, 0, 0], reserved(SrcReg, 1)),
        ("mov imm, offset", [0xb7, 0, 8, 0, 1, 0, 0, 0], reserved(Offset, 8)),
        ("add, offset", [0x0f, 0x10, 1, 0, 0, 0, 0, 0], reserved(Offset, 1)),
        ("bswap, offset", [0xd7, 0, 1, 0, 16, 0, 0, 0], reserved(Offset, 1)),
        ("ldx, imm", [0x79, 0x10, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("st, src_reg", [0x7a, 0x10, 0, 0, 1, 0, 0, 0], reserved(SrcReg, 1)),
        ("stx, imm", [0x7b, 0x10, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("ja, imm", [0x05, 0, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("gotol, offset", [0x06, 0, 1, 0, 0, 0, 0, 0], reserved(Offset, 1)),
        ("jeq reg, imm", [0x1d, 0x10, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("jeq imm, src_reg", [0x15, 0x10, 0, 0, 1, 0, 0, 0], reserved(SrcReg, 1)),
        ("may_goto, imm", [0xe5, 0, 1, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("may_goto, source", [0xe5, 0x10, 1, 0, 0, 0, 0, 0], reserved(SrcReg, 1)),
        ("call, dst_reg", [0x85, 1, 0, 0, 1, 0, 0, 0], reserved(DstReg, 1)),
        ("call, offset", [0x85, 0, 1, 0, 1, 0, 0, 0], reserved(Offset, 1)),
        ("exit, offset", [0x95, 0, 1, 0, 0, 0, 0, 0], reserved(Offset, 1)),
        ("exit, imm", [0x95, 0, 0, 0, 1, 0, 0, 0], reserved(Imm, 1)),
        ("ld_abs, src_reg", [0x20, 0x10, 0, 0, 0, 0, 0, 0], reserved(SrcReg, 1)),
        ("ld_ind, offset", [0x40, 0x10, 1, 0, 0, 0, 0, 0], reserved(Offset, 1)),
        ("dst_reg of a fixed form names no register", [0x95, 0x0b, 0, 0, 0, 0, 0, 0], reserved(DstReg, 11)),
    ];
    for (what, slot, expected) in cases {
        assert_eq!(refusal(slot), expected, "{what}");
    }
}

#[test]
fn selectors_that_select_nothing() {
    let selector = |opcode, field, value| Refusal::Selector { opcode, field, value };
    use RawField::{Imm, Offset, SrcReg};
    let cases = [
        ([0xd4, 0, 0, 0, 8, 0, 0, 0], selector(0xd4, Imm, 8)),
        ([0xdb, 0x10, 0, 0, 0x10, 0, 0, 0], selector(0xdb, Imm, 0x10)),
        // One byte has ordered accesses, no read-modify-write.
        ([0xd3, 0x10, 0, 0, 0, 0, 0, 0], selector(0xd3, Imm, 0)),
        ([0xbf, 0x10, 2, 0, 0, 0, 0, 0], selector(0xbf, Offset, 2)),
        // A sign extension from 32 to 32 bits is a move.
        ([0xbc, 0x10, 32, 0, 0, 0, 0, 0], selector(0xbc, Offset, 32)),
        ([0x37, 0x00, 2, 0, 0, 0, 0, 0], selector(0x37, Offset, 2)),
        ([0x85, 0x30, 0, 0, 0, 0, 0, 0], selector(0x85, SrcReg, 3)),
    ];
    for (slot, expected) in cases {
        assert_eq!(refusal(slot), expected);
    }
}

#[test]
fn registers_beyond_ten() {
    for (slot, field, number) in [
        ([0xb7, 0x0b, 0, 0, 0, 0, 0, 0], RawField::DstReg, 11),
        ([0xbf, 0xf0, 0, 0, 0, 0, 0, 0], RawField::SrcReg, 15),
    ] {
        assert_eq!(refusal(slot), Refusal::Register { field, number });
    }
}

#[test]
fn wide_loads() {
    let first = [0x18, 0x01, 0, 0, 5, 0, 0, 0];
    assert_eq!(refusal(first), Refusal::MissingSecondSlot);
    for odd in [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0x10, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
    ] {
        let bytes = [first, odd].concat();
        let why = decode(&bytes).unwrap_err();
        assert!(matches!(why, DecodeError::Refused { why: Refusal::SecondSlot(_), .. }), "{why}");
    }
    // A map by descriptor has no offset.
    let bytes = [[0x18, 0x11, 0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]].concat();
    let why = decode(&bytes).unwrap_err();
    let expected = Refusal::Reserved { field: RawField::NextImm, value: 1 };
    assert!(matches!(why, DecodeError::Refused { why, .. } if why == expected), "{why}");
    let bytes = [[0x18, 0x71, 0, 0, 5, 0, 0, 0], [0; 8]].concat();
    let why = decode(&bytes).unwrap_err();
    assert!(matches!(
        why,
        DecodeError::Refused { why: Refusal::Selector { field: RawField::SrcReg, .. }, .. }
    ));
}

#[test]
fn errors_say_where() {
    let mut bytes = vec![0x18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([0x95, 0, 0, 0, 7, 0, 0, 0]);
    let error = decode(&bytes).unwrap_err();
    let raw = RawInsn { opcode: 0x95, imm: 7, ..RawInsn::default() };
    assert_eq!(error, DecodeError::Refused { at: InsnIdx(2), raw, why: reserved(RawField::Imm, 7) });
    assert_eq!(error.to_string(), "instruction 2 (95 00 00 00 07 00 00 00): reserved field imm is 7, not 0");
    bytes.pop();
    assert_eq!(decode(&bytes), Err(DecodeError::PartialSlot { bytes: 23 }));
    assert!(decode(&[]).expect("nothing is a program of no instructions").is_empty());
}
