//! Machine code for verified programs.
#![forbid(unsafe_code)]

pub mod abi;
mod compiled;

use verifier::Verified;

pub use compiled::{AccessKind, Compiled, FaultSite, Function, Import, Line};

/// How to compile.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Call the runtime for each arena access instead of relying on faults.
    pub checked_arena: bool,
}

/// Why code could not be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("cannot compile")]
pub struct CompileError {}

/// Compiles a verified program for the machine it runs on.
///
/// # Errors
/// The machine is not supported, or a limit is exceeded.
pub fn compile(verified: &Verified, options: &Options) -> Result<Compiled, CompileError> {
    let _ = (verified, options);
    Err(CompileError {})
}
