//! `cargo xtask fuzz`: random programs on two engines, random bytes into every parser.

mod contained;
mod exec;
mod input;
mod maps;
mod verifier;

use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs generated programs by interpreter and as machine code, and compares all they leave.
    Exec(exec::Args),
    /// Feeds mutated objects and noise to decoder and assembler.
    Decode(input::Args),
    /// Feeds mutated objects and noise to object parser and linker.
    Object(input::Args),
    /// Feeds mutated objects through the linker to the verifier.
    Verify(input::Args),
    /// Runs accepted programs and looks whether all they do lies in what the verifier said they may do.
    Contained(contained::Args),
    /// Does the same to the maps of this process and to the running kernel's, from the host and from a program.
    Maps(maps::Args),
    /// Compares verdicts with the running kernel's, over random programs and mutants of the selftests.
    Verifier(verifier::Args),
}

/// Runs the task until its end or its first failure.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Exec(args) => exec::run(args),
        What::Decode(args) => input::run(testkit::fuzz::Target::Decode, args),
        What::Object(args) => input::run(testkit::fuzz::Target::Object, args),
        What::Contained(args) => contained::run(args),
        What::Maps(args) => maps::run(args),
        What::Verifier(args) => verifier::run(args),
        What::Verify(args) => input::run(testkit::fuzz::Target::Verify, args),
    }
}

/// A seed from the time, for runs that name none.
pub(crate) fn any_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}

/// Workers for a task that only computes.
fn workers() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}
