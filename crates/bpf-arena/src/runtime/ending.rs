//! How runs are made to end early, and how often they look whether they are.
//!
//! Each run has a [`Signal`]: the word that its generated code compares its loop budgets with, and the reason for ending it. Whoever
//! wants the run to end raises it, from any thread; the runtime raises it too when a run has met an error. The program then leaves
//! every loop that it may leave on ways that were verified - `may_goto`, iterators, callbacks - and so comes to its end having
//! released what it holds, as it would have in any case.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use codegen::abi::{GO_ON, LOOPS_MASK, STOP};

/// What one run is to be told. It belongs to the memory that runs of a thread use one after the other.
#[derive(Debug)]
pub(crate) struct Signal {
    word: AtomicU64,
    /// A [`Reason`], or 0.
    reason: AtomicU8,
}

/// Why somebody else ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    Cancelled = 1,
    TimeLimit = 2,
}

impl Default for Signal {
    fn default() -> Self {
        Self { word: AtomicU64::new(GO_ON), reason: AtomicU8::new(0) }
    }
}

impl Signal {
    /// Has the run end. The first reason counts.
    pub(crate) fn raise(&self, reason: Reason) {
        let _ = self.reason.compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
        self.stop();
    }

    /// Has the run's loops end, because of an error that the run itself knows.
    pub(crate) fn stop(&self) {
        // Whoever sees the word sees the reason.
        self.word.store(STOP, Ordering::Release);
    }

    /// Whether the run is to end.
    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        self.word.load(Ordering::Relaxed) != GO_ON
    }

    /// Why somebody else ends the run, if that is so.
    pub(crate) fn reason(&self) -> Option<Reason> {
        if self.word.load(Ordering::Acquire) == GO_ON {
            return None;
        }
        match self.reason.load(Ordering::Relaxed) {
            1 => Some(Reason::Cancelled),
            2 => Some(Reason::TimeLimit),
            _ => None,
        }
    }

    /// Makes it ready for the next run, once nobody else can reach it any more.
    pub(crate) fn lower(&self) {
        self.word.store(GO_ON, Ordering::Relaxed);
        self.reason.store(0, Ordering::Relaxed);
    }

    /// The word that generated code reads: see [`VmContext::stop`](codegen::abi::VmContext::stop).
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.word
    }
}

/// Iterations that a function may do before it asks for the first time.
pub(crate) const FIRST_LOOPS: u64 = 1 << 12;

/// Fewest iterations between two questions.
const LEAST_LOOPS: u64 = 16;

/// The time there should be between two questions, in nanoseconds: long beside a question (some 50 ns), short beside anything that
/// somebody waits for.
const BETWEEN_QUESTIONS: u64 = 100_000;

/// Says after how many iterations a run is to ask again: by the time that went by since it last asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    last: u64,
    loops: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { last: 0, loops: FIRST_LOOPS }
    }
}

impl Pace {
    /// The iterations until the next question, of a run that asks now (in nanoseconds).
    pub(crate) fn next(&mut self, now: u64) -> u64 {
        if self.last != 0 {
            let passed = now.saturating_sub(self.last);
            if passed > 2 * BETWEEN_QUESTIONS {
                self.loops = (self.loops.saturating_mul(BETWEEN_QUESTIONS) / passed).max(LEAST_LOOPS);
            } else if passed < BETWEEN_QUESTIONS / 2 {
                self.loops = (self.loops * 2).min(LOOPS_MASK);
            }
        }
        self.last = now;
        self.loops
    }
}

/// What generated code is given as an answer, and comes back with: iterations in the low bits, and what the runtime wants to know the
/// next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) u64);

impl Answer {
    /// The largest number that can be kept in an answer.
    pub(crate) const MOST: u64 = u64::MAX >> Self::SHIFT;
    const SHIFT: u32 = LOOPS_MASK.count_ones();

    /// So many iterations (at most [`LOOPS_MASK`]), and what to keep (at most [`Answer::MOST`]).
    pub(crate) const fn new(loops: u64, kept: u64) -> Self {
        Self(kept << Self::SHIFT | loops & LOOPS_MASK)
    }

    /// The iterations.
    pub(crate) const fn loops(self) -> u64 {
        self.0 & LOOPS_MASK
    }

    /// What was kept.
    pub(crate) const fn kept(self) -> u64 {
        self.0 >> Self::SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let signal = Signal::default();
        assert!(!signal.is_raised());
        signal.stop();
        assert_eq!((signal.is_raised(), signal.reason()), (true, None));
        signal.raise(Reason::TimeLimit);
        signal.raise(Reason::Cancelled);
        assert_eq!(signal.reason(), Some(Reason::TimeLimit));
        signal.lower();
        assert_eq!((signal.is_raised(), signal.reason()), (false, None));
    }

    /// Nanoseconds between the questions of a loop whose iterations take so long, once it has settled.
    #[allow(clippy::cast_possible_truncation, reason = "less than a second in nanoseconds")]
    fn settled(iteration: f64) -> u64 {
        let (mut pace, mut now, mut between) = (Pace::default(), 1_000_000_000, 0);
        for _ in 0..40 {
            between = (pace.next(now) as f64 * iteration) as u64;
            now += between;
        }
        between
    }

    #[test]
    fn questions_come_about_as_often_as_they_should() {
        for iteration in [1.0, 3.0, 10.0, 100.0, 1_000.0, 10_000.0] {
            let between = settled(iteration);
            assert!((45_000..=210_000).contains(&between), "{iteration}: {between}");
        }
        // The bounds of the number of iterations.
        assert_eq!(settled(0.1), LOOPS_MASK / 10);
        assert_eq!(settled(1e6), LEAST_LOOPS * 1_000_000);
    }

    #[test]
    fn a_loop_that_becomes_slow_asks_more_often_from_the_next_question_on() {
        let mut pace = Pace::default();
        let mut now = 1;
        for _ in 0..20 {
            now += pace.next(now);
        }
        assert_eq!(pace.loops, LOOPS_MASK);
        now += 3_000 * pace.loops;
        assert!(pace.next(now) * 3_000 < 2 * BETWEEN_QUESTIONS);
    }

    #[test]
    fn answers_keep_both_parts() {
        for kept in [0, 1, Answer::MOST] {
            for loops in [1, LOOPS_MASK] {
                let answer = Answer::new(loops, kept);
                assert_eq!((answer.loops(), answer.kept()), (loops, kept));
                assert_ne!(answer.0, 0);
            }
        }
    }
}
