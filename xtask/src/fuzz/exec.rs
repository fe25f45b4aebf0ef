//! Generated programs on both engines of this process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bpf_arena::LoadError;
use bpf_arena::codegen::{Changes, Pass, PassSet};
use testkit::differential::{Agreement, Bench, Failure, compare_with_kernel, shrink};
use testkit::generate::{Case, Features, USER_VM_START};
use verifier::Reason;

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
    /// Which passes of the code generator make the code that is compared: `all`, `none`, `each` (all, none, and each alone), `turns`
    /// (all, and each alone in turn), or names with commas between them.
    #[arg(long, default_value = "turns", conflicts_with = "kernel")]
    passes: String,
    /// Leaves out the shapes that passes look for.
    #[arg(long)]
    plain: bool,
    /// Checks arena accesses in software, as where no signal handler can be had.
    #[arg(long, conflicts_with = "kernel")]
    checked: bool,
}

/// Compares the programs of all seeds; the first failure ends it, made as small as it can be.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(super::any_seed);
    let mut features = Features::default();
    features.beyond_kernel = !args.kernel;
    features.shapes = !args.kernel && !args.plain;
    let choices = choices(&args.passes)?;
    features.statements = args.statements;
    if let Some(missing) = testkit::kernel::missing_capability().filter(|_| args.kernel) {
        bail!("--kernel needs {missing}");
    }
    println!("fuzz exec: {} programs, seed {seed}, passes {}", args.programs, args.passes);
    let begin = Instant::now();
    let stop = AtomicBool::new(false);
    let totals = Totals::default();
    let workers = super::workers();
    let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let (stop, totals, choices) = (&stop, &totals, &choices);
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
                        // With each turn, the next choice behind the first.
                        let chosen = match (args.passes.as_str(), choices.as_slice()) {
                            ("turns", [all, others @ ..]) => {
                                let turn = usize::try_from(seed).unwrap_or(0) % others.len().max(1);
                                others.get(turn).into_iter().chain([all]).copied().collect()
                            }
                            _ => choices.clone(),
                        };
                        compare(&runner, seed, features, &chosen, totals)
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
    if !args.kernel {
        totals.show_passes();
    }
    let unwalked = totals.unwalked.load(Ordering::Relaxed);
    println!("  {unwalked} programs had more paths than the verifier looks at");
    ensure!(unwalked <= args.programs / 20, "too many for this to be a test");
    Ok(())
}

/// The choices of passes that a word stands for.
fn choices(word: &str) -> anyhow::Result<Vec<PassSet>> {
    let alone = || Pass::ALL.into_iter().map(|pass| PassSet::NONE.with(pass));
    Ok(match word {
        "all" => vec![PassSet::ALL],
        "none" => vec![PassSet::NONE],
        "each" => [PassSet::ALL, PassSet::NONE].into_iter().chain(alone()).collect(),
        "turns" => [PassSet::ALL].into_iter().chain(alone()).collect(),
        names => {
            let pass = |name: &str| {
                let known = Pass::ALL.map(Pass::name).join(", ");
                Pass::from_name(name).with_context(|| format!("there is no pass `{name}`, but {known}"))
            };
            let set = names.split(',').try_fold(PassSet::NONE, |set, name| Ok(set.with(pass(name)?)));
            vec![set.map_err(|error: anyhow::Error| error)?]
        }
    })
}

/// What a run did, so that one can see that it did something.
#[derive(Default)]
struct Totals {
    instructions: AtomicU64,
    faults: AtomicU64,
    /// Programs with more paths than the verifier looks at.
    unwalked: AtomicU64,
    passes: Mutex<Vec<PassTotals>>,
}

/// What one pass did.
#[derive(Clone, Copy, Default)]
struct PassTotals {
    /// Programs that it was let at.
    programs: u64,
    /// Those of them that it changed.
    changed: u64,
    /// How often.
    changes: u64,
    /// The same where no other pass was let at the program.
    alone: u64,
    alone_changed: u64,
}

impl Totals {
    fn count(&self, choices: &[PassSet], changes: &[Changes]) {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.resize(Pass::ALL.len(), PassTotals::default());
        for (choice, changes) in choices.iter().zip(changes) {
            for (pass, totals) in Pass::ALL.into_iter().zip(passes.iter_mut()) {
                if !choice.contains(pass) {
                    continue;
                }
                let count = u64::from(changes.of(pass));
                totals.programs += 1;
                totals.changed += u64::from(count > 0);
                totals.changes += count;
                if *choice == PassSet::NONE.with(pass) {
                    totals.alone += 1;
                    totals.alone_changed += u64::from(count > 0);
                }
            }
        }
    }

    /// How often each pass had something to do: one that never has is not tested.
    fn show_passes(&self) {
        let passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        for (pass, totals) in Pass::ALL.into_iter().zip(passes.iter()) {
            let per_thousand = |count: u64, of: u64| count.saturating_mul(1000) / of.max(1);
            println!(
                "  {:10} changed {} of 1,000 programs ({} changes); alone {} of 1,000 ({} programs)",
                pass.name(),
                per_thousand(totals.changed, totals.programs),
                per_thousand(totals.changes, totals.programs),
                per_thousand(totals.alone_changed, totals.alone),
                totals.alone,
            );
        }
    }
}

/// Who is compared with whom.
enum Runner {
    /// Interpreter and compiled code.
    User(Bench),
    /// These and the kernel, with an arena at this address.
    Kernel(u64),
}

impl Runner {
    fn compare(&self, case: &Case, passes: &[PassSet]) -> Result<Agreement, Failure> {
        match self {
            Self::User(bench) => bench.compare_with(case, passes),
            Self::Kernel(start) => {
                Ok(Agreement { observed: compare_with_kernel(case, *start)?, changes: Vec::new() })
            }
        }
    }
}

fn compare(
    runner: &Runner,
    seed: u64,
    features: Features,
    passes: &[PassSet],
    totals: &Totals,
) -> anyhow::Result<()> {
    let case = Case::new(seed, features);
    match runner.compare(&case, passes) {
        Ok(Agreement { observed, changes }) => {
            totals.instructions.fetch_add(case.code.len() as u64, Ordering::Relaxed);
            totals.faults.fetch_add(observed.faults.len() as u64, Ordering::Relaxed);
            totals.count(passes, &changes);
            Ok(())
        }
        // Loops of many paths may be more than a verifier is willing to look at. They must stay few.
        Err(Failure::Load(LoadError::Rejected { source, .. }))
            if features.shapes
                && matches!(
                    source.reason(),
                    Reason::TooComplex { .. } | Reason::TooManyBranches { .. } | Reason::TooManyStates { .. }
                ) =>
        {
            totals.unwalked.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        // What is refused could only be made smaller into something else that is refused.
        Err(failure @ Failure::Load(_)) => {
            bail!("seed {seed} (--statements {}): {failure}\n{}", features.statements, case.assembly())
        }
        Err(failure) => {
            // The same kind of failure only: a smaller program may be refused for another reason.
            let kind = std::mem::discriminant(&failure);
            let guilty = match &failure {
                Failure::Differ { passes, .. } => vec![*passes],
                _ => passes.to_vec(),
            };
            let same = |case: &Case| matches!(runner.compare(case, &guilty), Err(other) if std::mem::discriminant::<Failure>(&other) == kind);
            let small = shrink(&case, same);
            let again = runner.compare(&small, &guilty).err().map_or_else(String::new, |f| f.to_string());
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
