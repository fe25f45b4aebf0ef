//! Programs run by many threads at once.

mod common;

use common::{EXECUTORS, apps};

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
    for (executor, app) in apps("atomics.bpf.o") {
        on_threads(&app, "add", &10u64.to_le_bytes());
        let counter = app.object().variable("counter").unwrap();
        let arena = app.arena().unwrap();
        let at = arena.addr_of(bpf_arena::arena::ArenaOffset::new(u64::from(counter.offset))).unwrap();
        let mut bytes = [0; 8];
        arena.read_bytes(at, &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), THREADS * ROUNDS * 10, "{executor}");
    }
}

#[test]
fn a_spin_lock_excludes() {
    for (executor, app) in apps("runtime.bpf.o") {
        on_threads(&app, "spin_lock", &[]);
        let value = app.map("cell").unwrap().lookup(&[0; 4]).unwrap().unwrap();
        assert_eq!(value[..4], [0; 4], "{executor}: the lock is free");
        assert_eq!(
            u64::from(u32::from_le_bytes(value[4..8].try_into().unwrap())),
            THREADS * ROUNDS,
            "{executor}"
        );
    }
}

#[test]
fn faults_stay_with_the_thread_that_made_them() {
    for (executor, app) in apps("faults.bpf.o") {
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
    }
}

#[test]
fn a_run_inside_of_a_run() {
    use std::sync::{Arc, OnceLock};

    // The sink runs another program of the same app while the first one waits.
    for (executor, engine) in EXECUTORS {
        let slot: Arc<OnceLock<bpf_arena::App>> = Arc::new(OnceLock::new());
        let inner = Arc::clone(&slot);
        let engine = engine().output(move |_: bpf_arena::Stream, _: &[u8]| {
            let app = inner.get().unwrap();
            let outcome = app.program("count_with_loop").unwrap().run(&mut ()).unwrap();
            assert_eq!(outcome.return_value, 0);
        });
        let app = common::object("runtime.bpf.o").load(engine).unwrap_or_else(|error| panic!("{error}"));
        slot.set(app).unwrap();
        let outcome = slot.get().unwrap().program("trace").unwrap().run(&mut ()).unwrap();
        assert_eq!(outcome.return_value, 0, "{executor}");
    }
}
