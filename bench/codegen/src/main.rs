//! Generated code beside native code, the kernel's JIT and wasmtime: see README.md.

mod ablate;
mod budget;
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
use bpf_arena::codegen::{Pass, PassSet};
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
    /// Only these programs; of compile times, only these shapes (`loops`) or `objects`.
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
    /// Only these passes of our compiler, or `none`; by default all.
    #[arg(long, value_delimiter = ',', value_name = "PASS")]
    passes: Vec<String>,
    /// Not these passes.
    #[arg(long, value_delimiter = ',', value_name = "PASS")]
    without: Vec<String>,
    /// Measures our compiler without each pass and with it alone instead of engines.
    #[arg(long, conflicts_with_all = ["engines", "passes", "without"])]
    ablate: bool,
    /// Measures compile time instead: made programs of 1,000 to 100,000 instructions, and the objects of the repository.
    #[arg(long, conflicts_with = "ablate")]
    check_budget: bool,
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
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the repository")?;
    let passes = passes(&args.passes, &args.without)?;
    measure::pin()?;
    if args.check_budget {
        return budget::check(&root, passes, &args.only);
    }
    let folder = objects_folder(&root, &args.dir)?;
    for folder in [Some(&*folder), args.json.parent(), args.svg.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let contenders = if args.ablate {
        ablate::contenders(Engine::JitV4)
    } else if args.engines.is_empty() {
        let all = Engine::value_variants().iter().filter(|engine| **engine != Engine::NativeO2);
        all.map(|engine| engine.contender(passes)).collect()
    } else {
        args.engines.iter().map(|engine| engine.contender(passes)).collect()
    };
    let build = Build { folder, mem_bytes: MEM_BYTES };
    let run = Duration::from_millis(args.millis);
    let plan = Plan { contenders, rounds: args.rounds, run, clock: args.clock, build };
    let mut measured = Vec::new();
    for source in programs::find(&args.dir, &args.only)? {
        eprintln!("{} ..", source.name);
        measured.push(measure::measure(&source, &plan).with_context(|| source.name.clone())?);
    }
    let report = Report::new(&plan, measured);
    if args.ablate {
        println!("{}\n{}", ablate::passes(&report), ablate::programs(&report));
    } else {
        println!("{}\n{}", report.ratios(), report.code());
    }
    println!(
        "ratios to native -O2 of the same source: median (quarter to quarter) of {} rounds",
        plan.rounds
    );
    report.skipped().for_each(|line| println!("{line}"));
    fs::write(&args.json, serde_json::to_string_pretty(&report)?)
        .with_context(|| args.json.display().to_string())?;
    if !args.ablate {
        plot::draw(&report, &Engine::Interp.name(), &args.svg)?;
        println!("{}", args.svg.display());
    }
    println!("{}", args.json.display());
    Ok(())
}

/// Memory of a program: what the arena of `bench.h` has.
const MEM_BYTES: usize = 2048 * 4096;

/// Where compiled programs of `dir` go: a folder for each, so that programs of the same name do not meet.
fn objects_folder(root: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let name = dir.strip_prefix(root).unwrap_or(&dir).to_string_lossy().replace(['/', '\\'], "-");
    Ok(root.join("target/bench").join(name.trim_start_matches('-')))
}

/// The choice of passes that these names make: `none`, or those to have, less those to leave out.
fn passes(only: &[String], without: &[String]) -> anyhow::Result<PassSet> {
    let pass = |name: &String| {
        let known = || Pass::ALL.map(Pass::name).join(", ");
        Pass::from_name(name).with_context(|| format!("no pass `{name}`, but {}", known()))
    };
    let mut set = if only.is_empty() { PassSet::ALL } else { PassSet::NONE };
    for name in only.iter().filter(|name| *name != "none") {
        set = set.with(pass(name)?);
    }
    for name in without {
        set = set.without(pass(name)?);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_chosen_by_name() {
        let first = Pass::ALL[0];
        let name = vec![first.name().to_owned()];
        assert_eq!(passes(&[], &[]).unwrap(), PassSet::ALL);
        assert_eq!(passes(&["none".to_owned()], &[]).unwrap(), PassSet::NONE);
        assert_eq!(passes(&name, &[]).unwrap(), PassSet::NONE.with(first));
        assert_eq!(passes(&[], &name).unwrap(), PassSet::ALL.without(first));
        assert!(passes(&["no such pass".to_owned()], &[]).is_err());
    }

    #[test]
    fn every_folder_of_programs_has_its_own_objects() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let ours = objects_folder(&root, &root.join("bench/codegen/programs")).unwrap();
        assert_eq!(ours, root.join("target/bench/bench-codegen-programs"));
        assert_ne!(ours, objects_folder(&root, &root.join("bench")).unwrap());
    }
}
