//! Interleaved rounds, checked and timed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use bpf_arena::codegen::PassSet;

use crate::engines::{Build, Code, Contender, Engine, Loaded};
use crate::programs::{Ctx, Size, Source};
use crate::stats::Spread;

/// Which time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Clock {
    /// Time that the thread was executed, in user space or in the kernel: undisturbed by other processes on the same core.
    Cpu,
    /// Time that went by.
    Wall,
}

impl Clock {
    /// Now, in seconds since some moment.
    pub(crate) fn now(self) -> f64 {
        let id = match self {
            Self::Cpu => ClockId::ThreadCPUTime,
            Self::Wall => ClockId::Monotonic,
        };
        let time = clock_gettime(id);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)).as_secs_f64()
    }
}

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Beside native -O2, which is always there.
    pub(crate) contenders: Vec<Contender>,
    /// Rounds, in each of which every engine runs once.
    pub(crate) rounds: usize,
    /// About how long a native run is to take, where a program's size does not say.
    pub(crate) run: Duration,
    /// What is measured.
    pub(crate) clock: Clock,
    /// How programs are compiled.
    pub(crate) build: Build,
}

/// What was measured of one program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// Its name.
    pub(crate) program: String,
    /// What it was called with.
    pub(crate) size: Size,
    /// What it answered, on every engine.
    pub(crate) checksum: u64,
    /// Milliseconds of a run of native -O2.
    pub(crate) native_ms: Spread,
    /// Code of native -O2.
    pub(crate) native_code: Code,
    /// Every contender.
    pub(crate) sides: Vec<Side>,
}

impl Measured {
    /// What was measured of a contender.
    pub(crate) fn side(&self, name: &str) -> Option<&Side> {
        self.sides.iter().find(|side| side.name == name)
    }

    /// Median of a contender's ratios.
    pub(crate) fn ratio(&self, name: &str) -> Option<f64> {
        self.side(name)?.ratio.map(|ratio| ratio.median)
    }
}

/// What was measured of a program and a contender.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    /// Which one.
    pub(crate) name: String,
    /// Its time, as a multiple of the native runs right before and after.
    pub(crate) ratio: Option<Spread>,
    /// Why there is no ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
    /// Its code.
    pub(crate) code: Code,
}

/// Keeps this thread on the core it is on.
pub(crate) fn pin() -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(sched_getcpu());
    sched_setaffinity(None, &cores).context("this thread cannot be kept on one core")
}

/// How many rounds have one run of a slow engine.
const ROUNDS_PER_SLOW_RUN: usize = 8;

/// Compiles one program for every engine and runs them in turns.
pub(crate) fn measure(source: &Source, plan: &Plan) -> anyhow::Result<Measured> {
    let mut native = Engine::NativeO2.contender(PassSet::ALL).load(source, &plan.build)?;
    let mut ctx = Ctx { n: source.size.n.unwrap_or(Size::DEFAULT_N), ..Ctx::default() };
    ctx.iters = match source.size.iters {
        Some(iters) => iters,
        None => iters_for(plan.run, ctx, plan.clock, &mut native)?,
    };
    let contest = Contest { ctx, clock: plan.clock, checksum: native.program.run(ctx)? };
    let mut sides = Vec::new();
    for contender in &plan.contenders {
        let mut side = Entrant::load(contender, source, plan);
        // The first run meets cold code and memory: checked, not counted.
        if let Ok(loaded) = &mut side.loaded {
            contest.time(loaded).with_context(|| contender.name.clone())?;
        }
        sides.push(side);
    }
    let mut natives = vec![contest.time(&mut native)?];
    for round in 0..plan.rounds {
        for side in &mut sides {
            let Ok(loaded) = &mut side.loaded else { continue };
            if side.contender.engine.is_slow() && round % ROUNDS_PER_SLOW_RUN != 0 {
                continue;
            }
            let before = natives.last().copied().unwrap_or(f64::NAN);
            let time = contest.time(loaded).with_context(|| side.contender.name.clone())?;
            let after = contest.time(&mut native).context("native")?;
            side.ratios.push(time / f64::midpoint(before, after));
            natives.push(after);
        }
    }
    let milliseconds: Vec<f64> = natives.iter().map(|seconds| seconds * 1e3).collect();
    Ok(Measured {
        program: source.name.clone(),
        size: Size { n: Some(ctx.n), iters: Some(ctx.iters) },
        checksum: contest.checksum,
        native_ms: Spread::of(&milliseconds).context("no runs")?,
        native_code: native.code,
        sides: sides.into_iter().map(Entrant::finish).collect(),
    })
}

/// The iterations with which a run takes about `wanted`.
fn iters_for(wanted: Duration, ctx: Ctx, clock: Clock, native: &mut Loaded) -> anyhow::Result<u64> {
    let mut iters = 1;
    while iters < 1 << 40 {
        let start = clock.now();
        native.program.run(Ctx { iters, ..ctx })?;
        if clock.now() - start >= wanted.as_secs_f64() * 0.7 {
            break;
        }
        iters *= 2;
    }
    Ok(iters)
}

/// What every run of a program has in common.
struct Contest {
    ctx: Ctx,
    clock: Clock,
    checksum: u64,
}

impl Contest {
    /// Seconds of a run, whose answer has to be right.
    fn time(&self, loaded: &mut Loaded) -> anyhow::Result<f64> {
        let start = self.clock.now();
        let checksum = loaded.program.run(self.ctx)?;
        let seconds = self.clock.now() - start;
        ensure!(checksum == self.checksum, "answers {checksum:#x}, native -O2 {:#x}", self.checksum);
        Ok(seconds)
    }
}

/// An engine with the program, and its ratios so far.
struct Entrant<'p> {
    contender: &'p Contender,
    loaded: Result<Loaded, String>,
    ratios: Vec<f64>,
}

impl<'p> Entrant<'p> {
    fn load(contender: &'p Contender, source: &Source, plan: &Plan) -> Self {
        let loaded = contender.load(source, &plan.build).map_err(|error| format!("{error:#}"));
        Self { contender, loaded, ratios: Vec::new() }
    }

    fn finish(self) -> Side {
        let (code, skipped) = match self.loaded {
            Ok(loaded) => (loaded.code, None),
            Err(reason) => (Code::default(), Some(reason)),
        };
        Side { name: self.contender.name.clone(), ratio: Spread::of(&self.ratios), skipped, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Run;

    /// Works for 50 us an iteration, and gives this answer.
    struct Worker(u64);

    impl Run for Worker {
        fn run(&mut self, ctx: Ctx) -> anyhow::Result<u64> {
            let start = Clock::Cpu.now();
            while Clock::Cpu.now() - start < 50e-6 * ctx.iters as f64 {}
            Ok(self.0)
        }
    }

    fn worker(answer: u64) -> Loaded {
        Loaded { program: Box::new(Worker(answer)), code: Code::default() }
    }

    #[test]
    fn another_answer_than_native_gives_ends_the_benchmark() {
        let ctx = Ctx { iters: 1, ..Ctx::default() };
        let contest = Contest { ctx, clock: Clock::Cpu, checksum: 7 };
        assert!(contest.time(&mut worker(7)).is_ok_and(|seconds| seconds >= 50e-6));
        assert!(contest.time(&mut worker(8)).is_err());
    }

    #[test]
    fn iterations_double_until_a_run_takes_as_long_as_wanted() {
        let iters = iters_for(Duration::from_millis(1), Ctx::default(), Clock::Cpu, &mut worker(0)).unwrap();
        assert!(iters == 16, "14 are 0.7 ms, {iters}");
    }

    #[test]
    fn the_clock_of_the_thread_stands_still_while_it_sleeps() {
        let (cpu, wall) = (Clock::Cpu.now(), Clock::Wall.now());
        std::thread::sleep(Duration::from_millis(20));
        assert!(Clock::Wall.now() - wall >= 0.02);
        assert!(Clock::Cpu.now() - cpu < 0.01);
    }
}
