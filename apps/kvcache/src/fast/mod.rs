//! Answers by the program.

use crate::store::Store;

/// The program that answers requests out of the store's arena.
#[derive(Debug)]
pub struct FastPath;

impl FastPath {
    /// Runs the program of the user engine on a datagram (the memcached frame and what follows). Whether it answered: then
    /// `reply` is the datagram to send back.
    pub fn answer(&self, _datagram: &[u8], reply: &mut Vec<u8>) -> bool {
        reply.clear();
        false
    }

    /// How often each outcome occurred.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// How often the program came to each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets it answered.
    pub answered: u64,
    /// Keys found in packets it answered.
    pub hits: u64,
    /// Requests passed up because a key is not there, or expired.
    pub misses: u64,
    /// Packets that are no request for the store.
    pub foreign: u64,
    /// Requests of other commands, and malformed ones, passed up.
    pub other: u64,
    /// Requests passed up because the answer does not fit a packet.
    pub too_long: u64,
    /// Requests passed up because a writer was at work on an item again and again.
    pub contended: u64,
}

/// A store with the program that answers from it, opened together.
#[derive(Debug)]
pub struct Cache {
    /// The store.
    pub store: std::sync::Arc<Store>,
    /// The program's half.
    pub fast: FastPath,
}
