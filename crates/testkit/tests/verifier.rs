//! The verifier's verdicts beside the running kernel's.
//!
//! `BPF_ARENA_SEED=N` starts the random programs at another seed, `BPF_ARENA_COUNT=N` makes more of them.

#[path = "../../verifier/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;

use bpf_arena::kernel::KernelObject;
use bpf_arena::{Engine, LoopLimit};
use bpf_arena_testkit::kernel::missing_capability;
use bpf_arena_testkit::verdicts::{Judge, generate, listing};
use bpf_object::{Btf, Object, Program};
use common::Expected;
use libtest_mimic::{Arguments, Failed, Trial};
use verifier::{Env, Reason, Rejection, Unsupported, verify};

type Test = fn() -> Result<(), Failed>;

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let contained = Trial::test("accepted_programs_stay_in_their_memory", accepted_programs);
    let tests: [(&str, Test); 3] = [
        ("cases_are_judged_alike", cases),
        ("objects_are_judged_alike", objects),
        ("random_programs_are_judged_alike", random_programs),
    ];
    let trials = tests.into_iter().map(|(name, test)| match missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.chain([contained]).collect()).exit();
}

/// The cases of the verifier's own tests: verdict and final message.
fn cases() -> Result<(), Failed> {
    let judge = Judge::new(0x1fb0_0000_0000)?;
    let vmlinux = Btf::parse(&std::fs::read("/sys/kernel/btf/vmlinux")?)?;
    let kfunc = |name: &str| vmlinux.function(name).and_then(|id| i32::try_from(id.0).ok());
    let mut different = String::new();
    for case in common::cases().map_err(|e| e.to_string())? {
        if case.here_alone {
            continue;
        }
        let program = case.program(Some(&kfunc)).map_err(|e| e.to_string())?;
        match (&case.expected, judge.verdict(&program, true)?) {
            (Expected::Accept, Ok(())) => {}
            (Expected::Reject(message), Err(theirs)) => {
                let log = theirs.log().map(|l| l.text().to_owned()).unwrap_or_default();
                if !log.contains(message) {
                    let end: Vec<&str> = log.lines().rev().take(3).collect();
                    different += &format!("{}: the kernel says {end:?}, not {message:?}\n", case.name);
                }
            }
            (Expected::Accept, Err(theirs)) => {
                let log = theirs.log().map(|l| l.text().to_owned()).unwrap_or_default();
                different += &format!("{}: the kernel refuses: {log}\n", case.name);
            }
            (Expected::Reject(_), Ok(())) => different += &format!("{}: the kernel accepts\n", case.name),
        }
    }
    if different.is_empty() { Ok(()) } else { Err(different.into()) }
}

/// Every program of the repository's objects.
fn objects() -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let user = bpf_arena::Engine::user();
    let mut different = String::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with(".bpf.o") {
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
                }
                (Err(ours), Err(theirs)) => println!("{name}: {ours}\n  kernel: {}", last_line(theirs)),
                (Ok(_), Err(theirs)) => {
                    different += &format!("{name}: kernel refuses: {}\n", last_line(theirs))
                }
                (Err(ours), Ok(_)) => different += &format!("{name}: we refuse: {ours}\n"),
            }
        }
    }
    if different.is_empty() { Ok(()) } else { Err(different.into()) }
}

fn last_line(error: &bpf_arena::kernel::KernelError) -> String {
    error.log().and_then(|l| l.last_line()).map_or_else(|| error.to_string(), str::to_owned)
}

/// Programs that only the kernel refuses are a hole; programs that only we refuse are counted.
fn random_programs() -> Result<(), Failed> {
    let (first, count) = seeds(1500);
    let judge = Judge::new(0x1fc0_0000_0000)?;
    let mut accepted = 0;
    let mut only_ours: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut messages = 0;
    let mut refused = 0;
    let mut jit = 0;
    for seed in first..first + count {
        let program = generate(seed);
        let ours = verify(&program, &Env::default());
        let short = ours.as_ref().is_err_and(|e| e.insns_walked() < 10_000);
        let mut theirs = judge.verdict(&program, short)?;
        if ours.is_ok() && theirs.is_err() {
            theirs = judge.verdict(&program, true)?;
        }
        match (ours, theirs) {
            (Ok(_), Ok(())) => accepted += 1,
            (Err(ours), Err(theirs)) => {
                refused += 1;
                let log = theirs.log().map(|l| l.text().to_owned()).unwrap_or_default();
                messages += u32::from(log.contains(&ours.reason().to_string()));
            }
            (Ok(_), Err(theirs)) if is_limit_of_jit(&theirs) => jit += 1,
            (Ok(_), Err(theirs)) => return Err(hole(seed, &program, &theirs)),
            (Err(ours), Ok(())) => only_ours.entry(kind(&ours)).or_default().push(seed),
        }
    }
    let lost: usize = only_ours.values().map(Vec::len).sum();
    println!(
        "seeds {first}..{}: {accepted} accepted by both, {refused} refused by both ({messages} with the same message), \
         {jit} beyond the kernel's compiler",
        first + count
    );
    for (reason, seeds) in &only_ours {
        println!(
            "only we refuse: {} {reason}, e.g. seeds {:?}",
            seeds.len(),
            seeds.get(..3).unwrap_or(seeds)
        );
    }
    let allowed = usize::try_from(count / 100)?;
    if lost > allowed {
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

fn seeds(otherwise: u64) -> (u64, u64) {
    let number =
        |name: &str, otherwise| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise);
    (number("BPF_ARENA_SEED", 0), number("BPF_ARENA_COUNT", otherwise))
}

fn kind(rejection: &verifier::Rejection) -> String {
    let text = format!("{:?}", rejection.reason());
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Linux's compiler for x86-64 cannot fetch with `and`, `or` and `xor` in an arena, and its verifier says so. There is
/// nothing unsafe about it.
fn is_limit_of_jit(error: &sys::bpf::BpfError) -> bool {
    error.log().is_some_and(|l| l.text().contains("arena is not allowed"))
}

fn hole(seed: u64, program: &Program, theirs: &sys::bpf::BpfError) -> Failed {
    let log = theirs.log().map(|l| l.text().to_owned()).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    format!("seed {seed}: only the kernel refuses\n{}\n{theirs}\n{}", listing(program), tail.join("\n"))
        .into()
}
