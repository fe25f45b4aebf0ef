//! The tests of `apps/kvcache/tests/program`, made to last: with as many requests, seconds and kills as asked for.

use std::process::Command;

use anyhow::{Context, ensure};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Requests and malformed packets that each engine answers, beside a reader that shares nothing with the program.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Seconds of writers beside answers, for each engine.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Servers that are killed, for each way of keeping a store.
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Only tests with this in their name: `requests`, `writers_and`, `killed`, `wire`, `privileges`.
    #[arg(long)]
    only: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Kills {
    /// Servers that are killed, for each way of keeping a store.
    #[arg(long, default_value_t = 200)]
    kills: u64,
}

/// Only the servers that are killed.
pub(crate) fn kills(args: &Kills) -> anyhow::Result<()> {
    let only = Some("killed_servers".to_owned());
    run(&Args { requests: 0, seconds: 0, kills: args.kills, only })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["test", "-p", "kvcache", "--test", "program", "--", "--nocapture"])
        .args(&args.only)
        .env("KVCACHE_REQUESTS", args.requests.to_string())
        .env("KVCACHE_SECONDS", args.seconds.to_string())
        .env("KVCACHE_KILLS", args.kills.to_string())
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the program, or what it is compared with, is wrong");
    Ok(())
}
