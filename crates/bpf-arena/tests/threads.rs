//! Programs run by many threads at once.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use common::{EXECUTORS, each_app};

const THREADS: u64 = 8;
const ROUNDS: u64 = 200;

/// Runs a program on every thread, many times.
fn on_threads(app: &bpf_arena::App, program: &str, ctx: &[u8]) {
    let program = app.program(program).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let outcome = program.run(&mut ctx.to_vec()).unwrap();
                    assert_eq!(outcome.return_value, 0);
                }
            });
        }
    });
}

#[test]
fn atomics_lose_no_update() {
    each_app("atomics.bpf.o", |executor, app| {
        on_threads(app, "add", &10u64.to_le_bytes());
        let counter = app.object().variable("counter").unwrap();
        let arena = app.arena().unwrap();
        let at = arena.addr_of(bpf_arena::arena::ArenaOffset::new(u64::from(counter.offset))).unwrap();
        let mut bytes = [0; 8];
        arena.read_bytes(at, &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), THREADS * ROUNDS * 10, "{executor}");
    });
}

#[test]
fn a_spin_lock_excludes() {
    each_app("runtime.bpf.o", |executor, app| {
        on_threads(app, "spin_lock", &[]);
        let value = app.map("cell").unwrap().lookup(&[0; 4]).unwrap().unwrap();
        assert_eq!(value[..4], [0; 4], "{executor}: the lock is free");
        assert_eq!(
            u64::from(u32::from_le_bytes(value[4..8].try_into().unwrap())),
            THREADS * ROUNDS,
            "{executor}"
        );
    });
}

#[test]
fn faults_stay_with_the_thread_that_made_them() {
    each_app("faults.bpf.o", |executor, app| {
        let program = app.program("load_null").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        assert_eq!(program.run(&mut ()).unwrap().faults.total(), 1, "{executor}");
                    }
                });
            }
        });
    });
}

#[test]
fn a_run_inside_of_a_run() {
    // The sink runs another program while the first one waits.
    let text = "
        r0 = 0
        r0 = *(u64 *)(r10 -8)
        exit
    ";
    let inner = common::program(&text.replace("r0 = 0\n", "*(u64 *)(r10 -8) = 7\n"), vec![]);
    let outer = common::program(
        "
        *(u64 *)(r10 -8) = 35
        r1 = map[idx:0][0]+0
        r2 = 3
        call bpf_trace_printk
        r0 = *(u64 *)(r10 -8)
        exit
    ",
        vec![common::rodata(b"in\0")],
    );
    for (executor, engine) in EXECUTORS {
        let inner = common::instance(&engine(), &inner);
        let engine = engine().output(move |_: bpf_arena::Stream, _: &[u8]| {
            assert_eq!(inner.run(&mut []).unwrap().r0, 7);
        });
        assert_eq!(common::instance(&engine, &outer).run(&mut []).unwrap().r0, 35, "{executor}");
    }
}

/// Counts its runs in the first value of its map, and reads its arena where nothing is.
const COUNTS: &str = "
    *(u32 *)(r10 -4) = 0
    r1 = map[idx:0]
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem
    if r0 == 0 goto none
    r1 = 1
    r1 = atomic64_fetch_add((u64 *)(r0 +0), r1)
    r6 = 0x40000000 ll
    r6 = addr_space_cast(r6, 0, 1)
    r7 = map[idx:1]
    r7 = *(u64 *)(r6 +0)
    r0 = r1
    r0 += r7
    exit
none:
    r0 = -1
    exit
";

#[test]
fn thousands_of_programs_and_maps_come_and_go() {
    const PROGRAMS: usize = 1500;
    let maps = || vec![common::array("runs", 8, 3), common::arena(4, 0)];
    let template = common::program(COUNTS, maps());
    for (executor, engine) in EXECUTORS {
        let engine = engine();
        // Verified and compiled once, as any number of instances with maps of their own.
        let verified = bpf_arena::verifier::verify(&template, engine.verifier_env()).unwrap();
        let code = match executor {
            "jit" => bpf_arena::Code::compiled(&verified, &Default::default()).unwrap(),
            _ => bpf_arena::Code::interpreted(&verified).unwrap(),
        };
        let make = || engine.instantiate_code(&code, &engine.maps(&template).unwrap()).unwrap();
        let living: Vec<_> = (0..PROGRAMS).map(|_| make()).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let living = &living;
                scope.spawn(move || {
                    for instance in living.iter().skip(thread * 7) {
                        assert!(instance.run(&mut []).unwrap().r0 < 4 * 2);
                    }
                });
            }
            // Others live shortly meanwhile.
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..PROGRAMS / 10 {
                        let instance = make();
                        let again = instance.clone();
                        drop(instance);
                        assert_eq!(again.run(&mut []).unwrap().r0, 0);
                        let map = again.maps().maps()[0].clone();
                        drop(again);
                        assert_eq!(map.lookup(&[0; 4]).unwrap().unwrap()[0], 1);
                    }
                });
            }
        });
        let runs =
            |instance: &bpf_arena::Instance| instance.maps().maps()[0].lookup(&[0; 4]).unwrap().unwrap()[0];
        assert_eq!(
            living.iter().map(|i| usize::from(runs(i))).sum::<usize>(),
            PROGRAMS * 4 - 7 * (1 + 2 + 3)
        );
    }
}

/// The negative of `EDEADLK` and `ETIMEDOUT`, as programs return them.
const DEADLOCK: u32 = 35_u32.wrapping_neg();
const TIMED_OUT: u32 = 110_u32.wrapping_neg();

/// A global variable of 4 bytes in `.bss`.
fn word(app: &bpf_arena::App, name: &str) -> (bpf_arena::Map, u64) {
    let at = app.object().variable(name).unwrap().offset;
    (app.map(".bss").unwrap().clone(), u64::from(at))
}

fn set(app: &bpf_arena::App, name: &str, value: u32) {
    let (map, at) = word(app, name);
    map.write_at(at, &value.to_le_bytes()).unwrap();
}

fn get(app: &bpf_arena::App, name: &str) -> u32 {
    let (map, at) = word(app, name);
    let mut bytes = [0; 4];
    map.read_at(at, &mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

fn lock(app: &bpf_arena::App, program: &str, locks: [u32; 2]) -> u32 {
    app.program(program).unwrap().run(&mut { locks }).unwrap().return_value
}

#[test]
fn resilient_locks_that_wait_for_each_other_are_refused() {
    each_app("resilient.bpf.o", |executor, app| {
        set(app, "holding", 0);
        let results = std::thread::scope(|scope| {
            let other = scope.spawn(|| lock(app, "embrace", [1, 0]));
            [lock(app, "embrace", [0, 1]), other.join().unwrap()]
        });
        // Who is refused lets go of its lock, which the other may then get.
        assert!(results.contains(&DEADLOCK), "{executor}: {results:x?}");
        assert!(results.iter().all(|error| [0, DEADLOCK].contains(error)), "{executor}: {results:x?}");
        assert_eq!(
            [lock(app, "take", [0, 0]), lock(app, "take", [1, 0])],
            [0, 0],
            "{executor}: both are free"
        );
    });
}

#[test]
fn a_resilient_lock_is_not_waited_for_for_ever() {
    each_app("resilient.bpf.o", |executor, app| {
        set(app, "holding", 0);
        set(app, "released", 0);
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| lock(app, "hold", [0, 0]));
            while get(app, "holding") == 0 {
                std::thread::yield_now();
            }
            let begin = std::time::Instant::now();
            let refused = lock(app, "take", [0, 0]);
            let waited = begin.elapsed();
            set(app, "released", 1);
            assert_eq!(holder.join().unwrap(), 0, "{executor}");
            assert_eq!(refused, TIMED_OUT, "{executor}");
            assert!(waited >= std::time::Duration::from_millis(250), "{executor}: after {waited:?}");
        });
        assert_eq!(lock(app, "take", [0, 0]), 0, "{executor}: it is free");
    });
}
