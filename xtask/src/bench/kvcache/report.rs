//! What was measured, as a table and as JSON.

use std::fmt;

use anyhow::Context as _;
use comfy_table::Table;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::stats::Spread;
use super::measure::{Phase, Take};
use super::sides::Side;
use crate::table;

/// Shares of single GETs whose times are told, in percent.
pub(super) const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) load: Settings,
    pub(super) sides: Vec<Row>,
    /// The program by itself, as `apps/kvcache/examples/rate.rs` measures it.
    pub(super) program: serde_json::Value,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) kernel: String,
    pub(super) memcached: String,
}

/// What was asked.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) keys: u32,
    pub(super) bytes: u64,
    pub(super) window: usize,
    pub(super) connections: usize,
    pub(super) seed: u64,
}

/// One side in all rounds. CPU times and latencies in microseconds, rates in thousands a second.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) side: Side,
    pub(super) mixed_rate: Spread,
    pub(super) gets_rate: Spread,
    /// Of GETs alone: CPU time at the server's end for one, and its two parts.
    pub(super) cost: Spread,
    pub(super) cost_process: Spread,
    pub(super) cost_intake: Spread,
    /// The same when they come one by one.
    pub(super) single_cost: Spread,
    /// How busy the two processors were in the mixed load.
    pub(super) client_busy: Spread,
    pub(super) server_busy: Spread,
    /// Times of single GETs, at [`PERCENTILES`].
    pub(super) latency: [f64; PERCENTILES.len()],
    pub(super) hit_rate: f64,
    pub(super) wrong: u64,
    pub(super) lost: u64,
    pub(super) refused: u64,
    /// Round by round against memcached over UDP.
    pub(super) mixed_gain: Option<Spread>,
    pub(super) gets_gain: Option<Spread>,
    pub(super) cost_gain: Option<Spread>,
    pub(super) takes: Vec<Take>,
}

impl Row {
    /// Sums rounds up; `base` are those of memcached over UDP.
    pub(super) fn new(
        side: Side,
        takes: Vec<Take>,
        times: &Histogram<u64>,
        base: &[Take],
    ) -> anyhow::Result<Self> {
        let all = |of: &dyn Fn(&Take) -> f64| -> Vec<f64> { takes.iter().map(of).collect() };
        let spread = |of: &dyn Fn(&Take) -> f64| Spread::of(&all(of)).context("no rounds");
        let gain =
            |of: &dyn Fn(&Take) -> f64| Spread::of_ratios(&all(of), &base.iter().map(of).collect::<Vec<_>>());
        let per_get = |phase: &Phase, time: f64| time * 1e6 / phase.totals.answered().max(1) as f64;
        let phases = || takes.iter().flat_map(|take| [take.mixed, take.gets, take.single]);
        let sum = |of: &dyn Fn(&Phase) -> u64| phases().map(|phase| of(&phase)).sum::<u64>();
        let answered = sum(&|phase| phase.totals.answered());
        Ok(Self {
            side,
            mixed_rate: spread(&|take| take.mixed.rate() / 1e3)?,
            gets_rate: spread(&|take| take.gets.rate() / 1e3)?,
            cost: spread(&|take| take.gets.cost() * 1e6)?,
            cost_process: spread(&|take| per_get(&take.gets, take.gets.process))?,
            cost_intake: spread(&|take| per_get(&take.gets, take.gets.intake))?,
            single_cost: spread(&|take| take.single.cost() * 1e6)?,
            client_busy: spread(&|take| take.mixed.client / take.mixed.seconds)?,
            server_busy: spread(&|take| (take.mixed.process + take.mixed.intake) / take.mixed.seconds)?,
            latency: PERCENTILES.map(|share| times.value_at_percentile(share) as f64 / 1e3),
            hit_rate: sum(&|phase| phase.totals.hits) as f64 / answered.max(1) as f64,
            wrong: sum(&|phase| phase.totals.wrong),
            lost: sum(&|phase| phase.totals.lost),
            refused: sum(&|phase| phase.totals.refused),
            mixed_gain: gain(&|take| take.mixed.rate()),
            gets_gain: gain(&|take| take.gets.rate()),
            // Less is better: how many of ours memcached's pays for.
            cost_gain: gain(&|take| 1.0 / take.gets.cost()),
            takes,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { rounds, seconds, keys, bytes, window, .. } = &self.load;
        let mib = bytes >> 20;
        writeln!(f, "{}", self.table())?;
        writeln!(
            f,
            "{rounds} rounds of {seconds} s a side, {keys} keys, {mib} MiB, {window} requests at a time; medians"
        )?;
        writeln!(
            f,
            "x: times memcached over UDP, round by round; less: by which factor the CPU time is less than its"
        )?;
        writeln!(
            f,
            "CPU time, counted by the scheduler: of the server's process, and of the thread that takes packets in at its end, where\n\
             the program in the kernel runs; both have a processor to themselves. p50 to p99.9: one GET after the other"
        )?;
        write!(f, "client, server: how busy the two processors were with it in the mixed load")
    }
}

impl Report {
    /// The figures for people.
    fn table(&self) -> Table {
        let columns = [
            "path",
            "95/5 k/s",
            "x",
            "GET k/s",
            "x",
            "CPU us/GET",
            "process",
            "intake",
            "less",
            "p50 us",
            "p90",
            "p99",
            "p99.9",
            "hits %",
            "wrong",
            "lost",
            "client",
            "server",
        ];
        let mut table = table::table(columns, 1);
        let gain = |gain: &Option<Spread>| gain.map_or(String::new(), |gain| format!("{:.2}", gain.median));
        for row in &self.sides {
            let mut cells = vec![
                row.side.name().to_owned(),
                format!("{:.0}", row.mixed_rate.median),
                gain(&row.mixed_gain),
                format!("{:.0}", row.gets_rate.median),
                gain(&row.gets_gain),
                format!("{:.2}", row.cost.median),
                format!("{:.2}", row.cost_process.median),
                format!("{:.2}", row.cost_intake.median),
                gain(&row.cost_gain),
            ];
            cells.extend(row.latency.iter().map(|time| format!("{time:.1}")));
            cells.push(format!("{:.2}", row.hit_rate * 100.0));
            cells.extend([row.wrong + row.refused, row.lost].map(|count| count.to_string()));
            cells.extend(
                [row.client_busy, row.server_busy].map(|busy| format!("{:.0} %", busy.median * 100.0)),
            );
            table.add_row(cells);
        }
        table
    }
}
