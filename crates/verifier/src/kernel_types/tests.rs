//! A small BTF with every way a member can be nested.

use bpf_object::{Array, Btf, Composite, Int, Kind, KindTag, Member, Type, TypeId};

use super::*;

/// Builds types by name.
struct Builder(Btf);

impl Builder {
    fn add(&mut self, name: &str, kind: Kind) -> TypeId {
        let name = self.0.add_str(name);
        self.0.push(Type { name, kind })
    }

    /// Members as name, type, offset in bits and width of a bit field.
    fn composite(&mut self, size: u32, members: &[(&str, TypeId, u32, u8)]) -> Composite {
        let member = |b: &mut Btf, (name, ty, bit_offset, bit_size): (&str, TypeId, u32, u8)| Member {
            name: b.add_str(name),
            ty,
            bit_offset,
            bit_size,
        };
        let members = members.iter().map(|m| member(&mut self.0, *m)).collect();
        Composite { size, members, kind_flag: true }
    }

    fn structure(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32, u8)]) -> TypeId {
        let composite = self.composite(size, members);
        self.add(name, Kind::Struct(composite))
    }
}

/// ```c
/// struct inner { u32 a; u32 b; };
/// struct outer {
///     struct inner first;          /*  0 */
///     u32 bits:3, more:5;          /*  8 */
///     struct inner *next;          /* 16 */
///     struct inner __rcu *guarded; /* 24 */
///     void *bytes;                 /* 32 */
///     struct inner many[2][2];     /* 40 */
///     union { u64 x; struct inner *either; };  /* 72 */
///     u8 text[6];                  /* 80 */
///     struct inner tail[];         /* 88 */
/// };
/// struct outer__safe_trusted { struct inner *next; };
/// ```
fn types() -> (Btf, TypeId, TypeId) {
    let mut b = Builder(Btf::default());
    let int = |size: u32| Kind::Int(Int { size, bits: u8::try_from(size * 8).unwrap(), ..Int::default() });
    let (byte, word, long) = (b.add("u8", int(1)), b.add("u32", int(4)), b.add("u64", int(8)));
    let inner = b.structure("inner", 8, &[("a", word, 0, 0), ("b", word, 32, 0)]);
    let pointer = b.add("", Kind::Ptr(inner));
    let tagged = b.add("rcu", Kind::TypeTag { ty: inner, attribute: false });
    let guarded = b.add("", Kind::Ptr(tagged));
    let bytes = b.add("", Kind::Ptr(TypeId::VOID));
    let array = |element, len| Kind::Array(Array { element, index: word, len });
    let row = b.add("", array(inner, 2));
    let many = b.add("", array(row, 2));
    let text = b.add("", array(byte, 6));
    let tail = b.add("", array(inner, 0));
    let either = b.composite(8, &[("x", long, 0, 0), ("either", pointer, 0, 0)]);
    let either = b.add("", Kind::Union(either));
    let at = |bytes: u32| bytes * 8;
    let members = [
        ("first", inner, at(0), 0),
        ("bits", word, at(8), 3),
        ("more", word, at(8) + 3, 5),
        ("next", pointer, at(16), 0),
        ("guarded", guarded, at(24), 0),
        ("bytes", bytes, at(32), 0),
        ("many", many, at(40), 0),
        ("", either, at(72), 0),
        ("text", text, at(80), 0),
        ("tail", tail, at(88), 0),
    ];
    let outer = b.structure("outer", 88, &members);
    b.structure("outer__safe_trusted", 8, &[("next", pointer, 0, 0)]);
    (b.0, outer, inner)
}

#[test]
fn members_are_found_where_they_are() {
    let (btf, outer, inner) = types();
    let at = |offset, size| member_at(&btf, outer, offset, size, true);
    assert_eq!(at(0, 4), Ok(Found::Number));
    assert_eq!(at(4, 4), Ok(Found::Number));
    assert_eq!(at(8, 1), Ok(Found::Number), "a bit field");
    assert_eq!(at(32, 8), Ok(Found::Bytes));
    assert_eq!(at(44, 4), Ok(Found::Number), "in an array of arrays");
    assert_eq!(at(81, 4), Ok(Found::Number), "several elements of an array of numbers");
    assert_eq!(at(96, 4), Ok(Found::Number), "behind the end, in the array without length");
    let pointer = |offset| match at(offset, 8) {
        Ok(Found::Pointer(field)) => (field.name, field.target == inner, field.tag, field.in_union),
        other => panic!("{other:?}"),
    };
    assert_eq!(pointer(16), ("next", true, None, false));
    assert_eq!(pointer(24), ("guarded", true, Some(PointerTag::Rcu), false));
}

#[test]
fn what_is_not_one_member_is_refused() {
    let (btf, outer, _) = types();
    let at = |offset, size| member_at(&btf, outer, offset, size, false).unwrap_err().to_string();
    assert_eq!(at(84, 8), "access beyond struct outer at off 84 size 8");
    assert_eq!(at(12, 4), "struct outer doesn't have field at offset 12");
    assert_eq!(at(9, 4), "struct outer doesn't have field at offset 9", "part of a bit field");
    assert_eq!(at(20, 4), "cannot access ptr member next with moff 16 in struct outer with off 20 size 4");
    assert_eq!(at(4, 8), "access beyond struct inner at off 4 size 8");
    assert_eq!(
        at(84, 4),
        "access beyond the end of member text (mend:86) in struct outer with off 84 size 4"
    );
}

#[test]
fn a_structure_begins_with_others() {
    let (btf, outer, inner) = types();
    let holds = |offset, strict| holds_at_start(&btf, outer, offset, inner, strict, true);
    assert!(holds(0, false) && !holds(0, true));
    assert!(holds(48, false), "an element of an array");
    assert!(!holds(4, false) && !holds(16, false) && !holds(200, true));
    assert!(holds_at_start(&btf, outer, 0, outer, true, true));
}

#[test]
fn lists_of_trusted_fields_name_field_and_type() {
    let (btf, outer, inner) = types();
    assert_eq!(field_trust(&btf, outer, "next", inner), FieldTrust::Trusted);
    assert_eq!(field_trust(&btf, outer, "guarded", inner), FieldTrust::Unlisted);
    assert_eq!(field_trust(&btf, outer, "next", outer), FieldTrust::Unlisted);
    assert_eq!(field_trust(&btf, inner, "next", inner), FieldTrust::Unlisted);
}

#[test]
fn numbers_may_be_nested_and_pointers_not() {
    let (btf, outer, inner) = types();
    assert!(is_struct_of_numbers(&btf, inner) && !is_struct_of_numbers(&btf, outer));
    assert_eq!(btf.find("inner", KindTag::Struct), Some(inner));
    assert_eq!((kind_name(&btf, outer), shown_name(&btf, TypeId::VOID)), ("STRUCT", "(anon)"));
}

#[test]
fn aliases_and_projections_go_by_name() {
    assert!(is_init_alias("nf_conn___init", "nf_conn") && is_init_alias("nf_conn", "nf_conn___init"));
    assert!(!is_init_alias("nf_conn", "nf_conn") && !is_init_alias("a___init", "b"));
    assert!(is_projection("__sk_buff", "sk_buff") && !is_projection("sk_buff", "__sk_buff"));
}
