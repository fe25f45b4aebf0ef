//! The load: requests over UDP or TCP, as many at a time as a window allows, or one after the other.
//!
//! GETs of the mixed load go where they are measured, its SETs over a TCP connection of their own. Requests stand ready before
//! anything is measured; nothing is allocated for one.

mod circle;
mod sets;
mod tcp;
mod udp;

use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::data::Verdict;

pub(super) use circle::{Generator, Round, TICKETS};
pub(super) use sets::{Sets, fill};
pub(super) use tcp::Tcp;

/// An answer that does not come for so long does not come.
const PATIENCE: Duration = Duration::from_millis(100);

/// GETs to one SET, of the mixed load: 95 percent.
const GETS_TO_SET: u64 = 19;

/// What to ask for, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) time: Duration,
    /// Requests that wait for answers at a time.
    pub(super) window: usize,
    /// Whether to store, too.
    pub(super) is_mixed: bool,
    /// Set when the user has had enough.
    pub(super) stop: &'a AtomicBool,
}

impl Plan<'_> {
    fn end(&self) -> Instant {
        Instant::now() + self.time
    }

    /// The time, unless it is over; an error if the user says so.
    fn now(&self, end: Instant) -> anyhow::Result<Option<Instant>> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        Ok(Some(Instant::now()).filter(|now| *now < end))
    }
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Answers that are not the key's value.
    pub(super) wrong: u64,
    /// Requests without answer.
    pub(super) lost: u64,
    pub(super) stored: u64,
    /// SETs that were answered otherwise.
    pub(super) refused: u64,
}

impl Totals {
    /// GETs that were answered.
    pub(super) fn answered(&self) -> u64 {
        self.hits + self.misses + self.wrong
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Hit => self.hits += 1,
            Verdict::Miss => self.misses += 1,
            Verdict::Wrong | Verdict::Incomplete => self.wrong += 1,
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.hits += more.hits;
        self.misses += more.misses;
        self.wrong += more.wrong;
        self.lost += more.lost;
        self.stored += more.stored;
        self.refused += more.refused;
    }
}

/// Who asks, by one protocol or the other.
pub(super) trait Client {
    /// Asks for as much as is answered.
    fn load(&mut self, plan: &Plan<'_>) -> anyhow::Result<Totals>;

    /// Asks for one key after the other, each when the last is answered, and takes the nanoseconds of each.
    fn one_by_one(&mut self, plan: &Plan<'_>, times: &mut Histogram<u64>) -> anyhow::Result<Totals>;
}
