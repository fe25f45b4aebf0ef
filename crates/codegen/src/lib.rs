//! Machine code for verified programs.
//!
//! ```text
//! Verified -> flow::Body (blocks of operations, facts applied) -> passes (the same, better)
//!          -> x86 (machine instructions, registers, bytes), or lower (Cranelift's form) -> Cranelift
//!          -> link::Text (functions joined, fault table, lines) -> Compiled
//! ```
//!
//! The code trusts the verifier and nothing else: not the values a program reads, not the presence of arena pages.
//! It is position-independent and refers to no address of the process; see [`abi`] for how it is entered.
#![forbid(unsafe_code)]

pub mod abi;
mod analysis;
mod compile;
mod compiled;
mod error;
mod faults;
mod flow;
mod limits;
mod link;
mod listing;
mod lower;
mod machine;
mod passes;
mod reloc;
mod source;
#[cfg(test)]
mod tests;
mod unwind;
mod x86;

use source::Source;
use verifier::Verified;

pub use compiled::{AccessKind, Compiled, FaultSite, Function, Import, InlinedCall, Leaves, Line, Stub};
pub use error::CompileError;
pub use listing::MachineInsn;
pub use passes::{Changes, Pass, PassSet};
pub use unwind::{FrameChange, FrameStep};

/// How to compile.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Call the runtime for each arena access instead of relying on faults.
    pub checked_arena: bool,
    /// Call the runtime for every helper and kfunc, because the host has put a function of its own in the place of one.
    pub calls_all: bool,
    /// Use only instructions that every machine of the kind has, so that the code is the same on all of them.
    pub baseline: bool,
    /// The passes that improve the code; all of them if nothing else is said.
    pub passes: PassSet,
}

/// Compiles a verified program for the machine it runs on.
///
/// # Errors
/// The machine is not supported, the program has an instruction that no engine executes, or a limit is exceeded.
pub fn compile(verified: &Verified, options: &Options) -> Result<Compiled, CompileError> {
    compile::compile(Source::from(verified), options)
}
