//! Helpers and their arguments: the verifier's tables beside the running kernel.
//!
//! `BPF_ARENA_SECTION=xdp` tries every argument of every helper in programs of this section, which takes minutes.

use std::sync::Arc;

use bpf_arena_testkit::calls::{Calls, HELPERS, SECTIONS};
use bpf_arena_testkit::kernel::missing_capability;
use bpf_object::Btf;
use libtest_mimic::{Arguments, Failed, Trial};
use verifier::Env;

type Test = fn() -> Result<(), Failed>;

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let tests: [(&str, Test); 2] =
        [("programs_may_call_the_same_helpers", matrix), ("arguments_are_judged_alike", arguments)];
    let trials = tests.into_iter().map(|(name, test)| match missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

fn calls() -> Result<Calls, Failed> {
    let btf = Btf::parse(&std::fs::read("/sys/kernel/btf/vmlinux")?)?;
    Ok(Calls::new(Env::default().with_kernel(Arc::new(btf)))?)
}

/// Every helper in programs of every type.
fn matrix() -> Result<(), Failed> {
    let mut calls = calls()?;
    for section in SECTIONS {
        calls.matrix(section)?;
    }
    verdict(&calls)
}

/// Every kind of argument of some helpers in programs of a few types.
fn arguments() -> Result<(), Failed> {
    if let Ok(section) = std::env::var("BPF_ARENA_SECTION") {
        let mut calls = calls()?;
        for number in 1..=HELPERS {
            calls.arguments(&section, number)?;
        }
        return verdict(&calls);
    }
    // Maps and their keys and values; sizes both ways; memory of a fixed size; the context; sockets; ring buffers.
    let samples: [(&str, &[u32]); 5] = [
        ("xdp", &[1, 3, 28, 44, 51, 69, 84, 163, 189, 204]),
        ("tc", &[10, 26, 86, 95, 96, 99, 124]),
        ("syscall", &[105, 131, 132, 149, 182, 191]),
        ("cgroup/sysctl", &[101, 104]),
        ("sk_lookup", &[124, 130]),
    ];
    for (section, numbers) in samples {
        // An array of programs belongs to the type of the first program that uses it: each section has its own maps.
        let mut calls = calls()?;
        for number in numbers {
            calls.arguments(section, *number)?;
        }
        verdict(&calls)?;
    }
    Ok(())
}

fn verdict(calls: &Calls) -> Result<(), Failed> {
    let Some(first) = calls.differences.first() else { return Ok(()) };
    let (count, judged) = (calls.differences.len(), calls.judged);
    Err(format!("{count} of {judged} programs are judged otherwise, the first: {first:#?}").into())
}
