//! Calls that are more than calls, or less: exceptions that leave every function, and helpers that compiled code does itself.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use bpf_arena::{LoopLimit, UpdateMode};
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
    assert!((cpu as usize) < bpf_arena::cpu::possible());
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
