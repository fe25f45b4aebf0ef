//! Objects, lists, trees, owned pointers, timers, work and resilient locks: the same programs and the same answers on every
//! engine, and trees of the same shape.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Engine, LoadError, Object};
use libtest_mimic::{Arguments, Failed, Trial};

/// `struct request` of `bpf/objects.bpf.c`.
#[derive(ArenaType, Clone, Copy, Default)]
#[repr(C)]
struct Request {
    key: u64,
    answer: u64,
}

/// `struct request` of `bpf/later.bpf.c`.
#[derive(ArenaType, Clone, Copy, Default)]
#[repr(C)]
struct LaterRequest {
    key: u32,
    in_array: u32,
    nanoseconds: u64,
    flags: u64,
    clock: u64,
    rearm: u64,
    answer: u64,
}

/// `struct element` of `bpf/later.bpf.c`, as far as it is looked at.
#[derive(Debug, PartialEq)]
struct Element {
    fired: u64,
    key_seen: u64,
    cancelled_inside: i64,
    cpu_started: u32,
    cpu_fired: u32,
}

type Load = dyn Fn(&str) -> App;
type UserLoad = fn(&str) -> App;
type Test = fn(&Load);

const EBUSY: i32 = -16;
const EINVAL: i32 = -22;
const EDEADLK: i32 = -35;

const BPF_F_TIMER_ABS: u64 = 1;
const BPF_F_TIMER_CPU_PIN: u64 = 2;
const CLOCK_MONOTONIC: u64 = 1;
const CLOCK_BOOTTIME: u64 = 7;

fn main() {
    let arguments = Arguments::from_args();
    let tests: [(&str, Test); 8] = [
        ("tree_and_list", tree_and_list),
        ("list", list),
        ("owned_pointers", owned_pointers),
        ("per_cpu_objects", per_cpu_objects),
        ("timers", timers),
        ("timers_end_with_their_elements", timer_ends),
        ("work", work),
        ("locks", locks),
    ];
    let kernel = Engine::kernel();
    let missing = kernel.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let mut trials = Vec::new();
    for (name, test) in tests {
        for (engine, load) in engines() {
            trials.push(trial(format!("{name}/{engine}"), move || test(&load)));
        }
        let trial = trial(format!("{name}/kernel"), move || test(&|object| on_kernel(object)));
        trials.push(trial.with_ignored_flag(kernel.is_err()).with_kind(&missing));
    }
    for (engine, load) in engines() {
        let trial = trial(format!("shapes/{engine}"), move || shapes(&load));
        trials.push(trial.with_ignored_flag(kernel.is_err()).with_kind(&missing));
    }
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}

fn engines() -> [(&'static str, UserLoad); 2] {
    [
        ("compiled", |object| loaded(open(object).load(Engine::user()))),
        ("interpreted", |object| loaded(open(object).load(Engine::user().interpreter()))),
    ]
}

fn on_kernel(object: &str) -> App {
    loaded(open(object).load(Engine::kernel().unwrap()))
}

fn loaded(app: Result<App, LoadError>) -> App {
    app.unwrap_or_else(|error| panic!("{error}"))
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

/// The result of a program of `objects.bpf.c`, and its answer.
fn ask(app: &App, program: &str, key: u64) -> (i32, u64) {
    let mut request = Request { key, answer: 0 };
    (call(app, program, &mut request), request.answer)
}

/// The keys of the tree, by the paths that lead to them.
fn shape(app: &App) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    let mut paths = vec![(0_u64, 0_u32)];
    while let Some((turns, depth)) = paths.pop() {
        let path = turns | 1 << depth;
        if let (1, key) = ask(app, "at_path", path) {
            found.insert(path, key);
            paths.extend([(turns, depth + 1), (turns | 1 << depth, depth + 1)]);
        }
    }
    found
}

fn tree_and_list(load: &Load) {
    let app = load("objects");
    for key in [5, 3, 8, 1, 4, 7, 9, 2, 6] {
        assert_eq!(ask(&app, "insert", key).0, 0);
    }
    assert_eq!(ask(&app, "first", 0), (1, 1));
    let keys = |app: &App| {
        let mut keys: Vec<u64> = shape(app).into_values().collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys(&app), (1..=9).collect::<Vec<_>>());
    assert_eq!(ask(&app, "remove", 5).0, 1);
    assert_eq!(ask(&app, "remove", 5).0, 0);
    assert_eq!(keys(&app), [1, 2, 3, 4, 6, 7, 8, 9]);
    // The list has the other references, so that what left the tree is still there.
    for key in [5, 3, 8, 1, 4, 7, 9, 2, 6] {
        assert_eq!(ask(&app, "pop_front", 0), (1, key));
    }
    assert_eq!(ask(&app, "pop_front", 0).0, 0);
    assert_eq!(ask(&app, "insert_twice", 10).0, EINVAL);
    assert_eq!(ask(&app, "remove", 10).0, 1);
    while let (1, key) = ask(&app, "first", 0) {
        assert_eq!(ask(&app, "remove", key).0, 1);
    }
    assert!(shape(&app).is_empty());
}

fn list(load: &Load) {
    let app = load("objects");
    assert_eq!(ask(&app, "ends", 0).0, 0);
    for key in 1..=5 {
        assert_eq!(ask(&app, "push_front", key).0, 0);
    }
    assert_eq!(ask(&app, "insert", 6).0, 0);
    assert_eq!(ask(&app, "ends", 0), (1, 5 << 32 | 6));
    assert_eq!(ask(&app, "pop_back", 0), (1, 6));
    assert_eq!(ask(&app, "pop_back", 0), (1, 1));
    assert_eq!(ask(&app, "pop_front", 0), (1, 5));
    assert_eq!(ask(&app, "ends", 0), (1, 4 << 32 | 2));
    assert_eq!(ask(&app, "pop_front", 0), (1, 4));
    assert_eq!(ask(&app, "pop_front", 0), (1, 3));
    assert_eq!(ask(&app, "pop_back", 0), (1, 2));
    assert_eq!(ask(&app, "pop_back", 0).0, 0);
}

/// The same insertions and removals make the same tree as in the kernel.
fn shapes(load: &Load) {
    let (ours, theirs) = (load("objects"), on_kernel("objects"));
    let mut state = 0x9e37_79b9_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for step in 0..600 {
        // Equal keys too.
        let key = random() % 64;
        let program =
            if random() % 256 < if step < 300 { 150 } else { 100 } { "insert_twice" } else { "remove" };
        assert_eq!(ask(&ours, program, key), ask(&theirs, program, key));
        if step % 10 == 0 {
            assert_eq!(shape(&ours), shape(&theirs), "step {step}");
        }
    }
}

fn owned_pointers(load: &Load) {
    let app = load("objects");
    for key in [1, 101] {
        assert_eq!(ask(&app, "take_bunch", key).0, 0);
        assert_eq!(ask(&app, "give_bunch", key).0, 0);
        assert_eq!(ask(&app, "look_at_bunch", key), (1, key));
        assert_eq!(ask(&app, "give_bunch", key), (1, key));
        assert_eq!(ask(&app, "take_bunch", key), (1, key));
        assert_eq!(ask(&app, "look_at_bunch", key).0, 0);
    }
    // What the host writes and reads is the rest of the value.
    let map = app.map("owners").unwrap();
    let key = 1_u32.to_ne_bytes();
    assert_eq!(ask(&app, "give_bunch", 1).0, 0);
    let mut value = map.lookup(&key).unwrap().unwrap();
    assert_eq!(value[..16], [0; 16]);
    value.fill(0x41);
    map.update(&key, &value, bpf_arena::UpdateMode::Any).unwrap();
    assert_eq!(map.lookup(&key).unwrap().unwrap()[16..], [0x41; 8]);
    assert_eq!(ask(&app, "look_at_bunch", 1).0, 0, "the value was replaced, and what it owned is gone");
    let array = app.map("array_owners").unwrap();
    assert_eq!(ask(&app, "give_bunch", 101).0, 0);
    array.update(&key, &value, bpf_arena::UpdateMode::Any).unwrap();
    assert_eq!(ask(&app, "look_at_bunch", 101).0, 0);
    assert_eq!(ask(&app, "new_owner", 1).0, 0);
    assert_eq!(ask(&app, "give_bunch", 2).0, 0);
    map.delete(&2_u32.to_ne_bytes()).unwrap();
    assert_eq!(ask(&app, "look_at_bunch", 2).0, 0);
}

fn per_cpu_objects(load: &Load) {
    let app = load("objects");
    for count in 1..=20 {
        assert_eq!(ask(&app, "count_here", 3), (0, count));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| assert_eq!(ask(&app, "count_here", 3).0, 0)));
        }
    });
    assert_eq!(ask(&app, "count_here", 3), (0, 2021));
}

/// Waits until something is true, but not for ever.
fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn element(app: &App, map: &str, key: u32) -> Element {
    let value = app.map(map).unwrap().lookup(&key.to_ne_bytes()).unwrap().unwrap();
    let word = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_ne_bytes(value[at..at + 4].try_into().unwrap());
    Element {
        fired: word(0),
        key_seen: word(24),
        cancelled_inside: word(32).cast_signed(),
        cpu_started: half(56),
        cpu_fired: half(60),
    }
}

fn timers(load: &Load) {
    let app = load("later");
    for (init, map, in_array, key) in [("init_in_table", "table", 0, 7), ("init_in_array", "array", 1, 3)] {
        let request = LaterRequest { key, in_array, clock: CLOCK_MONOTONIC, ..LaterRequest::default() };
        let ask = |program: &str, request: &LaterRequest| call(&app, program, &mut request.clone());
        // Nothing can be done before it is made, nor is it made with a clock that is none.
        assert_eq!(ask("set_callback", &request), EINVAL);
        assert_eq!(ask("start_timer", &request), EINVAL);
        assert_eq!(ask("cancel", &request), EINVAL);
        assert_eq!(ask(init, &LaterRequest { clock: 2, ..request }), EINVAL);
        assert_eq!(ask(init, &LaterRequest { clock: 1 << 32 | 1, ..request }), EINVAL);
        assert_eq!(ask(init, &request), 0);
        assert_eq!(ask(init, &request), EBUSY);
        assert_eq!(ask("start_timer", &request), EINVAL, "there is no callback");
        assert_eq!(ask("cancel", &request), 0);
        assert_eq!(ask("set_callback", &request), 0);
        assert_eq!(ask("start_timer", &LaterRequest { flags: 4, ..request }), EINVAL);
        assert_eq!(ask("start_timer", &LaterRequest { rearm: 3, ..request }), 0);
        eventually("four calls", || element(&app, map, key).fired == 4);
        let seen = element(&app, map, key);
        assert_eq!((seen.key_seen, seen.cancelled_inside), (u64::from(key), i64::from(EDEADLK)));
        // One that is far away is taken back, and its callback with it.
        let far = LaterRequest { nanoseconds: 1 << 40, ..request };
        assert_eq!(ask("start_timer", &far), 0);
        assert_eq!(ask("start_timer", &far), 0, "from now on");
        assert_eq!(ask("cancel", &request), 1);
        assert_eq!(ask("cancel", &request), 0);
        assert_eq!(ask("start_timer", &far), EINVAL);
        assert_eq!(ask("set_callback", &request), 0);
        let flags = BPF_F_TIMER_ABS | BPF_F_TIMER_CPU_PIN;
        assert_eq!(ask("start_timer", &LaterRequest { nanoseconds: 100_000, flags, ..request }), 0);
        eventually("a time of the clock", || element(&app, map, key).fired == 5);
        let seen = element(&app, map, key);
        assert_eq!(seen.cpu_fired, seen.cpu_started);
        assert_eq!(ask("cancel", &request), 0);
    }
    let boot =
        LaterRequest { key: 1, clock: CLOCK_BOOTTIME, flags: BPF_F_TIMER_ABS, ..LaterRequest::default() };
    assert_eq!(call(&app, "init_in_table", &mut boot.clone()), 0);
    assert_eq!(call(&app, "set_callback", &mut boot.clone()), 0);
    assert_eq!(call(&app, "start_timer", &mut LaterRequest { nanoseconds: 1000, ..boot }), 0);
    eventually("the other clock", || element(&app, "table", 1).fired == 1);
}

fn timer_ends(load: &Load) {
    let app = load("later");
    let table = app.map("table").unwrap();
    let soon = LaterRequest { nanoseconds: 50_000_000, clock: CLOCK_MONOTONIC, ..LaterRequest::default() };
    let prepare = |request: &LaterRequest, callback: &str| {
        assert_eq!(call(&app, "init_in_table", &mut request.clone()), 0);
        assert_eq!(call(&app, callback, &mut request.clone()), 0);
        assert_eq!(call(&app, "start_timer", &mut request.clone()), 0);
    };
    prepare(&soon, "set_callback");
    table.delete(&0_u32.to_ne_bytes()).unwrap();
    prepare(&LaterRequest { key: 1, ..soon }, "set_callback");
    // A value that is replaced loses its timer too.
    let value = vec![0; 64];
    table.update(&1_u32.to_ne_bytes(), &value, bpf_arena::UpdateMode::Any).unwrap();
    assert_eq!(call(&app, "cancel", &mut LaterRequest { key: 1, ..soon }), EINVAL);
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(app.global::<u64>("calls").unwrap(), 0);
    prepare(&LaterRequest { key: 2, nanoseconds: 1000, ..soon }, "set_last_callback");
    eventually("an element that its own callback deletes", || app.global::<u64>("deletions").unwrap() == 1);
    assert_eq!(table.lookup(&2_u32.to_ne_bytes()).unwrap(), None);
    // Dropped while timers run and rearm.
    prepare(&LaterRequest { key: 3, nanoseconds: 0, rearm: 1 << 40, ..soon }, "set_callback");
    eventually("it runs", || element(&app, "table", 3).fired > 3);
    drop(app);
    std::thread::sleep(Duration::from_millis(5));
}

fn work(load: &Load) {
    let app = load("later");
    let request = LaterRequest { key: 2, ..LaterRequest::default() };
    let ask = |what: u64| call(&app, "work", &mut LaterRequest { flags: what, ..request });
    let done = || {
        let value = app.map("jobs").unwrap().lookup(&2_u32.to_ne_bytes()).unwrap().unwrap();
        let word = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
        (word(0), word(8))
    };
    assert_eq!([ask(3), ask(4), ask(5)], [EINVAL; 3]);
    assert_eq!([ask(1), ask(2)], [EINVAL; 2]);
    assert_eq!([ask(0), ask(0)], [0, EBUSY]);
    assert_eq!(ask(2), EINVAL);
    assert_eq!([ask(1), ask(2)], [0; 2]);
    eventually("work is done", || done() == (1, 2));
    assert_eq!(ask(2), 0);
    eventually("once more", || done() == (2, 2));
}

fn locks(load: &Load) {
    let app = load("later");
    assert_eq!(call(&app, "lock_again", &mut LaterRequest::default()), EDEADLK);
    assert_eq!(call(&app, "lock_again", &mut LaterRequest::default()), EDEADLK);
    // Threads that take two locks in different orders all come to an end.
    std::thread::scope(|scope| {
        for key in 0..2 {
            let app = &app;
            scope.spawn(move || {
                assert_eq!(call(app, "lock_both", &mut LaterRequest { key, ..LaterRequest::default() }), 0);
            });
        }
    });
}
