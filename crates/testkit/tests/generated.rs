//! Generated programs by interpreter, as machine code and in the running kernel: a few of those that
//! `cargo xtask fuzz exec` runs by the hundred thousand.

use bpf_arena_testkit::differential::{Bench, compare_with_kernel};
use bpf_arena_testkit::generate::{Case, Features, USER_VM_START};
use bpf_arena_testkit::kernel::missing_capability;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    // Both have their arena at the same address: one at a time.
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let name = "this_process_and_the_kernel_agree";
    let kernel = match missing_capability() {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), with_kernel).with_ignored_flag(true),
        None => Trial::test(name, with_kernel),
    };
    let trials = vec![Trial::test("interpreter_and_compiled_code_agree", in_this_process), kernel];
    libtest_mimic::run(&args, trials).exit();
}

fn in_this_process() -> Result<(), Failed> {
    let mut features = Features::default();
    features.beyond_kernel = true;
    let bench = Bench::new(USER_VM_START)?;
    for seed in 0..150 {
        let case = Case::new(seed, features);
        bench.compare(&case).map_err(|error| format!("seed {seed}: {error}\n{}", case.assembly()))?;
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
