//! Generated programs on both engines of this process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::bail;
use testkit::differential::{Bench, Failure, Observed, compare_with_kernel, shrink};
use testkit::generate::{Case, Features, USER_VM_START};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many programs.
    #[arg(long, default_value_t = 100_000)]
    programs: u64,
    /// Seed of the first program; the others count from there. Without it, another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// About how many statements a program has.
    #[arg(long, default_value_t = 24)]
    statements: usize,
    /// Compares with the running kernel too (as root): programs that it can run, fewer a second.
    #[arg(long)]
    kernel: bool,
    /// Checks arena accesses in software, as where no signal handler can be had.
    #[arg(long, conflicts_with = "kernel")]
    checked: bool,
}

/// Compares the programs of all seeds; the first failure ends it, made as small as it can be.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(super::any_seed);
    let mut features = Features::default();
    features.beyond_kernel = !args.kernel;
    features.statements = args.statements;
    if let Some(missing) = testkit::kernel::missing_capability().filter(|_| args.kernel) {
        bail!("--kernel needs {missing}");
    }
    println!("fuzz exec: {} programs, seed {seed}", args.programs);
    let begin = Instant::now();
    let stop = AtomicBool::new(false);
    let totals = Totals::default();
    let workers = super::workers();
    let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let (stop, totals) = (&stop, &totals);
                scope.spawn(move || {
                    // Arenas of one process cannot share an address; the low half is what programs know.
                    let start = USER_VM_START + (worker << 32);
                    let runner = match (args.kernel, args.checked) {
                        (true, _) => Runner::Kernel(start),
                        (_, true) => Runner::User(Bench::checked(start)?),
                        _ => Runner::User(Bench::new(start)?),
                    };
                    let seeds = (worker..args.programs).step_by(usize::try_from(workers).unwrap_or(1));
                    for seed in seeds.map(|i| seed.wrapping_add(i)) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        compare(&runner, seed, features, totals)
                            .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                    }
                    Ok(())
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| bail!("a worker panicked"))).collect()
    });
    results.into_iter().collect::<anyhow::Result<()>>()?;
    println!(
        "passed in {:.1} s: {} instructions, {} arena faults",
        begin.elapsed().as_secs_f64(),
        totals.instructions.load(Ordering::Relaxed),
        totals.faults.load(Ordering::Relaxed),
    );
    Ok(())
}

/// What a run did, so that one can see that it did something.
#[derive(Default)]
struct Totals {
    instructions: AtomicU64,
    faults: AtomicU64,
}

/// Who is compared with whom.
enum Runner {
    /// Interpreter and compiled code.
    User(Bench),
    /// These and the kernel, with an arena at this address.
    Kernel(u64),
}

impl Runner {
    fn compare(&self, case: &Case) -> Result<Observed, Failure> {
        match self {
            Self::User(bench) => bench.compare(case),
            Self::Kernel(start) => compare_with_kernel(case, *start),
        }
    }
}

fn compare(runner: &Runner, seed: u64, features: Features, totals: &Totals) -> anyhow::Result<()> {
    let case = Case::new(seed, features);
    match runner.compare(&case) {
        Ok(observed) => {
            totals.instructions.fetch_add(case.code.len() as u64, Ordering::Relaxed);
            totals.faults.fetch_add(observed.faults.len() as u64, Ordering::Relaxed);
            Ok(())
        }
        // What is refused could only be made smaller into something else that is refused.
        Err(failure @ Failure::Load(_)) => {
            bail!("seed {seed} (--statements {}): {failure}\n{}", features.statements, case.assembly())
        }
        Err(failure) => {
            // The same kind of failure only: a smaller program may be refused for another reason.
            let kind = std::mem::discriminant(&failure);
            let same = |case: &Case| matches!(runner.compare(case), Err(other) if std::mem::discriminant::<Failure>(&other) == kind);
            let small = shrink(&case, same);
            let again = runner.compare(&small).err().map_or_else(String::new, |f| f.to_string());
            bail!(
                "seed {seed} (--statements {}): {failure}\n\nmade smaller: {again}\ncontext {:02x?}\npages {:?}\n{}",
                features.statements,
                small.ctx,
                small.pages.iter().map(|(page, _)| *page).collect::<Vec<_>>(),
                small.assembly(),
            )
        }
    }
}
