//! The typed half of an arena against contents that lie: loops, wild pointers, and others that write meanwhile.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bpf_arena::arena::{Arena, ArenaError, ArenaSpec, PageCount};
use bpf_arena::typed::{ArenaPtr, ArenaType, GlobalError, WalkError};
use bpf_arena::{Engine, Object};

#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Node {
    next: ArenaPtr<Node>,
    value: u64,
}

fn arena(pages: u32) -> Arena {
    Arena::create(&ArenaSpec::new(PageCount::new(pages))).unwrap()
}

/// A list of `count` nodes with values 0, 1, ..
fn list(arena: &Arena, count: u32) -> ArenaPtr<Node> {
    let first = arena.alloc_array::<Node>(count).unwrap();
    for index in 0..i64::from(count) {
        let next = if index + 1 == i64::from(count) { ArenaPtr::NULL } else { first.add(index + 1) };
        arena.write(first.add(index), Node { next, value: index.unsigned_abs() }).unwrap();
    }
    first
}

#[test]
fn a_list_is_walked_to_its_end() {
    let arena = arena(16);
    for count in [1, 2, 3, 1000] {
        let first = list(&arena, count);
        let values: Vec<u64> = arena.list(first, |n| n.next).map(|node| node.unwrap().value).collect();
        assert_eq!(values, (0..u64::from(count)).collect::<Vec<_>>());
        arena.free_array(first, count);
    }
    assert_eq!(arena.list(ArenaPtr::<Node>::NULL, |n| n.next).count(), 0);
}

#[test]
fn a_cycle_is_an_error_wherever_it_begins() {
    let arena = arena(16);
    let first = list(&arena, 100);
    for (from, to) in [(0, 0), (99, 0), (99, 99), (50, 49), (99, 37)] {
        let link = first.add(from).field(Node::next);
        let before = arena.read(link).unwrap();
        arena.write(link, first.add(to)).unwrap();
        let last = arena.list(first, |n| n.next).last().unwrap();
        assert!(
            matches!(last, Err(WalkError::Cycle { nodes, .. }) if nodes <= 400),
            "{from} -> {to}: {last:?}"
        );
        arena.write(link, before).unwrap();
    }
}

#[test]
fn wild_pointers_are_errors() {
    let arena = arena(4);
    let first = list(&arena, 3);
    let start = arena.user_vm_start().get();
    let end = start + 4 * 4096;
    for wild in [
        1,
        8,
        start - 1,
        start - 16,
        end,
        end - 8,
        end + (1 << 32),
        start + (1 << 32),
        u64::MAX,
        u64::MAX - 7,
    ] {
        arena.write(first.add(1).field(Node::next), ArenaPtr::from_raw(wild)).unwrap();
        let mut walk = arena.list(first, |n| n.next);
        assert_eq!(walk.by_ref().take(2).filter(Result::is_ok).count(), 2);
        let error = walk.next().unwrap().unwrap_err();
        assert!(
            matches!(&error, WalkError::Unreadable { at, source: ArenaError::OutOfBounds { .. } } if at.raw() == wild),
            "{wild:#x}: {error}"
        );
        assert!(walk.next().is_none(), "an error ends the walk");
        assert!(arena.write(ArenaPtr::<[u8; 16]>::from_raw(wild), [0; 16]).is_err());
        assert!(wild == end - 8 || arena.fetch_add(ArenaPtr::<u64>::from_raw(wild), 1).is_err());
    }
    let odd = first.byte_add(1).cast::<u64>();
    assert!(matches!(arena.fetch_add(odd, 1), Err(ArenaError::Misaligned { .. })));
    assert!(arena.read(odd).is_ok(), "plain accesses need no alignment");
}

#[test]
fn a_freed_node_reads_as_zeroes() {
    let arena = arena(8);
    let first = list(&arena, 2);
    let away = list(&arena, 1);
    arena.write(first.add(1).field(Node::next), away).unwrap();
    arena.free_array(away, 1);
    let values: Vec<u64> = arena.list(first, |n| n.next).map(|node| node.unwrap().value).collect();
    assert_eq!(values, [0, 1, 0]);
}

#[test]
fn walks_end_while_others_rewrite_the_links() {
    let arena = arena(4);
    let first = list(&arena, 500);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 88_172_645_463_325_252_u64;
            while !stop.load(Ordering::Relaxed) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Any bits, or a node.
                let target = if state & 1 == 0 {
                    ArenaPtr::from_raw(state)
                } else {
                    first.add((state % 500).cast_signed())
                };
                let at = first.add((state >> 32).cast_signed() % 500);
                arena.write(at.field(Node::next), target).unwrap();
            }
        });
        for _ in 0..2000 {
            // Whatever is found, the walk ends within what the arena can hold.
            let nodes = arena.list(first, |n| n.next).count();
            assert!(nodes <= 4 * 4096 / size_of::<Node>() + 2);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn threads_and_a_program_count_together() {
    let object = Object::parse(include_bytes!("../../../bpf/atomics.bpf.o")).unwrap();
    let app = object.load(Engine::user()).unwrap();
    let counter: ArenaPtr<u64> = app.global_ptr("counter").unwrap();
    let counter32: ArenaPtr<u32> = app.global_ptr("counter32").unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| app.program("add").unwrap().run(&mut 10_000_u64).unwrap());
            scope.spawn(|| {
                for _ in 0..10_000 {
                    app.arena().unwrap().fetch_add(counter, 1).unwrap();
                    app.arena().unwrap().fetch_add(counter32, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(app.global::<u64>("counter").unwrap(), 60_000);
    assert_eq!(app.arena().unwrap().load_acquire(counter32).unwrap(), 60_000);
    let arena = app.arena().unwrap();
    assert_eq!(arena.swap(counter32, 7).unwrap(), 60_000);
    assert_eq!(arena.compare_exchange(counter32, 8, 9).unwrap(), 7);
    assert_eq!(arena.compare_exchange(counter32, 7, 9).unwrap(), 7);
    arena.store_release(counter, u64::MAX).unwrap();
    assert_eq!(arena.fetch_add(counter, 2).unwrap(), u64::MAX);
    assert_eq!(app.global::<u64>("counter").unwrap(), 1);
}

#[test]
fn globals_are_read_and_set_by_name_and_type() {
    let object = Object::parse(include_bytes!("../../../bpf/globals.bpf.o")).unwrap();
    let app = object.load(Engine::user()).unwrap();
    app.set_global("numbers[2]", 1000_i32).unwrap();
    app.set_global("big", 0_i64).unwrap();
    assert_eq!(app.program("step").unwrap().run(&mut ()).unwrap().return_value, 0);
    assert_eq!(app.global::<u64>("result").unwrap(), 2 * (1000 - 4 - 3));
    assert_eq!(app.global::<[u8; 8]>("greeting").unwrap(), *b"hello\0\0\0");
    assert_eq!(app.global::<i32>("grid[1][2].y").unwrap(), 21);
    let first: ArenaPtr<()> = app.global("first").unwrap();
    assert_eq!(first, app.global_ptr::<()>("triangle").unwrap());

    let layout = app.global::<u32>("result").unwrap_err();
    assert_eq!(layout.to_string(), "`result`: u32: expected u32, the object has unsigned long long");
    assert!(matches!(app.global::<u32>("triangle.layer"), Err(GlobalError::BitField { .. })));
    assert!(matches!(app.global_ptr::<u64>("result"), Err(GlobalError::NotInArena { .. })));
    assert!(matches!(app.global::<u64>("nothing"), Err(GlobalError::Unknown(_))));
    assert!(
        matches!(app.set_global("factor", 1_u32), Err(GlobalError::Map { .. })),
        "a constant once loaded"
    );
}
