//! Machine code for verified programs.
#![forbid(unsafe_code)]

pub mod abi;
mod compiled;
mod error;

use verifier::Verified;

pub use compiled::{AccessKind, Compiled, FaultSite, Function, Import, Line};
pub use error::CompileError;

/// How to compile.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Call the runtime for each arena access instead of relying on faults.
    pub checked_arena: bool,
}

/// Compiles a verified program for the machine it runs on.
///
/// # Errors
/// The machine is not supported, or a limit is exceeded.
pub fn compile(verified: &Verified, options: &Options) -> Result<Compiled, CompileError> {
    let _ = (verified, options);
    Err(CompileError::UnsupportedMachine { arch: std::env::consts::ARCH })
}
