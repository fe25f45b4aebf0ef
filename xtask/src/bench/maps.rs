//! `cargo xtask bench maps`: what maps cost a program, beside the running kernel's.

use std::path::Path;

use anyhow::{Context as _, ensure};
use bpf_arena::{App, Engine, Object};
use comfy_table::Table;
use serde::Serialize;

use super::stats::Spread;
use crate::table;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, each of which measures everything once on each side.
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// Only measures whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Operations in one round of a program's loop.
const UNROLL: u64 = 8;

/// A program and how many rounds it makes at a time: a millisecond or so, which is shorter than a time slice, so that many takes
/// are not interrupted where others use the machine. Ring buffers have to have room for all records of two threads.
const MEASURES: &[(&str, u64)] = &[
    ("array_lookup", 1 << 15),
    ("array_update", 1 << 13),
    ("percpu_array_lookup", 1 << 15),
    ("hash_lookup", 1 << 12),
    ("hash_miss", 1 << 12),
    ("hash_update", 1 << 11),
    ("hash_delete_insert", 1 << 10),
    ("percpu_hash_lookup", 1 << 12),
    ("percpu_hash_update", 1 << 11),
    ("lru_hash_lookup", 1 << 12),
    ("ringbuf_output", 1 << 12),
    ("ringbuf_reserve_submit", 1 << 12),
];

/// Threads that run a program at the same time.
const THREADS: [usize; 2] = [1, 2];

#[derive(Serialize)]
struct Row {
    measure: &'static str,
    threads: usize,
    /// Nanoseconds of wall time per operation, all threads' operations counted.
    user_ns: Spread,
    kernel_ns: Option<Spread>,
    /// User engine to kernel, round by round: below 1 is faster than the kernel.
    ratio: Option<Spread>,
    /// The same of the fastest take of each: what others do on the machine does not enter into it.
    fastest: Option<f64>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "at least one round");
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/bench_maps.bpf.o");
    let user = Object::open(&object)?.load(Engine::user())?;
    let kernel = match kernel_side(&object) {
        Ok(app) => Some(app),
        Err(error) => {
            eprintln!("without the kernel's side: {error:#}");
            None
        }
    };
    for app in std::iter::once(&user).chain(&kernel) {
        app.program("fill")?.run(&mut ())?;
    }
    let mut rows = Vec::new();
    let wanted = |name: &str| args.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    for (name, rounds) in MEASURES.iter().filter(|(name, _)| wanted(name)) {
        for threads in THREADS {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            // The first round warms up.
            for round in 0..=args.rounds {
                let mine =
                    take(&user, name, *rounds, threads).with_context(|| format!("{name}, user engine"))?;
                let its = kernel.as_ref().map(|app| take(app, name, *rounds, threads)).transpose();
                let its = its.with_context(|| format!("{name}, kernel"))?;
                if round > 0 {
                    ours.push(mine);
                    theirs.extend(its);
                }
            }
            let user_ns = Spread::of(&ours).context("no rounds")?;
            let kernel_ns = Spread::of(&theirs);
            rows.push(Row {
                measure: name,
                threads,
                user_ns,
                kernel_ns,
                ratio: Spread::of_ratios(&ours, &theirs),
                fastest: kernel_ns.map(|kernel_ns| user_ns.min / kernel_ns.min),
            });
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
        println!(
            "ns per operation, loop included: median (fastest) of {} interleaved rounds; a ratio below 1 is faster than the kernel",
            args.rounds
        );
        println!("with 2 threads: wall time by the operations of both, so half is perfect scaling");
    }
    Ok(())
}

/// Runs a program on so many threads at the same time: nanoseconds per operation.
fn take(app: &App, name: &str, rounds: u64, threads: usize) -> anyhow::Result<f64> {
    let program = app.program(name)?;
    let start = std::sync::Barrier::new(threads);
    let run = |cpu: usize| {
        let _pinned = sys::host::Pinned::to_cpu(cpu);
        let mut ctx = [rounds, 0, 0];
        start.wait();
        program.run(&mut ctx)?;
        Ok(ctx)
    };
    let run = &run;
    let results: Vec<anyhow::Result<[u64; 3]>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|cpu| scope.spawn(move || run(cpu))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    drain(app)?;
    let mut operations_per_ns = 0.0;
    for result in results {
        let [rounds, ns, failed] = result?;
        // With two threads one may delete what the other looks for.
        ensure!(failed == 0 || threads > 1, "an operation of {name} failed");
        operations_per_ns += as_f64(rounds * UNROLL) / as_f64(ns.max(1));
    }
    Ok(1.0 / operations_per_ns)
}

/// Takes all records out of the ring buffer.
fn drain(app: &App) -> anyhow::Result<()> {
    let mut ring = app.map("events")?.ring_buffer()?;
    let mut record = Vec::new();
    while ring.take(&mut record)? {}
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds and counts far below 2^53")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

fn kernel_side(object: &Path) -> anyhow::Result<App> {
    Ok(Object::open(object)?.load(Engine::kernel()?)?)
}

fn table(rows: &[Row]) -> Table {
    let mut table = table::table(["", "threads", "user engine", "kernel", "ratio", "of the fastest"], 1);
    let figures = |spread: Spread| format!("{:.1} ({:.1})", spread.median, spread.min);
    for row in rows {
        table.add_row([
            row.measure.replace('_', " "),
            row.threads.to_string(),
            figures(row.user_ns),
            row.kernel_ns.map_or("-".to_owned(), figures),
            row.ratio.map_or("-".to_owned(), |r| format!("{:.2}", r.median)),
            row.fastest.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    table
}
