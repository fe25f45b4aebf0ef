//! `cargo xtask fuzz verifier`: our verdicts beside the running kernel's, over random programs and mutants of the selftests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bpf_object::Object;
use testkit::kernel::missing_capability;
use testkit::verdicts::{JudgeOf, Mutants, Options, Original, Report, compare};

/// Longest program that is mutated, in slots.
const LONGEST: usize = 160;
/// Of all programs, at most one in so many may be refused by us alone.
const LOST_IN: u64 = 100;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Programs to compare.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// First seed; without one, from the time.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Threads; by default one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// Do not mutate the selftests (they are there once `cargo xtask conformance --prepare` was run).
    #[arg(long)]
    no_selftests: bool,
    /// Where programs that only the kernel refuses are written.
    #[arg(long, default_value = "target/fuzz/verifier")]
    found: PathBuf,
    /// Show how final messages differ.
    #[arg(long)]
    words: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(missing) = missing_capability() {
        println!("skipped: {missing} is missing");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let (mut originals, mut judges) = (Vec::new(), Vec::new());
    if !args.no_selftests {
        selftests(&root.join("target/conformance"), &mut originals, &mut judges)?;
    }
    let mutants = Mutants::new(originals, LONGEST);
    let options = Options {
        first: args.seed.unwrap_or_else(super::any_seed),
        count: args.count,
        workers: args.jobs.unwrap_or_else(|| usize::try_from(super::workers()).unwrap_or(1)),
        time: args.seconds.map(Duration::from_secs),
        minimise: true,
    };
    println!("seeds {}.., {} programs to mutate", options.first, mutants.len());
    let start = Instant::now();
    let report = quietly(|| compare(&options, &mutants, &judges))?;
    let seconds = start.elapsed().as_secs_f64();
    print!("{report}");
    println!("{seconds:.0} s, {:.0} programs a second", report.total() as f64 / seconds.max(0.001));
    if args.words {
        show_words(&report);
    }
    write_found(&root.join(&args.found), &report)?;
    if !report.panics.is_empty() || !report.holes.is_empty() {
        bail!(
            "{} programs make the verifier panic, {} kinds only the kernel refuses",
            report.panics.len(),
            report.holes.len()
        );
    }
    if report.only_ours() * LOST_IN > report.total() {
        bail!("{} of {} programs are refused by us alone", report.only_ours(), report.total());
    }
    Ok(())
}

/// What panics inside the comparison is counted, not shown.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}

fn show_words(report: &Report) {
    let mut refusals: Vec<_> = report.refusals.iter().collect();
    refusals.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    println!("what the kernel says of programs that both refuse:");
    for (message, count) in refusals.into_iter().take(40) {
        println!("  {count} {message}");
    }
    let mut pairs: Vec<_> = report.wordings.iter().collect();
    pairs.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for ((theirs, ours), (count, seed)) in pairs.into_iter().take(40) {
        println!("{count} (seed {seed})\n  kernel: {theirs}\n  ours:   {ours}");
    }
}

fn write_found(dir: &Path, report: &Report) -> anyhow::Result<()> {
    if report.holes.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    for (message, hole) in &report.holes {
        let name: String =
            message.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
        let path = dir.join(format!("{name}.txt"));
        fs::write(&path, hole.to_string()).with_context(|| path.display().to_string())?;
        println!("found: {}", path.display());
    }
    Ok(())
}

/// Every program of the compiled selftests and of the tables.
fn selftests(dir: &Path, originals: &mut Vec<Original>, judges: &mut Vec<JudgeOf>) -> anyhow::Result<()> {
    if let Ok(text) = fs::read_to_string(dir.join("tables.txt")) {
        for test in testkit::tables::parse(&text).context("tables.txt")? {
            let judge = judges.len();
            let making = (Arc::clone(&test.linked.maps), test.linked.btf.clone());
            let known =
                judges.iter().position(|j: &JudgeOf| j.0 == making.0 && test.linked.kind.prog_type.is_some());
            let own_types = test.linked.subprograms.iter().any(|s| s.btf_func.is_some());
            let judge = known.filter(|_| !own_types).unwrap_or(judge);
            if judge == judges.len() {
                judges.push(making);
            }
            originals.push(Original { name: test.id, judge, flags: test.flags, program: test.linked });
        }
    }
    let Ok(options) = bpf_arena::kernel::link_options() else { return Ok(()) };
    for part in ["", "progs"] {
        let Ok(entries) = fs::read_dir(dir.join("objects").join(part)) else { continue };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.to_string_lossy().ends_with(".bpf.o")) {
            let Ok(object) = Object::parse(&fs::read(path)?) else { continue };
            let Ok(maps) = object.maps_with(&options) else { continue };
            let stem = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for info in &object.programs {
                let Ok(program) = object.link_raw(&info.name, &options) else { continue };
                let name = format!("{stem}/{}", info.name);
                originals.push(Original { name, judge: judges.len(), flags: 0, program });
            }
            judges.push((maps, object.btf.clone()));
        }
    }
    Ok(())
}
