//! The repository's own programs through the host API: the same host code on both engines.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use bpf_arena::arena::ArenaOffset;
use bpf_arena::isa::Size;
use bpf_arena::suite::{Question, UserJudge, compare};
use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{App, Engine, Object};
use libtest_mimic::{Arguments, Failed, Trial};

#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Node {
    next: ArenaPtr<Node>,
    value: u64,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct ListRequest {
    value: u64,
    count: u64,
}

/// `struct heap` of `bpf/heap.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Heap {
    spare: [ArenaPtr<()>; 8],
    live_blocks: u64,
    live_bytes: u64,
    pages: u64,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct HeapRequest {
    size: u64,
    count: u64,
    address: ArenaPtr<()>,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct QueueRequest {
    first: u64,
    count: u64,
    sum: u64,
}

/// What a test is given: loads an object on one of the engines.
type Load = dyn Fn(&str) -> App;

/// A test, run on each engine.
type Test = fn(&Load);

fn main() {
    let arguments = Arguments::from_args();
    let tests: [(&str, Test); 5] = [
        ("list", linked_list),
        ("heap", heap),
        ("queue", queue),
        ("host_and_program_share_pages", shared_pages),
        ("map_members", map_members),
    ];
    let kernel = Engine::kernel();
    let missing = kernel.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let mut trials = Vec::new();
    for (name, test) in tests {
        for (engine, interpreter) in [("compiled", false), ("interpreted", true)] {
            let load = move |object: &str| {
                let engine = if interpreter { Engine::user().interpreter() } else { Engine::user() };
                open(object).load(engine).unwrap()
            };
            trials.push(trial(format!("{name}/{engine}"), move || test(&load)));
        }
        let load = |object: &str| open(object).load(Engine::kernel().unwrap()).unwrap();
        let trial = trial(format!("{name}/kernel"), move || test(&load));
        trials.push(trial.with_ignored_flag(kernel.is_err()).with_kind(&missing));
    }
    trials.push(trial("a_wrong_engine_is_found_out".to_owned(), wrong_engine));
    // The objects ask for the same addresses: one at a time.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok::<(), Failed>(())
    })
}

fn open(object: &str) -> Object {
    Object::open(format!("{}/../../bpf/{object}.bpf.o", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn call<T: ArenaType>(app: &App, program: &str, ctx: &mut T) -> i32 {
    app.program(program).unwrap().run(ctx).unwrap().return_value.cast_signed()
}

/// A wrong interpreter is told from compiled code, and a right one is not: no privilege is needed to see that.
fn wrong_engine() {
    let object = open("linked_list");
    let ctx = [5_u64, 3].iter().flat_map(|word| word.to_le_bytes()).collect();
    let question = Question { program: "insert".to_owned(), run: true, ctx, ..Question::default() };
    let right = UserJudge::new(Engine::user());
    let against = |engine| compare(object.spec(), &question, &UserJudge::new(engine), &right).2;
    assert_eq!(against(Engine::user().interpreter()), []);
    let found = against(Engine::user().with_wrong_stores(Size::DW, 24));
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["arena page 0 offset 0x18: 0x7 and 0x6"]);
}

fn linked_list(load: &Load) {
    let app = load("linked_list");
    let values = || {
        let head: ArenaPtr<Node> = app.global("head").unwrap();
        let nodes = app.arena().unwrap().list(head, |n| n.next);
        nodes.map(|node| node.unwrap().value).collect::<Vec<u64>>()
    };
    assert_eq!(call(&app, "insert", &mut ListRequest { value: 0, count: 1000 }), 0);
    assert_eq!(values(), (0..1000).rev().collect::<Vec<_>>());
    for value in (0..1000).step_by(2) {
        assert_eq!(call(&app, "delete", &mut ListRequest { value, count: 0 }), 1);
    }
    assert_eq!(call(&app, "delete", &mut ListRequest { value: 0, count: 0 }), 0, "it is gone");
    assert_eq!(values(), (0..1000).rev().filter(|v| v % 2 == 1).collect::<Vec<_>>());
    assert_eq!(call(&app, "walk", &mut ()), 500);
    assert_eq!(app.global::<u64>("sum").unwrap(), (0..1000).filter(|v| v % 2 == 1).sum::<u64>());
    // 64 pages of 256 nodes: what does not fit is said, and what is there stays.
    let left = call(&app, "insert", &mut ListRequest { value: 0, count: 100_000 });
    assert_eq!(values().len(), 64 * 256);
    assert_eq!(left, 100_000 + 500 - 64 * 256);
    assert_eq!(app.global::<u64>("length").unwrap(), 64 * 256);
}

fn heap(load: &Load) {
    let app = load("heap");
    let state: ArenaPtr<Heap> = app.global_ptr("heap").unwrap();
    let arena = app.arena().unwrap();
    let mut requests =
        [16, 24, 100, 2048].map(|size| HeapRequest { size, count: 20, address: ArenaPtr::NULL });
    for request in &mut requests {
        assert_eq!(call(&app, "alloc", request), 0);
        // A whole address, which the host can follow.
        assert_eq!(arena.read(request.address.cast::<[u8; 16]>()).unwrap().len(), 16);
    }
    let heap = arena.read(state).unwrap();
    assert_eq!((heap.live_blocks, heap.live_bytes), (80, 20 * (16 + 32 + 128 + 2048)));
    // 20 blocks of 2,048 bytes take ten pages, the others one each.
    assert_eq!(heap.pages, 13);
    for request in &mut requests {
        assert_eq!(call(&app, "free_chain", request), 20);
    }
    let heap = arena.read(state).unwrap();
    assert_eq!((heap.live_blocks, heap.live_bytes, heap.pages), (0, 0, 13));
    // Freed blocks are used again.
    assert_eq!(call(&app, "alloc", &mut requests[3]), 0);
    assert_eq!(arena.read(state.field(Heap::pages)).unwrap(), 13);
    let mut large = HeapRequest { size: 4096, count: 1, address: ArenaPtr::NULL };
    assert_eq!(call(&app, "alloc", &mut large), -22);
}

fn queue(load: &Load) {
    let app = load("queue");
    let mut request = QueueRequest { first: 1, count: 100, sum: 0 };
    assert_eq!(call(&app, "push", &mut request), 64, "the ring is full");
    assert_eq!(call(&app, "pop", &mut request), 64);
    assert_eq!(request.sum, (1..=64).map(|n| n * n).sum::<u64>());
    assert_eq!(call(&app, "pop", &mut request), 0);
    assert_eq!(app.global::<u64>("queue.pushed").unwrap(), 64);
}

/// The host adds nodes of its own to the program's list, on a page that its first touch populates.
fn shared_pages(load: &Load) {
    let app = load("linked_list");
    let arena = app.arena().unwrap();
    call(&app, "insert", &mut ListRequest { value: 1, count: 2 });
    let head: ArenaPtr<Node> = app.global("head").unwrap();
    let page = arena.addr_of(ArenaOffset::new(32 * 4096)).unwrap();
    let own = ArenaPtr::<Node>::from_raw(page.get());
    arena.write(own, Node { next: own.add(1), value: 100 }).unwrap();
    arena.write(own.add(1), Node { next: head, value: 200 }).unwrap();
    app.set_global("head", own).unwrap();
    assert_eq!(call(&app, "walk", &mut ()), 4);
    assert_eq!(app.global::<u64>("sum").unwrap(), 303);
    assert_eq!(call(&app, "delete", &mut ListRequest { value: 200, count: 0 }), 1);
    assert_eq!(arena.read(own.field(Node::next)).unwrap(), head);
}

/// The program compares members with the declarations.
fn map_members(load: &Load) {
    let app = load("map_fields");
    assert_eq!(call(&app, "array_members", &mut ()), 0);
    assert_eq!(call(&app, "arena_members", &mut ()), 0);
}
