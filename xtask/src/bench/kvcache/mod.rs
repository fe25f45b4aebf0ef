//! `cargo xtask bench kvcache`: the cache beside memcached, over one cable, in one run.
//!
//! In every round each side is started, filled with the same data, loaded in three ways (GETs and SETs, GETs alone, one GET
//! after the other) and ended. Client and server have a processor each; what a request costs at the server's end is counted by the
//! scheduler, see [`topology`].

mod data;
mod generator;
mod measure;
mod plot;
mod report;
mod sides;
mod topology;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use signal_hook::consts::{SIGINT, SIGTERM};

use data::DataSet;
use generator::{Generator, TICKETS};
use measure::{Load, Take};
use report::{Machine, Report, Row, Settings};
use sides::{Binaries, Side};
use topology::{CLIENT_CPU, Stage};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, in each of which every side is measured once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a side is loaded in a round.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Only these, and memcached over UDP; by default all.
    #[arg(long, value_delimiter = ',')]
    sides: Vec<Side>,
    /// Keys in the data set.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Requests that wait for answers at a time.
    #[arg(long, default_value_t = 128)]
    window: usize,
    /// Connections of a client over TCP, which share the window.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Memory of a server, in MiB.
    #[arg(long, default_value_t = 1024)]
    memory: usize,
    /// Of keys, lengths and the order of requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the program's own rate.
    #[arg(long)]
    without_rate: bool,
    /// Where figures and plots go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    folder: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "at least one round");
    ensure!((0.2..600.0).contains(&args.seconds), "between 0.2 and 600 seconds");
    ensure!((1..TICKETS).contains(&args.window), "between 1 and {} requests at a time", TICKETS - 1);
    ensure!(args.connections > 0, "at least one connection");
    fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    let sides = sides::chosen(&args.sides);
    let binaries = Binaries::find(&args.folder, &sides)?;
    let program = if args.without_rate { serde_json::Value::Null } else { own_rate()? };
    let data = DataSet::new(args.keys, args.seed)?;
    let (takes, times) = rounds(args, &sides, &binaries, &data)?;
    let base = sides.iter().position(|side| *side == Side::Memcached);
    let base = base.and_then(|at| takes.get(at)).cloned().unwrap_or_default();
    let all = sides.iter().zip(takes).zip(&times);
    let rows = all.map(|((side, takes), times)| Row::new(*side, takes, times, &base));
    let load = Settings {
        rounds: args.rounds,
        seconds: args.seconds,
        keys: data.keys(),
        bytes: data.bytes(),
        window: args.window,
        connections: args.connections,
        seed: args.seed,
    };
    let report = Report { machine: machine()?, load, sides: rows.collect::<anyhow::Result<_>>()?, program };
    let (json, svg) = (args.folder.join("kvcache.json"), args.folder.join("kvcache.svg"));
    fs::write(&json, serde_json::to_string_pretty(&report)?).with_context(|| json.display().to_string())?;
    plot::draw(&report, &svg)?;
    println!("{report}\n{}\n{}", json.display(), svg.display());
    let wrong: u64 = report.sides.iter().map(|row| row.wrong + row.refused).sum();
    ensure!(wrong == 0, "{wrong} answers are wrong");
    Ok(())
}

/// All rounds: for each side what every round came to, and the times of its single GETs.
type Rounds = (Vec<Vec<Take>>, Vec<Histogram<u64>>);

fn rounds(args: &Args, sides: &[Side], binaries: &Binaries, data: &DataSet) -> anyhow::Result<Rounds> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals cannot be caught")?;
    }
    let stage = Stage::new()?;
    let generator = Generator::new(&stage, data)?;
    let _pinned = sys::host::Pinned::to_cpu(CLIENT_CPU);
    let load = Load {
        time: Duration::from_secs_f64(args.seconds),
        window: args.window,
        connections: args.connections,
        memory: args.memory,
        stop: &stop,
    };
    let mut takes = vec![Vec::new(); sides.len()];
    let mut times = vec![Histogram::new_with_bounds(1, 10_000_000_000, 3)?; sides.len()];
    for round in 0..args.rounds {
        // Everyone comes first at some time.
        for turn in 0..sides.len() {
            let index = (turn + round) % sides.len();
            let (Some(side), Some(takes), Some(times)) =
                (sides.get(index), takes.get_mut(index), times.get_mut(index))
            else {
                continue;
            };
            let take = measure::take(*side, &stage, data, (binaries, &generator, &load), times)
                .with_context(|| side.name().to_owned())?;
            let (rate, cost) = (take.gets.rate() / 1e3, take.gets.cost() * 1e6);
            eprintln!("round {}: {}: {rate:.0} k GETs/s, {cost:.2} us each", round + 1, side.name());
            takes.push(take);
        }
    }
    Ok((takes, times))
}

/// The program by itself: one request at a time, on one processor, no network.
fn own_rate() -> anyhow::Result<serde_json::Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["run", "--quiet", "--release", "--package", "kvcache", "--example", "rate", "--", "--json"])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the program's own rate is not measured: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the program's own rate")
}

fn machine() -> anyhow::Result<Machine> {
    let first = |path: &str, name: &str| -> anyhow::Result<String> {
        let text = fs::read_to_string(path)?;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        Ok(line.rsplit(':').next().unwrap_or_default().trim().to_owned())
    };
    let version = Command::new("memcached").arg("--version").output();
    Ok(Machine {
        processor: first("/proc/cpuinfo", "model name")?,
        kernel: first("/proc/sys/kernel/osrelease", "")?,
        memcached: version
            .map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
    })
}
