//! A scheduler's library, linked from several objects, on eight threads of each engine. `cargo xtask stress` does the same
//! for longer.

use std::time::Duration;

use bpf_arena::Engine;
use bpf_arena_testkit::kernel::missing_capability;
use bpf_arena_testkit::library::{Library, Part, Plan, stress};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> Result<(), Failed>;

/// Parts that the user engine has maps and helpers for.
const USER_PARTS: [Part; 10] = [
    Part::Slab,
    Part::Stack,
    Part::Buddy,
    Part::RbTree,
    Part::Btree,
    Part::Heap,
    Part::Queue,
    Part::Bitmap,
    Part::Topology,
    Part::Timers,
];

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let tests: [(&str, bool, Test); 3] =
        [("compiled", false, compiled), ("interpreted", false, interpreted), ("in_the_kernel", true, kernel)];
    let trials = tests.into_iter().map(|(name, needs_kernel, test)| match missing {
        Some(needed) if needs_kernel => {
            Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true)
        }
        _ => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

fn compiled() -> Result<(), Failed> {
    on_eight_threads(&Library::load(Engine::user(), &USER_PARTS)?)
}

fn interpreted() -> Result<(), Failed> {
    on_eight_threads(&Library::load(Engine::user().interpreter(), &USER_PARTS)?)
}

fn kernel() -> Result<(), Failed> {
    on_eight_threads(&Library::load(Engine::kernel()?, &Part::ALL)?)
}

fn on_eight_threads(library: &Library) -> Result<(), Failed> {
    let (time, interval) = (Duration::from_millis(400), Duration::from_millis(50));
    let report = stress(library, &Plan { threads: 8, time, interval, seed: 1 })?;
    for tally in &report.parts {
        if tally.done == 0 {
            return Err(format!("{}: {} runs did nothing", tally.part, tally.runs).into());
        }
    }
    if report.checks < 2 { Err("nobody looked".into()) } else { Ok(()) }
}
