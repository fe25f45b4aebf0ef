//! Calls that are more than calls, or less: exceptions that leave every function, and helpers that compiled code does itself.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use std::sync::Arc;

use bpf_arena::{LoopLimit, RunError, UpdateMode};
use bpf_object::{MapSpec, MapType, ProgramKind};
use common::{array, both, program, r0_of};

#[test]
fn an_exception_leaves_every_function() {
    let text = "
        r6 = *(u32 *)(r1 +0)
        r1 = r6
        call fn_inner
        r0 = 1
        exit
    fn_inner:
        if r1 == 0 goto no
        r1 += 100
        call bpf_throw
    no:
        r0 = 0
        exit
    ";
    assert_eq!(r0_of(text, vec![], &[7, 0, 0, 0]), 107);
    assert_eq!(r0_of(text, vec![], &[0, 0, 0, 0]), 1);
}

#[test]
fn an_exception_does_not_outlive_its_run() {
    let text = "
        r6 = *(u32 *)(r1 +0)
        if r6 == 0 goto fine
        r1 = r6
        call bpf_throw
    fine:
        r0 = 50
        exit
    ";
    let program = program(text, vec![]);
    let results = both(&program, &[3, 0, 0, 0], |outcome, _, instance| {
        let again = instance.run(&mut [0; 4]).unwrap().r0;
        (outcome.unwrap().r0, again)
    });
    assert_eq!(results, (3, 50));
}

#[test]
fn arrays_are_looked_up_in_place() {
    let text = "
        r1 = *(u32 *)(r1 +0)
        *(u32 *)(r10 -4) = r1
        r2 = r10
        r2 += -4
        r1 = map[idx:0]
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r0 = *(u32 *)(r0 +0)
        exit
    none:
        r0 = -1
        exit
    ";
    let program = program(text, vec![array("values", 12, 5)]);
    for (index, expected) in [(0_u32, 100), (1, 101), (4, 104), (5, u64::MAX), (u32::MAX, u64::MAX)] {
        let found = both(&program, &index.to_le_bytes(), |_, _, instance| {
            let map = &instance.maps().maps()[0];
            for i in 0..5_u32 {
                let value = [&(100 + i).to_le_bytes()[..], &[0; 8]].concat();
                map.update(&i.to_le_bytes(), &value, UpdateMode::Any).unwrap();
            }
            instance.run(&mut index.to_le_bytes()).unwrap().r0
        });
        assert_eq!(found, expected, "{index}");
    }
}

#[test]
fn a_call_with_either_of_two_maps_asks_the_runtime() {
    let text = "
        r6 = *(u32 *)(r1 +4)
        r1 = *(u32 *)(r1 +0)
        *(u32 *)(r10 -4) = r1
        r2 = r10
        r2 += -4
        r1 = map[idx:0]
        if r6 == 0 goto first
        r1 = map[idx:1]
    first:
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r0 = 1
        exit
    none:
        r0 = 0
        exit
    ";
    let run = |index: u32, which: u32| {
        let ctx = [index.to_le_bytes(), which.to_le_bytes()].concat();
        r0_of(text, vec![array("short", 8, 2), array("long", 8, 9)], &ctx)
    };
    assert_eq!((run(1, 0), run(2, 0), run(2, 1), run(9, 1)), (1, 0, 1, 0));
}

#[test]
fn the_processor_is_one_of_the_possible_ones() {
    let cpu = r0_of("call bpf_get_smp_processor_id\nexit", vec![], &[]);
    assert!(cpu < bpf_arena::cpu::possible() as u64);
}

#[test]
fn each_function_has_loops_of_its_own() {
    // The first loop spends all that the entry has; the second one, in a function, and a third there again, have as many.
    let text = "
        r6 = 0
        r7 = 0
    first:
        may_goto second
        r6 += 1
        goto first
    second:
        may_goto call
        r7 += 1
        goto second
    call:
        call fn_inner
        r8 = r0
        call fn_inner
        r0 <<= 16
        r0 |= r8
        r0 <<= 16
        r0 |= r7
        r0 <<= 16
        r0 |= r6
        exit
    fn_inner:
        r0 = 0
    again:
        may_goto done
        r0 += 1
        goto again
    done:
        exit
    ";
    let limited = |engine: bpf_arena::UserEngine| engine.loop_limit(LoopLimit::Iterations(10));
    let r0 = common::both_with(&program(text, vec![]), &[], limited, |outcome, _, _| outcome.unwrap().r0);
    assert_eq!(r0, 0x000a_000a_0000_000a);
    let many = |engine: bpf_arena::UserEngine| engine.loop_limit(LoopLimit::Iterations(3 * 0xffff + 5));
    let counted = program("r0 = 0\nagain:\nmay_goto done\nr0 += 1\ngoto again\ndone:\nexit", vec![]);
    assert_eq!(common::both_with(&counted, &[], many, |outcome, _, _| outcome.unwrap().r0), 3 * 0xffff + 5);
}

/// An instance of each text, in one set of maps of which the first is an array of programs that has them in its first slots.
fn chained(engine: &bpf_arena::UserEngine, texts: &[&str]) -> Vec<bpf_arena::Instance> {
    let jumps =
        MapSpec { key_size: 4, value_size: 4, max_entries: 4, ..MapSpec::new("jumps", MapType::ProgArray) };
    let specs: Arc<[MapSpec]> = Arc::from(vec![jumps, array("counts", 8, 1), common::arena(4, 0)]);
    let maps = bpf_arena::MapSet::create_with(&specs, None, false).unwrap();
    let map = maps.maps()[0].clone();
    let load = |(slot, text): (u32, &&str)| {
        let mut program = program(text, vec![]);
        program.name = format!("slot{slot}");
        program.kind = ProgramKind::from_section("raw_tp/sys_enter");
        program.maps = Arc::clone(&specs);
        let instance = engine.load_program(&program, &maps).unwrap_or_else(|error| panic!("{error}"));
        map.set_program(&slot.to_le_bytes(), &instance.clone().into()).unwrap();
        instance
    };
    (0..).zip(texts).map(load).collect()
}

/// Enters the program in a slot; goes on with -1 if there is none.
fn enter(slot: u32) -> String {
    format!("r2 = map[idx:0]\nr3 = {slot}\ncall bpf_tail_call\nr0 = -1\nexit")
}

#[test]
fn a_tail_call_takes_the_place_of_the_program_that_makes_it() {
    for (executor, engine) in common::EXECUTORS {
        let programs = chained(&engine(), &[&enter(1), "r0 = *(u64 *)(r1 +8)\nexit", &enter(3)]);
        let run = |at: usize| programs[at].run(&mut [1; 16]).unwrap().r0;
        assert_eq!(run(0), u64::from_le_bytes([1; 8]), "{executor}");
        assert_eq!(run(2), u64::MAX, "{executor}: nothing is there");
        // The context is long enough for the program that is run, not for the one that takes its place.
        let short = programs[0].run(&mut [1; 8]);
        assert!(
            matches!(short, Err(RunError::ContextTooSmall { needed: 16, given: 8 })),
            "{executor}: {short:?}"
        );
    }
}

#[test]
fn tail_calls_end() {
    let counts = "
        r6 = r1
        r1 = 1
        r2 = map[idx:1][0]+0
        r1 = atomic64_fetch_add((u64 *)(r2 +0), r1)
        r1 = r6
    ";
    for (executor, engine) in common::EXECUTORS {
        let text = format!("{counts}{}", enter(0));
        let programs = chained(&engine(), &[&text]);
        assert_eq!(programs[0].run(&mut []).unwrap().r0, u64::MAX, "{executor}");
        let counted = programs[0].maps().maps()[1].lookup(&[0; 4]).unwrap().unwrap();
        assert_eq!(u64::from_le_bytes(counted.try_into().unwrap()), 34, "{executor}: the entry and 33 more");
    }
}

#[test]
fn a_fault_is_of_the_program_that_made_it() {
    let faults = "
        r6 = map[idx:2]
        r6 = 0x40000000 ll
        r6 = addr_space_cast(r6, 0, 1)
        r0 = *(u64 *)(r6 +0)
        exit
    ";
    for (executor, engine) in common::EXECUTORS {
        let programs = chained(&engine(), &[&enter(1), faults]);
        let outcome = programs[0].run(&mut []).unwrap();
        assert_eq!(outcome.faults.total(), 1, "{executor}");
        assert_eq!(&*outcome.faults.iter().next().unwrap().program, "slot1", "{executor}");
    }
}

#[test]
fn a_program_that_is_gone_is_not_entered() {
    for (executor, engine) in common::EXECUTORS {
        let mut programs = chained(&engine(), &[&enter(1), "r0 = 7\nexit"]);
        assert_eq!(programs[0].run(&mut []).unwrap().r0, 7, "{executor}");
        programs.pop();
        assert_eq!(programs[0].run(&mut []).unwrap().r0, u64::MAX, "{executor}");
    }
}
