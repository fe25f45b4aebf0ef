//! What a worker counts. Each has counters of its own that it alone writes, so that counting costs no shared line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All there are.
            pub const ALL: [Self; COUNT] = [$(Self::$name),*];
        }

        pub(super) const COUNT: usize = [$(Counter::$name),*].len();
    };
}

counters! {
    /// Keys asked for.
    GetCommands
    /// Keys found by the server itself.
    GetHits
    /// Keys not found.
    GetMisses
    /// Values stored or refused.
    SetCommands
    /// `flush_all`.
    FlushCommands
    /// Touches.
    TouchCommands
    /// Keys touched.
    TouchHits
    /// Keys not found by touch.
    TouchMisses
    /// Meta commands without a counter of their own.
    MetaCommands
    /// Keys deleted.
    DeleteHits
    /// Keys not found by delete.
    DeleteMisses
    /// Counters increased.
    IncrHits
    /// Counters not found.
    IncrMisses
    /// Counters decreased.
    DecrHits
    /// Counters not found.
    DecrMisses
    /// Values replaced, whose version was the expected one.
    CasHits
    /// Values not found by `cas`.
    CasMisses
    /// Values with another version.
    CasBadValue
    /// Values too large to be stored.
    StoreTooLarge
    /// Values there was no memory for.
    StoreNoMemory
    /// Bytes from clients.
    BytesRead
    /// Bytes to clients.
    BytesWritten
    /// Datagrams received.
    Datagrams
    /// Datagrams that the program answered in the server's process.
    DatagramsByProgram
    /// Connections ended because nothing came.
    IdleKicks
    /// Times that a connection had to wait for others.
    Yields
}

/// A worker's counters.
#[derive(Debug)]
pub struct Counters([AtomicU64; COUNT]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; COUNT])
    }
}

impl Counters {
    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `by`.
    pub fn add(&self, counter: Counter, by: u64) {
        if let Some(cell) = self.0.get(counter as usize) {
            // One thread writes.
            cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
        }
    }

    /// What was counted so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).map_or(0, |cell| cell.load(Relaxed))
    }
}
