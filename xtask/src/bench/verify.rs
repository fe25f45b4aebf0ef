//! `cargo xtask bench verify`: what verification costs, beside `BPF_PROG_LOAD` of the running kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bpf_arena::kernel::{KernelObject, LoadOptions, LogMode};
use bpf_object::{LinkOptions, Linked, Object, Program};
use comfy_table::Table;
use serde::Serialize;
use verifier::{Env, Stats};

use super::stats::Spread;
use crate::conformance::{KernelCounters, material};
use crate::table;

/// Log level: counters and nothing of the walk.
const STATISTICS: u32 = 4;
/// Where a side takes longer than this, fewer rounds do.
const LONG_SECONDS: f64 = 0.5;
const LONG_ROUNDS: usize = 3;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, each of which verifies every program once on each side.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only programs whose object's name or own name contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Verify this program of this object once and print how much memory that took: what the task runs in children.
    #[arg(long, hide = true, num_args = 2, value_names = ["OBJECT", "PROGRAM"])]
    memory_of: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Row {
    program: String,
    insns: usize,
    ours_ms: Option<Spread>,
    kernel_ms: Option<Spread>,
    /// Ours to the kernel's: below 1 is faster than the kernel.
    ratio: Option<Spread>,
    ours: Counters,
    kernel: Counters,
    /// What our verification held at once, in KiB.
    peak_kib: Option<u64>,
    /// Why a side refuses the program.
    refused: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counters {
    walked: u64,
    total_states: u64,
    peak_states: u64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some([object, program]) = args.memory_of.as_deref() {
        println!("{}", memory_of(Path::new(object), program)?);
        return Ok(());
    }
    ensure!(args.rounds > 0, "at least one round");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let mut rows = Vec::new();
    for path in objects(root)? {
        of_object(&path, args, &mut rows).with_context(|| path.display().to_string())?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
        print_totals(&rows, args.rounds);
    }
    Ok(())
}

/// This repository's objects, the selftests' with arenas, and those that are there to be long.
fn objects(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let material = material::prepare(root, true)?;
    let mut dirs = vec![root.join("bpf"), material::objects(&material.dir)];
    dirs.push(material::scale(&material.dir)?);
    let mut paths = Vec::new();
    for (number, dir) in dirs.iter().enumerate() {
        let mut here: Vec<PathBuf> =
            fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        let arena =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("arena_"));
        here.retain(|path| path.to_string_lossy().ends_with(".bpf.o") && (number != 1 || arena(path)));
        here.sort();
        paths.extend(here);
    }
    Ok(paths)
}

fn of_object(path: &Path, args: &Args, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let object = Object::parse(&fs::read(path)?)?;
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_suffix(".bpf.o").unwrap_or(&stem).to_owned();
    let options = bpf_arena::kernel::link_options()?;
    let env = Env::default().with_kernel(bpf_arena::kernel::running_btf()?);
    let mut kernel = None;
    for info in &object.programs {
        let name = format!("{stem}/{}", info.name);
        if !name.contains(&args.filter) {
            continue;
        }
        let kernel = match &mut kernel {
            Some(kernel) => &*kernel,
            None => &*kernel.insert(KernelObject::new(&object)?),
        };
        let linked = kernel.link(&object, &info.name)?;
        let Ok(program) = object.link_with(&info.name, &options) else { continue };
        let mut row = measure(&name, kernel, &linked, &program, &env, args.rounds);
        if row.refused.is_none() {
            row.peak_kib = child_memory(path, &info.name).ok();
        }
        rows.push(row);
    }
    Ok(())
}

fn measure(
    name: &str,
    kernel: &KernelObject,
    linked: &Linked,
    program: &Program,
    env: &Env,
    rounds: usize,
) -> Row {
    let mut row = Row {
        program: name.to_owned(),
        insns: linked.slots.len(),
        ours_ms: None,
        kernel_ms: None,
        ratio: None,
        ours: Counters::default(),
        kernel: Counters::default(),
        peak_kib: None,
        refused: None,
    };
    let asked = kernel.load(linked, &LoadOptions { log: LogMode::Always(STATISTICS), flags: 0 });
    let ours = verifier::verify(program, env);
    match (&asked, &ours) {
        (Ok((_, log)), Ok(verified)) => {
            let counters = KernelCounters::of_log(log.text());
            row.kernel = Counters {
                walked: counters.get("processed"),
                total_states: counters.get("total_states"),
                peak_states: counters.get("peak_states"),
            };
            let Stats { insns_walked, total_states, peak_states, .. } = verified.stats();
            row.ours = Counters { walked: insns_walked, total_states, peak_states };
        }
        (Err(error), Err(_)) => row.refused = Some(format!("by both: {}", first_line(&error.to_string()))),
        (Err(error), Ok(_)) => {
            row.refused = Some(format!("by the kernel: {}", first_line(&error.to_string())))
        }
        (Ok(_), Err(error)) => row.refused = Some(format!("by us: {}", first_line(&error.to_string()))),
    }
    if row.refused.is_some() {
        return row;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let start = Instant::now();
        let loaded = kernel.load(linked, &LoadOptions { log: LogMode::Never, flags: 0 });
        theirs.push(start.elapsed().as_secs_f64() * 1e3);
        drop(loaded);
        let start = Instant::now();
        let verified = verifier::verify(program, env);
        ours.push(start.elapsed().as_secs_f64() * 1e3);
        drop(verified);
        let long = theirs.last().copied().unwrap_or(0.0).max(ours.last().copied().unwrap_or(0.0));
        if round + 1 >= LONG_ROUNDS && long > LONG_SECONDS * 1e3 {
            break;
        }
    }
    row.ratio = Spread::of_ratios(&ours, &theirs);
    (row.ours_ms, row.kernel_ms) = (Spread::of(&ours), Spread::of(&theirs));
    row
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A process of its own: what was freed before would hide what is needed now.
fn child_memory(object: &Path, program: &str) -> anyhow::Result<u64> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["bench", "verify", "--memory-of"]).arg(object).arg(program);
    let output = child.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// How much the process grew at most while it verified, in KiB.
fn memory_of(path: &Path, name: &str) -> anyhow::Result<u64> {
    let object = Object::parse(&fs::read(path)?)?;
    let options: LinkOptions = bpf_arena::kernel::link_options()?;
    let env = Env::default().with_kernel(bpf_arena::kernel::running_btf()?);
    let program = object.link_with(name, &options)?;
    let status = |key: &str| -> anyhow::Result<u64> {
        let text = fs::read_to_string("/proc/self/status")?;
        let line = text.lines().find(|line| line.starts_with(key)).context(key.to_owned())?;
        Ok(line.split_whitespace().nth(1).context(key.to_owned())?.parse()?)
    };
    // Resets the high-water mark.
    fs::write("/proc/self/clear_refs", "5")?;
    let before = status("VmRSS:")?;
    let verified = verifier::verify(&program, &env)?;
    let after = status("VmHWM:")?;
    drop(verified);
    Ok(after.saturating_sub(before))
}

fn table(rows: &[Row]) -> Table {
    let columns = [
        "program",
        "slots",
        "ours ms",
        "kernel ms",
        "ratio",
        "walked",
        "kernel",
        "states",
        "kernel",
        "peak",
        "kernel",
        "KiB",
    ];
    let mut table = table::table(columns, 1);
    for row in rows.iter().filter(|row| row.refused.is_none()) {
        let ms = |spread: Option<Spread>| spread.map_or_else(String::new, |s| format!("{:.3}", s.median));
        table.add_row([
            row.program.clone(),
            row.insns.to_string(),
            ms(row.ours_ms),
            ms(row.kernel_ms),
            row.ratio.map_or_else(String::new, |s| format!("{:.2}", s.median)),
            row.ours.walked.to_string(),
            row.kernel.walked.to_string(),
            row.ours.total_states.to_string(),
            row.kernel.total_states.to_string(),
            row.ours.peak_states.to_string(),
            row.kernel.peak_states.to_string(),
            row.peak_kib.map_or_else(String::new, |kib| kib.to_string()),
        ]);
    }
    table
}

fn print_totals(rows: &[Row], rounds: usize) {
    let measured: Vec<&Row> = rows.iter().filter(|row| row.refused.is_none()).collect();
    let total = |of: fn(&Row) -> Option<Spread>| -> f64 {
        measured.iter().filter_map(|row| of(row)).map(|spread| spread.median).sum()
    };
    let (ours, kernel) = (total(|row| row.ours_ms), total(|row| row.kernel_ms));
    let walked: u64 = measured.iter().map(|row| row.ours.walked).sum();
    let walked_kernel: u64 = measured.iter().map(|row| row.kernel.walked).sum();
    let slowest = measured.iter().filter_map(|row| Some((row.ratio?.median, row.program.as_str())));
    let slowest = slowest.max_by(|a, b| a.0.total_cmp(&b.0));
    let memory = measured.iter().filter_map(|row| row.peak_kib).max().unwrap_or_default();
    for row in rows {
        if let Some(reason) = &row.refused {
            println!("{}: refused {reason}", row.program);
        }
    }
    println!(
        "{} programs, medians of up to {rounds} interleaved rounds; a ratio below 1 is faster than the kernel\n\
         total: ours {ours:.1} ms, kernel {kernel:.1} ms, ratio {:.2}; walked {walked} and {walked_kernel}; at most {memory} KiB",
        measured.len(),
        ours / kernel
    );
    if let Some((ratio, program)) = slowest {
        println!("slowest beside the kernel: {program}, {ratio:.2}");
    }
}
