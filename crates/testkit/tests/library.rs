//! A scheduler's library, linked from several objects, on eight threads of each engine. `cargo xtask stress` does the same
//! for longer.

use std::path::Path;
use std::time::Duration;

use bpf_arena::Engine;
use bpf_arena_testkit::kernel::missing_capability;
use bpf_arena_testkit::library::{KERNEL_TYPES, Library, Part, Plan, stress, with_kernel_types};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> Result<(), Failed>;

fn main() {
    let args = Arguments::from_args();
    let privileges = missing_capability().map(|needed| needed.to_string());
    let types = (!Path::new(KERNEL_TYPES).exists()).then_some(KERNEL_TYPES);
    let tests: [(&str, Option<&str>, Test); 5] = [
        ("compiled", None, || on_eight_threads(Engine::user(), without_tasks())),
        ("interpreted", None, || on_eight_threads(Engine::user().interpreter(), without_tasks())),
        ("compiled_with_tasks", types, || {
            on_eight_threads(with_kernel_types(Engine::user())?, Part::ALL.to_vec())
        }),
        ("interpreted_with_tasks", types, || {
            on_eight_threads(with_kernel_types(Engine::user().interpreter())?, Part::ALL.to_vec())
        }),
        ("in_the_kernel", privileges.as_deref(), || on_eight_threads(Engine::kernel()?, Part::ALL.to_vec())),
    ];
    let trials = tests.into_iter().map(|(name, missing, test)| match missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

/// Every part that needs nothing of the machine.
fn without_tasks() -> Vec<Part> {
    Part::ALL.into_iter().filter(|part| *part != Part::Tasks).collect()
}

fn on_eight_threads(engine: impl Into<Engine>, parts: Vec<Part>) -> Result<(), Failed> {
    let library = Library::load(engine, &parts)?;
    let (time, interval) = (Duration::from_millis(400), Duration::from_millis(50));
    let report = stress(&library, &Plan { threads: 8, time, interval, seed: 1 })?;
    for tally in &report.parts {
        if tally.done == 0 {
            return Err(format!("{}: {} runs did nothing", tally.part, tally.runs).into());
        }
    }
    if report.checks < 2 { Err("nobody looked".into()) } else { Ok(()) }
}
