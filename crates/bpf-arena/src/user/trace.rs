//! What the interpreter does, moment by moment: for tools and tests that compare it with something else.

use isa::{InsnIdx, Reg};

/// The machine in front of one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// The instruction.
    pub at: InsnIdx,
    /// How many functions and helpers wait for a call to return; 0 in the entry function.
    pub depth: usize,
    /// The registers, `r0` first.
    pub registers: [u64; 11],
    /// The bytes of the current function's stack frame, lowest address first; they end at `r10`.
    pub stack: Vec<u8>,
}

impl Moment {
    /// A register.
    #[must_use]
    pub fn register(&self, reg: Reg) -> u64 {
        self.registers.get(reg.index()).copied().unwrap_or(0)
    }
}

/// The moments of a run, the first ones.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) moments: Vec<Moment>,
    /// How many are kept.
    pub(crate) most: usize,
}
