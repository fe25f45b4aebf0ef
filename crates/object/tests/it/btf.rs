//! BTF of clang objects: reading, questions, writing.

use std::sync::Arc;

use bpf_arena_object::{Btf, BtfLinkage, Kind, KindTag, StrId, Type, TypeId};

use crate::object;

/// Every object with BTF under `tests/bpf`.
const NAMES: &[&str] =
    &["arena", "calls", "core", "core_target", "data", "externs", "kconfig", "maps", "types"];

fn types() -> Arc<Btf> {
    object("types").btf.unwrap()
}

#[test]
fn every_kind_of_type_is_read() {
    let btf = types();
    let mut seen: Vec<u8> = btf.types().map(|(_, t)| t.kind.tag() as u8).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (1..=19).collect::<Vec<_>>(), "kinds 1 to 19 are all there are");
}

#[test]
fn members_have_offsets_in_bits_and_are_found_in_anonymous_ones() {
    let btf = types();
    let everything = btf.find("everything", KindTag::Struct).unwrap();
    assert_eq!(btf.size_of(everything), Some(88));
    let at = |name: &str| btf.member(everything, name).map(|(m, bits)| (bits, btf.bit_field(m)));
    assert_eq!(at("pointer"), Some((0, None)));
    assert_eq!(at("inside"), Some((448, None)));
    assert_eq!(at("low"), Some((464, Some(3))));
    assert_eq!(at("high"), Some((467, Some(12))));
    assert_eq!(at("nothing"), None);
    let size = |name: &str| btf.size_of(btf.member(everything, name).unwrap().0.ty);
    assert_eq!(size("text"), Some(8), "an array of arrays");
    assert_eq!(size("wide"), Some(8));
    assert_eq!(size("single"), Some(4));
    assert_eq!(size("function"), Some(8));
    assert_eq!(btf.size_of(TypeId::VOID), None);
}

#[test]
fn modifiers_are_looked_through() {
    let btf = types();
    let everything = btf.find("everything", KindTag::Struct).unwrap();
    let pointer = btf.member(everything, "pointer").unwrap().0.ty;
    assert!(matches!(btf.kind(pointer), Some(Kind::Restrict(_))));
    let Some(&Kind::Ptr(to)) = btf.kind(btf.resolve(pointer)) else { panic!("not a pointer") };
    assert!(matches!(btf.kind(to), Some(Kind::Const(_))));
    assert_eq!(btf.name(btf.resolve(to)), "int");
    let low = btf.member(everything, "low").unwrap().0.ty;
    assert_eq!(btf.name(btf.skip_modifiers(low)), "u32", "a typedef is no modifier");
    assert_eq!(btf.name(btf.resolve(low)), "unsigned int");
}

#[test]
fn declaration_tags_belong_to_a_type_or_a_part_of_it() {
    let btf = types();
    let tags = |name, kind, component| {
        btf.decl_tags(btf.find(name, kind).unwrap(), component).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tags("everything", KindTag::Struct, None), ["on_struct"]);
    assert_eq!(tags("everything", KindTag::Struct, Some(11)), ["on_member"]);
    assert_eq!(tags("everything", KindTag::Var, None), ["on_variable"]);
    assert_eq!(tags("function", KindTag::Func, None), ["on_function"]);
    assert_eq!(tags("function", KindTag::Func, Some(1)), ["on_argument"]);
    assert_eq!(tags("use", KindTag::Func, None), [""; 0]);
}

#[test]
fn writing_and_reading_again_changes_nothing() {
    for name in NAMES {
        let btf = object(name).btf.unwrap();
        let again = Btf::parse(&btf.to_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(btf.types().eq(again.types()), "{name}");
        assert_eq!(btf.to_bytes(), again.to_bytes(), "{name}");
    }
}

#[test]
fn types_and_strings_may_be_added() {
    let mut btf = (*types()).clone();
    let before = btf.end_id();
    assert_eq!(btf.add_str("everything"), btf.find_str("everything").unwrap());
    let name = btf.add_str("added");
    let int = btf.find("int", KindTag::Int).unwrap();
    let id = btf.push(Type { name, kind: Kind::Typedef(int) });
    assert_eq!(id, TypeId(before));
    assert_eq!(btf.find("added", KindTag::Typedef), Some(id));
    let again = Btf::parse(&btf.to_bytes()).unwrap();
    assert_eq!(again.name(id), "added");
    assert!(!btf.replace(TypeId::VOID, Type::default()) && !btf.replace(TypeId(before + 1), Type::default()));
}

#[test]
fn strings_are_listed_with_their_offsets() {
    let btf = types();
    assert_eq!(btf.own_strings().next(), Some((StrId(0), &b""[..])));
    for (id, text) in btf.own_strings() {
        assert_eq!(btf.str(id).as_bytes(), text);
    }
    assert!(
        btf.own_strings().any(|(id, text)| text == b"everything" && Some(id) == btf.find_str("everything"))
    );
    assert_eq!(Btf::split(btf).own_strings().count(), 0);
}

#[test]
fn a_split_btf_continues_its_base() {
    let base = types();
    let mut module = Btf::split(Arc::clone(&base));
    let name = module.add_str("of_module");
    let int = base.find("int", KindTag::Int).unwrap();
    let id = module.push(Type { name, kind: Kind::Var { ty: int, linkage: BtfLinkage::Global } });
    assert_eq!(id.0, base.end_id());
    assert_eq!(
        module.add_str("everything"),
        base.find_str("everything").unwrap(),
        "the base's string is taken"
    );
    let again = Btf::parse_split(&module.to_bytes(), Arc::clone(&base)).unwrap();
    assert_eq!(again.name(id), "of_module");
    assert_eq!(again.size_of(id), Some(4));
    assert_eq!(again.find("everything", KindTag::Struct), base.find("everything", KindTag::Struct));
    assert_eq!(again.own_types().count(), 1);
    assert_eq!(again.types().count(), base.types().count() + 1);
    assert!(base.get(id).is_none() && again.get(TypeId(id.0 + 1)).is_none());
    assert_eq!(again.str(StrId(base.string_bytes())), "of_module");
}

#[test]
fn both_byte_orders_say_the_same() {
    for name in NAMES {
        let little = object(name).btf.unwrap();
        let mut swapped = (*little).clone();
        swapped.set_endian(isa::Endian::Big);
        let bytes = swapped.to_bytes();
        assert_eq!(bytes[..2], [0xeb, 0x9f]);
        let big = Btf::parse(&bytes).unwrap();
        assert_eq!(big.endian(), isa::Endian::Big);
        assert!(little.types().eq(big.types()), "{name}");
        assert!(little.types().all(|(id, _)| little.name(id) == big.name(id)), "{name}");
    }
}
