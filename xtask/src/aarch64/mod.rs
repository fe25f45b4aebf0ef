//! `cargo xtask aarch64`: the tests of machine code for AArch64, cross-compiled and emulated.
//!
//! QEMU's emulation of user programs has no userfaultfd, no futexes that outlive their owner and no child processes. So arenas
//! check each access in software there, hardware faults in guards alone, and what needs the rest is left out, with the reason. With
//! `--kernel` a whole machine is emulated instead, by `system.rs`: there all of it is tested, faults of missing pages above all.

mod system;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

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
    /// Emulate a whole machine with this kernel (the image of Debian's package linux-image-arm64, for one).
    #[arg(long, value_name = "IMAGE")]
    kernel: Option<PathBuf>,
    /// Be the first process of that machine.
    #[arg(long, hide = true)]
    init: bool,
}

/// The packages whose tests are run; built together, so that what they share is built once.
const PACKAGES: [&str; 5] = ["bpf-arena-sys", "bpf-arena-codegen", "bpf-arena-testkit", "bpf-arena", "xtask"];

/// What is run.
struct Suite {
    /// The folder of the package, in which it runs.
    folder: &'static str,
    /// The name that cargo has for it.
    target: &'static str,
    /// What it is told.
    args: &'static [&'static str],
    /// Tests that need what the emulation of user programs has not.
    beyond_user: &'static [(&'static str, &'static str)],
    /// Whether it says something of atomic operations that are one instruction.
    single_atomics: bool,
}

impl Suite {
    const fn new(folder: &'static str, target: &'static str) -> Self {
        Self { folder, target, args: &[], beyond_user: &[], single_atomics: false }
    }
}

const USERFAULTFD: &str = "userfaultfd";
const CHILDREN: &str = "child processes";

const SUITES: &[Suite] = &[
    Suite {
        beyond_user: &[
            ("a_thread_that_ends_with_it", "futexes that outlive their owner"),
            ("only_files_on_tmpfs", "/proc"),
        ],
        ..Suite::new("crates/sys", "bpf_arena_sys")
    },
    Suite {
        beyond_user: &[
            ("touch", USERFAULTFD),
            ("missing_page", USERFAULTFD),
            ("threads_note", USERFAULTFD),
            ("code_that_faults", CHILDREN),
            ("an_address_outside", CHILDREN),
            ("signal", CHILDREN),
            ("the_handler", CHILDREN),
            ("forked", CHILDREN),
        ],
        ..Suite::new("crates/sys", "faults")
    },
    Suite {
        beyond_user: &[("the_mode", USERFAULTFD), ("where_the_whole_window", USERFAULTFD)],
        ..Suite::new("crates/sys", "window")
    },
    Suite { single_atomics: true, ..Suite::new("crates/codegen", "bpf_arena_codegen") },
    Suite { single_atomics: true, ..Suite::new("crates/codegen", "objects") },
    // The rest of these two compares with a running kernel that has arenas.
    Suite { args: &[": user"], ..Suite::new("crates/testkit", "filetests") },
    Suite { args: &["interpreter_and_compiled_code_agree"], ..Suite::new("crates/testkit", "generated") },
    Suite::new("crates/bpf-arena", "bpf_arena"),
    Suite {
        beyond_user: &[("faults_in_inlined_functions", USERFAULTFD)],
        ..Suite::new("crates/bpf-arena", "programs")
    },
    Suite::new("crates/bpf-arena", "callbacks"),
];

/// Builds and runs everything, or says what is not installed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.init {
        return system::init();
    }
    let missing = missing(args.kernel.is_some());
    if !missing.is_empty() {
        println!("skipped: not installed are {}", missing.join(", "));
        return Ok(());
    }
    let built = Built::new()?;
    for cpu in &args.cpu {
        let jobs = jobs(&built, args, cpu)?;
        match &args.kernel {
            Some(kernel) => system::run(kernel, cpu, &jobs)?,
            None => jobs.iter().try_for_each(|job| in_user_mode(cpu, job))?,
        }
    }
    Ok(())
}

/// A program to run, and what must become of it: to end well.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    program: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
}

fn jobs(built: &Built, args: &Args, cpu: &str) -> anyhow::Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for suite in SUITES {
        if suite.single_atomics && cpu != "max" {
            continue;
        }
        let mut job = built.job(suite.folder, suite.target)?;
        job.args.extend(suite.args.iter().map(|&arg| arg.to_owned()));
        if args.kernel.is_none() {
            for (name, needs) in suite.beyond_user {
                println!("{}: without tests of the name {name}, which need {needs}", suite.target);
                job.args.extend(["--skip".to_owned(), (*name).to_owned()]);
            }
        }
        jobs.push(job);
    }
    let mut fuzz = built.job("xtask", "xtask")?;
    fuzz.args = ["fuzz", "exec", "--programs", &args.programs.to_string()].map(str::to_owned).to_vec();
    jobs.push(fuzz);
    Ok(jobs)
}

fn in_user_mode(cpu: &str, job: &Job) -> anyhow::Result<()> {
    println!("{cpu}: {} {}", job.program.display(), job.args.join(" "));
    let mut emulator = Command::new(EMULATOR);
    emulator.args(["-L", LIBRARIES, "-cpu", cpu]).arg(&job.program).args(&job.args);
    let status = emulator.current_dir(&job.folder).status().context(EMULATOR)?;
    ensure!(status.success(), "{} on {cpu}: {status}", job.program.display());
    Ok(())
}

/// What is to be installed first.
fn missing(system: bool) -> Vec<&'static str> {
    let starts = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let mut missing = Vec::new();
    if !starts(LINKER) || !Path::new(LIBRARIES).exists() {
        missing.push("the cross compiler (Debian package gcc-aarch64-linux-gnu)");
    }
    if system && !starts(system::EMULATOR) {
        missing.push("the emulator (Debian package qemu-system-arm)");
    }
    if !system && !starts(EMULATOR) {
        missing.push("the emulator (Debian package qemu-user)");
    }
    let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let libraries = libraries.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if !libraries.is_ok_and(|folder| !folder.is_empty() && Path::new(&folder).exists()) {
        missing.push("Rust's library for the target (rustup target add aarch64-unknown-linux-gnu)");
    }
    missing
}

/// The repository's root.
fn root() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")
}

/// What cargo built for the target.
struct Built {
    /// The folder of the package, the name of the target, the program.
    programs: Vec<(PathBuf, String, PathBuf)>,
}

/// What cargo says of each thing it built, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    manifest_path: PathBuf,
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl Built {
    fn new() -> anyhow::Result<Self> {
        let mut built = Self { programs: Vec::new() };
        built.cargo(&["build", "--bin", "xtask"])?;
        let mut tests = vec!["test", "--no-run", "--lib"];
        for suite in SUITES.iter().filter(|suite| !suite.target.starts_with("bpf_arena")) {
            tests.extend(["--test", suite.target]);
        }
        built.cargo(&tests)?;
        Ok(built)
    }

    fn cargo(&mut self, command: &[&str]) -> anyhow::Result<()> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()?).args(command);
        cargo.args(["--target", TARGET, "--target-dir", "target/aarch64"]);
        cargo.arg("--message-format=json-render-diagnostics");
        cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        // Nobody debugs these, and they are many.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
        let output = cargo.stderr(std::process::Stdio::inherit()).output().context("cargo")?;
        ensure!(output.status.success(), "cargo {}: {}", command.join(" "), output.status);
        for line in output.stdout.split(|byte| *byte == b'\n') {
            // Messages of other kinds have other members.
            let Ok(message) = serde_json::from_slice::<Message>(line) else { continue };
            let Some(executable) = message.executable else { continue };
            let folder = message.manifest_path.parent().context("a manifest's folder")?.to_owned();
            self.programs.push((folder, message.target.name, executable));
        }
        Ok(())
    }

    fn job(&self, folder: &str, target: &str) -> anyhow::Result<Job> {
        let folder = root()?.join(folder);
        let found = self.programs.iter().find(|(place, name, _)| *place == folder && name == target);
        let (_, _, program) = found.with_context(|| format!("cargo built no {target}"))?;
        Ok(Job { program: program.clone(), args: Vec::new(), folder })
    }
}
