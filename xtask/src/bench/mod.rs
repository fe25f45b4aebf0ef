//! `cargo xtask bench`: measurements, side by side in one run.
//!
//! Absolute times say little on shared machines. Every measure is taken in rounds that alternate between the sides, and
//! what counts is the median of the ratios of one round.

mod arena;
mod cancel;
mod codegen;
mod kvcache;
mod load;
mod maps;
mod stats;
mod verify;

use std::process::Command;

use anyhow::ensure;
use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Page allocation, first touch, faults, calls and creation, beside the running kernel's arena.
    Arena(arena::Args),
    /// Generated code, beside native code, the interpreter, the running kernel's JIT and wasmtime.
    Codegen(codegen::Args),
    /// How long runs still take that are cancelled or reach their time limits, for every way of taking long.
    Cancel(cancel::Args),
    /// The cache beside memcached: throughput, latency and CPU time of GETs by every way they can take.
    Kvcache(kvcache::Args),
    /// Where the time of loading a program goes, beside the running kernel's.
    Load(load::Args),
    /// Lookups, updates and ring buffers from a program, on one and two threads, beside the running kernel's maps.
    Maps(maps::Args),
    /// Time, instructions, states and memory of verification, beside the running kernel's.
    Verify(verify::Args),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // That one is built apart, always with optimisation.
    if cfg!(debug_assertions) && !matches!(args.what, What::Codegen(_)) {
        return again_in_release();
    }
    match &args.what {
        What::Arena(args) => arena::run(args),
        What::Codegen(args) => codegen::run(args),
        What::Cancel(args) => cancel::run(args),
        What::Kvcache(args) => kvcache::run(args),
        What::Load(args) => load::run(args),
        What::Maps(args) => maps::run(args),
        What::Verify(args) => verify::run(args),
    }
}

/// Measures with optimised code whichever way the task was started.
fn again_in_release() -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status()?;
    ensure!(status.success(), "the benchmark failed: {status}");
    Ok(())
}
