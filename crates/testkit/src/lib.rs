//! Generators, oracles and file tests of bpf-arena.

pub mod kernel;
pub mod selftests;
