//! `cargo xtask stress`: a scheduler's library in arena memory, used by many threads.

use std::time::Duration;

use bpf_arena::{Engine, UserEngine};
use clap::ValueEnum;
use testkit::library::{Library, Part, Plan, Report, stress, with_kernel_types};

/// Engines to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// In this process, compiled.
    User,
    /// In this process, by the reference interpreter.
    Interp,
    /// In the running kernel.
    Kernel,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where programs run.
    #[arg(long, value_enum, default_value = "user")]
    engine: EngineName,
    /// Threads that run programs at once.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Milliseconds from one look at everything to the next.
    #[arg(long, default_value_t = 100)]
    interval: u64,
    /// Parts to use, all of them if none is named: `slab`, `stack`, `buddy`, `rbtree`, ...
    #[arg(long)]
    part: Vec<String>,
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs until the time is over or something is broken.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let named = |part: &Part| args.part.is_empty() || args.part.contains(&part.to_string());
    let parts: Vec<Part> = Part::ALL.into_iter().filter(named).collect();
    anyhow::ensure!(!parts.is_empty(), "no part is called {}", args.part.join(" or "));
    let library = match args.engine {
        EngineName::User => Library::load(user(Engine::user(), &parts)?, &parts)?,
        EngineName::Interp => Library::load(user(Engine::user().interpreter(), &parts)?, &parts)?,
        EngineName::Kernel => Library::load(Engine::kernel()?, &parts)?,
    };
    let seed = args.seed.unwrap_or_else(crate::fuzz::any_seed);
    println!("seed {seed}");
    let plan = Plan {
        threads: args.threads,
        time: Duration::from_secs(args.seconds),
        interval: Duration::from_millis(args.interval),
        seed,
    };
    print(&stress(&library, &plan)?, args.threads);
    Ok(())
}

/// The engine with what these parts need.
fn user(engine: UserEngine, parts: &[Part]) -> anyhow::Result<UserEngine> {
    Ok(if parts.contains(&Part::Tasks) { with_kernel_types(engine)? } else { engine })
}

fn print(report: &Report, threads: usize) {
    println!("{:<10} {:>10} {:>14}", "part", "runs", "operations");
    for tally in &report.parts {
        println!("{:<10} {:>10} {:>14}", tally.part.to_string(), tally.runs, tally.done);
    }
    let seconds = report.time.as_secs_f64();
    println!(
        "{threads} threads, {seconds:.1} s: everything looked at {} times, nothing broken",
        report.checks
    );
}
