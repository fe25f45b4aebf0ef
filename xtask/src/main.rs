//! Tasks a developer repeats: `cargo xtask TASK`.

mod aarch64;
mod bench;
mod conformance;
mod fuzz;
mod kvcache;
mod litmus;
mod objects;
mod perf;
mod stress;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks a developer repeats.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Tests machine code for AArch64 under emulation.
    Aarch64(aarch64::Args),
    /// Measures, side by side in one run.
    Bench(bench::Args),
    /// Runs the kernel's own BPF selftests on every engine and compares with what is expected.
    Conformance(conformance::Args),
    /// Runs random programs and feeds random bytes: `exec`, `decode`, `object`, `verify`, `verifier`, `contained`,
    /// `maps`.
    Fuzz(fuzz::Args),
    /// Puts the cache beside memcached: `clients`, `differ`.
    Kvcache(kvcache::Args),
    /// Runs litmus tests of the memory model on the interpreter and on compiled code.
    Litmus(litmus::Args),
    /// Compiles every `*.bpf.c` into the `*.bpf.o` beside it.
    Objects(objects::Args),
    /// Samples a compiled program with Linux `perf` and checks that the samples have names and source lines.
    Perf(perf::Args),
    /// Uses a scheduler's library, linked from several objects, on many threads, and looks at its structures all the while.
    Stress(stress::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Aarch64(args) => aarch64::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Kvcache(args) => kvcache::run(&args),
        Task::Litmus(args) => litmus::run(&args),
        Task::Objects(args) => objects::run(&args),
        Task::Perf(args) => perf::run(&args),
        Task::Stress(args) => stress::run(&args),
    }
}
