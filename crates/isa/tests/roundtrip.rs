//! Bytes, values and text are three spellings of the same instruction.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use bpf_arena_isa::{
    AtomicOp, Code, EncodeError, Endian, Form, Insn, JumpForm, Operand, RawField, RawInsn, Refusal, Reg,
    Size, Width, assemble, decode, decode_endian,
};
use proptest::prelude::*;

mod common;
use common::{OFFSETS, instance};

/// Immediates at the edges of their field and around selectors.
const IMMS: [i32; 12] = [0, 1, -1, 7, 16, 0x100, 0x1_0000, 0x7fff, -0x8000, 0x1234_5678, i32::MAX, i32::MIN];

fn assert_round_trip(insn: Insn) {
    let text = insn.to_string();
    assert_eq!(text.parse::<Insn>().as_ref(), Ok(&insn), "{text}");
    let code = Code::from_iter([insn]);
    for endian in [Endian::Little, Endian::Big] {
        let bytes = code.encode(endian).expect("decoded instructions encode");
        assert_eq!(decode_endian(&bytes, endian).as_ref(), Ok(&code), "{text}");
    }
}

fn any_form() -> impl Strategy<Value = &'static Form> {
    let forms: Vec<&'static Form> = Form::all().collect();
    proptest::sample::select(forms)
}

fn any_insn() -> impl Strategy<Value = Insn> {
    (any_form(), 0..11u8, 0..11u8, any::<i16>(), any::<i32>(), any::<i32>())
        .prop_map(|(form, dst, src, offset, imm, next)| instance(form, dst, src, offset, imm, next))
}

#[test]
fn every_form_with_every_register() {
    for form in Form::all() {
        for (dst, src) in (0..11).flat_map(|dst| (0..11).map(move |src| (dst, src))) {
            assert_round_trip(instance(form, dst, src, -8, 0x1234, 1));
        }
    }
}

#[test]
fn every_form_with_every_edge_of_its_fields() {
    for form in Form::all() {
        for (offset, imm) in OFFSETS.iter().flat_map(|offset| IMMS.iter().map(move |imm| (*offset, *imm))) {
            for next in if form.slots() == 2 { IMMS.as_slice() } else { &[0] } {
                assert_round_trip(instance(form, 3, 10, offset, imm, *next));
            }
        }
    }
}

#[test]
fn every_spelling_is_one_instruction() {
    // The assembler takes the first spelling that matches: no two instructions may print alike.
    let mut seen = std::collections::HashMap::new();
    for insn in Form::all().map(|form| instance(form, 1, 2, 3, 4, 5)) {
        assert_eq!(seen.insert(insn.to_string(), insn), None, "{insn}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_instruction_survives_text_and_bytes(insn in any_insn()) {
        assert_round_trip(insn);
    }

    #[test]
    fn any_program_survives_its_listing(insns in prop::collection::vec(any_insn(), 0..20)) {
        let code: Code = insns.into_iter().collect();
        let assembly = assemble(&code.to_string()).expect("a listing assembles");
        prop_assert_eq!(assembly.lines.len(), code.len());
        prop_assert_eq!(assembly.code, code);
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(code) = decode(&bytes) {
            prop_assert_eq!(code.encode(Endian::Little).expect("encodes"), bytes);
        }
    }

    #[test]
    fn no_text_makes_the_assembler_panic(text in "[rw0-9 +*()=a-z:;#@,<>&s\\n\\[\\]-]{0,80}|\\PC{0,40}") {
        let _ = assemble(&text);
    }
}

/// Every opcode byte with every register pair and the edges of the other fields: decoded and encoded to itself,
/// or refused for a reason that holds.
#[test]
fn every_slot_decodes_exactly_or_is_refused_with_cause() {
    let mut decoded = 0_u32;
    for opcode in 0..=u8::MAX {
        for (dst_reg, src_reg) in (0..16).flat_map(|dst| (0..16).map(move |src| (dst, src))) {
            for (offset, imm) in [(0, 0), (1, 0), (8, 0), (0, 1), (0, 16), (0, 0xe1), (0, 0x110), (-1, -1)] {
                let raw = RawInsn { opcode, dst_reg, src_reg, offset, imm };
                let second = RawInsn::default();
                match Insn::decode(raw, Some(second)) {
                    Ok(insn) => {
                        decoded += 1;
                        let encoded = insn.encode().expect("decoded instructions encode");
                        assert_eq!(encoded.first, raw);
                        assert_eq!(encoded.second, raw.is_wide().then_some(second));
                    }
                    Err(why) => assert_justified(raw, &why),
                }
            }
        }
    }
    assert!(decoded > 20_000, "only {decoded} slots decoded");
}

fn assert_justified(raw: RawInsn, why: &Refusal) {
    let value_of = |field| match field {
        RawField::DstReg => i32::from(raw.dst_reg),
        RawField::SrcReg => i32::from(raw.src_reg),
        RawField::Offset => i32::from(raw.offset),
        _ => raw.imm,
    };
    match *why {
        Refusal::Opcode(opcode) => assert!(Form::with_opcode(opcode).is_empty()),
        Refusal::Register { field, number } => {
            assert!(number > 10);
            assert_eq!(value_of(field), i32::from(number));
        }
        Refusal::Reserved { field, value } | Refusal::Selector { field, value, .. } => {
            assert_eq!(value_of(field), value);
            let reserved = matches!(why, Refusal::Reserved { .. });
            assert!(!reserved || value != 0, "{raw}: {why}");
        }
        ref other => panic!("{raw}: {other}"),
    }
}

#[test]
fn values_without_an_encoding_are_errors() {
    let load = Insn::Load { size: Size::DW, sign_extend: true, dst: Reg::R0, base: Reg::R1, offset: 0 };
    let swap = Insn::Atomic {
        size: Size::DW,
        op: AtomicOp::Xchg,
        fetch: false,
        base: Reg::R1,
        offset: 0,
        src: Reg::R2,
    };
    let byte = Insn::Atomic {
        size: Size::B,
        op: AtomicOp::Add,
        fetch: true,
        base: Reg::R1,
        offset: 0,
        src: Reg::R2,
    };
    let extend = Insn::MovSx { width: Width::W32, from: Size::W, dst: Reg::R0, src: Reg::R1 };
    for insn in [load, swap, byte, extend] {
        assert_eq!(insn.encode(), Err(EncodeError::NoSuchForm(insn)));
        assert_eq!(insn.group(), None);
        assert!(insn.to_string().starts_with("<no encoding"));
    }
    let far = Insn::Jump { form: JumpForm::Short, offset: 0x8000 };
    assert_eq!(far.encode(), Err(EncodeError::JumpOffset { offset: 0x8000 }));
    let mov = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) };
    let error = Code::from_iter([mov, far]).encode(Endian::Little).unwrap_err();
    assert_eq!((error.at.0, error.source), (1, EncodeError::JumpOffset { offset: 0x8000 }));
}
