//! A memcached-compatible cache that lives in a BPF arena.

pub mod commands;
pub mod fast;
pub mod layout;
pub mod protocol;
pub mod restart;
pub mod server;
pub mod store;
