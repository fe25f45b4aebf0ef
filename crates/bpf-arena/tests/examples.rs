//! What the examples print. `cargo test` builds them; where they were not built, the tests are ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

/// The types of the running kernel.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

const EXAMPLES: [(&str, &[&str]); 4] = [
    ("linked_list", &["14", "13", "11", "10", "the program walked 4 nodes with sum 134"]),
    (
        "hash_table",
        &[
            "1000 entries",
            "0: -500, put 1 times",
            "7: 42, put 2 times",
            "999: 499, put 1 times",
            "1000: not there",
        ],
    ),
    (
        "host_functions",
        &[
            "task 1 weighs 200",
            "task 16 weighs 0",
            "task 40 weighs 100",
            "there is no task 50",
            "function `class_weight`, parameter 1: Question.weight: the object's `struct class_request` has no member \
             `weight`; it has `pid`, `threads`",
        ],
    ),
    ("two_processes", &["pushed 1000 messages", "popped 1000 messages"]),
];

fn main() {
    let arguments = Arguments::from_args();
    let trials = EXAMPLES.into_iter().map(|(name, lines)| {
        let binary = binary(name);
        let missing = match &binary {
            None => Some("needs the examples built: cargo build --examples"),
            Some(_) if name == "host_functions" && !Path::new(KERNEL_TYPES).exists() => {
                Some("needs a kernel with BTF")
            }
            Some(_) => None,
        };
        let trial = Trial::test(name, move || check(binary, lines));
        trial.with_ignored_flag(missing.is_some()).with_kind(missing.unwrap_or_default())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Examples lie beside the folder of test binaries.
fn binary(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let binary = test.parent()?.parent()?.join("examples").join(name);
    binary.is_file().then_some(binary)
}

fn check(binary: Option<PathBuf>, lines: &[&str]) -> Result<(), Failed> {
    let output = Command::new(binary.ok_or("not built")?).output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let expected = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    if output.status.success() && out == expected {
        return Ok(());
    }
    Err(format!("{}\nexpected:\n{expected}\nstdout:\n{out}\nstderr:\n{err}", output.status).into())
}
