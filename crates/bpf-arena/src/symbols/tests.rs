//! What is written is read back with the readers of `object` and by hand.

use std::collections::BTreeMap;

use bpf_object::Object;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::*;

/// A program with several functions, and its machine code.
fn compiled() -> (Program, Compiled) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/hash_table.bpf.o");
    let object = Object::parse(&std::fs::read(path).unwrap()).unwrap();
    let name = &object.programs.first().unwrap().name;
    let program = object.link(name).unwrap();
    let verified = verifier::verify(&program, &verifier::Env::default()).unwrap();
    (program, codegen::compile(&verified, &codegen::Options::default()).unwrap())
}

const START: u64 = 0x7f00_1234_5000;

#[test]
fn the_environment_adds_to_what_an_engine_says() {
    let with = |words: &str| Symbols::default().with(words.into());
    assert_eq!(with("").unwrap(), Symbols::default());
    let all = Symbols { perf_map: true, jitdump: Some("/x".into()), gdb: true };
    assert_eq!(with("perf-map,gdb,jitdump=/x").unwrap(), all);
    assert_eq!(all.clone().with("jitdump".into()).unwrap(), all);
    assert_eq!(with("jitdump").unwrap().jitdump, Some(".".into()));
    let error = with("gdb,vtune").unwrap_err().to_string();
    assert_eq!(
        error,
        "BPF_ARENA_SYMBOLS has `vtune`; known are `perf-map`, `jitdump`, `jitdump=FOLDER` and `gdb`"
    );
}

#[test]
fn every_function_has_a_line_in_the_map() {
    let (program, compiled) = compiled();
    let map = perf_map(&CodeTable::new(&program, &compiled, START));
    assert_eq!(map.lines().count(), compiled.functions.len() + compiled.stubs.len());
    assert!(map.lines().skip(compiled.functions.len()).all(|line| line.contains("::stub.")), "{map}");
    for (line, function) in map.lines().zip(&compiled.functions) {
        let subprogram = &program.subprograms[function.subprogram].name;
        let start = START + u64::from(function.start);
        let size = function.end - function.start;
        assert_eq!(line, format!("{start:x} {size:x} bpf_arena::{}::{subprogram}", program.name));
    }
}

#[test]
fn the_debug_file_has_a_symbol_for_each_function_and_all_tables() {
    let (program, compiled) = compiled();
    let bytes = elf::file(&CodeTable::new(&program, &compiled, START)).unwrap();
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(bytes.as_slice()).unwrap();
    let symbols: BTreeMap<_, _> =
        file.symbols().map(|s| (s.address(), (s.name().unwrap().to_owned(), s.size()))).collect();
    for function in &compiled.functions {
        let name = format!("{}::{}", program.name, program.subprograms[function.subprogram].name);
        let size = u64::from(function.end - function.start);
        assert_eq!(symbols.get(&(START + u64::from(function.start))), Some(&(name, size)));
    }
    let text = file.section_by_name(".text").unwrap();
    assert_eq!(text.address(), START);
    let last = compiled.functions.last().unwrap().end;
    let end = u64::from(compiled.stubs.last().map_or(last, |stub| stub.end));
    assert_eq!(text.size(), end);
    for name in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_frame"] {
        assert!(file.section_by_name(name).is_some_and(|s| s.size() > 0), "{name}");
    }
}

#[test]
fn stretches_of_code_name_their_lines() {
    let (program, compiled) = compiled();
    let table = CodeTable::new(&program, &compiled, START);
    assert!(table.functions.iter().skip(compiled.functions.len()).all(|stub| stub.places.is_empty()));
    for (function, of) in table.functions.iter().zip(&compiled.functions) {
        let Some(first) = function.places.first() else { panic!("a function without lines") };
        assert_eq!(first.address, function.start);
        for offset in of.start..of.end {
            let address = START + u64::from(offset);
            let insn = compiled.insn_at(offset).unwrap();
            let expected = program.line_at(insn).map(|line| line.line);
            let after = function.places.partition_point(|place| place.address <= address);
            let found = function.places[after - 1].line.as_ref().map(|line| line.line);
            assert_eq!(found, expected, "offset {offset:#x}");
        }
    }
}

#[test]
fn frames_are_built_in_order() {
    let (_, compiled) = compiled();
    for function in &compiled.functions {
        let steps: Vec<_> = function.frame.iter().map(|step| step.change).collect();
        assert!(matches!(steps.first(), Some(codegen::FrameChange::Pushed { below: 16 })), "{steps:?}");
        assert_eq!(steps.get(1), Some(&codegen::FrameChange::Established));
        assert!(function.frame.is_sorted_by_key(|step| step.offset));
        assert!(function.frame.iter().all(|s| function.start < s.offset && s.offset <= function.end));
    }
}

/// Reads records as the specification says: (kind, time, body).
fn parse(mut bytes: &[u8]) -> Vec<(u32, u64, &[u8])> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let size = word(4) as usize;
        records.push((word(0), u64::from_le_bytes(bytes[8..16].try_into().unwrap()), &bytes[16..size]));
        bytes = &bytes[size..];
    }
    records
}

#[test]
fn a_dump_has_code_and_lines_of_each_function() {
    let (program, compiled) = compiled();
    let table = CodeTable::new(&program, &compiled, START);
    let header = jitdump::header(7, 5);
    assert_eq!(header.len(), 40);
    assert_eq!(&header[..4], &[0x44, 0x54, 0x69, 0x4a]);
    let records = jitdump::records(&table, 3, jitdump::Moment { pid: 7, tid: 8, time: 9 });
    let records = parse(&records);
    assert_eq!(records.len(), 2 * compiled.functions.len() + compiled.stubs.len());
    for ((pair, function), index) in records.chunks(2).zip(&compiled.functions).zip(3_u64..) {
        let [(2, 9, lines), (0, 9, load)] = pair else { panic!("{pair:?}") };
        let quad = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let start = START + u64::from(function.start);
        assert_eq!(quad(lines, 0), start);
        assert_eq!(lines[16..].iter().filter(|byte| **byte == 0).count() > 0, quad(lines, 8) > 0);
        let size = u64::from(function.end - function.start);
        assert_eq!(
            [quad(load, 8), quad(load, 16), quad(load, 24), quad(load, 32)],
            [start, start, size, index]
        );
        let name = &program.subprograms[function.subprogram].name;
        let name = format!("bpf_arena::{}::{name}\0", program.name);
        let code = &compiled.text[function.start as usize..function.end as usize];
        assert_eq!(&load[40..], [name.as_bytes(), code].concat());
    }
}
