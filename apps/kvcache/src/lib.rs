//! A memcached-compatible cache that lives in a BPF arena.

pub mod fast;
pub mod store;
