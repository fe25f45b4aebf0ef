//! Who may end runs early, besides themselves: tokens of the host, and time limits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::{Reason, Signal};

/// A token that ends runs early, from any thread. Clones are the same token.
///
/// A run under a token that is cancelled, before it begins or while it goes on, ends with
/// [`RunError::Stopped`](crate::RunError::Stopped): it leaves its loops (`may_goto`, iterators, callbacks, tail calls) and so comes to
/// its end on ways that were verified, having released what it holds.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    /// The runs that go on.
    runs: Mutex<Vec<Arc<Signal>>>,
}

impl Cancel {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, for good: the runs that go on, and those that begin later.
    pub fn cancel(&self) {
        let runs = self.runs();
        self.shared.cancelled.store(true, Ordering::Relaxed);
        runs.iter().for_each(|signal| signal.raise(Reason::Cancelled));
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    fn runs(&self) -> MutexGuard<'_, Vec<Arc<Signal>>> {
        self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins, of which the token says whether it may go on.
    fn begin(&self, signal: &Arc<Signal>) -> UnderToken {
        let mut runs = self.runs();
        if self.is_cancelled() {
            signal.raise(Reason::Cancelled);
        }
        runs.push(Arc::clone(signal));
        UnderToken { token: self.clone(), signal: Arc::clone(signal) }
    }
}

/// When runs are to end, at the latest: see [`Program::limited`](crate::Program::limited).
#[derive(Clone, Debug, Default)]
pub struct RunLimits {
    time: Option<Duration>,
    cancel: Option<Cancel>,
}

impl RunLimits {
    /// No limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time that a run may take, from its beginning on; several rounds of a run take it together.
    #[must_use]
    pub fn time(mut self, limit: Duration) -> Self {
        self.time = Some(limit);
        self
    }

    /// Ends runs once this token is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Has a run that begins keep both its engine's limits and its own.
    pub(super) fn begin(engine: &Self, own: Option<&Self>, signal: &Arc<Signal>) -> Limited {
        let both = || [Some(engine), own].into_iter().flatten();
        let time = both().filter_map(|limits| limits.time).min();
        let deadline = time.map(|limit| {
            let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            sys::host::monotonic_ns().saturating_add(nanoseconds)
        });
        let mut cancels = both().filter_map(|limits| limits.cancel.as_ref());
        Limited {
            time,
            deadline: deadline.unwrap_or(u64::MAX),
            _cancels: [cancels.next(), cancels.next()]
                .map(|cancel| cancel.map(|cancel| cancel.begin(signal))),
            _deadline: deadline.map(|deadline| UnderDeadline::begin(deadline, signal)),
        }
    }
}

/// A run that goes on, under its limits. Once this is dropped, nobody else has the run's signal.
#[derive(Debug)]
pub(super) struct Limited {
    /// The time limit.
    pub(super) time: Option<Duration>,
    /// When it is reached, in nanoseconds of the monotonic clock.
    pub(super) deadline: u64,
    _cancels: [Option<UnderToken>; 2],
    _deadline: Option<UnderDeadline>,
}

/// A run that a token can end, until this is dropped.
#[derive(Debug)]
struct UnderToken {
    token: Cancel,
    signal: Arc<Signal>,
}

impl Drop for UnderToken {
    fn drop(&mut self) {
        let mut runs = self.token.runs();
        if let Some(at) = runs.iter().position(|known| Arc::ptr_eq(known, &self.signal)) {
            runs.swap_remove(at);
        }
    }
}

/// A run that ends at its deadline, until this is dropped.
#[derive(Debug)]
struct UnderDeadline(Due);

/// When a run is to end (nanoseconds of the monotonic clock), and a number that tells it from others.
type Due = (u64, u64);

/// The deadlines of the process, and the thread that watches them. Runs that ask for more loop iterations look at the clock
/// themselves; the thread is there for all others, and for loops that become slow.
struct Deadlines {
    state: Mutex<State>,
    sooner: Condvar,
}

struct State {
    runs: BTreeMap<Due, Arc<Signal>>,
    last: u64,
    /// When the thread looks again; 0 if there is none.
    looks_at: u64,
}

static DEADLINES: Deadlines = Deadlines {
    state: Mutex::new(State { runs: BTreeMap::new(), last: 0, looks_at: 0 }),
    sooner: Condvar::new(),
};

/// How long a thread without deadlines stays.
const IDLE: Duration = Duration::from_secs(1);

impl UnderDeadline {
    /// Has a run end at this time.
    fn begin(deadline: u64, signal: &Arc<Signal>) -> Self {
        let mut state = DEADLINES.state();
        state.last += 1;
        let due = (deadline, state.last);
        state.runs.insert(due, Arc::clone(signal));
        if state.looks_at == 0 {
            let thread = std::thread::Builder::new().name("bpf-deadlines".to_owned());
            // Without a thread the run looks at the clock itself, where it can; the next one tries again.
            state.looks_at = thread.spawn(|| DEADLINES.watch()).map_or(0, |_| deadline);
        } else if deadline < state.looks_at {
            state.looks_at = deadline;
            DEADLINES.sooner.notify_one();
        }
        Self(due)
    }
}

impl Drop for UnderDeadline {
    fn drop(&mut self) {
        DEADLINES.state().runs.remove(&self.0);
    }
}

impl Deadlines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the signals of runs whose time is over, until there have been none for a while.
    fn watch(&self) {
        sys::host::be_prompt();
        let mut state = self.state();
        loop {
            let now = sys::host::monotonic_ns();
            while let Some(first) = state.runs.first_entry().filter(|first| first.key().0 <= now) {
                first.remove().raise(Reason::TimeLimit);
            }
            let next = state.runs.first_key_value().map(|((deadline, _), _)| *deadline);
            let wait = next.map_or(IDLE, |deadline| Duration::from_nanos(deadline - now));
            state.looks_at = next.unwrap_or(u64::MAX);
            let (guard, waited) =
                self.sooner.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if next.is_none() && waited.timed_out() && state.runs.is_empty() {
                state.looks_at = 0;
                return;
            }
        }
    }
}
