//! Small assembled programs, each run by the interpreter and as machine code, with the same result.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use bpf_arena::error::{LoadError, RunError, UnsupportedKind};
use bpf_arena::{Cancel, LoopLimit, StopReason, Stream};
use bpf_object::{Extern, ExternKind};
use common::{arena, array, both, both_with, bss, program, r0_of, rodata};
use std::sync::{Arc, Mutex};

#[test]
fn arithmetic_and_jumps() {
    let text = "
        r0 = 1
        r1 = 10
    loop:
        r0 *= 2
        r1 -= 1
        if r1 != 0 goto loop
        w0 += -1
        exit
    ";
    assert_eq!(r0_of(text, vec![], &[]), 1023);
}

#[test]
fn context_is_read_and_written() {
    let text = "
        r2 = *(u32 *)(r1 +4)
        r2 += 1
        *(u32 *)(r1 +0) = r2
        r0 = *(s8 *)(r1 +8)
        exit
    ";
    let program = program(text, vec![]);
    let ctx = [0, 0, 0, 0, 41, 0, 0, 0, 0xff, 0, 0, 0];
    let (r0, changed) = both(&program, &ctx, |outcome, ctx, _| (outcome.unwrap().r0, ctx.to_vec()));
    assert_eq!(r0, u64::MAX);
    assert_eq!(changed, [42, 0, 0, 0, 41, 0, 0, 0, 0xff, 0, 0, 0]);
    both(&program, &ctx[..8], |outcome, _, _| {
        assert!(matches!(outcome, Err(RunError::ContextTooSmall { needed: 9, given: 8 })), "{outcome:?}");
    });
    both(&program, &vec![0; 0x1_0000], |outcome, _, _| {
        assert!(matches!(outcome, Err(RunError::ContextTooLarge { limit: 0xffff, .. })), "{outcome:?}");
    });
}

#[test]
fn a_raw_tracepoint_reads_its_arguments() {
    let mut program = program("r0 = *(u64 *)(r1 +8)\nexit", vec![]);
    program.kind = bpf_object::ProgramKind::from_section("raw_tp/sys_enter");
    let ctx = [[1u8; 8], [2; 8]].concat();
    assert_eq!(both(&program, &ctx, |outcome, _, _| outcome.unwrap().r0), u64::from_le_bytes([2; 8]));
    both(&program, &[0; 104], |outcome, _, _| {
        assert!(matches!(outcome, Err(RunError::ContextTooLarge { limit: 96, .. })), "{outcome:?}");
    });
    let mut writes = common::program("*(u64 *)(r1 +8) = 1\nr0 = 0\nexit", vec![]);
    writes.kind = program.kind.clone();
    let engine = bpf_arena::Engine::user();
    let maps = engine.maps(&writes).unwrap();
    assert!(matches!(engine.load_program(&writes, &maps), Err(LoadError::Rejected { .. })));
}

#[test]
fn subprograms_have_frames_of_their_own() {
    let text = "
        r6 = 5
        *(u64 *)(r10 -8) = 7
        r1 = r10
        r1 += -8
        call fn_add
        r0 += r6
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        exit
    fn_add:
        r6 = 100
        *(u64 *)(r10 -8) = 1
        r0 = *(u64 *)(r1 +0)
        r2 = *(u64 *)(r10 -8)
        r0 += r2
        exit
    ";
    assert_eq!(r0_of(text, vec![], &[]), 7 + 1 + 5 + 7);
}

#[test]
fn global_data_is_shared_with_the_host() {
    let text = "
        r1 = map[idx:0][0]+8
        r2 = 41
        *(u64 *)(r1 +0) = r2
        r3 = 1
        lock *(u64 *)(r1 +0) += r3
        r1 = map[idx:1][0]+4
        r0 = *(u32 *)(r1 +0)
        exit
    ";
    let program = program(text, vec![bss(16), rodata(&[1, 0, 0, 0, 2, 0, 0, 0])]);
    let (r0, bytes) = both(&program, &[], |outcome, _, instance| {
        let mut bytes = [0; 16];
        instance.maps().maps()[0].read_at(0, &mut bytes).unwrap();
        (outcome.unwrap().r0, bytes)
    });
    assert_eq!((r0, bytes[8]), (2, 42));
}

#[test]
fn array_elements() {
    let text = "
        r6 = 0
        *(u32 *)(r10 -4) = 1
        *(u64 *)(r10 -16) = 99
        r1 = map[idx:0]
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 0
        call bpf_map_update_elem
        r6 = r0
        r1 = map[idx:0]
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 1
        call bpf_map_update_elem
        r6 += r0
        r1 = map[idx:0]
        r2 = r10
        r2 += -4
        call bpf_map_delete_elem
        r6 += r0
        *(u32 *)(r10 -4) = 2
        r1 = map[idx:0]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 != 0 goto wrong
        *(u32 *)(r10 -4) = 1
        r1 = map[idx:0]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto wrong
        r0 = *(u64 *)(r0 +0)
        r0 += r6
        exit
    wrong:
        r0 = 1
        exit
    ";
    // -EEXIST of the second update and -EINVAL of the removal.
    assert_eq!(r0_of(text, vec![array("map", 8, 2)], &[]), 99 - 17 - 22);
}

#[test]
fn loops_with_callbacks() {
    let text = "
        *(u64 *)(r10 -8) = 0
        r1 = 100
        r2 = subprog[fn_round]
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_loop
        r0 *= 10000
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        exit
    fn_round:
        *(u64 *)(r10 -8) = r1
        r3 = *(u64 *)(r2 +0)
        r3 += r1
        *(u64 *)(r2 +0) = r3
        r0 = 0
        if r1 < 49 goto done
        r0 = 1
    done:
        exit
    ";
    assert_eq!(r0_of(text, vec![], &[]), 50 * 10000 + 1225);
}

#[test]
fn loops_that_are_too_long_or_flagged_are_refused() {
    let text = |count: &str, flags: &str| {
        format!(
            "
        r1 = {count}
        r2 = subprog[fn_round]
        r3 = 0
        r4 = {flags}
        call bpf_loop
        exit
    fn_round:
        r0 = 0
        exit
    "
        )
    };
    assert_eq!(r0_of(&text("8388609", "0"), vec![], &[]).cast_signed(), -7);
    assert_eq!(r0_of(&text("1", "1"), vec![], &[]).cast_signed(), -22);
    assert_eq!(r0_of(&text("0", "0"), vec![], &[]), 0);
}

#[test]
fn weak_externs_that_nobody_provides_are_null() {
    let text = "
        r1 = btf_var[id:0,fd:0]
        r2 = btf_var[id:1,fd:0]
        r0 = 7
        if r1 == 0 goto missing
        exit
    missing:
        if r2 == 0 goto out
        r0 = 42
    out:
        exit
    ";
    let mut program = program(text, vec![]);
    let external = |name: &str, kind, weak| Extern { name: name.to_owned(), kind, weak, btf: None };
    program.externs = vec![
        external("bpf_no_such_kfunc", ExternKind::Function, true),
        external("bpf_iter_num_new", ExternKind::Function, true),
    ];
    assert_eq!(both(&program, &[], |outcome, _, _| outcome.unwrap().r0), 42);
    program.externs[1] = external("runqueues", ExternKind::TypedVariable, false);
    for (_, engine) in common::EXECUTORS {
        let maps = engine().maps(&program).unwrap();
        match engine().load_program(&program, &maps) {
            Err(LoadError::Unsupported(list)) => {
                assert_eq!(
                    (list[0].kind, list[0].name.as_str()),
                    (UnsupportedKind::KernelVariable, "runqueues")
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn number_iterators() {
    let text = |start: i64, end: i64| {
        format!(
            "
        r6 = 0
        r7 = 0
        r1 = r10
        r1 += -8
        r2 = {start}
        r3 = {end}
        call bpf_iter_num_new
        r8 = r0
    again:
        r1 = r10
        r1 += -8
        call bpf_iter_num_next
        if r0 == 0 goto done
        r1 = *(u32 *)(r0 +0)
        r6 += 1
        r6 &= 0xffff
        goto again
    done:
        r1 = r10
        r1 += -8
        call bpf_iter_num_destroy
        r0 = r8
        r0 <<= 32
        r0 |= r6
        exit
    "
        )
    };
    assert_eq!(r0_of(&text(0, 10), vec![], &[]), 10);
    assert_eq!(r0_of(&text(-5, 5), vec![], &[]), 10);
    assert_eq!(r0_of(&text(3, 3), vec![], &[]), 0);
    assert_eq!(r0_of(&text(4, 3), vec![], &[]) >> 32, 0xffff_ffea); // -EINVAL
    assert_eq!(r0_of(&text(0, 8_388_609), vec![], &[]) >> 32, 0xffff_fff9); // -E2BIG
}

#[test]
fn a_cancelled_run_ends() {
    let text = "
        r0 = 0
    again:
        may_goto done
        goto again
    done:
        exit
    ";
    let cancel = Cancel::new();
    cancel.cancel();
    both_with(
        &program(text, vec![]),
        &[],
        |engine| engine.cancel(&cancel).loop_limit(LoopLimit::Iterations(u64::MAX)),
        |outcome, _, _| {
            let Err(RunError::Stopped(stopped)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(stopped.reason, StopReason::Cancelled);
            assert!(stopped.frames.is_empty(), "it did not begin");
        },
    );
}

#[test]
fn the_interpreter_counts_instructions() {
    let program = program("r0 = 0\nr0 += 1\nexit", vec![]);
    for (limit, ends) in [(2, false), (3, true)] {
        let engine = bpf_arena::Engine::user().interpreter().instruction_limit(limit);
        let outcome = common::instance(&engine, &program).run(&mut []);
        assert_eq!(outcome.is_ok(), ends, "{outcome:?}");
    }
}

#[test]
fn random_numbers_follow_the_seed() {
    let text = "
        call bpf_get_prandom_u32
        r6 = r0
        call bpf_get_prandom_u32
        r0 <<= 32
        r0 |= r6
        exit
    ";
    let program = program(text, vec![]);
    let run =
        |seed| both_with(&program, &[], |engine| engine.seed(seed), |outcome, _, _| outcome.unwrap().r0);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn messages_reach_the_output() {
    let text = "
        r1 = map[idx:0][0]+0
        r2 = 14
        r3 = 7
        r4 = -1
        call bpf_trace_printk
        exit
    ";
    let program = program(text, vec![rodata(b"seven %d %llx\0")]);
    let messages = Arc::new(Mutex::new(Vec::new()));
    let sink = |stream: Stream, text: &[u8]| {
        messages.lock().unwrap().push((stream, String::from_utf8_lossy(text).into_owned()));
    };
    for (_, engine) in common::EXECUTORS {
        let messages = Arc::clone(&messages);
        let engine = engine().output(move |stream: Stream, text: &[u8]| {
            messages.lock().unwrap().push((stream, String::from_utf8_lossy(text).into_owned()));
        });
        assert_eq!(common::instance(&engine, &program).run(&mut []).unwrap().r0, 24);
    }
    let _ = sink;
    let expected = (Stream::Trace, "seven 7 ffffffffffffffff".to_owned());
    assert_eq!(*messages.lock().unwrap(), [expected.clone(), expected]);
}

#[test]
fn a_panicking_output_ends_the_run_with_an_error() {
    let text = "
        r1 = map[idx:0][0]+0
        r2 = 3
        call bpf_trace_printk
        r0 = 0
        exit
    ";
    let program = program(text, vec![rodata(b"hi\0")]);
    both_with(
        &program,
        &[],
        |engine| engine.output(|_: Stream, _: &[u8]| panic!("no paper")),
        |outcome, _, _| match outcome {
            Err(RunError::Panicked { function, message }) => {
                assert_eq!((function, message.as_str()), ("bpf_trace_printk", "no paper"));
            }
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn arena_pages_come_and_go() {
    let text = "
        r1 = map[idx:0]
        r2 = 0
        r3 = 1
        r4 = -1
        r5 = 0
        call bpf_arena_alloc_pages
        r6 = r0
        if r0 == 0 goto wrong
        r7 = addr_space_cast(r6, 0, 1)
        *(u64 *)(r7 +16) = 0x1234
        r8 = *(u64 *)(r7 +16)
        r1 = map[idx:0]
        r2 = r6
        r3 = 1
        call bpf_arena_free_pages
        r0 = *(u64 *)(r7 +16)
        r0 <<= 32
        r0 |= r8
        exit
    wrong:
        r0 = -1
        exit
    ";
    let program = program(text, vec![arena(4, 0)]);
    let (r0, faults) = both(&program, &[], |outcome, _, instance| {
        let outcome = outcome.unwrap();
        assert_eq!(instance.maps().arena().unwrap().pages_in_use().get(), 0);
        let start = instance.maps().arena().unwrap().user_vm_start().get();
        let faults: Vec<_> = outcome
            .faults
            .iter()
            .map(|f| (f.kind, f.address.get() - start, f.size, f.insn().unwrap().0))
            .collect();
        (outcome.r0, faults)
    });
    assert_eq!(r0, 0x1234);
    let at = 8 + 2 + 1 + 3 + 2 + 2;
    assert_eq!(faults.len(), 1);
    assert!(matches!(faults[0], (codegen::AccessKind::Load, 16, 8, insn) if insn <= at + 4), "{faults:?}");
}

#[test]
fn maps_are_read_through_pointers_to_them() {
    // `map_type`, `value_size` and `max_entries` of `struct bpf_map`; `user_vm_end - user_vm_start` of `struct bpf_arena`.
    let text = "
        r1 = map[idx:0]
        r0 = *(u32 *)(r1 +8)
        r2 = *(u8 *)(r1 +16)
        r0 += r2
        r2 = *(u32 *)(r1 +20)
        r0 += r2
        r1 = map[idx:1]
        r2 = *(u64 *)(r1 +72)
        r3 = *(u64 *)(r1 +64)
        r2 -= r3
        r0 += r2
        exit
    ";
    assert_eq!(r0_of(text, vec![array("table", 7, 100), arena(3, 0)], &[]), 2 + 7 + 100 + 3 * 4096);
}

#[test]
fn a_program_verified_against_other_structures_of_maps_is_not_joined_with_these() {
    let program = program("r1 = map[idx:0]\nr0 = *(u32 *)(r1 +4096)\nexit", vec![array("table", 8, 1)]);
    let member = verifier::MapMember { name: "far".to_owned(), offset: 4096, size: 4 };
    let mut env = verifier::Env::default();
    env.map_structs = Arc::from([verifier::MapStruct {
        map_type: bpf_object::MapType::Array,
        name: "bpf_array".to_owned(),
        size: 4100,
        members: vec![member],
    }]);
    let verified = verifier::verify(&program, &env).unwrap();
    assert_eq!(verified.map_bytes(), 4100);
    for engine in [bpf_arena::Engine::user(), bpf_arena::Engine::user().interpreter()] {
        // The engine's own structures are what it verifies against.
        let engine = engine.env(env.clone());
        let maps = engine.maps(&program).unwrap();
        assert!(matches!(engine.load_program(&program, &maps), Err(LoadError::Rejected { .. })));
        assert!(matches!(engine.instantiate(&verified, &maps), Err(LoadError::OtherMaps { .. })));
    }
}

/// What the kernel keeps in 16 bits (`tc_index`, `tc_classid`, `queue_mapping`) has the 32 of the context here: a difference that
/// docs/differences.md lists.
#[test]
fn fields_of_a_packet_that_a_kernel_keeps_short_are_whole() {
    let mut program = program("*(u32 *)(r1 +44) = 0x12345\nr0 = *(u32 *)(r1 +44)\nexit", vec![]);
    program.kind = bpf_object::ProgramKind::from_section("tc");
    assert_eq!(both(&program, &[], |outcome, _, _| outcome.unwrap().r0), 0x12345);
}

/// Two calls of the same function, which calls another: which of them led to a fault is known also where both are inlined.
#[test]
fn faults_in_inlined_functions_name_all_that_called() {
    let text = "
        r6 = map[idx:0]
        r6 = 0x40000000 ll
        r6 = addr_space_cast(r6, 0, 1)
        r1 = r6
        call fn_outer
        r7 = r0
        r1 = r6
        r1 += 4096
        call fn_outer
        r0 += r7
        exit
    fn_outer:
        r1 += 8
        call fn_inner
        r0 += 1
        exit
    fn_inner:
        r0 = *(u64 *)(r1 +0)
        *(u32 *)(r1 +4) = r0
        exit
    ";
    let program = program(text, vec![arena(4, 0)]);
    let left = both(&program, &[], |outcome, _, instance| {
        let changes = instance.changes();
        assert!(changes.is_none_or(|changes| changes.of(codegen::Pass::Inline) >= 2), "{changes:?}");
        let outcome = outcome.unwrap();
        let chain = |fault: &bpf_arena::Fault| -> Vec<_> {
            fault.frames.iter().map(|frame| (frame.function.clone(), frame.insn.0)).collect()
        };
        let faults: Vec<_> = outcome
            .faults
            .iter()
            .map(|fault| (fault.size, fault.address.get() & 0xffff, chain(fault)))
            .collect();
        (outcome.r0, faults)
    });
    let (r0, faults) = left;
    assert_eq!(r0, 2);
    let calls: Vec<_> =
        faults.iter().map(|(size, at, chain)| (*size, *at, chain.len(), chain[2].1)).collect();
    assert_eq!(calls, [(8, 8, 3, 6), (4, 12, 3, 6), (8, 0x1008, 3, 10), (4, 0x100c, 3, 10)], "{faults:?}");
}
