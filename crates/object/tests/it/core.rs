//! CO-RE relocations of `core.bpf.c` against the types of `core_target.bpf.c`.

use std::sync::Arc;

use bpf_arena_object::{
    Btf, Composite, CoreError, CoreReloKind, Kind, KindTag, LinkError, LinkOptions, Member, Program, Type,
    TypeId, UNANSWERED_RELOCATION,
};
use isa::{CallTarget, Imm64, Insn, Operand, Size};

use crate::object;

fn target() -> Arc<Btf> {
    object("core_target").btf.unwrap()
}

fn link(program: &str, strict_core: bool) -> Result<Program, LinkError> {
    let options = LinkOptions { target_btf: Some(target()), strict_core, ..LinkOptions::default() };
    object("core").link_with(program, &options)
}

/// The number that the relocated instruction holds, and the size of its access if it is a load.
fn answer(program: &str) -> (u64, Option<Size>) {
    let program = link(program, false).unwrap_or_else(|error| panic!("{program}: {error}"));
    for (_, insn) in program.code.iter() {
        match insn {
            Insn::Load { size, offset, .. } => return (u64::try_from(offset).unwrap(), Some(size)),
            Insn::Mov { src: Operand::Imm(imm), .. } if program.code.len() > 2 => {
                return (u64::from(imm.cast_unsigned()), None);
            }
            Insn::LoadImm64 { value: Imm64::Const(value), .. } => return (value, None),
            Insn::Call { target: CallTarget::Helper(UNANSWERED_RELOCATION) } => panic!("poisoned"),
            _ => {}
        }
    }
    panic!("no relocated instruction in {program:?}");
}

fn is_poisoned(program: &str) -> bool {
    let program = link(program, false).unwrap_or_else(|error| panic!("{program}: {error}"));
    program.code.iter().any(|(_, i)| i == Insn::Call { target: CallTarget::Helper(UNANSWERED_RELOCATION) })
}

#[test]
fn fields_move() {
    assert_eq!(answer("offset"), (44, Some(Size::W)));
    assert_eq!(answer("nested"), (52, Some(Size::W)), "inside an anonymous union of the target");
    assert_eq!(answer("element"), (36, Some(Size::H)));
    assert_eq!(answer("flexible"), (72 + 3 * 8, Some(Size::DW)));
    assert_eq!(answer("flavor"), (44, Some(Size::W)), "struct shape___other is struct shape");
}

#[test]
fn accesses_take_the_size_of_an_unsigned_field_and_no_other() {
    assert_eq!(answer("widened"), (16, Some(Size::DW)));
    assert!(is_poisoned("signed_widened"), "a signed field of another size would be read wrong");
}

#[test]
fn fields_are_measured() {
    assert_eq!(answer("size"), (12, None));
    assert_eq!(answer("exists"), (1, None));
    assert_eq!(answer("exists_not"), (0, None));
    assert_eq!(answer("is_signed"), (1, None));
}

#[test]
fn bit_fields_are_found_by_load_and_shifts() {
    // Both lie after 3 bits of padding: `bits`, a u32 of 7 bits, and `signed_bits`, an s64 of 11.
    let btf = target();
    let shape = btf.find("shape", KindTag::Struct).unwrap();
    let (member, bits) = btf.member(shape, "signed_bits").unwrap();
    let (offset, width) = (bits / 64 * 8, u64::from(member.bit_size));
    assert_eq!(width, 11);
    assert_eq!(answer("lshift").0, 64 - (bits + width - offset * 8));
    assert_eq!(answer("rshift").0, 64 - width);
    let (_, bits) = btf.member(shape, "bits").unwrap();
    assert_eq!(answer("bit_offset").0, bits / 32 * 4);
}

#[test]
fn types_are_identified_sized_and_compared() {
    let own = object("core");
    let local = own.btf.as_ref().unwrap().find("nested", KindTag::Struct).unwrap();
    assert_eq!(answer("type_local").0, u64::from(local.0));
    assert_eq!(answer("type_target").0, u64::from(target().find("nested", KindTag::Struct).unwrap().0));
    assert_eq!(answer("type_exists").0, 1);
    assert_eq!(answer("type_exists_not").0, 0);
    assert_eq!(answer("type_size").0, 12);
    assert_eq!(answer("type_matches").0, 1);
    assert_eq!(answer("type_matches_not").0, 0, "a member has another size");
}

#[test]
fn enumerators_have_values_of_up_to_64_bits() {
    assert_eq!(answer("enum_exists").0, 1);
    assert_eq!(answer("enum_exists_not").0, 0);
    assert_eq!(answer("enum_value").0, 77);
    assert_eq!(answer("enum_huge").0, 0x0123_4567_89ab_cdef);
}

#[test]
fn what_nothing_answers_cannot_run() {
    for program in ["gone", "flavor_gone", "absent_field", "enum_value_gone"] {
        assert!(is_poisoned(program), "{program}");
        let error = link(program, true).unwrap_err();
        assert!(matches!(error, LinkError::Core { error: CoreError::NoMatch { .. }, .. }), "{error}");
    }
    let error = link("gone", true).unwrap_err().to_string();
    assert!(error.contains("struct shape.gone") && error.contains("raw_tp"), "{error}");
}

#[test]
fn candidates_that_disagree_are_an_error() {
    let LinkError::Core { error: CoreError::Ambiguous { kind, spec, first, second }, .. } =
        link("ambiguous", false).unwrap_err()
    else {
        panic!("no ambiguity");
    };
    assert_eq!(kind, CoreReloKind::FieldByteOffset);
    assert!(spec.starts_with("struct twice.x"), "{spec}");
    assert_ne!(first, second);
}

#[test]
fn a_second_btf_may_stand_on_its_own() {
    // All of its types are searched, whatever ids the first one has.
    let mut first = Btf::default();
    let size = 4;
    for name in ["one", "two", "three"] {
        let name = first.add_str(name);
        first.push(Type { name, kind: Kind::Struct(Composite { size, ..Composite::default() }) });
    }
    let (target_btf, module_btfs) = (Some(Arc::new(first)), vec![target()]);
    let options = LinkOptions { target_btf, module_btfs, ..LinkOptions::default() };
    for program in ["offset", "type_size", "enum_value"] {
        let found = object("core").link_with(program, &options).unwrap();
        assert_eq!(found.code, link(program, false).unwrap().code, "{program}");
    }
}

#[test]
fn modules_are_searched_when_the_kernel_has_no_candidate() {
    let base = target();
    let mut module = Btf::split(Arc::clone(&base));
    let int = base.find("unsigned int", KindTag::Int).unwrap();
    let (name, x) = (module.add_str("absent"), module.add_str("x"));
    let member = Member { name: x, ty: int, bit_offset: 96, bit_size: 0 };
    let composite = Composite { size: 16, members: vec![member], kind_flag: false };
    module.push(Type { name, kind: Kind::Struct(composite) });
    // A candidate that the kernel has already: the module's is not asked.
    let name = module.add_str("shape");
    module.push(Type { name, kind: Kind::Struct(Composite { size: 4, ..Composite::default() }) });
    let options =
        LinkOptions { target_btf: Some(base), module_btfs: vec![Arc::new(module)], ..LinkOptions::default() };
    let offset = |program: &str| {
        let program = object("core").link_with(program, &options).unwrap();
        program.code.iter().find_map(|(_, insn)| match insn {
            Insn::Load { offset, .. } => Some(offset),
            _ => None,
        })
    };
    assert_eq!(offset("absent_field"), Some(12));
    assert_eq!(offset("offset"), Some(44));
}

#[test]
fn anonymous_structs_are_searched_to_a_limit() {
    // `struct shape` with an anonymous member of its own type: no compiler writes it, and it never ends.
    let mut cyclic = Btf::default();
    let name = cyclic.add_str("shape");
    let own = TypeId(1);
    let member = Member { ty: own, ..Member::default() };
    let composite = Composite { size: 8, members: vec![member], kind_flag: false };
    assert_eq!(cyclic.push(Type { name, kind: Kind::Struct(composite) }), own);
    let options = LinkOptions { target_btf: Some(Arc::new(cyclic)), ..LinkOptions::default() };
    let error = object("core").link_with("offset", &options).unwrap_err();
    assert!(matches!(error, LinkError::Core { error: CoreError::TooDeep { limit: 64 }, .. }), "{error}");
}

#[test]
fn without_a_target_the_question_is_named() {
    let error = object("core").link("offset").unwrap_err();
    let LinkError::Core { error: CoreError::NoTarget { root }, .. } = error else { panic!("{error}") };
    assert_eq!(root, "shape");
}

#[test]
fn an_objects_own_types_answer_as_the_compiler_did() {
    let object = object("core");
    let options = LinkOptions { target_btf: object.btf.clone(), ..LinkOptions::default() };
    for name in ["offset", "widened", "nested", "element", "is_signed", "rshift", "enum_huge", "type_size"] {
        let program = object.link_with(name, &options).unwrap();
        let raw = object.link_raw(name, &options).unwrap();
        assert_eq!(program.code.encode(isa::Endian::Little).unwrap(), raw.bytes(), "{name}");
    }
}
