//! The operating system, as bpf-arena needs it: mappings, page faults, executable memory, clocks.
//!
//! The only crate of the project that makes system calls. Its public functions are safe: every address they accept
//! is checked, or lies by construction inside memory this crate mapped.
#![allow(unsafe_code, reason = "this is where system calls, signal handlers and shared memory are")]

mod arch;
mod arena;
pub mod bpf;
pub mod code;
mod error;
pub mod fault;
pub mod gdb;
pub mod host;
mod memory;
pub mod profile;
mod width;
pub mod window;

pub use error::{OsError, PageError, WindowError};
pub use memory::{LazyMemory, RingMapping};
pub use rustix::io::Errno;
pub use width::{AtomicOp, Missing, Width};

/// Bytes of a page; systems with other page sizes are refused.
pub const PAGE_SIZE: u64 = 4096;
