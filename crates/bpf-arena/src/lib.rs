//! An eBPF runtime built around the BPF arena.

mod access;
pub mod arena;
mod enter;
mod interp;
pub mod kernel;
mod runtime;
pub mod typed;
