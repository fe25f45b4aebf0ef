//! `cargo xtask kvcache`: the cache beside memcached.

mod clients;
mod differ;
pub(crate) mod place;
mod program;
pub(crate) mod servers;
mod streams;

use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs memccapable and pymemcache against the cache and against memcached, and prints what passes.
    Clients(clients::Args),
    /// Sends the same random commands to the cache and to memcached, and compares the answers byte by byte.
    Differ(differ::Args),
    /// Kills the server under its clients, again and again, and looks at what the next one serves, and the program in between.
    Kills(program::Kills),
    /// Runs the program's tests for long: random packets, writers beside answers, servers that are killed, network namespaces.
    Program(program::Args),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Clients(args) => clients::run(args),
        What::Differ(args) => differ::run(args),
        What::Kills(args) => program::kills(args),
        What::Program(args) => program::run(args),
    }
}
