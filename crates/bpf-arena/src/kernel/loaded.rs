//! A program in the kernel.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bpf_object::{Linked, ProgType};
use sys::bpf::{BpfError, Prog, TestOutcome, TestRun};

use super::maps::KernelMap;
use crate::backend::LoadedProgram;
use crate::error::RunError;
use crate::{Outcome, PacketOutcome, PacketRun};

/// Packet of a run that was given none: the shortest that every program type takes.
const EMPTY_PACKET: [u8; 64] = [0; 64];

/// A program that the kernel's verifier accepted. Unloaded on drop, unless an [`Attachment`](super::Attachment) or
/// a map holds it.
#[derive(Debug)]
pub struct KernelProgram {
    name: String,
    kind: Option<ProgType>,
    prog: Prog,
    // The kernel holds the maps as long as the program; the mappings of arenas and data sections are ours to hold.
    _maps: Vec<Arc<KernelMap>>,
}

impl KernelProgram {
    pub(super) fn new(program: &Linked, prog: Prog, maps: Vec<Arc<KernelMap>>) -> Self {
        Self { name: program.name.clone(), kind: program.kind.prog_type, prog, _maps: maps }
    }

    /// The program's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's type.
    #[must_use]
    pub fn kind(&self) -> Option<ProgType> {
        self.kind
    }

    /// What the kernel says of it: sizes, verified instructions, run statistics.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn info(&self) -> Result<sys::bpf::ProgInfo, BpfError> {
        self.prog.info()
    }

    /// Runs it with a packet.
    ///
    /// # Errors
    /// The program's type has no test run, or an input does not fit it.
    pub fn run_packet(&self, run: &mut PacketRun<'_>) -> Result<PacketOutcome, RunError> {
        let outcome = self.test_run(&mut TestRun {
            ctx: run.ctx,
            data: run.data,
            data_out: run.data_out,
            repeat: run.repeat,
            flags: run.flags,
        })?;
        let TestOutcome { retval, duration, data_len, .. } = outcome;
        Ok(PacketOutcome { return_value: retval, duration, data_len, ..PacketOutcome::default() })
    }

    pub(super) fn prog(&self) -> &Prog {
        &self.prog
    }

    fn test_run(&self, run: &mut TestRun<'_>) -> Result<TestOutcome, RunError> {
        self.prog
            .test_run(run)
            .map_err(|error| RunError::Kernel { program: self.name.clone(), source: error })
    }

    /// Whether a test run needs a packet: programs on packets and the few others that the kernel runs on one.
    fn takes_packet(&self) -> bool {
        !matches!(
            self.kind,
            Some(ProgType::Syscall | ProgType::RawTracepoint | ProgType::Tracing | ProgType::SkLookup)
        )
    }

    fn run_times(&self, ctx: &mut [u8], repeat: u32) -> Result<TestOutcome, RunError> {
        let data: &[u8] = if self.takes_packet() { &EMPTY_PACKET } else { &[] };
        self.test_run(&mut TestRun { ctx, data, repeat, ..TestRun::default() })
    }
}

impl AsFd for KernelProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.prog.as_fd()
    }
}

impl KernelProgram {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.prog.as_fd()
    }
}

impl LoadedProgram for KernelProgram {
    fn run(&self, ctx: &mut [u8]) -> Result<Outcome, RunError> {
        let outcome = self.run_times(ctx, 1)?;
        let return_value = outcome.retval;
        Ok(Outcome { return_value, r0: return_value.into(), ..Outcome::default() })
    }

    fn repeat(&self, ctx: &mut [u8], count: u32) -> Result<Outcome, RunError> {
        if !self.takes_packet() {
            // The kernel repeats only programs on packets.
            let begin = std::time::Instant::now();
            let mut outcome = self.run(ctx)?;
            for _ in 1..count {
                outcome = self.run(ctx)?;
            }
            outcome.duration = Some(begin.elapsed());
            return Ok(outcome);
        }
        let count = count.max(1);
        let outcome = self.run_times(ctx, count)?;
        let return_value = outcome.retval;
        let duration = Some(outcome.duration.saturating_mul(count));
        Ok(Outcome { return_value, r0: return_value.into(), duration, ..Outcome::default() })
    }

    fn run_packet(&self, run: &mut PacketRun<'_>) -> Result<PacketOutcome, RunError> {
        Self::run_packet(self, run)
    }

    fn kernel(&self) -> Option<&KernelProgram> {
        Some(self)
    }
}
