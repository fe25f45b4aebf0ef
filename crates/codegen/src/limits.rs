//! Every limit of the code generator.

use crate::CompileError;
use crate::flow::Body;
use crate::machine::Effort;

/// Instruction slots of a program: the kernel's limit. The backend needs up to 2 KiB of memory for each.
pub(crate) const PROGRAM_INSNS: u64 = 1_000_000;

/// Bytes of native stack all functions of a program take together. Recursion is refused by verification, so no chain
/// of calls and callbacks takes more; a thread has 2 MiB by default.
pub(crate) const STACK_BYTES: u64 = 512 << 10;

/// A function of more instructions is compiled with [`Effort::Linear`]: the time for handing out registers well grows faster than the
/// function.
pub(crate) const FULL_EFFORT_INSNS: usize = 12_288;

/// A function of more blocks is compiled with [`Effort::Linear`]: the good register allocator takes up to a second for
/// as many blocks that jump to one another at random, and ever more for each further one.
pub(crate) const FULL_EFFORT_BLOCKS: usize = 2_048;

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

/// How much work a function of this size is worth.
pub(crate) fn effort(body: &Body) -> Effort {
    if body.steps() > FULL_EFFORT_INSNS || body.blocks.len() > FULL_EFFORT_BLOCKS {
        Effort::Linear
    } else {
        Effort::Full
    }
}
