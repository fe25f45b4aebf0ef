//! `cargo xtask aarch64`: the tests of machine code for AArch64, cross-compiled and run by an emulator of user programs.
//!
//! QEMU's emulation of user programs has no userfaultfd, no robust futexes and no bpf(2). So arenas check each access in
//! software there, accesses in hardware fault in guards only, and what needs the rest is left out, with the reason.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian has the target's C library.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// A processor with all extensions, and one with none: atomic operations are single instructions on the first alone.
const PROCESSORS: [&str; 2] = ["max", "cortex-a57"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many random programs `fuzz exec` compares on each processor.
    #[arg(long, default_value_t = 5000)]
    programs: u64,
    /// Processors to emulate, by the names of QEMU.
    #[arg(long, default_values_t = PROCESSORS.map(str::to_owned))]
    cpu: Vec<String>,
}

/// Tests of one package.
struct Suite {
    package: &'static str,
    /// What `cargo test` is told to take.
    of: &'static [&'static str],
    /// Tests that are left out, and why.
    without: &'static [(&'static str, &'static str)],
}

const NO_USERFAULTFD: &str = "userfaultfd";
const NO_CHILDREN: &str = "child processes, which the emulator does not emulate";
const NO_ROBUST_FUTEX: &str = "futexes that outlive their owner";

const SUITES: &[Suite] = &[
    Suite {
        package: "bpf-arena-sys",
        of: &["--lib", "--test", "faults", "--test", "window"],
        without: &[("a_thread_that_ends_with_it_leaves_it_to_others", NO_ROBUST_FUTEX)],
    },
    Suite { package: "bpf-arena-codegen", of: &["--lib", "--test", "objects"], without: &[] },
    Suite {
        package: "bpf-arena-testkit",
        of: &["--test", "filetests", "--test", "generated", "--test", "calls"],
        without: &[],
    },
    Suite {
        package: "bpf-arena",
        of: &["--lib", "--test", "programs", "--test", "callbacks", "--test", "calls"],
        without: &[],
    },
];

/// Builds and runs everything, or says what is not installed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        println!("skipped: not installed are {}", missing.join(", "));
        return Ok(());
    }
    for cpu in &args.cpu {
        for suite in SUITES {
            println!("{cpu}: tests of {}", suite.package);
            for (name, needs) in suite.without {
                println!("  without {name}: needs {needs}");
            }
            let mut cargo = cargo("test", cpu)?;
            cargo.args(["--no-fail-fast", "--package", suite.package]).args(suite.of).arg("--");
            cargo.args(suite.without.iter().flat_map(|(name, _)| ["--skip", name]));
            succeed(cargo)?;
        }
        println!("{cpu}: random programs");
        let mut cargo = cargo("run", cpu)?;
        cargo.args(["--package", "xtask", "--", "fuzz", "exec", "--programs", &args.programs.to_string()]);
        succeed(cargo)?;
    }
    Ok(())
}

/// What is to be installed first.
fn missing() -> Vec<&'static str> {
    let starts = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let mut missing = Vec::new();
    if !starts(LINKER) || !Path::new(LIBRARIES).exists() {
        missing.push("the cross compiler (Debian package gcc-aarch64-linux-gnu)");
    }
    if !starts(EMULATOR) {
        missing.push("the emulator (Debian package qemu-user)");
    }
    let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let libraries = libraries.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if !libraries.is_ok_and(|folder| !folder.is_empty() && Path::new(&folder).exists()) {
        missing.push("Rust's library for the target (rustup target add aarch64-unknown-linux-gnu)");
    }
    missing
}

/// A cargo that builds for the target, in a folder of its own, and runs what it built on an emulated processor.
fn cargo(command: &str, cpu: &str) -> anyhow::Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).arg(command).args(["--target", TARGET, "--target-dir", "target/aarch64"]);
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    cargo.env(
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
        format!("{EMULATOR} -L {LIBRARIES} -cpu {cpu}"),
    );
    // Nobody debugs these, and they are many.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
    Ok(cargo)
}

fn succeed(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} failed: {status}", command.get_args().collect::<Vec<_>>());
    Ok(())
}
