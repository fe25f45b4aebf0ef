//! An eBPF runtime built around the BPF arena.
//!
//! The same clang-built object runs in this process or in the kernel, behind one API: an [`Engine`] loads it and
//! gives an [`App`], whose [`Program`]s, [`Map`]s and arena can be used from any thread.

extern crate self as bpf_arena; // the derive names the crate

mod access;
mod app;
pub mod arena;
mod backend;
mod context;
mod engine;
mod enter;
pub mod error;
pub mod fault;
mod interp;
pub mod kernel;
mod map;
mod object;
mod runtime;
pub mod suite;
pub mod typed;
mod user;

pub use app::{App, Outcome, Program};
pub use context::Context;
pub use engine::Engine;
pub use error::{LoadError, MapError, RunError};
pub use fault::{Fault, Faults};
pub use map::{Map, UpdateMode};
pub use object::Object;
pub use runtime::maps::MapSet;
pub use user::{Cancel, Code, Instance, LoopLimit, Output, Remains, Stream, UserEngine};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
