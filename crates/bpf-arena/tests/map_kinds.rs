//! Maps that are no tables of values, used by programs and host together: the same on every executor and in the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bpf_arena::typed::ArenaType;
use bpf_arena::{App, BPF_ANY, Engine, MapError, Object, RingError, UserEngine};
use libtest_mimic::{Arguments, Failed, Trial};

/// `struct request` of `bpf/map_kinds.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
struct Request {
    value: u32,
    key: u32,
    result: i64,
}

/// A test, run on each engine.
type Test = fn(&App);

fn main() {
    let arguments = Arguments::from_args();
    let tests: [(&str, Test); 7] = [
        ("records_reach_the_host", records),
        ("records_as_dynptrs", dynptrs),
        ("the_host_sends_records", requests),
        ("maps_by_index", maps_by_index),
        ("maps_by_key", maps_by_key),
        ("programs_call_each_other", tail_calls),
        ("what_only_a_kernel_has_is_missing", groups),
    ];
    let kernel = Engine::kernel();
    let missing = kernel.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let mut trials = Vec::new();
    for (name, test) in tests {
        for (engine, interpreter) in [("compiled", false), ("interpreted", true)] {
            let run = move || {
                test(&open().load(user(interpreter)).unwrap_or_else(|error| panic!("{error}")));
            };
            trials.push(trial(format!("{name}/{engine}"), run));
        }
        let load = || open().load(Engine::kernel().unwrap()).unwrap_or_else(|error| panic!("{error}"));
        let run = move || test(&load());
        let trial = trial(format!("{name}/kernel"), run);
        trials.push(trial.with_ignored_flag(kernel.is_err()).with_kind(&missing));
    }
    // What the kernel asks of the machine, the host says here.
    for (engine, interpreter) in [("compiled", false), ("interpreted", true)] {
        trials.push(trial(format!("samples_call_the_host/{engine}"), move || samples(&user(interpreter))));
        trials.push(trial(format!("the_host_says_what_the_stack_is/{engine}"), move || {
            stacks(user(interpreter))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok::<(), Failed>(())
    })
}

fn user(interpreter: bool) -> UserEngine {
    if interpreter { Engine::user().interpreter() } else { Engine::user() }
}

fn open() -> Object {
    Object::open(format!("{}/../../bpf/map_kinds.bpf.o", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Calls a program: its return value, and the request as it leaves it.
fn call(app: &App, program: &str, value: u32, key: u32) -> (i32, Request) {
    let mut request = Request { value, key, result: 0 };
    let outcome = app.program(program).unwrap().run(&mut request).unwrap();
    (outcome.return_value.cast_signed(), request)
}

fn records(app: &App) {
    let mut events = app.map("events").unwrap().ring_buffer().unwrap();
    let mut record = Vec::new();
    assert!(!events.wait(Duration::from_millis(1)));
    // Eight records of 12 bytes each take 24.
    assert_eq!(call(app, "write_records", 0b1010_0001, 0).1.result, 8 * 24);
    assert!(events.wait(Duration::from_secs(60)));
    for number in [0u64, 5, 7] {
        assert_eq!(events.take(&mut record), Ok(true));
        assert_eq!((record.len(), &record[..8]), (12, &number.to_le_bytes()[..]));
    }
    assert_eq!(events.take(&mut record), Ok(false));
    // Around the ring many times; what is discarded is skipped.
    for round in 0..100u8 {
        let (result, request) = call(app, "write_records", 1 << (round % 8), 0);
        assert_eq!((result, request.result), (0, 8 * 24));
        assert_eq!(events.take(&mut record), Ok(true));
        assert_eq!(record[0], round % 8);
        assert_eq!(events.take(&mut record), Ok(false));
    }
    // Without a reader 21 calls fit, and a part of another.
    let full = (0..).find(|_| call(app, "write_records", 0xff, 0).0 != 0).unwrap();
    assert_eq!(full, 4096 / (8 * 24));
}

fn dynptrs(app: &App) {
    let mut events = app.map("events").unwrap().ring_buffer().unwrap();
    let mut record = Vec::new();
    assert_eq!(call(app, "write_dynptr", 1, 100).1.result, 0);
    assert_eq!(call(app, "write_dynptr", 0, 50).1.result, 0);
    assert_eq!(call(app, "write_dynptr", 1, 9).1.result, 0);
    // Too large for the ring, and for any dynptr.
    assert_eq!(call(app, "write_dynptr", 1, 5000).1.result, -22);
    assert_eq!(call(app, "write_dynptr", 1, 1 << 24).1.result, -7);
    for size in [100u64, 9] {
        assert_eq!(events.take(&mut record), Ok(true));
        assert_eq!((record.len() as u64, &record[..8]), (size, &size.to_le_bytes()[..]));
    }
    assert_eq!(events.take(&mut record), Ok(false));
}

fn requests(app: &App) {
    let mut requests = app.map("requests").unwrap().user_ring_buffer().unwrap();
    let none = u32::MAX;
    assert_eq!(call(app, "drain", 0, none).1.result, 0);
    for number in 1..=10u32 {
        requests.push(&number.to_le_bytes()).unwrap();
    }
    // Too short for a number: seen, not added.
    requests.push(&[1]).unwrap();
    let (sum, request) = call(app, "drain", 0, 4);
    assert_eq!((sum, request.key, request.result), (10, 4, 4));
    let (sum, request) = call(app, "drain", 0, none);
    assert_eq!((sum, request.key, request.result), (45, 6, 7));
    // 4,096 bytes hold 256 records of 16.
    let full = (0..).find_map(|sent| requests.push(&[0; 4]).err().map(|error| (sent, error)));
    let (sent, error) = full.unwrap();
    assert_eq!((sent, error), (256, RingError::Full { bytes: 4 }));
    assert_eq!(call(app, "drain", 0, none).1.result, 256);
    assert_eq!(call(app, "drain", 1 << 5, none).1.result, -22);
}

fn maps_by_index(app: &App) {
    assert_eq!(call(app, "add_by_index", 5, 0).0, 5);
    assert_eq!(call(app, "add_by_index", 5, 1).0, -1);
    assert_eq!(call(app, "add_by_index", 7, 2).0, 7);
    assert_eq!(call(app, "add_by_index", 7, 3).0, -1);
    let (outer, first) = (app.map("by_index").unwrap(), app.map("first").unwrap());
    assert_eq!(first.lookup(&[0; 4]).unwrap().unwrap(), 5u64.to_le_bytes());
    outer.set_map(&1u32.to_le_bytes(), first, BPF_ANY).unwrap();
    assert_eq!(call(app, "add_by_index", 1, 1).0, 6);
    outer.delete(&0u32.to_le_bytes()).unwrap();
    assert_eq!(call(app, "add_by_index", 1, 0).0, -1);
    assert_eq!(call(app, "add_by_index", 1, 1).0, 7);
    assert_eq!(outer.set_map(&[0; 4], outer, BPF_ANY).map_err(|e| e.errno()), Err(22));
    assert_eq!(outer.set_map(&3u32.to_le_bytes(), first, BPF_ANY).map_err(|e| e.errno()), Err(7));
    assert_eq!(outer.delete(&0u32.to_le_bytes()), Err(MapError::NotFound));
    let ids = [1u32, 2].map(|key| outer.lookup(&key.to_le_bytes()).unwrap().unwrap());
    assert_ne!(ids[0], ids[1]);
}

fn maps_by_key(app: &App) {
    assert_eq!(call(app, "add_by_key", 5, 77).0, -1);
    let (outer, second) = (app.map("by_key").unwrap(), app.map("second").unwrap());
    outer.set_map(&77u32.to_le_bytes(), second, BPF_ANY).unwrap();
    assert_eq!(call(app, "add_by_key", 5, 77).0, 5);
    outer.set_map(&78u32.to_le_bytes(), second, BPF_ANY).unwrap();
    assert_eq!(call(app, "add_by_key", 5, 78).0, 10);
    outer.delete(&77u32.to_le_bytes()).unwrap();
    assert_eq!(call(app, "add_by_key", 5, 77).0, -1);
    assert_eq!(outer.keys().collect::<Result<Vec<_>, _>>().unwrap(), [78u32.to_le_bytes().to_vec()]);
    assert_eq!(outer.delete(&77u32.to_le_bytes()), Err(MapError::NotFound));
}

fn tail_calls(app: &App) {
    let count_down = |rounds: u32, next_program: u32| {
        app.set_global("rounds", rounds).unwrap();
        app.set_global("next_program", next_program).unwrap();
        app.set_global("runs", 0u32).unwrap();
        let result = app.program("countdown").unwrap().run(&mut ()).unwrap().return_value.cast_signed();
        (result, app.global::<u32>("runs").unwrap())
    };
    // The program once, three times more by tail call, then the other one.
    assert_eq!(count_down(3, 0), (1004, 4));
    // There is nothing in the last slot.
    assert_eq!(count_down(3, 2), (-1, 1));
    // No run calls more than 33 times.
    assert_eq!(count_down(100, 0), (-1, 34));
    app.map("programs").unwrap().delete(&1u32.to_le_bytes()).unwrap();
    assert_eq!(count_down(0, 2), (-1, 1));
}

fn groups(app: &App) {
    assert_eq!(run(app, "in_group", 1), -11);
    assert_eq!(run(app, "in_group", 2), -7);
    let groups = app.map("groups").unwrap();
    assert_eq!(groups.lookup(&[0; 4]).map_err(|error| error.errno()), Err(524));
    assert_eq!(groups.delete(&[0; 4]), Err(MapError::NotFound));
}

/// Runs a program that takes no context.
fn run(app: &App, program: &str, flags: u64) -> i32 {
    app.set_global("flags", flags).unwrap();
    app.program(program).unwrap().run(&mut ()).unwrap().return_value.cast_signed()
}

fn samples(engine: &UserEngine) {
    const CURRENT_CPU: u64 = 0xffff_ffff;
    let app = open().load(engine.clone()).unwrap();
    assert_eq!(run(&app, "send_sample", CURRENT_CPU), -2, "nobody listens");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let listen = move |_: u32, bytes: &[u8]| log.lock().unwrap().push(bytes.to_vec());
    app.map("samples").unwrap().on_event(listen).unwrap();
    for sample in [5u64, 6] {
        app.set_global("sample", sample).unwrap();
        assert_eq!(run(&app, "send_sample", CURRENT_CPU), 0);
    }
    assert_eq!(*heard.lock().unwrap(), [5u64, 6].map(|sample| sample.to_le_bytes().to_vec()));
    assert_eq!(run(&app, "send_sample", 64), -7, "there are 64 slots");
    assert_eq!(run(&app, "send_sample", 1 << 32), -22, "there is no packet");
    assert!(app.map("first").unwrap().on_event(|_, _| {}).is_err());
}

fn stacks(engine: UserEngine) {
    const USER: u64 = 1 << 8;
    let app = open().load(engine.clone()).unwrap();
    assert_eq!(run(&app, "stack_number", 0), -14, "nobody knows");
    assert_eq!(run(&app, "copy_stack", 0), -14);
    let engine = engine.call_stacks(|user| if user { (1..=9).collect() } else { vec![100, 200] });
    let app = open().load(engine).unwrap();
    let [kernel, user] = [0, USER].map(|flags| run(&app, "stack_number", flags));
    assert_eq!(run(&app, "stack_number", 0), kernel);
    let value = |number: i32| {
        let value = app.map("stacks").unwrap().lookup(&number.to_le_bytes()).unwrap().unwrap();
        value.chunks_exact(8).map(|frame| frame[0]).collect::<Vec<u8>>()
    };
    assert_eq!((value(kernel), value(user)), (vec![100, 200, 0, 0], vec![1, 2, 3, 4]));
    assert_eq!((run(&app, "copy_stack", USER | 7), app.global("stack").unwrap()), (16, [8u64, 9, 0, 0]));
    assert_eq!(run(&app, "copy_stack", 5), -14, "there are not so many");
    assert_eq!(run(&app, "stack_number", 1 << 20), -22);
}
