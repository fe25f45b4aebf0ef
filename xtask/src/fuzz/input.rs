//! Bytes into parsers, with bounds on memory and time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use testkit::fuzz::{Corpus, Target};

/// One input may not take longer.
const SLOWEST: Duration = Duration::from_secs(10);
/// The process may not have held more than this at once.
const PEAK_KIB: u64 = 1 << 20;

/// The decoder gets files in pieces: it does not know where code is anyway.
const CODE_BYTES: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many inputs.
    #[arg(long, default_value_t = 100_000)]
    iterations: u64,
    /// Seed of the first input; the others count from there. Without it, another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// More files to mutate, beside the objects of this repository.
    #[arg(long, value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Feeds one file as it is: what a failed run has written.
    #[arg(long, value_name = "FILE", conflicts_with = "iterations")]
    replay: Option<PathBuf>,
}

/// Runs the target over the inputs of all seeds.
pub(crate) fn run(target: Target, args: &Args) -> anyhow::Result<()> {
    if let Some(path) = &args.replay {
        target.run(&std::fs::read(path).with_context(|| path.display().to_string())?);
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let mut paths = args.corpus.clone();
    objects_below(root, &mut paths)?;
    let files = paths.iter().map(|path| std::fs::read(path).with_context(|| path.display().to_string()));
    let mut corpus = Corpus::new(files.collect::<anyhow::Result<_>>()?);
    let seed = args.seed.unwrap_or_else(super::any_seed);
    let name = format!("{target:?}").to_lowercase();
    println!("fuzz {name}: {} inputs from {} files, seed {seed}", args.iterations, corpus.len());

    if target == Target::Decode {
        corpus = corpus.in_pieces(CODE_BYTES);
    }

    let folder = root.join("target/fuzz");
    std::fs::create_dir_all(&folder)?;
    let begin = Instant::now();
    let stop = AtomicBool::new(false);
    let workers = super::workers();
    // A panic is caught and reported by the worker; the hook's text would only repeat it.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let (corpus, folder, stop, name) = (&corpus, &folder, &stop, &name);
                scope.spawn(move || {
                    let seeds = (worker..args.iterations).step_by(usize::try_from(workers).unwrap_or(1));
                    let mut session = Session::new(target, folder, name, worker)?;
                    for seed in seeds.map(|i| seed.wrapping_add(i)) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        session.feed(corpus, seed).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                    }
                    Ok(())
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| bail!("a worker panicked"))).collect()
    });
    panic::set_hook(hook);
    results.into_iter().collect::<anyhow::Result<()>>()?;
    let peak = peak_kib();
    println!("passed in {:.1} s, peak memory {} MiB", begin.elapsed().as_secs_f64(), peak / 1024);
    ensure!(peak <= PEAK_KIB, "more than {} MiB were held at once", PEAK_KIB / 1024);
    Ok(())
}

/// One worker's state.
struct Session<'a> {
    target: Target,
    folder: &'a Path,
    name: &'a str,
    // The seed being run, on disk: an abort (no memory, stack overflow) cannot be caught, but leaves it there.
    current: File,
}

impl<'a> Session<'a> {
    fn new(target: Target, folder: &'a Path, name: &'a str, worker: u64) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.{worker}.seed"));
        let current = File::create(&path).with_context(|| path.display().to_string())?;
        Ok(Self { target, folder, name, current })
    }

    fn feed(&mut self, corpus: &Corpus, seed: u64) -> anyhow::Result<()> {
        self.current.write_all_at(format!("{seed:020}\n").as_bytes(), 0)?;
        let input = corpus.input(seed);
        let begin = Instant::now();
        let result = panic::catch_unwind(AssertUnwindSafe(|| self.target.run(&input)));
        let why = match result {
            Err(payload) => format!("panic: {}", message(&*payload)),
            Ok(()) if begin.elapsed() > SLOWEST => format!("took {:.1} s", begin.elapsed().as_secs_f64()),
            Ok(()) => return Ok(()),
        };
        let path = self.folder.join(format!("{}-{seed}.bin", self.name));
        std::fs::write(&path, &input)?;
        bail!("seed {seed}: {why}\nreplay: cargo xtask fuzz {} --replay {}", self.name, path.display())
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// The most memory the process has held, in KiB; 0 where the system does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn objects_below(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    // The same order everywhere, so that a seed is the same input everywhere.
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            objects_below(&path, found)?;
        } else if name.ends_with(".bpf.o") {
            found.push(path);
        }
    }
    Ok(())
}
