//! The machines code can be generated for.

use std::sync::OnceLock;

use cranelift_codegen::isa::{OwnedTargetIsa, lookup_by_name};
use cranelift_codegen::settings::{self, Configurable, SetError};

use isa::AtomicOp;

use crate::CompileError;

/// A machine with a code generator.
///
/// What is particular to one: the backend's name, the forms of its memory instructions (`faults`), its relocations
/// (`link.rs`), how it is written (`listing.rs`), and how it orders memory (`lower/mem.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// x86-64.
    X86_64,
    /// AArch64 with the baseline instruction set, and what is said here.
    Aarch64 {
        /// Whether it has the Large System Extensions (Armv8.1): atomic operations that are one instruction. Others need a
        /// loop of an exclusive load and store, which cannot be skipped when a page is missing.
        lse: bool,
    },
}

impl Machine {
    /// The machine this library runs on, or what every machine of its kind has.
    pub(crate) fn host(baseline: bool) -> Result<Self, CompileError> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64 { lse: !baseline && has_lse() }),
            arch => Err(CompileError::UnsupportedMachine { arch }),
        }
    }

    /// The backend for this machine, with what the one has that this runs on, or for every machine of the kind. It is made
    /// once: that takes as long as compiling ten instructions or more.
    pub(crate) fn backend(self, effort: Effort, baseline: bool) -> Result<OwnedTargetIsa, CompileError> {
        static MADE: [OnceLock<OwnedTargetIsa>; 4] = [const { OnceLock::new() }; 4];
        let choice = match (effort, baseline) {
            (Effort::Full, false) => 0,
            (Effort::Full, true) => 1,
            (Effort::Linear, false) => 2,
            (Effort::Linear, true) => 3,
        };
        let Some(made) = MADE.get(choice) else { return self.make_backend(effort, baseline) };
        match made.get() {
            Some(backend) => Ok(OwnedTargetIsa::clone(backend)),
            None => {
                let backend = self.make_backend(effort, baseline)?;
                Ok(OwnedTargetIsa::clone(made.get_or_init(|| backend)))
            }
        }
    }

    fn make_backend(self, effort: Effort, baseline: bool) -> Result<OwnedTargetIsa, CompileError> {
        let setup = |message: String| CompileError::Setup { message };
        let flags = flags(effort).map_err(|e| setup(e.to_string()))?;
        let name = match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 { .. } => "aarch64-unknown-linux-gnu",
        };
        let mut builder = lookup_by_name(name).map_err(|e| setup(e.to_string()))?;
        if self == (Self::Aarch64 { lse: true }) {
            builder.enable("has_lse").map_err(|e| setup(e.to_string()))?;
        }
        let extensions = if baseline { Vec::new() } else { bit_instructions() };
        for feature in extensions {
            builder.enable(feature).map_err(|e| setup(e.to_string()))?;
        }
        builder.finish(flags).map_err(|e| setup(e.to_string()))
    }

    /// Whether an atomic operation, with or without its result, can be skipped when a page is missing.
    pub(crate) fn can_skip(self, op: AtomicOp, has_result: bool) -> bool {
        match self {
            Self::X86_64 => !(has_result && matches!(op, AtomicOp::Or | AtomicOp::And | AtomicOp::Xor)),
            // `ldclral` does its and with the inverted operand; the operand itself is then nowhere.
            Self::Aarch64 { .. } => !(self.is_exclusive(op) || has_result && op == AtomicOp::And),
        }
    }

    /// Whether an atomic operation is a loop of an exclusive load and store. (The backend does not know `swpal`.)
    pub(crate) fn is_exclusive(self, op: AtomicOp) -> bool {
        match self {
            Self::X86_64 => false,
            Self::Aarch64 { lse } => !lse || op == AtomicOp::Xchg,
        }
    }

    /// What fills the gaps between functions: `int3` or `udf #0`, which trap.
    pub(crate) fn padding(self) -> u8 {
        match self {
            Self::X86_64 => 0xcc,
            Self::Aarch64 { .. } => 0,
        }
    }
}

/// The extensions of x86-64 for work on bits that this machine has: shifts by any register, rotations into another one, counts.
#[cfg(target_arch = "x86_64")]
fn bit_instructions() -> Vec<&'static str> {
    let extensions = [
        ("has_bmi1", std::arch::is_x86_feature_detected!("bmi1")),
        ("has_bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("has_lzcnt", std::arch::is_x86_feature_detected!("lzcnt")),
        ("has_popcnt", std::arch::is_x86_feature_detected!("popcnt")),
    ];
    extensions.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn bit_instructions() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(target_arch = "aarch64")]
fn has_lse() -> bool {
    std::arch::is_aarch64_feature_detected!("lse")
}

#[cfg(not(target_arch = "aarch64"))]
fn has_lse() -> bool {
    false
}

/// What the backend takes its time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Good code. The time may grow faster than the function.
    Full,
    /// Code in time and memory proportional to the size of the function: BPF registers are in memory between blocks, machine
    /// registers are handed out in one pass, and nothing is optimised. An instruction takes half the time or less.
    Linear,
}

/// Settings of the backend.
fn flags(effort: Effort) -> Result<settings::Flags, SetError> {
    let mut flags = settings::builder();
    let (registers, level) = match effort {
        Effort::Full => ("backtracking", "speed"),
        Effort::Linear => ("single_pass", "none"),
    };
    flags.set("regalloc_algorithm", registers)?;
    flags.set("opt_level", level)?;
    // The chain of frames is what a fault report's call chain is read from.
    flags.set("preserve_frame_pointers", "true")?;
    // The text is position-independent all the same: functions of one program refer to each other by distance.
    // With `is_pic` the backend would go through a table of addresses instead, which there is none of.
    flags.set("is_pic", "false")?;
    // How functions build their frames is told to debuggers; it makes no difference to the code.
    flags.set("unwind_info", "true")?;
    // A frame of more than a page must not reach past the guard page of the thread's stack.
    flags.set("enable_probestack", "true")?;
    flags.set("probestack_strategy", "inline")?;
    flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    Ok(settings::Flags::new(flags))
}
