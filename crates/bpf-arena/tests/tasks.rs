//! Tasks as programs see them: the host's threads, tasks that it makes up, and iterators over them.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use std::sync::Arc;

use bpf_arena::host::{Argument, Cgroup, Object, Task};
use bpf_arena::typed::ArenaType;
use bpf_arena::{App, MapError, RunError, UserEngine};
use bpf_object::Btf;
use common::{EXECUTORS, object};

/// The context of `count`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Count {
    flags: u32,
    tasks: u32,
    sum: u32,
}

/// The types of the running kernel, where it has them.
fn kernel_types() -> Option<Arc<Btf>> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    Some(Arc::new(Btf::parse(&bytes).unwrap()))
}

/// Loads the programs with each executor in turn.
fn each(kernel: &Arc<Btf>, with: impl Fn(UserEngine) -> UserEngine, check: impl Fn(&'static str, &App)) {
    for (executor, engine) in EXECUTORS {
        let engine = with(engine().kernel_types(Arc::clone(kernel)));
        let app = object("tasks.bpf.o").load(engine).unwrap_or_else(|error| panic!("{executor}: {error}"));
        check(executor, &app);
    }
}

/// The number of this thread.
fn thread_number() -> u32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap()
}

fn value(app: &App, program: &str) -> i32 {
    let outcome = app.program(program).unwrap().run(&mut ());
    outcome.unwrap_or_else(|error| panic!("{program}: {error}")).return_value.cast_signed()
}

fn count(app: &App, flags: u32) -> (i32, u32, u32) {
    let mut ctx = Count { flags, tasks: 0, sum: 0 };
    let outcome = app.program("count").unwrap().run(&mut ctx).unwrap();
    (outcome.return_value.cast_signed(), ctx.tasks, ctx.sum)
}

fn task(kernel: &Arc<Btf>, pid: i32, tgid: i32) -> Object<Task> {
    let task = Object::new(kernel).unwrap();
    task.set("pid", pid).unwrap().set("tgid", tgid).unwrap();
    task
}

#[test]
fn threads_are_tasks_with_storage_of_their_own() {
    let Some(kernel) = kernel_types() else { return };
    each(
        &kernel,
        |engine| engine,
        |executor, app| {
            // The thread's number is no process's first, unless this is the main thread: the leader is made up as itself.
            assert_eq!([value(app, "visit"), value(app, "visit")], [1, 2], "{executor}");
            assert_eq!(value(app, "find"), 1, "{executor}");
            // The host knows a task by the number of its thread.
            let this = thread_number();
            let visits = app.map("visits").unwrap();
            let seen = visits.lookup(&this.to_le_bytes()).unwrap().unwrap();
            assert_eq!(seen.first(), Some(&2), "{executor}");
            assert_eq!(visits.lookup(&u32::MAX.to_le_bytes()), Ok(None), "{executor}");
            let unknown = visits.update_with(&u32::MAX.to_le_bytes(), &[0; 8], 0);
            assert_eq!(unknown, Err(MapError::NotFound), "{executor}");
            std::thread::scope(|scope| {
                let other = scope.spawn(|| (value(app, "visit"), count(app, 1).1));
                assert_eq!(
                    other.join().unwrap(),
                    (1, 2),
                    "{executor}: two threads have asked for themselves"
                );
            });
            assert_eq!(count(app, 1).1, 1, "{executor}: the other thread has ended");
            assert_eq!(value(app, "visit"), 3, "{executor}");
        },
    );
}

#[test]
fn tasks_are_made_up() {
    let Some(kernel) = kernel_types() else { return };
    let tasks = [task(&kernel, 3, 3), task(&kernel, 4, 3), task(&kernel, 9, 9)];
    let with = |engine| tasks.iter().fold(engine, UserEngine::task);
    each(&kernel, with, |executor, app| {
        assert_eq!(count(app, 0), (0, 2, 12), "{executor}: processes");
        assert_eq!(count(app, 1), (0, 3, 16), "{executor}: threads");
        assert_eq!(count(app, 2), (-22, 0, 0), "{executor}: of no process");
        assert_eq!(count(app, 7), (-22, 0, 0), "{executor}: no such flag");
    });
}

#[test]
fn an_iterator_writes_text() {
    let Some(kernel) = kernel_types() else { return };
    let tasks = [task(&kernel, 3, 3), task(&kernel, 9, 9)];
    let cgroup: Object<Cgroup> = Object::new(&kernel).unwrap();
    each(
        &kernel,
        |engine| engine,
        |executor, app| {
            let dump = app.program("dump").unwrap();
            let elements: Vec<Vec<Argument>> = tasks.iter().map(|task| vec![task.into()]).collect();
            let text = String::from_utf8(dump.iterate(&elements).unwrap()).unwrap();
            assert_eq!(text, "0: 3\nthree\n1: 9\n2 tasks\n", "{executor}");
            assert_eq!(dump.iterate(&[]).unwrap(), b"0 tasks\n", "{executor}");
            let wrong = dump.iterate(&[vec![(&cgroup).into()]]).unwrap_err().to_string();
            assert_eq!(
                wrong,
                "function `task`, parameter 2 (`task`): the host provides `Object<struct cgroup>`, it is declared as \
             `struct task_struct *`",
                "{executor}"
            );
            let no_iterator = app.program("visit").unwrap().iterate(&[]).unwrap_err();
            assert!(matches!(no_iterator, RunError::NotCalled { .. }), "{executor}: {no_iterator}");
        },
    );
}
