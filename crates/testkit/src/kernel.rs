//! The running kernel as an oracle: a stream of instructions goes in, verdict, return value and memory come out.
//!
//! For linked objects with maps, globals and kfuncs use the kernel engine; this is the short way for generated code.

use std::os::fd::{AsFd, BorrowedFd};

use isa::{Code, EncodeError, Endian, InsnIdx};
use sys::bpf::{
    BpfError, Capability, CapabilitySet, Errno, LogMode, MAP_TYPE_ARENA, Map, MapMemory, MapOptions, Prog,
    ProgSpec, TestRun, VerifierLog,
};

const BPF_PROG_TYPE_SYSCALL: u32 = 31;
const BPF_F_SLEEPABLE: u32 = 1 << 4;
const BPF_F_MMAPABLE: u32 = 1 << 10;
/// The log has every instruction (`BPF_LOG_LEVEL2`).
const LOG_INSTRUCTIONS: u32 = 2;

/// Why the oracle has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OracleError {
    /// An instruction has no encoding.
    #[error("instruction {0}: {1}")]
    Encode(InsnIdx, EncodeError),
    /// The kernel refused something; for a program, with the verifier's log.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The arena could not be mapped.
    #[error("mmap of the arena: {0}")]
    Map(Errno),
}

/// The first capability that is missing to use the oracle; `None` if it can be used.
#[must_use]
pub fn missing_capability() -> Option<Capability> {
    CapabilitySet::effective().first_missing(&[Capability::Bpf, Capability::Perfmon])
}

/// An arena in the kernel, mapped here.
#[derive(Debug)]
pub struct KernelArena {
    // The mapping goes first: an arena outlives its last mapping only as long as a program holds it.
    memory: MapMemory,
    map: Map,
}

impl KernelArena {
    /// Creates an arena of so many pages at `map_extra` (not 0), with `flags` beside `BPF_F_MMAPABLE`. All its pages
    /// are missing.
    ///
    /// # Errors
    /// The kernel refuses it, or the address range is in use.
    pub fn new(pages: u32, map_extra: u64, flags: u32) -> Result<Self, OracleError> {
        let map = Map::create(&MapOptions {
            name: "oracle_arena",
            map_type: MAP_TYPE_ARENA,
            max_entries: pages,
            flags: BPF_F_MMAPABLE | flags,
            extra: map_extra,
            ..MapOptions::default()
        })?;
        let memory = map.mmap().map_err(OracleError::Map)?;
        Ok(Self { memory, map })
    }

    /// The map's descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Reads bytes at an offset from the arena's start; `false` outside of it. Without `BPF_F_SEGV_ON_FAULT` this makes
    /// a missing page present; with it, it kills the process: read only pages that were written.
    #[must_use]
    pub fn read(&self, offset: usize, out: &mut [u8]) -> bool {
        self.memory.read(offset, out)
    }

    /// Writes bytes at an offset from the arena's start, making the page present; `false` outside of it.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        self.memory.write(offset, bytes)
    }
}

/// What a program is run with.
#[derive(Debug, Default)]
pub struct Setup<'a> {
    /// The program's arena: map index 0 ([`isa::Imm64::MapIdx`]). A program is given it as its arena by naming it once.
    pub arena: Option<&'a KernelArena>,
    /// Context of the `syscall` program, in and out.
    pub ctx: &'a mut [u8],
}

/// A program in the kernel, accepted by its verifier.
#[derive(Debug)]
pub struct KernelProgram {
    prog: Prog,
}

impl KernelProgram {
    /// Loads instructions as a `SEC("syscall")` program.
    ///
    /// # Errors
    /// The verifier's refusal, with its log.
    pub fn load(code: &Code, arena: Option<&KernelArena>) -> Result<Self, OracleError> {
        let (prog, _) = Self::load_with(code, arena, LogMode::OnRejection)?;
        Ok(Self { prog })
    }

    /// What the verifier writes of instructions that it accepts: each as text, in the order of the walk, with what it
    /// knows then.
    ///
    /// # Errors
    /// As for [`KernelProgram::load`].
    pub fn log(code: &Code, arena: Option<&KernelArena>) -> Result<String, OracleError> {
        let (_, log) = Self::load_with(code, arena, LogMode::Always(LOG_INSTRUCTIONS))?;
        Ok(log.text().to_owned())
    }

    fn load_with(
        code: &Code,
        arena: Option<&KernelArena>,
        log: LogMode,
    ) -> Result<(Prog, VerifierLog), OracleError> {
        let insns =
            code.encode(Endian::Little).map_err(|error| OracleError::Encode(error.at, error.source))?;
        let fds: Vec<_> = arena.iter().map(|a| a.map.as_fd()).collect();
        Ok(Prog::load(&ProgSpec {
            name: "oracle",
            prog_type: BPF_PROG_TYPE_SYSCALL,
            insns: &insns,
            license: "GPL",
            flags: BPF_F_SLEEPABLE,
            fd_array: &fds,
            log,
            ..ProgSpec::default()
        })?)
    }

    /// Runs it and gives the low half of `r0`.
    ///
    /// # Errors
    /// The kernel refuses to run it: the context is shorter than what the program accesses (EINVAL).
    pub fn run(&self, ctx: &mut [u8]) -> Result<u32, OracleError> {
        Ok(self.prog.test_run(&mut TestRun { ctx, ..TestRun::default() })?.retval)
    }
}

/// Loads and runs in one go; gives the low half of `r0`.
///
/// # Errors
/// As for [`KernelProgram::load`] and [`KernelProgram::run`].
pub fn run(code: &Code, setup: Setup<'_>) -> Result<u32, OracleError> {
    KernelProgram::load(code, setup.arena)?.run(setup.ctx)
}
