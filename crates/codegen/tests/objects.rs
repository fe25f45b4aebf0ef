//! Every program of the repository's own objects that verification accepts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::Path;

use bpf_arena_codegen::{CompileError, Compiled, Import, Options, PassSet, compile};
use bpf_object::Object;
use isa::{AtomicOp, Insn, InsnIdx};
use verifier::{Env, Memory, Verified, verify};

/// Calls `check` with each program, its file and its code.
fn each_program(options: Options, mut check: impl FnMut(&str, &Verified, &Compiled)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let mut programs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".bpf.o") {
            continue;
        }
        let object = Object::parse(&std::fs::read(&path).unwrap()).unwrap();
        for info in &object.programs {
            // What asks for the types of an engine has none here.
            let Ok(program) = object.link(&info.name) else { continue };
            let Ok(verified) = verify(&program, &Env::default()) else { continue };
            let what = format!("{} {}", path.display(), info.name);
            let compiled = match compile(&verified, &options) {
                Ok(compiled) => compiled,
                // Verified for a kernel alone.
                Err(CompileError::KernelMemory { .. }) => continue,
                Err(error) => panic!("{what}: {error}"),
            };
            check(&what, &verified, &compiled);
            programs += 1;
        }
    }
    assert!(programs >= 20, "only {programs} programs: the objects are missing");
}

/// The reached arena accesses, without those the runtime does.
fn expected_sites(verified: &Verified) -> BTreeSet<InsnIdx> {
    let by_runtime = |insn: Insn| match insn {
        Insn::Atomic { op: AtomicOp::Or | AtomicOp::Xor, fetch: true, .. } => cfg!(target_arch = "x86_64"),
        Insn::Atomic { op: AtomicOp::And, fetch: true, .. } => true,
        Insn::Atomic { op: AtomicOp::Xchg, .. } => cfg!(target_arch = "aarch64"),
        _ => false,
    };
    verified
        .program()
        .code
        .iter()
        .filter(|&(at, insn)| {
            let facts = verified.facts(at);
            facts.reached && facts.memory == Some(Memory::Arena) && !by_runtime(insn)
        })
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn each_arena_access_has_its_sites() {
    each_program(Options::default(), |what, verified, compiled| {
        let sites: BTreeSet<InsnIdx> = compiled.faults.iter().map(|f| f.insn).collect();
        assert_eq!(sites, expected_sites(verified), "{what}");
    });
    // Unrolled and inlined code has an access in several places; without passes there is one.
    let mut plain = Options::default();
    plain.passes = PassSet::NONE;
    each_program(plain, |what, verified, compiled| {
        let sites: Vec<InsnIdx> = compiled.faults.iter().map(|f| f.insn).collect();
        let distinct: BTreeSet<InsnIdx> = sites.iter().copied().collect();
        assert_eq!(distinct.len(), sites.len(), "{what}: an access has two sites");
        assert_eq!(distinct, expected_sites(verified), "{what}");
    });
}

#[test]
fn without_fault_support_nothing_may_fault() {
    let mut options = Options::default();
    options.checked_arena = true;
    each_program(options, |what, verified, compiled| {
        assert_eq!(compiled.faults, [], "{what}");
        let calls = compiled
            .imports
            .iter()
            .any(|i| matches!(i, Import::ArenaLoad(_) | Import::ArenaStore(_) | Import::ArenaAtomic(..)));
        assert_eq!(calls, !expected_sites(verified).is_empty(), "{what}");
    });
}

#[test]
fn every_call_is_of_a_function_or_an_import() {
    each_program(Options::default(), |what, verified, compiled| {
        for info in &compiled.imports {
            if let Import::Kfunc(index) = info {
                assert!(verified.program().externs.get(*index as usize).is_some(), "{what}: {info:?}");
            }
        }
        let functions = compiled.functions.iter().map(|f| f.start);
        let starts = functions.chain(compiled.stubs.iter().map(|s| s.start));
        let starts: BTreeSet<String> = starts.map(|start| format!("{start:#x}")).collect();
        for machine in compiled.disassemble() {
            let target = machine.text.strip_prefix("call ").or_else(|| machine.text.strip_prefix("bl "));
            let Some(target) = target.filter(|target| target.starts_with("0x")) else { continue };
            assert!(starts.contains(target), "{what}: {}", machine.text);
        }
    });
}
