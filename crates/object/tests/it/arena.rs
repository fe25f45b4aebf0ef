//! Arenas and their globals.

use bpf_arena_object::{
    BPF_F_MMAPABLE, ExternKind, Linkage, MapOrigin, MapType, Object, ObjectError, Program,
};
use isa::{CallTarget, Imm64, Insn};

use crate::{bytes, object};

/// Values of the 64-bit immediates of a program, in order.
fn immediates(program: &Program) -> Vec<Imm64> {
    let of = |insn| match insn {
        Insn::LoadImm64 { value, .. } => Some(value),
        _ => None,
    };
    program.code.iter().filter_map(|(_, insn)| of(insn)).collect()
}

#[test]
fn an_arena_is_declared_and_its_globals_start_it() {
    let object = object("arena");
    let (index, arena) = object.arena().unwrap();
    assert_eq!((index, arena.name.as_str(), arena.map_type), (0, "arena", MapType::Arena));
    assert_eq!((arena.key_size, arena.value_size, arena.max_entries), (0, 0, 100));
    assert_eq!((arena.flags, arena.extra), (BPF_F_MMAPABLE, 1 << 44));
    assert_eq!(arena.origin, MapOrigin::Declared);
    let mut globals = vec![0u8; 24];
    globals[0] = 41;
    globals[8] = 2;
    assert_eq!(arena.initial, globals);
    assert_eq!(object.license, "GPL");
    let names: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.section.as_str())).collect();
    assert_eq!(names, [("add", "syscall"), ("drop", "syscall")]);
}

#[test]
fn arena_globals_have_the_places_that_btf_leaves_out() {
    let object = object("arena");
    let place = |name: &str| {
        let variable = object.variable(name).unwrap();
        (variable.map, variable.offset, variable.size, variable.linkage)
    };
    assert_eq!(place("counter"), (0, 0, 8, Linkage::Global));
    assert_eq!(place("skipped.0"), (0, 8, 4, Linkage::Static));
    assert_eq!(place("head"), (0, 16, 8, Linkage::Global));
    assert_eq!(place("sum"), (1, 0, 8, Linkage::Global));
    let btf = object.btf.as_ref().unwrap();
    assert_eq!(object.variable("skipped.0").unwrap().ty, None, "its type has 12 bytes, clang left 4 of them");
    let head = object.variable("head").and_then(|v| v.ty).unwrap();
    assert_eq!(btf.size_of(head), Some(8));
}

#[test]
fn references_to_globals_and_the_map_are_by_index() {
    let program = object("arena").link("add").unwrap();
    let value = |offset| Imm64::MapIdxValue { map: 0, offset };
    let sum = Imm64::MapIdxValue { map: 1, offset: 0 };
    // The map, a static by section and addend, a global, ordinary data; then those of the subprogram.
    assert_eq!(immediates(&program), [Imm64::MapIdx(0), value(8), value(0), sum, value(16), value(0)]);
    let kfuncs: Vec<_> = program.externs.iter().map(|e| (e.name.as_str(), e.kind, e.weak)).collect();
    assert_eq!(kfuncs, [("bpf_arena_alloc_pages", ExternKind::Function, true)]);
    let calls: Vec<_> = program
        .code
        .iter()
        .filter_map(|(_, insn)| match insn {
            Insn::Call { target } => Some(target),
            _ => None,
        })
        .collect();
    let kfunc = CallTarget::Kfunc { btf_id: 0, module: 0 };
    assert!(calls.contains(&kfunc), "{calls:?}");
    assert_eq!(calls.iter().filter(|c| matches!(c, CallTarget::Local(_))).count(), 2);
}

#[test]
fn casts_written_as_raw_bytes_are_casts() {
    let object = object("arena_asm");
    let program = object.link("store").unwrap();
    let casts =
        program.code.iter().filter(|(_, i)| matches!(i, Insn::AddrSpaceCast { dst_as: 0, src_as: 1, .. }));
    assert_eq!(casts.count(), 2);
    let (arena, _) = object.arena().unwrap();
    assert_eq!(object.variable("in_arena").unwrap().map, arena);
    assert_ne!(object.variable("head").unwrap().map, arena, "an ordinary global stays in .bss");
}

#[test]
fn pointers_between_arena_globals_are_filled_in() {
    let object = object("arena_pointers");
    let (_, arena) = object.arena().unwrap();
    let word = |name: &str, at: usize| {
        let start = object.variable(name).unwrap().offset as usize + at;
        u64::from_le_bytes(arena.initial[start..start + 8].try_into().unwrap())
    };
    let address = |name: &str| arena.extra + u64::from(object.variable(name).unwrap().offset);
    assert_eq!(word("first", 0), address("last"));
    assert_eq!(word("into", 0), address("first") + 8);
    assert_eq!(word("last", 0), 0);
    assert_eq!(word("last", 8), 2);
}

#[test]
fn arenas_that_cannot_work_are_refused() {
    let refusal = |name: &str| Object::parse(&bytes(name)).unwrap_err();
    assert_eq!(refusal("arena_none"), ObjectError::NoArena { section: ".addr_space.1".to_owned() });
    let (first, second) = ("one".to_owned(), "two".to_owned());
    assert_eq!(refusal("arena_two"), ObjectError::SeveralArenas { first, second });
    let map = "arena".to_owned();
    assert_eq!(refusal("arena_small"), ObjectError::ArenaTooSmall { map, needed: 4097, available: 4096 });
}

#[test]
fn lines_carry_their_text() {
    let program = object("arena").link("add").unwrap();
    assert_eq!(program.subprograms.len(), 2);
    for (insn, decoded) in program.code.iter() {
        let line = program.line_at(insn).unwrap_or_else(|| panic!("no line for {insn}: {decoded:?}"));
        assert!(line.file.ends_with("arena.bpf.c"), "{}", line.file);
        assert!(line.line > 0);
    }
    let first = program.line_at(program.subprograms[1].start).unwrap();
    assert!(first.source.contains("node->value = value"), "{}", first.source);
    assert_eq!(program.subprogram_at(program.subprograms[1].start).unwrap().name, "push");
}
