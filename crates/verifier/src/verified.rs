//! The proof object: a program together with what verification learned about it.

use std::sync::Arc;

use bpf_object::Program;
use isa::InsnIdx;

use crate::plan::fields::Fields;

/// A program that passed verification, with the facts code generation needs.
///
/// Only [`verify`](crate::verify) makes one. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) program: Program,
    pub(crate) facts: Vec<InsnFacts>,
    pub(crate) frames: Vec<FrameFacts>,
    pub(crate) fields: Fields,
    pub(crate) arena: Option<u32>,
    pub(crate) exception_callback: Option<u32>,
    pub(crate) ctx_bytes: u32,
    pub(crate) map_bytes: u32,
    /// Bytes of the kernel's variables, by extern.
    pub(crate) variables: Vec<u32>,
    pub(crate) stats: Stats,
}

impl Verified {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.inner.program
    }

    /// What is known of the instruction at `at`; the default (unreached) past the end.
    #[must_use]
    pub fn facts(&self, at: InsnIdx) -> InsnFacts {
        self.inner.facts.get(at.index()).copied().unwrap_or_default()
    }

    /// What is known of each subprogram, in the order of [`Program::subprograms`].
    #[must_use]
    pub fn frames(&self) -> &[FrameFacts] {
        &self.inner.frames
    }

    /// The special fields of map values, by the order of [`Program::maps`], and of the structs that the program may allocate.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.inner.fields
    }

    /// The subprogram that is called with the cookie of an exception that left the program; without one the cookie is the result.
    #[must_use]
    pub fn exception_callback(&self) -> Option<u32> {
        self.inner.exception_callback
    }

    /// Index (in [`Program::maps`]) of the one arena the program uses.
    #[must_use]
    pub fn arena(&self) -> Option<u32> {
        self.inner.arena
    }

    /// Bytes of context that a run must provide: the end of the furthest access to it (`max_ctx_offset`).
    #[must_use]
    pub fn ctx_bytes(&self) -> u32 {
        self.inner.ctx_bytes
    }

    /// Bytes that must be readable wherever a pointer to a map points: the end of the last member read of any
    /// [`MapStruct`](crate::MapStruct).
    #[must_use]
    pub fn map_bytes(&self) -> u32 {
        self.inner.map_bytes
    }

    /// Bytes that must be readable at the address of the extern with this index, if it is a variable that is no structure.
    #[must_use]
    pub fn variable_bytes(&self, external: usize) -> u32 {
        self.inner.variables.get(external).copied().unwrap_or(0)
    }

    /// What verification cost.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats
    }
}

/// Facts about one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InsnFacts {
    /// Whether any explored path reaches it. Unreached instructions need no code (but must not fall into others:
    /// generate a trap).
    pub reached: bool,
    /// For an instruction that accesses memory: whose memory. The same on every path, or the program is rejected.
    pub memory: Option<Memory>,
    /// 64-bit arithmetic on an arena pointer, to be done in 32 bits with the result zero-extended, as the kernel does.
    pub narrow: bool,
    /// A load of 4 bytes of context that gives a pointer to (or behind) a packet: the context has no room for all of it.
    pub context_pointer: bool,
    /// For a call of a helper: the map (by index in [`Program::maps`]) that it is given, if that is the same on every path.
    pub map: Option<u32>,
}

/// Whose memory an instruction accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Memory {
    /// Arena memory: the address is `window base + u32(register) + offset`, the page may be missing.
    Arena,
    /// Memory of the runtime (stack, context, map values and maps, packets, sockets in their public form, objects the program
    /// allocated): the register holds a real address, and the access was proved to be in bounds.
    Proven,
    /// A kernel's own structures, and what may be gone: nothing was proved of the address. Loads are guarded: where there is nothing,
    /// they give 0.
    Kernel,
}

/// Facts about one subprogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameFacts {
    /// Bytes of stack below `R10` the function uses, rounded up to a multiple of 16 (at most 512).
    pub stack_bytes: u16,
    /// Bytes of stack below `R10` that it accesses, in whole slots.
    pub stack_depth: u16,
    /// The slots of 8 bytes below `R10` that something else reaches than loads and stores through `R10` itself (a pointer into the
    /// stack, a function that is given one): bit 0 is the slot at -8, bit 63 that at -512.
    pub addressed: u64,
    /// Whether some call or callback reaches it.
    pub reached: bool,
    /// Whether it is entered as a callback of a helper (its address is taken by a reached `LoadImm64`).
    pub callback: bool,
    /// Whether it is called later, on a stack of its own.
    pub later: bool,
}

/// What verification cost, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Instructions walked (`processed N insns`).
    pub insns_walked: u64,
    /// Most states that were compared at one instruction.
    pub max_states_per_insn: u64,
    /// States saved.
    pub total_states: u64,
    /// Most states held at once.
    pub peak_states: u64,
    /// Most bytes taken at once by states and by what is kept of where their values come from.
    pub peak_bytes: usize,
    /// Deepest call chain of stack bytes.
    pub max_stack_bytes: u32,
}
