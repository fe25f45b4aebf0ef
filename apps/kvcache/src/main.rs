//! The server's command.

mod cli;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use kvcache::commands::Shared;
use kvcache::fast::{Cache, Hook};
use kvcache::server::Server;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::info;

use cli::{Cli, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    match serve(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli) -> anyhow::Result<()> {
    let (stop, signalled) = UnixStream::pair().context("no pair of sockets")?;
    for signal in [SIGINT, SIGTERM] {
        let end = signalled.try_clone().context("no more descriptors")?;
        signal_hook::low_level::pipe::register(signal, end).context("signals cannot be caught")?;
    }
    let opened = Cache::open(&cli.config())?;
    if let Some(recovered) = &opened.recovered {
        info!(?recovered, "an earlier server's items are here");
    }
    let hooks: Vec<_> = opened.cache.fast.hooks().map(Hook::name).collect();
    let shared = Arc::new(Shared::new(opened.cache, cli.settings()));
    let server = Server::bind(Arc::clone(&shared), cli.listen, cli.tcp_port(), cli.udp_port())?;
    info!(
        tcp = server.tcp_address().map(tracing::field::display),
        udp = server.udp_address().map(tracing::field::display),
        memory = cli.memory.0,
        threads = shared.settings.threads,
        engine = shared.settings.engine,
        hooks = (!hooks.is_empty()).then(|| hooks.join("+")),
        "serving"
    );
    server.run(stop)?;
    let store = shared.store.stats();
    let hits_program = shared.store.program_counters().map(|counters| counters.hits).iter().sum::<u64>();
    info!(items = store.items, bytes = store.bytes, hits_program, "stopped");
    Ok(())
}

fn start_log(cli: &Cli) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(cli.log_level())
        .with_target(false)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
