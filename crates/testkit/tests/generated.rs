//! Generated programs by interpreter, as machine code and in the running kernel: a few of those that
//! `cargo xtask fuzz exec` runs by the hundred thousand.

use std::collections::BTreeSet;

use bpf_arena_testkit::differential::{Bench, compare_with_kernel};
use bpf_arena_testkit::generate::{ARENA_PAGES, Case, Features, USER_VM_START};
use bpf_arena_testkit::kernel::{KernelArena, KernelProgram, missing_capability};
use isa::{Imm64, Insn, InsnIdx};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    // Both have their arena at the same address: one at a time.
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let kernel = |name: &str, test: Test| match missing_capability() {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    };
    let trials = vec![
        Trial::test("interpreter_and_compiled_code_agree", in_this_process),
        kernel("this_process_and_the_kernel_agree", with_kernel),
        kernel("instructions_read_as_in_the_kernels_log", text),
    ];
    libtest_mimic::run(&args, trials).exit();
}

type Test = fn() -> Result<(), Failed>;

fn in_this_process() -> Result<(), Failed> {
    let mut features = Features::default();
    features.beyond_kernel = true;
    for checked in [false, true] {
        let bench = if checked { Bench::checked(USER_VM_START)? } else { Bench::new(USER_VM_START)? };
        for seed in 0..100 {
            let case = Case::new(seed, features);
            bench.compare(&case).map_err(|error| {
                format!("seed {seed}, checked in software: {checked}: {error}\n{}", case.assembly())
            })?;
        }
    }
    Ok(())
}

fn with_kernel() -> Result<(), Failed> {
    for seed in 0..150 {
        let case = Case::new(seed, Features::default());
        compare_with_kernel(&case, USER_VM_START)
            .map_err(|error| format!("seed {seed}: {error}\n{}", case.assembly()))?;
    }
    Ok(())
}

/// The kernel's log of each program against the disassembler, instruction by instruction.
fn text() -> Result<(), Failed> {
    let arena = KernelArena::new(ARENA_PAGES, USER_VM_START, 0)?;
    let mut forms = BTreeSet::new();
    for seed in 0..300 {
        let code = Case::new(seed, Features::default()).code;
        let log = KernelProgram::log(&code, Some(&arena))?;
        for line in log.lines() {
            // `12: (bf) r1 = r2   ; R1=...`; other lines are about states, calls and joins.
            let Some((number, rest)) = line.split_once(": (") else { continue };
            let (Ok(number), Some((_, theirs))) = (number.parse(), rest.split_once(") ")) else { continue };
            let Some(insn) = code.get(InsnIdx(number)) else { continue };
            // The kernel shows where the map is.
            if matches!(insn, Insn::LoadImm64 { value: Imm64::MapIdx(_), .. }) {
                continue;
            }
            let theirs = theirs.split(';').next().unwrap_or(theirs).trim_end();
            if theirs != insn.to_string() {
                return Err(format!("seed {seed}, {number}: the kernel has `{theirs}`, not `{insn}`").into());
            }
            forms.extend(insn.form().map(|form| form.syntax));
        }
    }
    if forms.len() < 150 { Err(format!("only {} forms were seen", forms.len()).into()) } else { Ok(()) }
}
