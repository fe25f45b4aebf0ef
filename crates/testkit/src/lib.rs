//! Generators, oracles and file tests of bpf-arena.

pub mod calls;
pub mod contained;
pub mod differential;
pub mod filetest;
pub mod fuzz;
pub mod generate;
pub mod kernel;
pub mod library;
pub mod litmus;
pub mod log_lines;
pub mod maps;
pub mod mutate;
pub mod program;
pub mod selftests;
pub mod tables;
pub mod verdicts;
pub mod wire;
