//! `cargo xtask perf`: whether Linux `perf` finds the names and source lines of compiled programs.
//!
//! A worker process runs `bpf/profiled.bpf.o` by two engines on two threads while `perf record` samples it, once with a map of names
//! and once with a jitdump file, each without inlining and with it. The samples in generated code must have names, and lines of the
//! program's source. Without inlining the names are those of the program's functions; inlined code has its caller's name, and its own
//! lines all the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bpf_arena::codegen::{Pass, PassSet};
use bpf_arena::{Engine, Object};
use comfy_table::{CellAlignment, Table, presets};

const PROGRAM: &str = "busy";
/// The functions between which the program shares its time.
const FUNCTIONS: [&str; 3] = ["fill", "sift", "digest"];
/// The least share of each, a third being fair.
const LEAST_SHARE: f64 = 0.1;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run the program each time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    seconds: u64,
    /// The least share of samples in generated code that must have a name and a line.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    named: f64,
    /// Be the process that is sampled, with this kind of symbols.
    #[arg(long, hide = true)]
    worker: Option<Symbols>,
    /// Inline functions in the worker.
    #[arg(long, hide = true)]
    inlined: bool,
    /// Where the worker leaves its files.
    #[arg(long, hide = true, default_value = ".")]
    folder: PathBuf,
}

/// How the worker names its code.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Symbols {
    Map,
    Jitdump,
}

/// What is sampled.
#[derive(Clone, Copy, Debug)]
struct Kind {
    symbols: Symbols,
    /// Whether functions are inlined.
    inlined: bool,
}

/// Samples the program and judges what `perf` made of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(symbols) = args.worker {
        return work(
            Kind { symbols, inlined: args.inlined },
            &args.folder,
            Duration::from_secs(args.seconds),
        );
    }
    if let Some(missing) = missing() {
        println!("skipped: {missing}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    for symbols in [Symbols::Map, Symbols::Jitdump] {
        for inlined in [false, true] {
            let kind = Kind { symbols, inlined };
            let samples = sample(kind, folder.path(), args.seconds)?;
            report(kind, &samples)?;
            judge(kind, &samples, args.named)?;
        }
    }
    Ok(())
}

/// What keeps `perf` from sampling here.
fn missing() -> Option<String> {
    if Command::new("perf").arg("--version").output().is_err() {
        return Some("perf is not installed (Debian package linux-perf)".to_owned());
    }
    let trial =
        Command::new("perf").args(["record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "true"]).output();
    match trial {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Some(format!(
                "perf may not sample (kernel.perf_event_paranoid is {}): {}",
                level.trim(),
                said.trim()
            ))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Runs the program on two threads, each with an engine of its own.
fn work(kind: Kind, folder: &Path, time: Duration) -> anyhow::Result<()> {
    let object = Object::open(object_path())?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| busy(&object, kind, folder, time))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a worker panicked"),
        })
    })
}

fn busy(object: &Object, kind: Kind, folder: &Path, time: Duration) -> anyhow::Result<()> {
    let engine = match kind.symbols {
        Symbols::Map => Engine::user().perf_map(),
        Symbols::Jitdump => Engine::user().jitdump(folder),
    };
    let passes = if kind.inlined { PassSet::ALL } else { PassSet::ALL.without(Pass::Inline) };
    let engine = engine.passes(passes);
    let app = object.load(engine.only(&[PROGRAM]))?;
    let program = app.program(PROGRAM)?;
    let begin = Instant::now();
    while begin.elapsed() < time {
        // `struct work`: rounds, sum.
        let mut work = [1000_u32, 0];
        program.run(&mut work)?;
    }
    Ok(())
}

fn object_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/profiled.bpf.o")
}

/// One sample in generated code.
#[derive(Debug)]
struct Sample {
    /// The name that `perf` found.
    name: Option<String>,
    /// Line of `profiled.bpf.c`.
    line: Option<u32>,
}

fn sample(kind: Kind, folder: &Path, seconds: u64) -> anyhow::Result<Vec<Sample>> {
    let data = folder.join("perf.data");
    let worker = match kind.symbols {
        Symbols::Map => "map",
        Symbols::Jitdump => "jitdump",
    };
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-k", "mono", "-e", "cpu-clock", "-F", "1999", "-o"]).arg(&data).arg("--");
    record.arg(std::env::current_exe()?).args([
        "perf",
        "--worker",
        worker,
        "--seconds",
        &seconds.to_string(),
    ]);
    if kind.inlined {
        record.arg("--inlined");
    }
    output(record.arg("--folder").arg(folder))?;
    let mut script = Command::new("perf");
    match kind.symbols {
        Symbols::Map => script.args(["script", "-F", "ip,sym,dso", "-i"]).arg(&data),
        Symbols::Jitdump => {
            let injected = folder.join("injected.data");
            output(Command::new("perf").args(["inject", "--jit", "-i"]).arg(&data).arg("-o").arg(&injected))?;
            script.args(["script", "-F", "ip,sym,dso,srcline", "-i"]).arg(injected)
        }
    };
    Ok(samples(&output(&mut script)?))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let what = command.get_args().next().unwrap_or_default().to_string_lossy();
    ensure!(output.status.success(), "{name} {what}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Those samples that lie in code which was made at run time: `perf` takes such memory for a map of names, for a file made from a
/// dump, or does not know it.
fn samples(script: &str) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    // Whether the line before was a sample that counts.
    let mut counts = false;
    for line in script.lines().filter(|line| !line.trim().is_empty()) {
        let fields = line.trim().rsplit_once(" (").and_then(|(front, dso)| {
            let (address, name) = front.trim().split_once(' ')?;
            Some((u64::from_str_radix(address, 16).ok()?, name.trim(), dso.trim_end_matches(')')))
        });
        match fields {
            Some((address, name, dso)) => {
                let file = dso.rsplit('/').next().unwrap_or(dso);
                let made = file.starts_with("perf-") || file.starts_with("jitted-") || file == "anon";
                // The upper half of the addresses is the kernel's.
                counts = made || (dso == "[unknown]" && address < 1 << 63);
                if counts {
                    let name = name.strip_prefix("bpf_arena::").map(str::to_owned);
                    samples.push(Sample { name, line: None });
                }
            }
            None if counts => {
                let number =
                    line.trim().strip_prefix("profiled.bpf.c:").and_then(|number| number.parse().ok());
                if let Some(last) = samples.last_mut() {
                    last.line = number.or(last.line);
                }
            }
            None => {}
        }
    }
    samples
}

fn report(kind: Kind, samples: &[Sample]) -> anyhow::Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let lines = lines_of_functions()?;
    for sample in samples {
        let name = sample.name.as_deref().unwrap_or("(no name)");
        let line = match (kind.symbols, sample.line) {
            (Symbols::Map, _) => String::new(),
            (Symbols::Jitdump, line) => {
                let function = line.and_then(|line| lines.get(&line));
                format!(", in the source of {}", function.map_or("no function", String::as_str))
            }
        };
        *counts.entry(format!("{name}{line}")).or_default() += 1;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["SAMPLES", "SHARE", "BY"]);
    for (name, count) in counts {
        let share = format!("{:.1} %", 100.0 * share(count, samples.len()));
        table.add_row([count.to_string(), share, name]);
    }
    table.column_iter_mut().take(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let how = if kind.inlined { "inlined" } else { "not inlined" };
    println!("{:?}, {how}: {} samples in generated code\n{table}", kind.symbols, samples.len());
    Ok(())
}

fn judge(kind: Kind, samples: &[Sample], least: f64) -> anyhow::Result<()> {
    ensure!(samples.len() >= 100, "too few samples to judge by: {}", samples.len());
    let named = samples.iter().filter(|sample| sample.name.is_some()).count();
    ensure!(share(named, samples.len()) >= least, "only {named} of {} samples have a name", samples.len());
    let lines = lines_of_functions()?;
    for function in FUNCTIONS {
        let by_name = |sample: &Sample| {
            let name = sample.name.as_deref().and_then(|name| name.strip_prefix(PROGRAM));
            // Inlined code has its caller's name.
            name.is_some_and(|name| kind.inlined || name.trim_start_matches(':') == function)
        };
        let by_line =
            |sample: &Sample| sample.line.and_then(|line| lines.get(&line)).is_some_and(|of| of == function);
        let of_function = |sample: &&Sample| match kind.symbols {
            Symbols::Map => by_name(sample),
            Symbols::Jitdump => by_line(sample) && (kind.inlined || by_name(sample)),
        };
        let count = samples.iter().filter(of_function).count();
        let enough = share(count, samples.len()) >= LEAST_SHARE;
        ensure!(enough, "`{function}` has {count} of {} samples", samples.len());
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "numbers of samples are small")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The function that each line of the source belongs to.
fn lines_of_functions() -> anyhow::Result<BTreeMap<u32, String>> {
    let object = bpf_object::Object::parse(&std::fs::read(object_path())?)?;
    let program = object.link(PROGRAM)?;
    let of = |line: &bpf_object::LineInfo| Some((line.line, program.subprogram_at(line.insn)?.name.clone()));
    Ok(program.lines.iter().filter_map(of).collect())
}
