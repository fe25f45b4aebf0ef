//! `cargo xtask bench arena`: what an arena costs, beside the running kernel's.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bpf_arena::arena::{Arena, ArenaSpec, PageCount, UserAddr};
use bpf_arena::{App, Engine, Object};
use bpf_object::{BPF_F_MMAPABLE, MapType};
use comfy_table::Table;
use serde::Serialize;
use sys::bpf::{Map, MapOptions};

use super::stats::Spread;
use crate::table;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, each of which measures everything once on each side.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// As many pages as an arena can have.
const FOUR_GIB: PageCount = PageCount::new(1 << 20);

/// Takes a figure once, in nanoseconds per operation.
type Take = dyn Fn(&Side) -> anyhow::Result<f64>;

/// One figure: its name and how to take it.
struct Measure {
    name: String,
    take: Box<Take>,
}

/// One of the two sides of the comparison.
struct Side {
    app: App,
    create: fn() -> anyhow::Result<()>,
}

#[derive(Serialize)]
struct Row {
    measure: String,
    user_ns: Spread,
    kernel_ns: Option<Spread>,
    /// User engine to kernel: below 1 is faster than the kernel.
    ratio: Option<Spread>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "at least one round");
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/bench_arena.bpf.o");
    let user = Side { app: Object::open(&object)?.load(Engine::user())?, create: create_user };
    let kernel = match kernel_side(&object) {
        Ok(side) => Some(side),
        Err(error) => {
            eprintln!("without the kernel's side: {error:#}");
            None
        }
    };
    let mut rows = Vec::new();
    for measure in measures() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            ours.push((measure.take)(&user).with_context(|| format!("{}, user engine", measure.name))?);
            if let Some(side) = &kernel {
                theirs.push((measure.take)(side).with_context(|| format!("{}, kernel", measure.name))?);
            }
        }
        rows.push(Row {
            user_ns: Spread::of(&ours).context("no rounds")?,
            kernel_ns: Spread::of(&theirs),
            ratio: Spread::of_ratios(&ours, &theirs),
            measure: measure.name,
        });
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
        println!("medians of {} interleaved rounds; a ratio below 1 is faster than the kernel", args.rounds);
    }
    Ok(())
}

fn measures() -> Vec<Measure> {
    let mut all = Vec::new();
    for (pages, calls) in [(1, 1024), (16, 256), (256, 64)] {
        let per_call = move |side: &Side, field: fn(&[u64; 4]) -> u64| -> anyhow::Result<f64> {
            let out = call(side, "pages", [pages, calls, 0, 0])?;
            Ok(as_ns(field(&out)) / as_ns(calls))
        };
        all.push(measure(format!("allocate {pages} page(s), per call"), move |side| {
            per_call(side, |out| out[2])
        }));
        all.push(measure(format!("free {pages} page(s), per call"), move |side| {
            per_call(side, |out| out[3])
        }));
    }
    all.push(measure("first touch of a page by the host".to_owned(), first_touch));
    all.push(measure("load from a missing page".to_owned(), |side| loads(side, "missing_loads", 2_000)));
    all.push(measure("load from a present page".to_owned(), |side| loads(side, "present_loads", 1_000_000)));
    all.push(measure("call of an empty program".to_owned(), |side| {
        const CALLS: u32 = 20_000;
        let out = side.app.program("empty")?.repeat(&mut (), CALLS)?;
        let elapsed = out.duration.context("the engine measured no time")?;
        Ok(elapsed.as_secs_f64() * 1e9 / f64::from(CALLS))
    }));
    all.push(measure("create, map and drop a 4 GiB arena".to_owned(), |side| {
        let start = Instant::now();
        (side.create)()?;
        Ok(start.elapsed().as_secs_f64() * 1e9)
    }));
    all
}

fn measure(name: String, take: impl Fn(&Side) -> anyhow::Result<f64> + 'static) -> Measure {
    Measure { name, take: Box::new(take) }
}

/// Runs a program whose context is four 64-bit words and gives them back.
fn call(side: &Side, program: &str, words: [u64; 4]) -> anyhow::Result<[u64; 4]> {
    let mut ctx: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let outcome = side.app.program(program)?.run(&mut ctx)?;
    ensure!(outcome.return_value == 0, "{program} returned {}", outcome.return_value);
    let mut out = [0; 4];
    for (word, bytes) in out.iter_mut().zip(ctx.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into()?);
    }
    Ok(out)
}

fn loads(side: &Side, program: &str, count: u64) -> anyhow::Result<f64> {
    let out = call(side, program, [count, 0, 0, 0])?;
    black_box(out[2]);
    Ok(as_ns(out[1]) / as_ns(count))
}

/// The host writes to pages that nobody allocated; a program frees them again.
fn first_touch(side: &Side) -> anyhow::Result<f64> {
    const PAGES: u64 = 1024;
    let arena = side.app.arena()?;
    // Behind the object's globals.
    let first = arena.user_vm_start().wrapping_add(1024 * 4096);
    let start = Instant::now();
    for page in 0..PAGES {
        arena.write_u64(UserAddr::new(first.get() + page * 4096), page)?;
    }
    let elapsed = start.elapsed();
    call(side, "drop_pages", [first.get(), PAGES, 0, 0])?;
    Ok(elapsed.as_secs_f64() * 1e9 / as_ns(PAGES))
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds and counts far below 2^53")]
fn as_ns(value: u64) -> f64 {
    value as f64
}

fn create_user() -> anyhow::Result<()> {
    Arena::create(&ArenaSpec::new(FOUR_GIB))?;
    Ok(())
}

fn kernel_side(object: &Path) -> anyhow::Result<Side> {
    Ok(Side { app: Object::open(object)?.load(Engine::kernel()?)?, create: create_kernel })
}

fn create_kernel() -> anyhow::Result<()> {
    let arena = Map::create(&MapOptions {
        name: "arena",
        map_type: MapType::Arena as u32,
        key_size: 0,
        value_size: 0,
        max_entries: FOUR_GIB.get(),
        flags: BPF_F_MMAPABLE,
        numa_node: 0,
        extra: 0,
        inner: None,
        btf: None,
    })?;
    arena.mmap()?;
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let mut table = table::table(["", "user engine", "kernel", "ratio", "(spread)"], 1);
    for row in rows {
        table.add_row([
            row.measure.clone(),
            format_ns(row.user_ns.median),
            row.kernel_ns.map_or("-".to_owned(), |s| format_ns(s.median)),
            row.ratio.map_or("-".to_owned(), |r| format!("{:.2}", r.median)),
            row.ratio.map_or(String::new(), |r| format!("{:.2} to {:.2}", r.min, r.max)),
        ]);
    }
    table
}

fn format_ns(ns: f64) -> String {
    if ns < 1e3 {
        format!("{ns:.1} ns")
    } else if ns < 1e6 {
        format!("{:.2} us", ns / 1e3)
    } else {
        format!("{:.2} ms", ns / 1e6)
    }
}
