//! What runs a program: the sides of the comparison.

mod kernel;
mod native;
mod user;
mod wasm;

use std::path::PathBuf;

use bpf_arena::codegen::{self, PassSet};
use clap::ValueEnum;
use serde::Serialize;

use crate::programs::{Ctx, Source};
use crate::toolchain::{self, Target};

/// A side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    /// clang -O2: what all others are compared with.
    NativeO2,
    /// clang -O3 -march=native.
    NativeO3,
    /// Our compiler, on BPF of version 3.
    JitV3,
    /// Our compiler, on BPF of version 4.
    JitV4,
    /// Our interpreter, on BPF of version 4.
    Interp,
    /// The running kernel's compiler, on BPF of version 4.
    Kernel,
    /// wasmtime with its defaults.
    Wasmtime,
    /// wasmtime with epoch interruption, which is what makes endless loops end.
    WasmtimeEpoch,
}

impl Engine {
    /// Its name, as on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is so slow that one run in a few rounds has to do.
    pub(crate) fn is_slow(self) -> bool {
        self == Self::Interp
    }

    fn target(self) -> Target {
        match self {
            Self::NativeO2 => Target::NativeO2,
            Self::NativeO3 => Target::NativeO3,
            Self::JitV3 => Target::Bpf(3),
            Self::JitV4 | Self::Interp | Self::Kernel => Target::Bpf(4),
            Self::Wasmtime | Self::WasmtimeEpoch => Target::Wasm,
        }
    }

    /// The engine as itself, with these passes if it is our compiler.
    pub(crate) fn contender(self, passes: PassSet) -> Contender {
        Contender { name: self.name(), engine: self, passes }
    }
}

impl Contender {
    /// Compiles a program for this engine and loads it.
    pub(crate) fn load(&self, source: &Source, build: &Build) -> anyhow::Result<Loaded> {
        let path = toolchain::compile(&source.path, &source.name, self.engine.target(), &build.folder)?;
        let mut options = codegen::Options::default();
        options.passes = self.passes;
        match self.engine {
            Engine::NativeO2 | Engine::NativeO3 => native::load(&path, build.mem_bytes),
            Engine::JitV3 | Engine::JitV4 => user::load(&path, Some(&options)),
            Engine::Interp => user::load(&path, None),
            Engine::Kernel => kernel::load(&path),
            Engine::Wasmtime => wasm::load(&path, build.mem_bytes, wasm::Interruption::None),
            Engine::WasmtimeEpoch => wasm::load(&path, build.mem_bytes, wasm::Interruption::Epoch),
        }
    }
}

/// Where and for what programs are compiled.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    /// Where compiled files go.
    pub(crate) folder: PathBuf,
    /// Bytes of memory of a program that has no arena to say so.
    pub(crate) mem_bytes: usize,
}

/// An engine as it takes part: our compiler may do so more than once, with different passes.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// What it is called in reports.
    pub(crate) name: String,
    /// What runs programs.
    pub(crate) engine: Engine,
    /// Passes of our compiler.
    pub(crate) passes: PassSet,
}

/// Times that a program is compiled where that is measured: the least counts.
const COMPILATIONS: usize = 5;

/// A program, ready to run.
pub(crate) trait Run {
    /// Runs it with `ctx`, whose memory address it fills in, and gives what the program answers.
    fn run(&mut self, ctx: Ctx) -> anyhow::Result<u64>;
}

/// A program in an engine.
pub(crate) struct Loaded {
    /// To run it.
    pub(crate) program: Box<dyn Run>,
    /// What its code is like.
    pub(crate) code: Code,
}

/// What a program's code is like, where the engine tells.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Code {
    /// Bytes of machine code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Instructions of BPF that were compiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bpf_insns: Option<u64>,
    /// Microseconds that compiling took: the least of a few times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compile_us: Option<f64>,
}
