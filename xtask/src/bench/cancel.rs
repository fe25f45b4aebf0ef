//! `cargo xtask bench cancel`: how long a run that is ended still takes.
//!
//! For every way in which a program can take long, a run is ended by another thread, at one moment or another, or by its time limit. The
//! latency is the time from then to the return of the call that runs the program, so what the system takes to schedule two
//! threads is part of it.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::table;
use anyhow::{Context as _, bail, ensure};
use bpf_arena::{App, Cancel, Engine, LoopLimit, Object, Program, RunError, RunLimits, UserEngine};
use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs that are ended, of each program, engine and cause.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Only programs whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// A way of taking long.
struct Case {
    what: &'static str,
    program: &'static str,
    /// A program that has what this one waits for.
    holder: Option<&'static str>,
}

const fn case(what: &'static str, program: &'static str) -> Case {
    Case { what, program, holder: None }
}

const CASES: &[Case] = &[
    case("may_goto", "spin"),
    case("may_goto around may_goto in calls", "spin_in_calls"),
    case("missing pages", "spin_on_faults"),
    case("missing pages, suddenly", "spin_on_faults_late"),
    case("helpers", "spin_in_helpers"),
    case("bpf_loop in bpf_loop", "loop"),
    case("iterators in iterators", "iterate"),
    case("for_each_map_elem, three deep", "each"),
    case("bounded loops around global functions", "call"),
    case("a chain of tail calls", "chain"),
    case("user ring buffer", "drain"),
    Case { what: "waiting for bpf_spin_lock", program: "wait", holder: Some("hold") },
    Case { what: "waiting for bpf_res_spin_lock", program: "wait_resilient", holder: Some("hold_resilient") },
];

/// Time limits of the runs that end by one, in turn.
const LIMITS: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(2), Duration::from_millis(5)];

/// How long loops go on that nobody ends: longer than the task.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
struct Row {
    what: &'static str,
    engine: &'static str,
    cause: &'static str,
    /// Microseconds from the moment at which a run is to end to its end.
    median_us: f64,
    p99_us: f64,
    max_us: f64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "at least one round");
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/endless.bpf.o");
    let mut rows = Vec::new();
    for (engine, interpreted) in [("jit", false), ("interpreter", true)] {
        let app = load(&object, interpreted)?;
        let wanted =
            |case: &&Case| args.only.as_ref().is_none_or(|part| case.program.contains(part.as_str()));
        for case in CASES.iter().filter(wanted) {
            let context = || format!("{engine}: {}", case.program);
            for (cause, latencies) in measure(&app, case, args.rounds).with_context(context)? {
                rows.push(Row::new(case.what, engine, cause, latencies));
            }
        }
    }
    let bounded = bounded(&object)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let mut table = table::table(["program", "engine", "ended by", "median us", "p99 us", "max us"], 3);
    for row in &rows {
        let figure = |us: f64| format!("{us:.1}");
        let figures = [row.median_us, row.p99_us, row.max_us].map(figure);
        table.add_row([row.what, row.engine, row.cause].map(str::to_owned).into_iter().chain(figures));
    }
    println!("{table}");
    println!(
        "The longest loop that is left to come to its end by itself (840,000 instructions): {:.0} us compiled",
        bounded.as_secs_f64() * 1e6
    );
    Ok(())
}

fn load(object: &Path, interpreted: bool) -> anyhow::Result<App> {
    let engine = Engine::user().loop_limit(LoopLimit::Time(PATIENCE));
    let engine: UserEngine = if interpreted { engine.interpreter() } else { engine };
    let app = Object::open(object)?.load(engine)?;
    app.map("programs")?.set_program(&[0; 4], app.program("chain")?)?;
    Ok(app)
}

/// The time of a loop that nothing ends, compiled.
fn bounded(object: &Path) -> anyhow::Result<Duration> {
    let app = Object::open(object)?.load(Engine::user().only(&["bounded"]))?;
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let begin = Instant::now();
        app.program("bounded")?.run(&mut ())?;
        best = best.min(begin.elapsed());
    }
    Ok(best)
}

/// The latencies of runs that are ended by a token, and of those that are ended by their time limit.
fn measure(app: &App, case: &Case, rounds: u32) -> anyhow::Result<[(&'static str, Vec<Duration>); 2]> {
    let released = Cancel::new();
    let holder = match case.holder {
        Some(name) => Some(spawn(app, app.program(name)?, &released)?),
        None => None,
    };
    let program = app.program(case.program)?;
    let (mut cancelled, mut limited) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if case.program == "drain" {
            refill(app)?;
        }
        cancelled.push(cancel(app, program, moment(round))?);
        if case.program == "drain" {
            refill(app)?;
        }
        let limit = *LIMITS.get(round as usize % LIMITS.len()).context("a limit")?;
        limited.push(reach_limit(program, limit)?);
    }
    released.cancel();
    if let Some(holder) = holder {
        _ = holder.recv()?;
    }
    Ok([("cancel()", cancelled), ("time limit", limited)])
}

/// Has the host's orders ready that the program is to work on.
fn refill(app: &App) -> anyhow::Result<()> {
    let mut orders = app.map("orders")?.user_ring_buffer()?;
    while orders.push(&[0; 8]).is_ok() {}
    Ok(())
}

/// A run that has begun, on a thread of its own: when it ended, and how.
type Run = mpsc::Receiver<(Instant, Result<bpf_arena::Outcome, RunError>)>;

fn spawn(app: &App, program: &Program, cancel: &Cancel) -> anyhow::Result<Run> {
    let program = program.limited(RunLimits::new().cancel(cancel)).context("the user engine's")?;
    let before: u64 = app.global("started")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let outcome = program.run(&mut ());
        // Nobody listens any more if the measurement was given up.
        let _ = sender.send((Instant::now(), outcome));
    });
    while app.global::<u64>("started")? == before {
        std::thread::yield_now();
    }
    Ok(receiver)
}

/// How long a run goes on before it is ended: some other time in every round.
fn moment(round: u32) -> Duration {
    Duration::from_micros(100 + u64::from(round) * 613 % 2900)
}

fn cancel(app: &App, program: &Program, after: Duration) -> anyhow::Result<Duration> {
    let cancel = Cancel::new();
    let run = spawn(app, program, &cancel)?;
    std::thread::sleep(after);
    let begin = Instant::now();
    cancel.cancel();
    let (end, outcome) = run.recv()?;
    ensure_stopped(outcome)?;
    Ok(end.saturating_duration_since(begin))
}

fn reach_limit(program: &Program, limit: Duration) -> anyhow::Result<Duration> {
    let program = program.limited(RunLimits::new().time(limit)).context("the user engine's")?;
    let begin = Instant::now();
    let outcome = program.run(&mut ());
    let elapsed = begin.elapsed();
    ensure_stopped(outcome)?;
    Ok(elapsed.saturating_sub(limit))
}

fn ensure_stopped(outcome: Result<bpf_arena::Outcome, RunError>) -> anyhow::Result<()> {
    match outcome {
        Err(RunError::Stopped(_)) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(outcome) => bail!("it came to its end and returned {}", outcome.return_value),
    }
}

impl Row {
    fn new(
        what: &'static str,
        engine: &'static str,
        cause: &'static str,
        mut latencies: Vec<Duration>,
    ) -> Self {
        latencies.sort_unstable();
        let last = latencies.len().saturating_sub(1);
        let at = |part: usize| latencies.get(last * part / 100).map_or(0.0, |d| d.as_secs_f64() * 1e6);
        Self { what, engine, cause, median_us: at(50), p99_us: at(99), max_us: at(100) }
    }
}
