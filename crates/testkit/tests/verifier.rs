//! The verifier's verdicts beside the running kernel's.
//!
//! `BPF_ARENA_SEED=N` starts the random programs at another seed, `BPF_ARENA_COUNT=N` makes more of them.

#[path = "../../verifier/tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bpf_arena::kernel::{KernelError, KernelObject, LoadOptions, LogMode};
use bpf_arena::{Engine, LoopLimit};
use bpf_arena_testkit::contained::{Checked, Checker};
use bpf_arena_testkit::kernel::missing_capability;
use bpf_arena_testkit::log_lines::{Agreement, agreement};
use bpf_arena_testkit::verdicts::{Judge, Mutants, Options, compare, generate, link, listing, maps, types};
use bpf_object::Object;
use common::Expected;
use libtest_mimic::{Arguments, Failed, Trial};
use verifier::log::{KernelLog, LogLevel};
use verifier::{Env, Reason, Rejection, Unsupported, verify, verify_with};

/// Instructions walked by programs whose logs are compared at most: a log has a line or two for each.
const MOST_LOGGED: u64 = 20_000;

type Test = fn() -> Result<(), Failed>;

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let contained = [
        Trial::test("accepted_programs_stay_in_their_memory", accepted_programs),
        Trial::test("runs_stay_in_the_states_of_the_verifier", states),
    ];
    let tests: [(&str, Test); 4] = [
        ("cases_are_judged_alike", cases),
        ("objects_are_judged_alike", objects),
        ("logs_are_alike", logs),
        ("random_programs_are_judged_alike", random_programs),
    ];
    let trials = tests.into_iter().map(|(name, test)| match missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.chain(contained).collect()).exit();
}

/// The cases of the verifier's own tests: verdict and final message.
fn cases() -> Result<(), Failed> {
    let judge = Judge::new(maps(), Some(Arc::new(types())))?;
    let mut different = String::new();
    for case in common::cases().map_err(|e| e.to_string())? {
        if case.here_alone {
            continue;
        }
        let program = link(&case.program().map_err(|e| e.to_string())?)?;
        match (&case.expected, judge.verdict(&program, case.flags, LogMode::OnRejection)?) {
            (Expected::Accept, Ok(())) => {
                if let Some(ours) = case.walked {
                    let theirs = judge.walked(&program, case.flags)?;
                    if theirs != Some(ours) {
                        different += &format!("{}: the kernel walks {theirs:?}, not {ours}\n", case.name);
                    }
                }
            }
            (Expected::Reject(message), Err(theirs)) => {
                if !theirs.log.contains(message) {
                    let end: Vec<&str> = theirs.log.lines().rev().take(3).collect();
                    different += &format!("{}: the kernel says {end:?}, not {message:?}\n", case.name);
                }
            }
            (Expected::Accept, Err(theirs)) => {
                different += &format!("{}: the kernel refuses: {}\n", case.name, theirs.log);
            }
            (Expected::Reject(_), Ok(())) => different += &format!("{}: the kernel accepts\n", case.name),
        }
    }
    if different.is_empty() { Ok(()) } else { Err(different.into()) }
}

/// Every program of the repository's objects.
fn objects() -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let types = bpf_arena::kernel::running_btf()?;
    let user = bpf_arena::Engine::user();
    let user =
        user.clone().env(user.verifier_env().clone().with_kernel(Arc::clone(&types))).target_btf(types);
    let mut different = String::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // These two are about what an engine lacks, and about variables that the host makes up.
        if !name.ends_with(".bpf.o") || ["missing.bpf.o", "variables.bpf.o"].contains(&&*name) {
            continue;
        }
        let object = Object::parse(&std::fs::read(&path)?)?;
        let kernel = KernelObject::new(&object)?;
        for info in &object.programs {
            let linked = kernel.link(&object, &info.name)?;
            let theirs = kernel.load(&linked, &Default::default());
            let ours = verify(&object.link_with(&info.name, &user.link_options())?, user.verifier_env());
            // Other types are for the kernel engine alone, for now.
            let other =
                |e: &Rejection| matches!(e.reason(), Reason::Unsupported(Unsupported::ProgramType { .. }));
            if ours.as_ref().is_err_and(other) {
                continue;
            }
            let name = format!("{} {}", path.file_stem().unwrap_or_default().to_string_lossy(), info.name);
            match (&ours, &theirs) {
                (Ok(ours), Ok((theirs, _))) => {
                    let (ours, theirs) = (ours.stats().insns_walked, theirs.info()?.verified_insns);
                    println!("{name}: {ours} instructions walked, {theirs} by the kernel");
                    if ours.abs_diff(u64::from(theirs)) * 10 > u64::from(theirs) {
                        different += &format!("{name}: {ours} instructions walked, {theirs} by the kernel\n");
                    }
                }
                (Err(ours), Err(theirs)) => println!("{name}: {ours}\n  kernel: {}", last_line(theirs)),
                // A host that permits no trampolines says nothing about the program.
                (Ok(_), Err(KernelError::Rejected(theirs))) if theirs.is_policy() => {}
                (Ok(_), Err(theirs)) => {
                    different += &format!("{name}: kernel refuses: {}\n", last_line(theirs))
                }
                (Err(ours), Ok(_)) => different += &format!("{name}: we refuse: {ours}\n"),
            }
        }
    }
    if different.is_empty() { Ok(()) } else { Err(different.into()) }
}

/// The log of every path of the repository's objects, those with mistakes, too.
fn logs() -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let mut all = Agreement::default();
    for folder in [folder.join("mistakes"), folder] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // The first sees another structure of a map than the kernel; the kernel's linker knows the second's helper not.
            if name.ends_with(".bpf.o") && !["map_fields.bpf.o", "unknown_helper.bpf.o"].contains(&&*name) {
                all.add(logs_of(&path)?);
            }
        }
    }
    println!("{} of {} lines are equal", all.equal, all.lines);
    for line in all.missing.iter().take(40) {
        println!("  only the kernel says: {line}");
    }
    if all.equal * 100 >= all.lines * 98 { Ok(()) } else { Err("the logs differ".into()) }
}

fn logs_of(path: &Path) -> Result<Agreement, Failed> {
    let object = Object::parse(&std::fs::read(path)?)?;
    let kernel = KernelObject::new(&object)?;
    let user = bpf_arena::Engine::user();
    let env = user.verifier_env();
    let mut all = Agreement::default();
    for info in &object.programs {
        let program = object.link_with(&info.name, &user.link_options())?;
        let walked = match verify(&program, env) {
            Ok(verified) => verified.stats().insns_walked,
            Err(rejection) => rejection.insns_walked(),
        };
        if walked > MOST_LOGGED {
            continue;
        }
        let options = LoadOptions { log: LogMode::Always(2), flags: 0 };
        let theirs = match kernel.load(&kernel.link(&object, &info.name)?, &options) {
            Ok((_, log)) => log.text().to_owned(),
            Err(error) => match error.log() {
                Some(log) => log.text().to_owned(),
                None => continue,
            },
        };
        let mut log = KernelLog::new(&program, env, LogLevel::PATHS);
        let verdict = verify_with(&program, env, &mut log);
        all.add(agreement(&theirs, &log.finish(&verdict, Duration::ZERO)));
    }
    Ok(all)
}

fn last_line(error: &bpf_arena::kernel::KernelError) -> String {
    error.log().and_then(|l| l.last_line()).map_or_else(|| error.to_string(), str::to_owned)
}

/// Programs that only the kernel refuses are a hole; programs that only we refuse are counted. A slice of what
/// `cargo xtask fuzz verifier` does.
fn random_programs() -> Result<(), Failed> {
    let (first, count) = seeds(1500);
    let options = Options { first, count, ..Options::default() };
    let report = compare(&options, &Mutants::default(), &[])?;
    println!("{report}");
    if let Some(hole) = report.holes.values().next() {
        return Err(format!("accepted by us alone:\n{hole}").into());
    }
    let lost = report.only_ours();
    if lost > count / 100 {
        Err(format!("{lost} of {count} programs are refused by us alone").into())
    } else {
        Ok(())
    }
}

/// The interpreter checks every access again: where it stops an accepted program, the verifier has a hole.
fn accepted_programs() -> Result<(), Failed> {
    let (first, count) = seeds(1500);
    let engine =
        Engine::user().interpreter().loop_limit(LoopLimit::Iterations(100)).instruction_limit(1 << 20);
    let maps = engine.maps(&generate(first))?;
    let mut runs = 0;
    for seed in first..first + count {
        let program = generate(seed);
        let Ok(verified) = verify(&program, &Env::default()) else { continue };
        let instance = engine.instantiate(&verified, &maps)?;
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..4 {
            let mut ctx = vec![0; 128];
            rng.fill(&mut ctx);
            instance
                .run(&mut ctx)
                .map_err(|e| format!("seed {seed}: accepted, but stopped: {e}\n{}", listing(&program)))?;
            runs += 1;
        }
    }
    println!("{runs} runs of accepted programs, none stopped");
    Ok(())
}

/// A slice of what `cargo xtask fuzz contained` does.
fn states() -> Result<(), Failed> {
    let (first, count) = seeds(1500);
    let checker = Checker::new()?;
    let mut checked = Checked::default();
    for seed in first..first + count {
        checked.add(checker.check(seed)?);
    }
    println!("{checked:?}");
    if checked.programs > 0 { Ok(()) } else { Err("nothing was accepted".into()) }
}

fn seeds(otherwise: u64) -> (u64, u64) {
    let number =
        |name: &str, otherwise| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise);
    (number("BPF_ARENA_SEED", 0), number("BPF_ARENA_COUNT", otherwise))
}
