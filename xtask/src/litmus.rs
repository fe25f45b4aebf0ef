//! `cargo xtask litmus`: litmus tests of the memory model on the interpreter and on compiled code.

use std::time::Duration;

use anyhow::bail;
use bpf_arena::codegen::{Pass, PassSet};
use bpf_arena::{Engine, UserEngine};
use testkit::litmus::{Bench, Litmus, Seen, TESTS};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run altogether.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "PART", default_value = "")]
    filter: String,
}

/// Runs every test on every engine and prints what was seen; a forbidden outcome is an error.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let tests: Vec<&Litmus> = TESTS.iter().filter(|test| test.name.contains(&args.filter)).collect();
    let engines = engines();
    let shares = u32::try_from(tests.len() * engines.len()).unwrap_or(u32::MAX).max(1);
    let share = Duration::from_secs(args.seconds) / shares;
    let mut bad = 0;
    for test in tests {
        println!("{}\n  allowed:   {}\n  forbidden: {}", test.name, test.allowed, test.forbidden);
        let mut all = Seen::default();
        for (name, engine) in &engines {
            let mut seen = Seen::default();
            Bench::new(test, engine)?.run(share, &mut seen)?;
            if let Some(outcome) = seen.forbidden(test) {
                println!("  FORBIDDEN with {name}: {outcome}");
                bad += 1;
            }
            all.rounds += seen.rounds;
            seen.outcomes
                .into_iter()
                .for_each(|(outcome, count)| *all.outcomes.entry(outcome).or_default() += count);
        }
        for (outcome, count) in &all.outcomes {
            println!("  {count:>10}  {outcome}");
        }
    }
    if bad > 0 {
        bail!("{bad} times an outcome that the memory model forbids");
    }
    println!("no forbidden outcome by {} engines", engines.len());
    Ok(())
}

/// The interpreter, and compiled code with all passes, with none, and with each alone.
fn engines() -> Vec<(String, UserEngine)> {
    let alone = Pass::ALL.into_iter().map(|pass| PassSet::NONE.with(pass));
    let compiled = [PassSet::ALL, PassSet::NONE].into_iter().chain(alone);
    let compiled = compiled.map(|passes| (format!("passes {passes:?}"), Engine::user().passes(passes)));
    [("the interpreter".to_owned(), Engine::user().interpreter())].into_iter().chain(compiled).collect()
}
