//! One side in one round: started, filled, warmed up, loaded in three ways, ended.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;
use testkit::wire::End;

use super::data::DataSet;
use super::generator::{Client, Generator, Plan, Round, Sets, Tcp, Totals, fill};
use super::sides::{Binaries, Running, Side};
use super::topology::{Stage, own_cpu_time};

/// How a side is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    /// For all three ways together.
    pub(super) time: Duration,
    pub(super) window: usize,
    /// Of clients over TCP.
    pub(super) connections: usize,
    /// MiB of a server.
    pub(super) memory: usize,
    pub(super) stop: &'a AtomicBool,
}

/// What one way of loading a side came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Phase {
    pub(super) totals: Totals,
    pub(super) seconds: f64,
    /// CPU seconds of the server's process.
    pub(super) process: f64,
    /// CPU seconds of the thread that takes packets in at the server's end; the program in the kernel runs there.
    pub(super) intake: f64,
    /// CPU seconds of the client's thread and of its intake.
    pub(super) client: f64,
}

impl Phase {
    /// Requests of both kinds in a second.
    pub(super) fn rate(&self) -> f64 {
        (self.totals.answered() + self.totals.stored) as f64 / self.seconds
    }

    /// CPU seconds at the server's end for a GET that was answered.
    pub(super) fn cost(&self) -> f64 {
        (self.process + self.intake) / self.totals.answered().max(1) as f64
    }
}

/// One side in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Take {
    /// 95 % GETs, 5 % SETs, as many as are answered.
    pub(super) mixed: Phase,
    /// GETs alone, as many as are answered.
    pub(super) gets: Phase,
    /// One GET after the other.
    pub(super) single: Phase,
}

/// A round of one side; the times of single GETs are added to `times`.
pub(super) fn take(
    side: Side,
    stage: &Stage,
    data: &DataSet,
    (binaries, generator, load): (&Binaries, &Generator<'_>, &Load<'_>),
    times: &mut Histogram<u64>,
) -> anyhow::Result<Take> {
    let running = binaries.start(side, stage, load.memory)?;
    let mut client = client(side, stage, data, (generator, load))?;
    let part = |share: f64, window: usize, is_mixed: bool| Plan {
        time: load.time.mul_f64(share),
        window,
        is_mixed,
        stop: load.stop,
    };
    client.load(&part(0.05, load.window, false)).context("warming up")?;
    let single = phase(&running, stage, || client.one_by_one(&part(0.25, 1, false), times))?;
    let gets = phase(&running, stage, || client.load(&part(0.35, load.window, false)))?;
    // The last, because what begins again and again leaves the kernel something to clean up for a while.
    let is_mixed = side != Side::Reflect;
    let mixed = phase(&running, stage, || client.load(&part(0.35, load.window, is_mixed)))?;
    Ok(Take { mixed, gets, single })
}

/// Connects to a side that runs, and stores the data set.
fn client<'a>(
    side: Side,
    stage: &Stage,
    data: &'a DataSet,
    (generator, load): (&'a Generator<'a>, &Load<'_>),
) -> anyhow::Result<Box<dyn Client + Send + 'a>> {
    let to = stage.address();
    let open = || -> anyhow::Result<Box<dyn Client + Send + 'a>> {
        if side == Side::Reflect {
            return Ok(Box::new(Round::new(generator, data, None)?));
        }
        fill(data, to).context("storing the data set")?;
        let sets = Sets::new(data, to)?;
        Ok(if side.is_tcp() {
            Box::new(Tcp::new(data, to, load.connections, sets)?)
        } else {
            Box::new(Round::new(generator, data, Some(sets))?)
        })
    };
    stage.at(End::Client, open)?
}

/// Loads, and looks at clocks before and after.
fn phase(
    running: &Running,
    stage: &Stage,
    load: impl FnOnce() -> anyhow::Result<Totals>,
) -> anyhow::Result<Phase> {
    let clocks = || -> anyhow::Result<[Duration; 3]> {
        let client = own_cpu_time()? + stage.client_intake()?;
        Ok([running.cpu_time()?, stage.server_intake()?, client])
    };
    let (before, begin) = (clocks()?, Instant::now());
    let totals = load()?;
    let seconds = begin.elapsed().as_secs_f64();
    let after = clocks()?;
    let mut used = after.iter().zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
    let mut next = || used.next().unwrap_or_default();
    Ok(Phase { totals, seconds, process: next(), intake: next(), client: next() })
}
