//! Several objects linked into one.

use bpf_arena_object::{
    Kconfig, Kind, LinkOptions, Linkage, Linker, Object, ObjectError, Program, SectionProperty,
    StaticLinkError, TypeMismatch,
};
use isa::{Imm64, Insn};
use proptest::prelude::*;

use crate::bytes;

fn link(names: &[&str]) -> Result<Vec<u8>, StaticLinkError> {
    let files: Vec<_> = names.iter().map(|name| (*name, bytes(name))).collect();
    let mut linker = Linker::new();
    for (name, bytes) in &files {
        linker = linker.add(name, bytes)?;
    }
    linker.finish()
}

fn linked() -> Object {
    Object::parse(&link(&["linked_main", "linked_library"]).unwrap()).unwrap()
}

fn program(object: &Object, name: &str) -> Program {
    let kconfig = Kconfig::parse("CONFIG_HZ=250\n");
    object.link_with(name, &LinkOptions { kconfig, ..LinkOptions::default() }).unwrap()
}

/// Section and offset of every variable that the function of this name refers to.
fn references(program: &Program, function: &str) -> Vec<(String, u32)> {
    let function = program.subprograms.iter().find(|s| s.name == function).unwrap();
    let inside = program.code.iter().filter(|(at, _)| (function.start..function.end).contains(at));
    inside
        .filter_map(|(_, insn)| match insn {
            Insn::LoadImm64 { value: Imm64::MapIdxValue { map, offset }, .. } => {
                Some((program.maps[map as usize].name.clone(), offset))
            }
            _ => None,
        })
        .collect()
}

/// Name and place of a variable.
fn place(object: &Object, name: &str) -> (String, u32) {
    let variable = object.variable(name).unwrap();
    (object.maps[variable.map].name.clone(), variable.offset)
}

#[test]
fn each_name_has_one_definition() {
    let object = linked();
    let programs: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.section.as_str())).collect();
    assert_eq!(programs, [("run", "syscall"), ("library_main", "syscall"), ("packet", "xdp")]);
    let run = program(&object, "run");
    let mut functions: Vec<_> = run.subprograms.iter().map(|s| (s.name.as_str(), s.linkage)).collect();
    functions.sort_by_key(|(name, _)| *name);
    let expected = [
        ("first_wins", Linkage::Weak),
        ("helper", Linkage::Static),
        ("helper", Linkage::Static),
        ("library_add", Linkage::Global),
        ("run", Linkage::Global),
        ("transform", Linkage::Global),
    ];
    assert_eq!(functions, expected, "`run` calls one `helper`, `library_add` the other");
    // The strong `transform` doubles, the weak one does nothing.
    let length = |name: &str| {
        let function = run.subprograms.iter().find(|s| s.name == name).unwrap();
        function.end.0 - function.start.0
    };
    assert_eq!(length("transform"), 3);
    // The first of two weak ones gives 1.
    let first = run.subprograms.iter().find(|s| s.name == "first_wins").unwrap();
    let gives = run.code.get(first.start).unwrap();
    assert_eq!(gives.to_string(), "r0 = 1");
    assert!(run.externs.iter().all(|e| e.name == "bpf_arena_alloc_pages"));
    assert_eq!(object.license, "GPL");
}

#[test]
fn sections_follow_one_another_and_references_with_them() {
    let object = linked();
    let value = |name: &str| {
        let variable = object.variable(name).unwrap();
        let at = variable.offset as usize;
        u64::from_le_bytes(object.maps[variable.map].initial[at..at + 8].try_into().unwrap())
    };
    assert_eq!(value("scale"), 3, "the strong one");
    assert_eq!(value("totals"), 1);
    assert_eq!(value("shared_counter"), 7);
    // Two static variables of the same name, both there.
    for (name, values) in [("hidden_state", [6, 60]), ("hidden_counter", [5, 50])] {
        let mut found: Vec<_> = object
            .variables
            .iter()
            .filter(|v| v.name == name)
            .map(|v| {
                assert_eq!((v.linkage, v.size), (Linkage::Static, 8));
                let at = v.offset as usize;
                u64::from_le_bytes(object.maps[v.map].initial[at..at + 8].try_into().unwrap())
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, values, "{name}");
    }
    let run = program(&object, "run");
    let helpers: Vec<_> = run.subprograms.iter().filter(|s| s.name == "helper").collect();
    let states: Vec<u32> =
        object.variables.iter().filter(|v| v.name == "hidden_state").map(|v| v.offset).collect();
    assert_eq!((helpers.len(), states.len()), (2, 2));
    for name in ["shared_counter", "answer", "totals", "scale"] {
        assert!(references(&run, "run").contains(&place(&object, name)) || name == "totals", "{name}");
    }
    assert!(references(&run, "library_add").contains(&place(&object, "totals")));
    let library = program(&object, "library_main");
    assert!(references(&library, "library_main").contains(&place(&object, "shared_counter")));
    // Weak maps are one map, and its type information too.
    let maps: Vec<_> = object.maps.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(maps.iter().filter(|m| **m == "arena").count(), 1);
    assert_eq!(maps.iter().filter(|m| **m == "table").count(), 1);
    assert_eq!(object.variables.iter().filter(|v| v.name == "CONFIG_HZ").count(), 1);
}

#[test]
fn static_functions_use_the_variables_of_their_object() {
    let object = linked();
    let run = program(&object, "run");
    let mut seen = Vec::new();
    for helper in run.subprograms.iter().filter(|s| s.name == "helper") {
        let inside = run.code.iter().filter(|(at, _)| (helper.start..helper.end).contains(at));
        seen.extend(inside.filter_map(|(_, insn)| match insn {
            Insn::LoadImm64 { value: Imm64::MapIdxValue { map, offset }, .. } => {
                let at = offset as usize;
                Some(run.maps[map as usize].initial[at])
            }
            _ => None,
        }));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [6, 60], "each has its own `hidden_state`");
}

#[test]
fn types_are_there_once_and_lines_with_them() {
    let object = linked();
    let btf = object.btf.as_ref().unwrap();
    let count = |name: &str| {
        let named = btf.types().filter(|(_, t)| btf.str(t.name) == name);
        named.filter(|(_, t)| !matches!(t.kind, Kind::Var { .. })).count()
    };
    for name in ["record", "u64", "library_add", "transform", "bpf_arena_alloc_pages", ".maps", ".kconfig"] {
        assert_eq!(count(name), 1, "{name}");
    }
    let run = program(&object, "run");
    for function in &run.subprograms {
        let line = run.line_at(function.start).unwrap();
        let file =
            if ["transform", "library_add"].contains(&function.name.as_str()) { "library" } else { "" };
        assert!(line.file.contains(file), "{} is from {}", function.name, line.file);
        let id = function.btf_func.unwrap();
        assert_eq!(btf.name(id), function.name);
        let Some(Kind::Func { linkage, .. }) = btf.kind(id) else { panic!("no function") };
        assert_eq!(*linkage as u8, u8::from(function.linkage != Linkage::Static), "{}", function.name);
    }
}

#[test]
fn linking_again_changes_nothing() {
    let once = link(&["linked_main", "linked_library"]).unwrap();
    let again = Linker::new().add("once", &once).unwrap().finish().unwrap();
    assert!(once == again, "{} and {} bytes", once.len(), again.len());
    assert!(once == link(&["linked_main", "linked_library"]).unwrap(), "the same bytes each time");
    // In steps: what is still declared only is found by a later link.
    let alone = link(&["linked_main"]).unwrap();
    let library = bytes("linked_library");
    let linker = Linker::new().add("main", &alone).unwrap().add("library", &library).unwrap();
    assert!(once == linker.finish().unwrap());
}

#[test]
fn one_object_linked_alone_is_as_it_was() {
    for name in ["arena", "calls", "core", "data", "externs", "kconfig", "maps", "struct_ops", "types"] {
        let before = Object::parse(&bytes(name)).unwrap();
        let after = Object::parse(&link(&[name]).unwrap()).unwrap();
        assert_eq!(before.programs.len(), after.programs.len(), "{name}");
        let describe = |object: &Object| {
            let variables = object.variables.iter().map(|v| (v.name.clone(), v.map, v.offset, v.size));
            let maps = object.maps.iter().map(|m| (m.name.clone(), m.value_size, m.initial.clone()));
            (variables.collect::<Vec<_>>(), maps.collect::<Vec<_>>())
        };
        assert_eq!(describe(&before), describe(&after), "{name}");
        for info in &before.programs {
            let options =
                |object: &Object| LinkOptions { target_btf: object.btf.clone(), ..LinkOptions::default() };
            let one = before.link_with(&info.name, &options(&before));
            let other = after.link_with(&info.name, &options(&after));
            let text = |program: &Program| program.code.to_string();
            assert_eq!(one.ok().map(|p| text(&p)), other.ok().map(|p| text(&p)), "{name}: {}", info.name);
        }
    }
}

#[test]
fn what_does_not_go_together_is_named_with_both_objects() {
    let library = |other| link(&["linked_library", other]).unwrap_err();
    let names = |other: &str| ("linked_library".to_owned(), other.to_owned());
    let (first, second) = names("linked_conflict");
    let symbol = "library_add".to_owned();
    assert_eq!(library("linked_conflict"), StaticLinkError::DuplicateSymbol { symbol, first, second });

    let StaticLinkError::TypeMismatch { symbol, first, second, mismatch } = library("linked_types") else {
        panic!("linked")
    };
    assert_eq!((first, second), names("linked_types"));
    assert_eq!(symbol, "totals");
    let name = "unsigned long long".to_owned();
    assert_eq!(*mismatch, TypeMismatch::Size { name, first: 8, second: 4 });

    let (first, second) = names("linked_maps");
    let symbol = "table".to_owned();
    let attribute = "max_entries";
    assert_eq!(library("linked_maps"), StaticLinkError::MapMismatch { symbol, first, second, attribute });

    let (first, second) = names("linked_license");
    let (section, what) = ("license".to_owned(), SectionProperty::Contents);
    assert_eq!(library("linked_license"), StaticLinkError::SectionMismatch { section, what, first, second });

    let refusal = library("linked_ksym");
    assert!(
        matches!(&refusal, StaticLinkError::PlaceMismatch { symbol, first_section, second_section, .. }
            if symbol == "library_add" && first_section == ".text" && second_section == ".ksyms"),
        "{refusal}"
    );

    assert_eq!(Linker::new().finish().unwrap_err(), StaticLinkError::Nothing);
    let StaticLinkError::Object { object, error } = Linker::new().add("noise", b"\x7fELF").unwrap_err()
    else {
        panic!("read")
    };
    assert!(object == "noise" && matches!(*error, ObjectError::Elf(_)));
}

#[test]
fn two_programs_of_the_same_name_are_refused() {
    let twice = link(&["linked_main", "linked_main"]).unwrap_err();
    assert!(matches!(twice, StaticLinkError::DuplicateSymbol { .. }), "{twice}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_objects_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        first in any::<bool>(),
    ) {
        let (mut main, mut library) = (bytes("linked_main"), bytes("linked_library"));
        let changed = if first { &mut main } else { &mut library };
        for (at, value) in changes {
            let at = at.index(changed.len());
            changed[at] = value;
        }
        let linker = Linker::new().add("main", &main).and_then(|l| l.add("library", &library));
        if let Ok(bytes) = linker.and_then(|l| l.finish())
            && let Ok(object) = Object::parse(&bytes)
        {
            for info in &object.programs {
                let _ = object.link(&info.name);
            }
        }
    }
}
