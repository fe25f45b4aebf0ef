//! `cargo xtask bench load`: where the time of loading a program goes, beside `BPF_PROG_LOAD` of the running kernel.
//!
//! Each program of our objects (and of a folder of others) is read, linked, verified and compiled; the least time of some rounds
//! counts for each stage. What an object costs to read is shared by its programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::table;
use anyhow::Context as _;
use bpf_arena::codegen::{self, Options, PassSet};
use bpf_arena::kernel::{KernelObject, LoadOptions, LogMode};
use bpf_object::Object;
use comfy_table::Table;
use serde::Serialize;
use verifier::Env;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, of which the quickest counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// A folder with more objects.
    #[arg(long, value_name = "DIR")]
    objects: Option<PathBuf>,
    /// Print JSON, a row for each program, instead of a table of sums.
    #[arg(long)]
    json: bool,
}

/// Microseconds of one program.
#[derive(Clone, Debug, Serialize)]
struct Row {
    folder: &'static str,
    program: String,
    insns: usize,
    read: f64,
    link: f64,
    verify: f64,
    compile: f64,
    /// Without the passes in front of the backend.
    compile_plain: f64,
    /// Verification and compilation by the kernel.
    kernel: Option<f64>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let mut rows = Vec::new();
    of_folder("bpf", &root.join("bpf"), args.rounds, &mut rows)?;
    if let Some(folder) = &args.objects {
        of_folder("others", folder, args.rounds, &mut rows)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    Ok(())
}

fn of_folder(name: &'static str, folder: &Path, rounds: u32, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".bpf.o") {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        of_object(name, &path, rounds, rows).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn of_object(folder: &'static str, path: &Path, rounds: u32, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let bytes = fs::read(path)?;
    let (read, Ok(object)) = best(rounds, || Object::parse(&bytes)) else { return Ok(()) };
    let options = bpf_arena::kernel::link_options()?;
    let env = Env::default().with_kernel(bpf_arena::kernel::running_btf()?);
    let kernel = KernelObject::new(&object).ok();
    for info in &object.programs {
        let (link, Ok(program)) = best(rounds, || object.link_with(&info.name, &options)) else { continue };
        let (verify, Ok(verified)) = best(rounds, || verifier::verify(&program, &env)) else { continue };
        let compile = |passes| {
            let mut options = Options::default();
            options.passes = passes;
            let (time, code) = best(rounds, || codegen::compile(&verified, &options));
            code.ok().map(|_| time)
        };
        let (Some(all), Some(plain)) = (compile(PassSet::ALL), compile(PassSet::NONE)) else { continue };
        let in_kernel = || {
            let kernel = kernel.as_ref()?;
            let linked = kernel.link(&object, &info.name).ok()?;
            let (time, loaded) =
                best(rounds, || kernel.load(&linked, &LoadOptions { log: LogMode::Never, flags: 0 }));
            loaded.ok().map(|_| time)
        };
        rows.push(Row {
            folder,
            program: format!("{}/{}", path.file_name().unwrap_or_default().to_string_lossy(), info.name),
            insns: program.code.len(),
            read: read / object.programs.len() as f64,
            link,
            verify,
            compile: all,
            compile_plain: plain,
            kernel: in_kernel(),
        });
    }
    Ok(())
}

/// The least time of some rounds in microseconds, and what the last one gave.
fn best<T>(rounds: u32, act: impl Fn() -> T) -> (f64, T) {
    let once = || {
        let begin = Instant::now();
        let result = act();
        (begin.elapsed().as_secs_f64() * 1e6, result)
    };
    let (mut least, mut result) = once();
    for _ in 1..rounds {
        let (time, next) = once();
        (least, result) = (least.min(time), next);
    }
    (least, result)
}

/// A stage and its time.
type Stage = (&'static str, fn(&Row) -> Option<f64>);

const STAGES: [Stage; 6] = [
    ("read", |row| Some(row.read)),
    ("link", |row| Some(row.link)),
    ("verify", |row| Some(row.verify)),
    ("compile", |row| Some(row.compile)),
    ("compile without passes", |row| Some(row.compile_plain)),
    ("kernel: verify and compile", |row| row.kernel),
];

fn table(rows: &[Row]) -> Table {
    let columns = ["", "programs", "slots", "median us", "p99 us", "max us", "us per slot", "kernel's"];
    let mut table = table::table(columns, 1);
    for folder in ["bpf", "others"] {
        for (stage, time) in STAGES {
            let rows: Vec<&Row> = rows.iter().filter(|r| r.folder == folder && time(r).is_some()).collect();
            let mut times: Vec<f64> = rows.iter().filter_map(|row| time(row)).collect();
            times.sort_by(f64::total_cmp);
            let slots: usize = rows.iter().map(|row| row.insns).sum();
            let last = times.len().saturating_sub(1);
            let at = |part: usize| times.get(last * part / 100).copied();
            let (Some(median), Some(p99), Some(max)) = (at(50), at(99), at(100)) else { continue };
            // Of the programs that the kernel loads too.
            let both = || rows.iter().filter_map(|row| Some((time(row)?, row.kernel?)));
            let (ours, kernel) = both().fold((0.0, 0.0), |(a, b), (ours, kernel)| (a + ours, b + kernel));
            table.add_row([
                format!("{folder}: {stage}"),
                rows.len().to_string(),
                slots.to_string(),
                format!("{median:.0}"),
                format!("{p99:.0}"),
                format!("{max:.0}"),
                format!("{:.2}", times.iter().sum::<f64>() / slots as f64),
                format!("{:.2}", ours / kernel),
            ]);
        }
    }
    table
}
