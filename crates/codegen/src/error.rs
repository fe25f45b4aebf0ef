//! Why code could not be generated.

use isa::{Insn, InsnIdx};

/// Why a verified program could not be compiled.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// There is no code generator for the machine this library was built for.
    #[error("no code generator for {arch}; the interpreter runs there")]
    UnsupportedMachine {
        /// The machine, as `std::env::consts::ARCH` names it.
        arch: &'static str,
    },
    /// The backend cannot be set up. A defect of this crate, not of the program.
    #[error("the code generator cannot be set up: {message}")]
    Setup {
        /// What the backend says.
        message: String,
    },
    /// An instruction that no engine of ours executes yet.
    #[error("instruction {at}: {insn:?} cannot be compiled")]
    UnsupportedInsn {
        /// Where.
        at: InsnIdx,
        /// The instruction.
        insn: Insn,
    },
    /// A reached instruction loads the address of a map or a variable that the program does not have.
    #[error("instruction {at}: the address of something that the program does not have")]
    BadAddress {
        /// Where.
        at: InsnIdx,
    },
    /// The facts do not say whose memory a reached instruction accesses.
    #[error("instruction {at}: verification left open whose memory is accessed")]
    UnknownMemory {
        /// Where.
        at: InsnIdx,
    },
    /// An atomic operation on memory of which nothing was proved; the verifier allows none.
    #[error("instruction {at}: an atomic operation on a kernel's memory")]
    KernelMemory {
        /// Where.
        at: InsnIdx,
    },
    /// A reached jump or call does not lead to an instruction, or to a function, of the program.
    #[error("instruction {at}: jumps or calls to where nothing reached begins")]
    BadTarget {
        /// Where.
        at: InsnIdx,
    },
    /// A limit is exceeded (see the `limits` module).
    #[error("function {subprogram} of the program has {actual} {what}, at most {limit} can be compiled")]
    TooLarge {
        /// Index into [`Program::subprograms`](bpf_object::Program::subprograms).
        subprogram: usize,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        actual: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The backend refused a function.
    #[error("function {subprogram} of the program: {message}")]
    Backend {
        /// Index into [`Program::subprograms`](bpf_object::Program::subprograms).
        subprogram: usize,
        /// What the backend says.
        message: String,
    },
    /// The machine instruction generated for an arena access has none of the forms that can be skipped when the page is
    /// missing. A defect of this crate; better no code than code that goes on wrongly.
    #[error("instruction {at}: the machine instruction at {offset:#x} of its function cannot be skipped")]
    UnskippableAccess {
        /// BPF instruction.
        at: InsnIdx,
        /// Offset of the machine instruction in its function.
        offset: u32,
    },
    /// The backend left a reference in the code that is not one to another function. A defect of this crate.
    #[error("function {subprogram} of the program: the reference at {offset:#x} cannot be resolved")]
    Unresolved {
        /// Index into [`Program::subprograms`](bpf_object::Program::subprograms).
        subprogram: usize,
        /// Offset in its function.
        offset: u32,
    },
}
