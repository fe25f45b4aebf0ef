//! `cargo xtask fuzz contained`: what runs do lies in what the verifier said they may do.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::bail;
use testkit::contained::{Checked, Checker};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Accepted programs to run.
    #[arg(long, default_value_t = 100_000)]
    programs: u64,
    /// First seed; without one, from the time.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; by default one for each processor.
    #[arg(long)]
    jobs: Option<u64>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let first = args.seed.unwrap_or_else(super::any_seed);
    println!("fuzz contained: {} accepted programs, seeds {first}..", args.programs);
    let begin = Instant::now();
    let (next, accepted) = (AtomicU64::new(first), AtomicU64::new(0));
    let failure = Mutex::new(None);
    let total = Mutex::new(Checked::default());
    let fail = |error: anyhow::Error| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        accepted.store(args.programs, Ordering::Relaxed);
    };
    let work = || {
        let checker = match Checker::new() {
            Ok(checker) => checker,
            Err(error) => return fail(error.into()),
        };
        let mut mine = Checked::default();
        while accepted.load(Ordering::Relaxed) < args.programs {
            match checker.check(next.fetch_add(1, Ordering::Relaxed)) {
                Ok(checked) => {
                    accepted.fetch_add(checked.programs, Ordering::Relaxed);
                    mine.add(checked);
                }
                Err(escape) => fail(anyhow::anyhow!("{escape}")),
            }
        }
        total.lock().unwrap_or_else(PoisonError::into_inner).add(mine);
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.unwrap_or_else(super::workers).max(1) {
            scope.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        bail!("a run left what the verifier knows: {error}");
    }
    let Checked { programs, moments, values } = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{programs} programs, {moments} instructions, {values} registers and slots compared in {seconds:.0} s: all contained"
    );
    Ok(())
}
