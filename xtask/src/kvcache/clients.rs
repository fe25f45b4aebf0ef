//! Real clients.

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_args: &Args) -> anyhow::Result<()> {
    Ok(())
}
