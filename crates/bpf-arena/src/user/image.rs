//! A program of this process, ready to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bpf_object::{MapType, ProgType, Program};
use isa::InsnIdx;
use sys::fault::Recorder;
use verifier::Verified;

use super::limits::RunLimits;
use super::options::Options;
use super::packet::{EMPTY_PACKET, Kind, TestRun};
use super::socket::{Layout, Stage};
use super::state::{Borrowed, RunState};
use super::trace::{Moment, Trace};
use crate::Outcome;
use crate::access::{Block, Regions};
use crate::arena::UserAddr;
use crate::backend::LoadedProgram;
use crate::enter::Machine;
use crate::error::{RunError, TrapKind};
use crate::fault::{Fault, Faults, Frame};
use crate::host::variables::Variables;
use crate::interp;
use crate::packet::{PacketOutcome, PacketRun};
use crate::runtime::hosted::Hosted;
use crate::runtime::maps::MapSet;
use crate::runtime::objects::ObjectTypes;
use crate::runtime::{FaultLog, Held, Invocation, Leave, RawFault};
use crate::socket::SocketRun;

/// Most bytes of context of a program of this type, as for `BPF_PROG_TEST_RUN`: 64 KiB, or the twelve arguments of a traced
/// function and what it returns.
fn max_ctx_bytes(program: &Program) -> u32 {
    match program.kind.prog_type {
        Some(ProgType::RawTracepoint | ProgType::RawTracepointWritable) => 12 * 8,
        Some(ProgType::Tracing | ProgType::Lsm | ProgType::StructOps) => 13 * 8,
        _ => 0xffff,
    }
}

/// Everything that runs of one program share.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) verified: Verified,
    pub(crate) maps: MapSet,
    pub(crate) options: Arc<Options>,
    pub(crate) name: Arc<str>,
    /// The functions of the host that the program calls.
    pub(crate) hosted: Hosted,
    /// The kernel's variables that it refers to.
    pub(crate) variables: Arc<Variables>,
    /// What it allocates objects of.
    pub(crate) objects: ObjectTypes,
}

/// A verified program with its maps, prepared to run: the last stage of the pipeline. Usable from any number of threads
/// at once; a run takes no lock and, unless the program or a fault asks for memory, allocates nothing.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(crate) inner: Arc<Loaded>,
    /// The limits of its runs, besides the engine's.
    limits: Option<Arc<RunLimits>>,
}

/// What is made ready before a run, with the run's memory, and looked at afterwards.
pub(super) trait Setup {
    /// Before the first round; gives the context's address. `None` if there is no memory.
    fn before(&mut self, run: &mut Invocation<'_>) -> Option<u64>;

    /// Before every round but the first. `None` if there is no memory.
    fn again(&mut self, _: &mut Invocation<'_>) -> Option<()> {
        Some(())
    }

    /// After the last round, unless the run was ended. `None` if there is no memory.
    fn after(&mut self, run: &mut Invocation<'_>) -> Option<()>;
}

/// What an instance consists of. Whatever enters the program later (timers, tail calls) refers to it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its number among the programs of this process.
    pub(crate) id: u32,
    pub(crate) image: Image,
    pub(crate) machine: Option<Arc<Machine>>,
    facts: Facts,
}

/// What each run needs to know of the program, looked up once.
#[derive(Debug)]
struct Facts {
    /// Bytes of context it accesses.
    ctx_bytes: usize,
    /// Most bytes of context it may be given.
    max_ctx_bytes: u32,
    /// Bytes of stack it uses.
    stack_bytes: u32,
    /// Whether it is machine code that accesses an arena, or may enter another program that does.
    records_faults: bool,
    /// Where its context comes from.
    surroundings: Surroundings,
}

/// Where a program's context comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surroundings {
    /// The caller's bytes are the context.
    Caller,
    /// It describes a packet.
    Packet,
    /// It is about a socket.
    Socket,
}

impl Surroundings {
    fn of(program: &Program) -> Self {
        match program.kind.prog_type {
            Some(kind) if Kind::of(kind).is_some() => Self::Packet,
            Some(kind) if Layout::of(kind).is_some() => Self::Socket,
            _ => Self::Caller,
        }
    }
}

/// What a run left behind, for tools and tests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Remains {
    /// How it ended.
    pub outcome: Outcome,
    /// The bytes of the entry function's stack frame, lowest address first. Compiled code keeps there only what it
    /// does not keep in registers.
    pub stack: Vec<u8>,
}

impl Instance {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        self.inner.image.verified.program()
    }

    /// Its maps.
    #[must_use]
    pub fn maps(&self) -> &MapSet {
        &self.inner.image.maps
    }

    /// Whether it is interpreted.
    #[must_use]
    pub fn is_interpreted(&self) -> bool {
        self.inner.machine.is_none()
    }

    /// The same program with limits for the runs that are begun with what this gives, besides the engine's limits.
    #[must_use]
    pub fn limited(&self, limits: RunLimits) -> Self {
        Self { inner: Arc::clone(&self.inner), limits: Some(Arc::new(limits)) }
    }

    /// Joins what was prepared.
    pub(super) fn new(image: Image, machine: Option<Arc<Machine>>) -> Self {
        let verified = &image.verified;
        let uses_stack = verified.frames().iter().any(|frame| frame.stack_bytes > 0);
        let tail_calls = verified.program().maps.iter().any(|map| map.map_type == MapType::ProgArray);
        let facts = Facts {
            ctx_bytes: verified.ctx_bytes() as usize,
            max_ctx_bytes: max_ctx_bytes(verified.program()),
            stack_bytes: if uses_stack { verified.stats().max_stack_bytes } else { 0 },
            records_faults: machine.is_some() && (verified.arena().is_some() || tail_calls),
            surroundings: Surroundings::of(verified.program()),
        };
        Self { inner: Arc::new(Loaded { id: next_id(), image, machine, facts }), limits: None }
    }

    /// Runs the program with this context.
    ///
    /// # Errors
    /// The context does not fit, or the run was ended.
    pub fn run(&self, ctx: &mut [u8]) -> Result<Outcome, RunError> {
        self.repeat(ctx, 1)
    }

    /// Runs the program `count` times (at least once) with the same context. What a run needs is made ready once; the
    /// outcome is that of the last run.
    ///
    /// # Errors
    /// As for [`Instance::run`]; the first error ends it.
    pub fn repeat(&self, ctx: &mut [u8], count: u32) -> Result<Outcome, RunError> {
        match self.inner.facts.surroundings {
            Surroundings::Caller => {}
            Surroundings::Packet => return self.run_empty_packet(ctx, count),
            Surroundings::Socket => {
                return self.repeat_socket(&mut SocketRun { ctx, ..SocketRun::default() }, count);
            }
        }
        self.inner.check_ctx(ctx.len())?;
        let mut borrowed = self.inner.run_state()?;
        self.execute(ctx, borrowed.get().ok_or_else(no_memory)?, None, count)
    }

    /// Bytes of context that the program accesses.
    pub(super) fn ctx_bytes(&self) -> usize {
        self.inner.facts.ctx_bytes
    }

    /// Runs the program `count` times in surroundings that are made for it.
    pub(super) fn run_prepared(&self, setup: &mut dyn Setup, count: u32) -> Result<Outcome, RunError> {
        let mut borrowed = self.inner.run_state()?;
        self.execute(&mut [], borrowed.get().ok_or_else(no_memory)?, Some(setup), count)
    }

    /// What is to be made ready for a run with this context: nothing, if it is used as it is.
    fn setup(&self, ctx: &mut [u8]) -> Result<Option<Box<dyn Setup>>, RunError> {
        match self.inner.facts.surroundings {
            Surroundings::Caller => {
                self.inner.check_ctx(ctx.len())?;
                Ok(None)
            }
            Surroundings::Packet => {
                let run = PacketRun { ctx, data: &EMPTY_PACKET, ..PacketRun::default() };
                let network = &self.inner.image.options.network;
                Ok(Some(Box::new(TestRun::new(self.program(), network, &run)?)))
            }
            Surroundings::Socket => {
                let run = SocketRun { ctx, ..SocketRun::default() };
                Ok(Some(Box::new(Stage::new(self.program(), &run)?)))
            }
        }
    }

    #[inline]
    fn execute(
        &self,
        ctx: &mut [u8],
        state: &mut RunState,
        setup: Option<&mut dyn Setup>,
        rounds: u32,
    ) -> Result<Outcome, RunError> {
        self.inner.execute(ctx, state, setup, rounds, self.limits.as_deref())
    }

    /// Programs on packets get one of zeroes where the caller has none.
    fn run_empty_packet(&self, ctx: &mut [u8], count: u32) -> Result<Outcome, RunError> {
        let data = &EMPTY_PACKET;
        let outcome = self.run_packet(&mut PacketRun { ctx, data, repeat: count, ..PacketRun::default() })?;
        let PacketOutcome { return_value, faults, duration, .. } = outcome;
        Ok(Outcome { return_value, r0: return_value.into(), faults, duration: Some(duration * count.max(1)) })
    }

    /// How often each pass changed the program, if it was compiled.
    #[must_use]
    pub fn changes(&self) -> Option<codegen::Changes> {
        self.inner.machine.as_ref().map(|machine| machine.changes())
    }

    /// Runs the program and keeps what it left on its stack.
    ///
    /// # Errors
    /// As for [`Instance::run`].
    pub fn run_and_inspect(&self, ctx: &mut [u8]) -> Result<Remains, RunError> {
        let mut setup = self.setup(ctx)?;
        let mut borrowed = self.inner.run_state()?;
        let state = borrowed.get().ok_or_else(no_memory)?;
        let outcome = match &mut setup {
            Some(setup) => self.execute(&mut [], state, Some(&mut **setup), 1),
            None => self.execute(ctx, state, None, 1),
        };
        let frame = u64::from(self.inner.image.verified.frames().first().map_or(0, |f| f.stack_bytes));
        let offset = (state.stack.len() as u64).saturating_sub(frame);
        let stack = state.stack.place(offset, frame).map_or_else(Vec::new, |place| place.to_vec());
        Ok(Remains { outcome: outcome?, stack })
    }

    /// Interprets the program, also where it was compiled, and tells the first `most` moments of the run. A run that is
    /// ended early has told what it did until then.
    ///
    /// # Errors
    /// The context does not fit.
    pub fn trace(&self, ctx: &mut [u8], most: usize) -> Result<Vec<Moment>, RunError> {
        let mut setup = self.setup(ctx)?;
        let mut borrowed = self.inner.run_state()?;
        let RunState { stack, held, .. } = borrowed.get().ok_or_else(no_memory)?;
        clear_stack(stack, self.inner.facts.stack_bytes);
        let has_ctx = !ctx.is_empty();
        let regions = Regions::new(stack, ctx, self.inner.image.maps.table(), &held.memory);
        let mut r1 = if has_ctx { regions.ctx_address() } else { 0 };
        let r10 = stack.address() + stack.len() as u64;
        let mut run = Invocation::new(&self.inner, regions, held);
        if let Some(setup) = &mut setup {
            r1 = setup.before(&mut run).ok_or_else(no_memory)?;
        }
        run.trace = Some(Trace { moments: Vec::new(), most });
        interp::run(&mut run, r1, r10);
        run.release_lock();
        Ok(run.trace.take().unwrap_or_default().moments)
    }
}

impl Loaded {
    /// The program.
    pub(crate) fn program(&self) -> &Program {
        self.image.verified.program()
    }

    fn check_ctx(&self, given: usize) -> Result<(), RunError> {
        if given < self.facts.ctx_bytes {
            return Err(RunError::ContextTooSmall { needed: self.image.verified.ctx_bytes(), given });
        }
        if given > self.facts.max_ctx_bytes as usize {
            return Err(RunError::ContextTooLarge { limit: self.facts.max_ctx_bytes, given });
        }
        Ok(())
    }

    fn run_state(&self) -> Result<Borrowed, RunError> {
        RunState::take(self.image.options.fault_records).ok_or_else(no_memory)
    }

    #[inline]
    fn execute(
        self: &Arc<Self>,
        ctx: &mut [u8],
        state: &mut RunState,
        mut setup: Option<&mut dyn Setup>,
        rounds: u32,
        limits: Option<&RunLimits>,
    ) -> Result<Outcome, RunError> {
        let RunState { stack, recorder, held, .. } = state;
        let limited = RunLimits::begin(&self.image.options.limits, limits, &held.signal);
        let has_ctx = !ctx.is_empty();
        let regions = Regions::new(stack, ctx, self.image.maps.table(), &held.memory);
        let mut r1 = if has_ctx { regions.ctx_address() } else { 0 };
        let mut run = Invocation::new(self, regions, held);
        (run.time_limit, run.deadline) = (limited.time, limited.deadline);
        if let Some(setup) = &mut setup {
            r1 = setup.before(&mut run).ok_or_else(no_memory)?;
        }
        let mut left = rounds;
        loop {
            let r0 = if run.must_end() {
                0
            } else if self.facts.records_faults {
                recorder.during(|| self.enter(&mut run, stack, r1))
            } else {
                self.enter(&mut run, stack, r1)
            };
            if run.release_lock() {
                run.trap(TrapKind::LockHeld, None);
            }
            let faulted = run.faults.total > 0 || (self.facts.records_faults && recorder.count() > 0);
            left = left.saturating_sub(1);
            // The program may have left out what it noticed by itself that it was not to do any more.
            if run.must_end() || left == 0 {
                let faults = if faulted {
                    self.take_faults(recorder, &mut run.faults, held)
                } else {
                    Faults::default()
                };
                if let Some(error) = run.take_stop() {
                    run.release_owned();
                    return Err(error);
                }
                if let Some(setup) = setup {
                    setup.after(&mut run).ok_or_else(no_memory)?;
                }
                return Ok(outcome(r0, faults));
            }
            if faulted {
                recorder.clear();
            }
            run.begin_again();
            if let Some(setup) = &mut setup {
                setup.again(&mut run).ok_or_else(no_memory)?;
            }
        }
    }

    /// Executes the program from its start on this stack; the result is its `r0`, or what becomes of its exception.
    #[inline]
    pub(crate) fn enter<'r>(&'r self, run: &mut Invocation<'r>, stack: &Block, r1: u64) -> u64 {
        clear_stack(stack, self.facts.stack_bytes);
        let r10 = stack.address() + stack.len() as u64;
        let r0 = match &self.machine {
            None => interp::run(run, r1, r10),
            Some(machine) => machine.run(run, r1, r10),
        };
        match run.leave.take() {
            Some(Leave::Program(cookie)) => self.catch(run, cookie, r10),
            _ => r0,
        }
    }

    /// What the program returns for an exception that left it.
    #[cold]
    fn catch<'r>(&'r self, run: &mut Invocation<'r>, cookie: u64, r10: u64) -> u64 {
        let Some(handler) = self.image.verified.exception_callback() else { return cookie };
        self.function(handler as usize).map_or(0, |function| {
            let result = self.enter_function(run, function, [cookie, 0, 0, 0, 0], r10);
            result.unwrap_or_else(|kind| {
                run.trap(kind, None);
                0
            })
        })
    }

    /// What the program knows one of its callbacks by.
    pub(crate) fn function(&self, subprogram: usize) -> Option<u64> {
        match &self.machine {
            Some(machine) => machine.function(subprogram),
            None => Some(interp::function(self.program().subprograms.get(subprogram)?.start)),
        }
    }

    fn enter_function<'r>(
        &'r self,
        run: &mut Invocation<'r>,
        function: u64,
        args: [u64; 5],
        r10: u64,
    ) -> Result<u64, TrapKind> {
        match &self.machine {
            None => interp::callback(run, function, args, r10),
            Some(machine) => machine.run_callback(run, function, args, r10),
        }
    }

    /// Calls a callback of the program from outside of a run: a run of its own, without context.
    ///
    /// # Errors
    /// As for [`Instance::run`].
    pub(crate) fn call_with(
        self: &Arc<Self>,
        function: u64,
        prepare: impl FnOnce(&Held) -> [u64; 5],
    ) -> Result<u64, RunError> {
        let mut borrowed = self.run_state()?;
        let RunState { stack, recorder, held, .. } = borrowed.get().ok_or_else(no_memory)?;
        let limited = RunLimits::begin(&self.image.options.limits, None, &held.signal);
        let args = prepare(held);
        let regions = Regions::new(stack, &mut [], self.image.maps.table(), &held.memory);
        let mut run = Invocation::new(self, regions, held);
        (run.time_limit, run.deadline) = (limited.time, limited.deadline);
        clear_stack(stack, self.facts.stack_bytes);
        let r10 = stack.address() + stack.len() as u64;
        if run.must_end() {
            return run.take_stop().map_or(Ok(0), Err);
        }
        let result = recorder.during(|| self.enter_function(&mut run, function, args, r10));
        recorder.clear();
        let result = result.unwrap_or_else(|kind| {
            run.trap(kind, None);
            0
        });
        if run.release_lock() {
            run.trap(TrapKind::LockHeld, None);
        }
        run.must_end();
        match run.take_stop() {
            None => Ok(result),
            Some(error) => {
                run.release_owned();
                Err(error)
            }
        }
    }

    /// The faults of a run: those of compiled code that the signal handler recorded, and between them those that the
    /// interpreter and the runtime met.
    #[cold]
    fn take_faults(self: &Arc<Self>, recorder: &mut Recorder, log: &mut FaultLog, held: &Held) -> Faults {
        let total = recorder.count() + log.total;
        let mut recorded = recorder.records().iter();
        let resolve = |record: &sys::fault::Record| {
            let owns = |loaded: &&Arc<Self>| loaded.machine.as_ref().is_some_and(|m| m.contains(record.pc));
            let owner = Some(self).filter(owns).or_else(|| held.programs().find(owns))?;
            owner.machine.as_deref().map(|machine| owner.recorded(machine, record))
        };
        let mut faults = Vec::new();
        let mut before = 0;
        for raw in log.records.drain(..) {
            let earlier = usize::try_from(raw.after.saturating_sub(before)).unwrap_or(usize::MAX);
            faults.extend(recorded.by_ref().take(earlier).filter_map(resolve));
            before = raw.after;
            faults.push(raw.loaded.met(&raw));
        }
        faults.extend(recorded.filter_map(resolve));
        faults.truncate(self.image.options.fault_records);
        recorder.clear();
        Faults::new(faults, total)
    }

    /// A fault that the interpreter or the runtime met.
    fn met(&self, raw: &RawFault) -> Fault {
        let high = self.image.maps.window().map_or(0, |w| w.user_vm_start() & !0xffff_ffff);
        Fault {
            kind: raw.kind,
            address: UserAddr::new(high.wrapping_add_signed(raw.at)),
            size: raw.size.bytes(),
            program: Arc::clone(&self.image.name),
            frames: self.frames(raw.chain.iter().copied()),
        }
    }

    /// A fault that the signal handler recorded.
    fn recorded(&self, machine: &Machine, record: &sys::fault::Record) -> Fault {
        let address = match self.image.maps.window() {
            Some(window) => window.user_address(record.address),
            None => record.address,
        };
        let site = machine.fault_site(record.tag);
        let calls = record.returns().iter().flat_map(|pc| machine.calls_at(*pc));
        let insns = site.into_iter().flat_map(|site| machine.faulting(site)).chain(calls);
        Fault {
            kind: site.map_or(codegen::AccessKind::Load, |site| site.access),
            address: UserAddr::new(address),
            size: site.map_or(0, |site| site.size.bytes()),
            program: Arc::clone(&self.image.name),
            frames: self.frames(insns),
        }
    }

    fn frames(&self, insns: impl Iterator<Item = InsnIdx>) -> Vec<Frame> {
        insns.map(|insn| Frame::new(self.program(), insn)).collect()
    }
}

fn outcome(r0: u64, faults: Faults) -> Outcome {
    #[allow(clippy::cast_possible_truncation, reason = "the return value is the low half")]
    let return_value = r0 as u32;
    Outcome { return_value, r0, faults, duration: None }
}

/// Programs have different ids as long as the process lives, unless it makes four thousand million.
fn next_id() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

#[cold]
fn no_memory() -> RunError {
    RunError::NoMemory
}

/// Zeroes as much of the stack as the deepest call chain uses, so that a program never sees what another left.
fn clear_stack(stack: &Block, bytes: u32) {
    let bytes = u64::from(bytes).min(stack.len() as u64);
    if bytes > 0
        && let Some(place) = stack.place(stack.len() as u64 - bytes, bytes)
    {
        place.clear();
    }
}

impl LoadedProgram for Instance {
    fn run(&self, ctx: &mut [u8]) -> Result<Outcome, RunError> {
        Self::run(self, ctx)
    }

    fn run_packet(&self, run: &mut PacketRun<'_>) -> Result<PacketOutcome, RunError> {
        Self::run_packet(self, run)
    }

    fn run_socket(&self, run: &mut SocketRun<'_>) -> Result<Outcome, RunError> {
        Self::run_socket(self, run)
    }

    fn repeat(&self, ctx: &mut [u8], count: u32) -> Result<Outcome, RunError> {
        let begin = std::time::Instant::now();
        let mut outcome = Self::repeat(self, ctx, count)?;
        outcome.duration = Some(begin.elapsed());
        Ok(outcome)
    }

    fn user(&self) -> Option<&Instance> {
        Some(self)
    }
}
