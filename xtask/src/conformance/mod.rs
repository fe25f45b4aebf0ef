//! `cargo xtask conformance`: the kernel's own BPF selftests, on every engine.
//!
//! The tests come from a Debian package and stay under `target/`. Each suite prints one line, and is compared with what is
//! committed in `xtask/conformance.expected`.

mod alike;
mod answers;
mod linked;
pub(crate) mod material;
mod outcome;
mod suites;

pub(crate) use answers::KernelCounters;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use outcome::{Expectation, State, SuiteOutcome};
use suites::{SUITES, Suite};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these suites.
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// Only tests whose name contains this. Nothing is compared with what is expected.
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Name each test that differs, with both answers, and each that is skipped, with the reason.
    #[arg(long)]
    list: bool,
    /// Take the results as what is expected from now on.
    #[arg(long)]
    bless: bool,
    /// Do not install missing Debian packages (only root does).
    #[arg(long)]
    no_install: bool,
    /// Compile the tests and stop.
    #[arg(long)]
    prepare: bool,
    /// Run this suite here and print its results as JSON: what the task runs in child processes.
    #[arg(long, hide = true, value_name = "NAME")]
    worker: Option<String>,
    /// Where everything that was prepared is, for `--worker`.
    #[arg(long, hide = true, value_name = "DIR")]
    material: Option<PathBuf>,
    /// Write the kernel's answers for every annotated program into this directory, and stop.
    #[arg(long, value_name = "DIR")]
    answers: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(name) = &args.worker {
        return work(name, args);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let material = match material::prepare(root, !args.no_install) {
        Ok(material) => material,
        // An ordinary user cannot install what is missing: the task says so and leaves it at that.
        Err(error) if !material::is_root() => {
            println!("conformance skipped: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for (name, error) in &material.uncompiled {
        println!("not compiled: {name}: {error}");
    }
    if let Some(dir) = &args.answers {
        return suites::write_answers(&material, dir, &args.filter);
    }
    if args.prepare {
        println!("compiled tests: {}", material::objects(&material.dir).display());
        return Ok(());
    }
    let expected_path = root.join("xtask/conformance.expected");
    let mut expectation = Expectation::read(&expected_path)?;
    let mut failed = Vec::new();
    for suite in
        SUITES.iter().filter(|suite| args.suite.is_empty() || args.suite.iter().any(|n| n == suite.name()))
    {
        if let Err(error) = one_suite(suite, &material.dir, args, &mut expectation) {
            println!("  {error:#}");
            failed.push(suite.name());
        }
    }
    if args.bless {
        std::fs::write(&expected_path, expectation.text()).context("xtask/conformance.expected")?;
    }
    if !failed.is_empty() {
        bail!("not as expected: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs a suite, prints its line, and compares.
fn one_suite(suite: &Suite, dir: &Path, args: &Args, expectation: &mut Expectation) -> anyhow::Result<()> {
    if let Some(reason) = suite.impossible() {
        println!("suite {}: not run: {reason}", suite.name());
        return Ok(());
    }
    if suite.unprivileged && !material::is_root() {
        // The other suites are run by an ordinary user already.
        return Ok(());
    }
    let tests = match suites::run_in_child(suite, dir, &args.filter) {
        Ok(tests) => tests,
        Err(error) => {
            println!("suite {}: failed", suite.name());
            return Err(error);
        }
    };
    let summary = SuiteOutcome { name: suite.name().to_owned(), tests };
    println!("{}", summary.summary());
    if args.list {
        for test in summary.tests.iter().filter(|test| test.state != State::Agree) {
            let state = match test.state {
                State::Skip => "skipped",
                State::Wording => "differs in words",
                State::Errno => "differs in the error number",
                _ => "differs",
            };
            println!("  {state} {}: {}", test.test, test.detail);
        }
    }
    if !args.filter.is_empty() {
        return Ok(());
    }
    let outcome = SuiteOutcome { name: suite.expectation_name(), ..summary };
    if args.bless {
        expectation.bless(&outcome);
        return Ok(());
    }
    let comparison = expectation.compare(&outcome);
    for test in &comparison.progress {
        println!("  better than expected: {test}");
    }
    if comparison.regressions.is_empty() {
        return Ok(());
    }
    for regression in &comparison.regressions {
        println!("  worse than expected: {regression}");
    }
    bail!("{} tests are worse than expected", comparison.regressions.len())
}

/// The child's side: one JSON object a test.
fn work(name: &str, args: &Args) -> anyhow::Result<()> {
    let suite =
        SUITES.iter().find(|suite| suite.name() == name).with_context(|| format!("no suite {name}"))?;
    let dir = args.material.as_deref().context("--material is missing")?;
    let outcomes = suite.run(dir, &args.filter)?;
    let mut out = std::io::stdout().lock();
    for outcome in outcomes {
        serde_json::to_writer(&mut out, &outcome)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
