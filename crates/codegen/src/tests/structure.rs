//! What must hold of every program's code.

use std::collections::BTreeSet;

use isa::InsnIdx;
use verifier::Memory;

use super::fixture::Fixture;
use crate::{AccessKind, CompileError, Compiled, Import, Leaves, MachineInsn, faults};

const ACCESSES: &str = "
    r1 = addr_space_cast(r1, 0, 1)
    r2 = *(u64 *)(r1 +0)                          ; arena
    *(u8 *)(r1 -3) = r2                           ; arena
    *(u8 *)(r1 -3) = r2                           ; arena
    *(u8 *)(r1 -3) = r2                           ; arena
    r3 = *(s32 *)(r1 +0)                          ; arena
    r3 = *(s32 *)(r1 +0)                          ; arena
    *(u32 *)(r1 +0) = r3                          ; arena
    lock *(u64 *)(r1 +0) ^= r2                    ; arena
    r2 = atomic_fetch_add((u32 *)(r1 +0), r2)     ; arena
    r0 = cmpxchg_64(r1 +0, r0, r2)                ; arena
    r4 = atomic64_fetch_and((u64 *)(r1 +0), r4)   ; arena
    r5 = *(u64 *)(r1 +0)                          ; proven
    *(u64 *)(r10 -8) = r5
    r0 = *(u64 *)(r10 -8)
    exit
";

/// Checks what must hold of all code, for the tests of this folder.
pub(super) fn check(fixture: &Fixture, compiled: &Compiled) {
    let text = compiled.text.len() as u32;
    assert!(compiled.functions.is_sorted_by(|a, b| a.end <= b.start), "functions overlap");
    assert!(compiled.functions.iter().all(|f| f.start < f.end && f.end <= text));
    assert!(compiled.lines.is_sorted_by(|a, b| a.offset < b.offset), "lines are not in order");
    assert!(compiled.faults.is_sorted_by(|a, b| a.offset < b.offset), "sites are not in order");
    for site in &compiled.faults {
        let function = compiled.functions.iter().find(|f| (f.start..f.end).contains(&site.offset)).unwrap();
        assert!(site.resume > site.offset && site.resume < function.end, "{site:?} goes on outside");
        assert_eq!(compiled.insn_at(site.offset), Some(site.insn));
        let insn = fixture.program.code.get(site.insn).unwrap();
        assert_eq!(faults::access_of(insn), Some((site.access, site.size)), "{site:?}");
        match site.access {
            AccessKind::Load => assert!(matches!(site.leaves, Leaves::Zero(_))),
            AccessKind::Store => assert_eq!(site.leaves, Leaves::Registers),
            AccessKind::Atomic => {}
        }
        assert_eq!(fixture.source().facts(site.insn).memory, Some(Memory::Arena));
    }
    let functions = compiled.functions.iter().map(|f| f.start);
    let starts = functions.chain(compiled.stubs.iter().map(|s| s.start));
    let starts: BTreeSet<String> = starts.map(|start| format!("{start:#x}")).collect();
    let code: Vec<_> = compiled.disassemble().collect();
    for (index, machine) in code.iter().enumerate() {
        let MachineInsn { offset, text, .. } = machine;
        assert!(!text.starts_with("(bad)") && !text.starts_with(".word"), "no code at {offset:x}");
        assert!(compiled.insn_at(*offset).is_some());
        if let Some(target) = text.strip_prefix("call ").or_else(|| text.strip_prefix("bl ")) {
            assert!(!target.starts_with("0x") || starts.contains(target), "call into nowhere");
        }
        let next = code.get(index + 1).map(|next| next.offset);
        if next.is_none_or(|next| compiled.functions.iter().any(|f| f.start == next)) {
            let leaves = ["ret", "jmp ", "ud2", "b ", "br ", "udf "];
            assert!(
                leaves.iter().any(|l| text.starts_with(l)),
                "execution falls out of the function: {text}"
            );
        }
    }
}

/// Whether it calls something.
fn is_call(machine: &MachineInsn) -> bool {
    ["call ", "bl ", "blr "].iter().any(|name| machine.text.starts_with(name))
}

#[test]
fn each_arena_access_has_a_site_or_an_import() {
    let fixture = Fixture::parse(ACCESSES);
    let compiled = fixture.compile().unwrap();
    check(&fixture, &compiled);
    let sites: Vec<u32> = compiled.faults.iter().map(|f| f.insn.0).collect();
    assert_eq!(sites, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "every access, in order, none twice or merged");
    assert_eq!(compiled.imports, [Import::ArenaAtomic(isa::Size::DW, isa::AtomicOp::And)]);
}

#[test]
fn without_fault_support_every_arena_access_is_a_call() {
    let fixture = Fixture::parse(ACCESSES);
    let compiled = fixture.compile_checked().unwrap();
    check(&fixture, &compiled);
    assert_eq!(compiled.faults, []);
    let called: BTreeSet<InsnIdx> = compiled.disassemble().filter(is_call).map(|m| m.insn).collect();
    assert_eq!(called.into_iter().map(|i| i.0).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
}

#[test]
fn return_addresses_lead_to_their_call() {
    let fixture = Fixture::parse(
        "
        r1 = 1
        call sub_one
        r1 = 2
        call sub_one
        exit
    sub_one:
        r0 = r1
        call bpf_ktime_get_ns
        r0 += 1
        exit
    ",
    );
    let compiled = fixture.compile_with_calls(super::fixture::BASELINE).unwrap();
    check(&fixture, &compiled);
    let calls: Vec<_> = compiled
        .disassemble()
        .filter(is_call)
        .map(|m| compiled.insn_at(m.offset + u32::from(m.length) - 1).unwrap().0)
        .collect();
    assert_eq!(calls, [1, 3, 6]);
}

#[test]
fn inlined_code_says_whose_calls_it_stands_for() {
    let fixture = Fixture::parse(
        "
        call sub_outer
        exit
    sub_outer:
        r6 = r1
        call sub_inner
        r1 = r6
        call sub_inner
        exit
    sub_inner:
        r0 = *(u64 *)(r1 +0)    ; arena
        exit
    ",
    );
    let compiled = fixture.compile().unwrap();
    check(&fixture, &compiled);
    assert_eq!(compiled.functions.len(), 1, "all calls are gone");
    let chains: Vec<Vec<u32>> = compiled
        .faults
        .iter()
        .map(|site| {
            [site.insn].into_iter().chain(compiled.inlined_calls(site.inlined)).map(|at| at.0).collect()
        })
        .collect();
    assert_eq!(chains, [[7, 3, 0], [7, 5, 0]]);
}

#[test]
fn huge_functions_are_compiled_with_little_effort() {
    // A branch each few instructions, to and fro, and as many arena accesses: over the limit of blocks.
    let mut text = String::from("start:\n");
    for i in 0..2_500 {
        text.push_str(&format!("l{i}: r2 = *(u64 *)(r1 +8) ; arena\n r3 += r2\n"));
        text.push_str(&format!("if r3 == {i} goto l{}\n", (i * 7919) % 2_500));
    }
    text.push_str("r0 = r3\nexit\n");
    let fixture = Fixture::parse(&text);
    let compiled = fixture.compile().unwrap();
    check(&fixture, &compiled);
    assert_eq!(compiled.faults.len(), 2_500);
}

#[test]
fn refusals_name_the_instruction() {
    let refused = |text: &str| Fixture::parse(text).compile().unwrap_err();
    let at = InsnIdx(1);
    let unsupported = |e: &CompileError| matches!(e, CompileError::UnsupportedInsn { at: a, .. } if *a == at);
    assert!(unsupported(&refused("r0 = 0\ngotox r1\nexit")));
    assert!(unsupported(&refused("r0 = 0\ncallx r1\nexit")));
    assert!(unsupported(&refused("r0 = 0\nr1 = map[fd:3]\nexit")));
    let error = refused("r0 = 0\nr0 = *(u64 *)(r1 +0)\nexit");
    assert!(matches!(error, CompileError::UnknownMemory { at: a } if a == at), "{error}");
    for text in ["r0 = 0\ngoto +9\nexit", "r0 = 0\ngoto -3\nexit", "r0 = 0\ncall pc+7\nexit"] {
        let error = refused(text);
        assert!(matches!(error, CompileError::BadTarget { at: a } if a == at), "{text}: {error}");
    }
}

#[test]
fn an_empty_program_traps() {
    let fixture = Fixture::parse("");
    let compiled = fixture.compile().unwrap();
    assert!(compiled.disassemble().any(|m| m.text == "ud2" || m.text.starts_with("udf ")));
}
