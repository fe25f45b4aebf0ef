//! An eBPF runtime built around the BPF arena.
//!
//! The same clang-built object runs in this process or in the kernel, behind one API: an [`Engine`] loads it and
//! gives an [`App`], whose [`Program`]s, [`Map`]s and arena can be used from any thread.
//!
//! ```
//! use bpf_arena::typed::{ArenaPtr, ArenaType};
//! use bpf_arena::{Engine, Object};
//!
//! /// `struct node` of the program: loading a value of it checks it against the object's type information.
//! #[derive(ArenaType, Clone, Copy)]
//! #[repr(C)]
//! struct Node {
//!     next: ArenaPtr<Node>,
//!     value: u64,
//! }
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/linked_list.bpf.o");
//! let app = Object::open(path)?.load(Engine::user())?;
//! app.program("insert")?.run(&mut [10_u64, 3])?; // struct request { u64 value, count; }
//! let head: ArenaPtr<Node> = app.global("head")?;
//! let values: Result<Vec<u64>, _> = app.arena()?.list(head, |n| n.next).map(|n| n.map(|n| n.value)).collect();
//! assert_eq!(values?, [12, 11, 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Arenas
//!
//! [`arena`] has the memory itself, with or without a program: [creating](arena::Arena::create) it with the kernel's
//! attributes (`max_entries` pages, `map_flags`, and `map_extra`, the user address of its first page), sharing it with
//! [other processes](arena::Arena::attach), allocating pages. [`typed`] reads and writes Rust types in it, never by
//! reference: programs, threads and processes may write the same bytes at any moment.
//!
//! # The pipeline
//!
//! [`Object::load`] does everything at once. For tools, each stage is there alone, in the crates re-exported here:
//!
//! ```
//! use bpf_arena::verifier::{Env, verify};
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/linked_list.bpf.o");
//! let object = bpf_arena::bpf_object::Object::parse(&std::fs::read(path)?)?; // no system call, any machine
//! let program = object.link("walk")?; // relocated, subprograms joined
//! let verified = verify(&program, &Env::default())?; // the only way to get a `Verified`
//! let compiled = bpf_arena::codegen::compile(&verified, &Default::default())?; // the only input codegen accepts
//! assert!(!compiled.faults.is_empty(), "walking a list reads the arena");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Faults
//!
//! A load from a missing page gives 0, a store or atomic to one is dropped, and the program goes on. Each such access is
//! a [`Fault`] of the [`Outcome`], with its source line and call chain.

extern crate self as bpf_arena; // the derive names the crate

mod access;
mod app;
pub mod arena;
mod backend;
mod context;
pub mod cpu;
mod engine;
mod enter;
pub mod error;
pub mod fault;
mod features;
pub mod host;
mod interp;
pub mod kernel;
mod map;
pub mod network;
mod object;
mod packet;
mod ring;
mod runtime;
mod socket;
pub mod suite;
mod symbols;
pub mod typed;
mod user;

pub use app::{App, Outcome, Program, StructOps};
pub use context::Context;
pub use engine::Engine;
pub use error::{LoadError, MapError, RunError, StopReason, Stopped};
pub use fault::{Fault, Faults};
pub use features::{Feature, Features, features};
pub use map::{BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST, Batch, BatchCursor, BatchError, Map, UpdateMode};
pub use object::Object;
pub use packet::{PacketError, PacketOutcome, PacketRun, Redirect, RedirectTarget};
pub use ring::{RingBuffer, RingError, UserRingBuffer};
pub use runtime::maps::MapSet;
pub use socket::{Socket, SocketError, SocketRun};
pub use symbols::{DebugFileError, SymbolsError};
pub use user::{
    Cancel, Code, Instance, LoopLimit, Moment, OfferedBytes, Output, Remains, RunLimits, Stream, UserEngine,
    UserMemory,
};
pub use {bpf_object, codegen, isa, verifier};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
