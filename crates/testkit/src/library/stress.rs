//! Many threads that use the library at random, and a host that stops them now and then to look.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bpf_arena::error::{OpenError, UnknownName};
use bpf_arena::{LoadError, RunError};
use fastrand::Rng;

use super::types::Stress;
use super::{Broken, Library, MAX_THREADS, Part};

/// Operations of one run of a program.
const ROUNDS: u32 = 64;

/// How to use the library.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Threads, [`MAX_THREADS`] at most.
    pub threads: usize,
    /// How long.
    pub time: Duration,
    /// How often everything is looked at.
    pub interval: Duration,
    /// Where chance begins.
    pub seed: u64,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By part.
    pub parts: Vec<Tally>,
    /// How often everything was looked at, and was as it must be.
    pub checks: u64,
    /// How long it took.
    pub time: Duration,
}

/// What was done with one part.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// The part.
    pub part: Part,
    /// Runs of its program.
    pub runs: u64,
    /// Operations that did what they were asked for.
    pub done: u64,
}

/// Why the library could not be used, or is broken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StressError {
    /// Objects are missing or do not go together.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel's types are not what they should be.
    #[error(transparent)]
    Types(#[from] bpf_object::BtfError),
    /// The engine refuses the library.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program is missing.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// A program could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A program found something broken, or failed.
    #[error("program `{program}` returned {} ({returned:#x})", .returned.cast_signed())]
    Program {
        /// Its name.
        program: &'static str,
        /// What it returned: a negative error number.
        returned: u32,
    },
    /// The host found something broken.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// More threads than the programs have room for.
    #[error("{threads} threads; the programs have room for {MAX_THREADS}")]
    TooManyThreads {
        /// Threads asked for.
        threads: usize,
    },
}

/// Uses every part of the library on all threads, and checks it at every interval and at the end.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn stress(library: &Library, plan: &Plan) -> Result<Report, StressError> {
    if plan.threads > MAX_THREADS {
        return Err(StressError::TooManyThreads { threads: plan.threads });
    }
    let zero = |&part: &Part| Tally { part, runs: 0, done: 0 };
    let start = Instant::now();
    let shared = Shared {
        library,
        running: RwLock::new(()),
        stop: AtomicBool::new(false),
        parts: Mutex::new(library.parts().iter().map(zero).collect()),
        failed: Mutex::new(None),
    };
    let mut checks = 0;
    thread::scope(|scope| {
        for (index, seed) in (0..plan.threads).zip(plan.seed..) {
            let (shared, index) = (&shared, u32::try_from(index).unwrap_or_default());
            scope.spawn(move || shared.work(index, seed));
        }
        while start.elapsed() < plan.time && !shared.stop.load(Ordering::Relaxed) {
            thread::sleep(plan.interval.min(plan.time.saturating_sub(start.elapsed())));
            let _nobody_runs = shared.running.write().unwrap_or_else(PoisonError::into_inner);
            match library.check() {
                Ok(()) => checks += 1,
                Err(broken) => shared.fail(broken.into()),
            }
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    if let Some(error) = shared.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    library.check()?;
    let parts = shared.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report { parts, checks: checks + 1, time: start.elapsed() })
}

struct Shared<'a> {
    library: &'a Library,
    /// Held for reading by every run.
    running: RwLock<()>,
    stop: AtomicBool,
    parts: Mutex<Vec<Tally>>,
    failed: Mutex<Option<StressError>>,
}

impl Shared<'_> {
    /// Remembers the first failure and ends everything.
    fn fail(&self, error: StressError) {
        self.stop.store(true, Ordering::Relaxed);
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn work(&self, thread: u32, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let mut own: Vec<Tally> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(&part) = rng.choice(self.library.parts()) else { break };
            match self.run(part, thread, rng.u64(1..)) {
                Ok(done) => match own.iter_mut().find(|t| t.part == part) {
                    Some(tally) => (tally.runs, tally.done) = (tally.runs + 1, tally.done + done),
                    None => own.push(Tally { part, runs: 1, done }),
                },
                Err(error) => self.fail(error),
            }
        }
        let mut all = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for tally in own {
            for sum in all.iter_mut().filter(|t| t.part == tally.part) {
                (sum.runs, sum.done) = (sum.runs + tally.runs, sum.done + tally.done);
            }
        }
    }

    /// Runs the program of a part once; gives how many operations did what they were asked for.
    fn run(&self, part: Part, thread: u32, seed: u64) -> Result<u64, StressError> {
        let _running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        let mut ctx = Stress { seed, thread, rounds: ROUNDS, done: 0 };
        let outcome = self.library.app.program(part.program())?.run(&mut ctx)?;
        match outcome.return_value {
            0 => Ok(ctx.done),
            returned => Err(StressError::Program { program: part.program(), returned }),
        }
    }
}
