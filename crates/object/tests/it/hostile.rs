//! Broken input: typed refusals, and never a panic.

use std::sync::Arc;

use bpf_arena_object::{
    Btf, BtfError, BtfExt, BtfFault, LinkError, LinkOptions, Object, ObjectError, RelocationFault, TypeId,
};
use proptest::prelude::*;

use crate::bytes;

const NAMES: &[&str] = &[
    "arena",
    "arena_asm",
    "arena_pointers",
    "calls",
    "core",
    "data",
    "externs",
    "kconfig",
    "maps",
    "struct_ops",
    "types",
];

/// Parses, links every program in both ways, writes BTF again: everything that untrusted bytes can reach.
fn exercise(bytes: &[u8]) {
    let Ok(object) = Object::parse(bytes) else { return };
    let options = LinkOptions { target_btf: object.btf.clone(), ..LinkOptions::default() };
    for program in &object.programs {
        let _ = object.link(&program.name);
        let _ = object.link_with(&program.name, &options);
    }
    if let Some(btf) = &object.btf {
        for (id, _) in btf.types() {
            let _ = (btf.size_of(id), btf.align_of(id), btf.resolve(id), btf.member(id, "value"));
        }
        let _ = Btf::parse(&btf.to_bytes());
    }
}

#[test]
fn what_is_no_bpf_object_is_named() {
    let refusal = |bytes: &[u8]| Object::parse(bytes).unwrap_err();
    assert!(matches!(refusal(b""), ObjectError::Elf(_)));
    assert!(matches!(refusal(b"#!/bin/sh\n"), ObjectError::Elf(_)));
    let patched = |at: usize, value: u8| {
        let mut bytes = bytes("arena");
        bytes[at] = value;
        refusal(&bytes)
    };
    assert!(matches!(patched(4, 1), ObjectError::Elf(_)), "32 bits");
    assert_eq!(patched(5, 2), ObjectError::BigEndian);
    assert_eq!(patched(16, 2), ObjectError::NotRelocatable { found: 2 });
    assert_eq!(patched(18, 62), ObjectError::NotBpf { machine: 62 });
}

#[test]
fn jump_tables_are_refused_where_they_are_used() {
    let object = Object::parse(&bytes("jump_table")).unwrap();
    let LinkError::Relocation { section, fault, .. } = object.link("choose").unwrap_err() else {
        panic!("linked")
    };
    assert_eq!((section.as_str(), fault), ("socket", RelocationFault::JumpTable));
    assert!(object.link("plain").is_ok(), "other programs of the object are none the worse");
}

#[test]
fn every_prefix_of_an_object_is_refused_or_read() {
    let whole = bytes("arena");
    for end in (0..whole.len()).step_by(37) {
        exercise(&whole[..end]);
    }
}

#[test]
fn broken_btf_is_named_with_its_place() {
    let good = Object::parse(&bytes("types")).unwrap().btf.unwrap().to_bytes();
    let patched = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        Btf::parse(&bytes).unwrap_err()
    };
    assert_eq!(patched(0, &[1, 2]), BtfError::BadMagic { found: 0x0201 });
    assert_eq!(patched(2, &[9]), BtfError::BadVersion { found: 9 });
    let truncated = |offset| BtfError::Malformed { offset, fault: BtfFault::Truncated };
    assert_eq!(patched(4, &u32::MAX.to_le_bytes()), truncated(4));
    assert_eq!(patched(12, &u32::MAX.to_le_bytes()), truncated(0));
    // The first type, an `int`, starts after the header: its name, its kind, its size.
    let first = |fault| BtfError::BadType { id: TypeId(1), offset: 0, fault };
    assert_eq!(
        patched(24, &0x00ff_ffffu32.to_le_bytes()),
        first(BtfFault::NoSuchString { offset: 0x00ff_ffff })
    );
    assert_eq!(patched(27 + 4, &[31]), first(BtfFault::UnknownKind { kind: 31 }));
    // The second, a pointer, refers to the third.
    let second = |fault| BtfError::BadType { id: TypeId(2), offset: 0, fault };
    assert_eq!(patched(24 + 16 + 8, &999u32.to_le_bytes()), second(BtfFault::NoSuchType { id: TypeId(999) }));
}

#[test]
fn cyclic_types_come_to_an_end() {
    use bpf_arena_object::{Array, Kind, Type};
    let mut btf = Btf::default();
    let own = TypeId(1);
    let id = btf.push(Type { kind: Kind::Const(own), ..Type::default() });
    assert_eq!(id, own);
    assert_eq!((btf.size_of(id), btf.align_of(id)), (None, None));
    let _ = btf.resolve(id);
    let array = Array { element: own, index: own, len: u32::MAX };
    btf.replace(own, Type { kind: Kind::Array(array), ..Type::default() });
    assert_eq!(btf.size_of(own), None);
    assert!(btf.member(own, "x").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        name in proptest::sample::select(NAMES),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = bytes(name);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        exercise(&bytes);
    }

    #[test]
    fn changed_btf_never_panics(
        name in proptest::sample::select(NAMES),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..8),
    ) {
        let object = Object::parse(&bytes(name)).unwrap();
        let mut bytes = object.btf.unwrap().to_bytes();
        for (at, value) in changes {
            // Whole words below the string section: most fields are words, and small values are the interesting ones.
            let at = at.index(bytes.len() / 4) * 4;
            let value = if value & 1 == 0 { value % 64 } else { value };
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            prop_assert!(btf.types().all(|(id, _)| btf.get(btf.resolve(id)).is_some()));
            let again = Btf::parse(&btf.to_bytes()).unwrap();
            prop_assert!(btf.types().eq(again.types()));
            let _ = Btf::parse_split(&bytes, Arc::new(btf));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        exercise(&bytes);
        let _ = Btf::parse(&bytes);
        let _ = BtfExt::parse(&bytes, &Btf::default());
    }
}
