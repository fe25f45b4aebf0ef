//! What all workers share: the store, how the server was started, and what is counted.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::counters::{COUNT, Counter, Counters};
use crate::fast;
use crate::store::Store;

/// What `version` answers: the version of memcached whose protocol this is, and ours.
pub const VERSION: &str = concat!("1.6.18-kvcache-", env!("CARGO_PKG_VERSION"));

/// How the server was started, as `stats settings` tells.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most bytes of memory.
    pub memory: u64,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Where TCP is served, 0 for nowhere.
    pub tcp_port: u16,
    /// Where UDP is served, 0 for nowhere.
    pub udp_port: u16,
    /// The address of both.
    pub listen: String,
    /// Workers.
    pub threads: usize,
    /// Most bytes of an item, overhead included.
    pub item_size_max: usize,
    /// Seconds after which a silent connection is ended, 0 for never.
    pub idle_timeout: u64,
    /// Whether items give way to new ones when memory is full.
    pub evict: bool,
    /// The engine that runs the program.
    pub engine: &'static str,
}

/// How many connections there are and were.
#[derive(Debug, Default)]
pub struct Connections {
    /// Now.
    pub current: AtomicUsize,
    /// Ever.
    pub total: AtomicU64,
    /// Turned away because there were too many.
    pub rejected: AtomicU64,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The items.
    pub store: std::sync::Arc<Store>,
    /// The program that answers from the same memory.
    pub fast: fast::FastPath,
    /// How the server was started.
    pub settings: Settings,
    /// When it was started.
    pub started: Instant,
    /// How many connections there are.
    pub connections: Connections,
    workers: Vec<CachePadded<Counters>>,
    /// What was counted when somebody last asked to begin anew.
    baseline: Mutex<[u64; COUNT]>,
    verbosity: AtomicU32,
}

impl Shared {
    /// With counters for as many workers as the settings say.
    pub fn new(cache: fast::Cache, settings: Settings) -> Self {
        let workers = (0..settings.threads).map(|_| CachePadded::default()).collect();
        Self {
            store: cache.store,
            fast: cache.fast,
            settings,
            started: Instant::now(),
            connections: Connections::default(),
            workers,
            baseline: Mutex::new([0; COUNT]),
            verbosity: AtomicU32::new(0),
        }
    }

    /// The counters of every worker, for that worker alone to write to.
    pub fn workers(&self) -> impl Iterator<Item = &Counters> {
        self.workers.iter().map(|counters| &**counters)
    }

    /// What all workers counted since the last reset.
    pub fn total(&self, counter: Counter) -> u64 {
        let baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
        let before = baseline.get(counter as usize).copied().unwrap_or(0);
        self.sum(counter).wrapping_sub(before)
    }

    /// Begins to count anew.
    pub fn reset_counters(&self) {
        let mut baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, counter) in baseline.iter_mut().zip(Counter::ALL) {
            *place = self.sum(counter);
        }
        self.store.reset_counters();
        self.connections.total.store(0, Relaxed);
        self.connections.rejected.store(0, Relaxed);
    }

    /// How much a client asked to be logged.
    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Relaxed)
    }

    pub(super) fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level.min(MAX_VERBOSITY), Relaxed);
    }

    fn sum(&self, counter: Counter) -> u64 {
        self.workers().fold(0, |sum, counters| sum.wrapping_add(counters.get(counter)))
    }
}

const MAX_VERBOSITY: u32 = 4;
