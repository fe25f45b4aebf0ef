//! Every limit of the code generator.

use crate::CompileError;

/// Instruction slots of one function: the kernel's limit for a whole program.
pub(crate) const FUNCTION_INSNS: u64 = 1_000_000;

/// Bytes of machine code of a whole program. Offsets are 32-bit and calls reach 2 GiB; a program at the kernel's
/// limit of instructions stays far below.
pub(crate) const TEXT_BYTES: u64 = 256 << 20;

/// Refuses what is over a limit.
pub(crate) fn check(
    subprogram: usize,
    what: &'static str,
    actual: u64,
    limit: u64,
) -> Result<(), CompileError> {
    if actual <= limit { Ok(()) } else { Err(CompileError::TooLarge { subprogram, what, actual, limit }) }
}
