//! Generated code beside native code, the kernel's JIT and wasmtime: see README.md.

mod engines;
mod measure;
mod plot;
mod programs;
mod report;
mod stats;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bpf_arena::codegen;
use clap::{Parser, ValueEnum};

use engines::{Build, Engine};
use measure::{Clock, Plan};
use report::Report;

/// Compares generated code with native code, the kernel's JIT and wasmtime.
#[derive(Parser)]
#[command(name = "cargo xtask bench codegen")]
struct Args {
    /// Folder of programs in C, written for a `bench.h` like ours.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/programs"))]
    dir: PathBuf,
    /// Only these programs.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these engines beside native -O2; by default all.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Rounds, in each of which every engine runs once; the interpreter runs in the first of every eight.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Milliseconds that a native run is to take at least, for programs without `iters` in programs.toml.
    #[arg(long, default_value_t = 15)]
    millis: u64,
    /// What is measured.
    #[arg(long, default_value = "cpu")]
    clock: Clock,
    /// Where the figures go as JSON.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench/codegen.json"))]
    json: PathBuf,
    /// Where the plot goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench/codegen.svg"))]
    svg: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "at least one round");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/codegen");
    for folder in [Some(&*folder), args.json.parent(), args.svg.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let engines = match args.engines.as_slice() {
        [] => Engine::value_variants().iter().copied().filter(|&engine| engine != Engine::NativeO2).collect(),
        some => some.to_vec(),
    };
    let build = Build { folder, mem_bytes: MEM_BYTES, options: codegen::Options::default() };
    let run = Duration::from_millis(args.millis);
    let plan = Plan { engines, rounds: args.rounds, run, clock: args.clock, build };
    measure::pin()?;
    let mut measured = Vec::new();
    for source in programs::find(&args.dir, &args.only)? {
        eprintln!("{} ..", source.name);
        measured.push(measure::measure(&source, &plan).with_context(|| source.name.clone())?);
    }
    let report = Report::new(plan.clock, plan.rounds, &plan.engines, measured);
    println!("{}\n{}", report.ratios(), report.code());
    println!(
        "ratios to native -O2 of the same source: median (quarter to quarter) of {} rounds",
        plan.rounds
    );
    report.skipped().for_each(|line| println!("{line}"));
    fs::write(&args.json, serde_json::to_string_pretty(&report)?)
        .with_context(|| args.json.display().to_string())?;
    plot::draw(&report, &args.svg)?;
    println!("{}\n{}", args.json.display(), args.svg.display());
    Ok(())
}

/// Memory of a program: what the arena of `bench.h` has.
const MEM_BYTES: usize = 2048 * 4096;
