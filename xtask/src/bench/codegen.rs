//! `cargo xtask bench codegen`: generated code beside native code, the kernel's JIT and wasmtime.
//!
//! The benchmark is a crate outside of the workspace, `bench/codegen`, because what it compares with is heavy. This
//! builds and runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// For the benchmark: `--help` tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--manifest-path"])
        .arg(root.join("bench/codegen/Cargo.toml"))
        .arg("--target-dir")
        .arg(root.join("target/bench-codegen"))
        .arg("--")
        .args(&args.rest)
        .status()?;
    ensure!(status.success(), "the benchmark failed: {status}");
    Ok(())
}
