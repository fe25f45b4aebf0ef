//! Every `tests/filetests/*.bpf` by interpreter, as machine code and, where permitted, in the running kernel.
//!
//! `BLESS=1` writes what this process's engines agree on into the fixtures.

#![allow(clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use bpf_arena_testkit::differential::{Bench, Failure, in_kernel};
use bpf_arena_testkit::filetest::{Expected, FileTest, Kernel};
use bpf_arena_testkit::generate::USER_VM_START;
use bpf_arena_testkit::kernel::missing_capability;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    // All have their arena at the same address: one at a time.
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/filetests");
    let entries = std::fs::read_dir(&folder).expect("the folder of fixtures");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bpf"));
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures");
    let missing = missing_capability();
    let trials = paths.into_iter().flat_map(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let needs = missing.map_or_else(String::new, |needed| format!(" (needs {needed})"));
        let (user, kernel) = (path.clone(), path);
        [
            Trial::test(format!("{name}: user"), move || in_this_process(&user)),
            Trial::test(format!("{name}: kernel{needs}"), move || with_kernel(&kernel))
                .with_ignored_flag(missing.is_some()),
        ]
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

fn in_this_process(path: &Path) -> Result<(), Failed> {
    let text = std::fs::read_to_string(path)?;
    let test = FileTest::parse(&text)?;
    let result = Bench::with_flags(USER_VM_START, test.flags)?.compare(&test.case);
    match (&test.expected, result) {
        (Expected::Error(message), Err(Failure::Load(error))) => contains(&error.to_string(), message),
        (Expected::Error(message), Err(error)) => Err(format!("{error} instead of: {message}").into()),
        (Expected::Error(message), Ok(_)) => Err(format!("it ran, instead of: {message}").into()),
        (Expected::Run(_), Err(error)) => Err(error.into()),
        (Expected::Run(expected), Ok(observed)) => {
            let lines = test.describe(&observed);
            if lines == *expected {
                return Ok(());
            }
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(path, FileTest::bless(&text, &lines))?;
                return Ok(());
            }
            Err(format!("it left\n  {}\ninstead of\n  {}", lines.join("\n  "), expected.join("\n  ")).into())
        }
    }
}

fn with_kernel(path: &Path) -> Result<(), Failed> {
    let test = FileTest::parse(&std::fs::read_to_string(path)?)?;
    if test.kernel == Kernel::Skipped {
        return Ok(());
    }
    let result = in_kernel(&test.case, USER_VM_START, test.flags);
    match (&test.expected, result) {
        (Expected::Error(message), Err(error)) => contains(&error.to_string(), message),
        (Expected::Error(message), Ok(_)) => Err(format!("it ran, instead of: {message}").into()),
        (Expected::Run(_), Err(error)) => Err(error.into()),
        (Expected::Run(expected), Ok(mut observed)) => {
            // The kernel returns half of r0 and tells no faults.
            let half = |line: &String| match line.strip_prefix("r0 = 0x") {
                Some(r0) => {
                    let r0 = u64::from_str_radix(r0, 16).unwrap_or_default() & u64::from(u32::MAX);
                    format!("r0 = {r0:#x}")
                }
                None => line.clone(),
            };
            let expected: Vec<String> =
                expected.iter().filter(|line| !line.starts_with("fault: ")).map(half).collect();
            if let Kernel::Returns(known) = test.kernel {
                if observed.r0 != u64::from(known) {
                    return Err(format!("r0 is {:#x}, not the known {known:#x}", observed.r0).into());
                }
                observed.r0 = r0_of(&expected);
            }
            let lines = test.describe(&observed);
            if lines == expected {
                return Ok(());
            }
            Err(format!("it left\n  {}\ninstead of\n  {}", lines.join("\n  "), expected.join("\n  ")).into())
        }
    }
}

fn r0_of(lines: &[String]) -> u64 {
    let text = lines.iter().find_map(|line| line.strip_prefix("r0 = 0x"));
    text.and_then(|r0| u64::from_str_radix(r0, 16).ok()).unwrap_or_default()
}

fn contains(text: &str, message: &str) -> Result<(), Failed> {
    if text.contains(message) { Ok(()) } else { Err(format!("`{text}` does not say `{message}`").into()) }
}
