//! The state of one run, as helpers and the interpreter see it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bpf_object::{MapSpec, Program};
use codegen::AccessKind;
use codegen::abi::LOOPS_PER_LOOK;
use isa::{InsnIdx, Size};

use super::ending::{Answer, FIRST_LOOPS, Pace, Reason, Signal};
use super::format::Source;
use super::held::Held;
use super::locks::Resilient;
use super::maps::UserMap;
use super::maps::ring::Reserved;
use super::maps::storage::Fleeting;
use super::owned::Owned;
use super::packets::{Packet, context};
use super::window::{self, Order, Rmw};
use super::{low32, objects};
use crate::access::{Block, Place, Regions};
use crate::cpu::CpuSlot;
use crate::enter::Entered;
use crate::error::{RunError, StopReason, Stopped, Trap, TrapKind};
use crate::fault::Frame;
use crate::interp;
use crate::packet::Redirect;
use crate::user::{Image, Loaded, LoopLimit, Trace};

/// One run of a program.
pub(crate) struct Invocation<'r> {
    /// What is run.
    pub(crate) loaded: &'r Arc<Loaded>,
    /// The program, with its maps and options.
    pub(crate) image: &'r Image,
    /// The CPU that the run has leased.
    pub(crate) cpu: CpuSlot,
    /// What the run keeps alive.
    pub(crate) held: &'r Held,
    /// What others have to say to the run.
    pub(crate) signal: &'r Signal,
    /// Its time limit.
    pub(crate) time_limit: Option<Duration>,
    /// When that is reached, in nanoseconds of the monotonic clock.
    pub(crate) deadline: u64,
    /// How often the run was asked whether it must end, if it has a time limit.
    questions: u32,
    pace: Pace,
    /// What ends more than the function that was called; compiled code is told of it by [`VmContext::leave`].
    ///
    /// [`VmContext::leave`]: codegen::abi::VmContext::leave
    pub(crate) leave: Option<Leave>,
    /// The memory that the run may touch, arena aside.
    pub(crate) regions: Regions<'r>,
    /// How callbacks are entered.
    pub(crate) executor: Executor<'r>,
    /// The loops of the function that the interpreter executes.
    pub(crate) loops: Loops,
    /// Instructions the interpreter may still execute.
    pub(crate) instructions_left: u64,
    /// Calls being executed, outermost first; kept by the interpreter.
    pub(crate) calls: Vec<InsnIdx>,
    /// The faults the interpreter and the runtime met.
    pub(crate) faults: FaultLog,
    /// The packet of a program that runs on one.
    pub(crate) packet: Option<Packet<'r>>,
    /// The context of a program that has been given one of the runtime's own.
    pub(crate) context: Option<context::Image<'r>>,
    /// Where the packet is to go.
    pub(crate) redirect: Option<Redirect>,
    /// What an iterator writes to.
    pub(crate) seq: Option<super::Seq>,
    /// The lock the program holds.
    pub(crate) lock: Option<Place<'r>>,
    /// The references it owns.
    pub(crate) owned: Owned,
    /// The resilient locks it holds.
    pub(crate) resilient: Resilient<'r>,
    /// The values of sockets that end with the run.
    pub(crate) fleeting: Fleeting<'r>,
    /// The values that belong to this run alone, by the map they stand for (`bpf_get_local_storage`).
    pub(crate) own_values: Vec<(u64, u64)>,
    /// The records of ring buffers that the program has reserved.
    pub(crate) reserved: Reserved<'r>,
    /// What iterators over bits walk through.
    pub(super) bits: super::bits::Copies,
    /// What the interpreter does, where someone wants to know.
    pub(crate) trace: Option<Trace>,
    /// Keeps objects that others drop until the run ends.
    objects: Option<objects::Guard>,
    /// Tail calls so far.
    pub(crate) tail_calls: u32,
    /// Tail calls that have not returned.
    programs: usize,
    random: Option<fastrand::Rng>,
    stop: Option<Box<RunError>>,
}

/// How far execution goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// After a tail call: the calling function returns what the other program did.
    Function,
    /// After an exception with this cookie: out of the program, through every function.
    Program(u64),
    /// The run is to end, and cannot go on to the program's end: out of the program as after an exception, without what would be
    /// done about one.
    Run,
}

/// Who executes the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Executor<'r> {
    /// The interpreter; with the `r10` of a callback.
    Interpreter {
        /// Frame pointer that a callback entered now would get.
        callback_frame: u64,
    },
    /// Machine code.
    Compiled(Entered<'r>),
}

/// Arena faults, unresolved.
#[derive(Debug, Default)]
pub(crate) struct FaultLog {
    /// The first ones.
    pub(crate) records: Vec<RawFault>,
    /// How many there were.
    pub(crate) total: u64,
}

/// An arena fault before its frames are given names.
#[derive(Debug)]
pub(crate) struct RawFault {
    /// The program that made the access.
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) kind: AccessKind,
    /// Window offset of the first byte without a page, as a signed number.
    pub(crate) at: i64,
    pub(crate) size: Size,
    /// Innermost first.
    pub(crate) chain: Vec<InsnIdx>,
    /// Faults of compiled code itself that came before: those are noted elsewhere.
    pub(crate) after: u64,
}

impl<'r> Invocation<'r> {
    /// A run that has not begun.
    pub(crate) fn new(loaded: &'r Arc<Loaded>, regions: Regions<'r>, held: &'r Held) -> Self {
        let image = &loaded.image;
        let mut run = Self {
            loaded,
            image,
            cpu: CpuSlot::default(),
            held,
            signal: &held.signal,
            time_limit: None,
            deadline: u64::MAX,
            questions: 0,
            pace: Pace::default(),
            leave: None,
            regions,
            executor: Executor::Interpreter { callback_frame: 0 },
            loops: Loops::first(image),
            instructions_left: image.options.instruction_limit.unwrap_or(u64::MAX),
            calls: Vec::new(),
            faults: FaultLog::default(),
            packet: None,
            context: None,
            redirect: None,
            seq: None,
            lock: None,
            owned: Owned::default(),
            resilient: Resilient::default(),
            own_values: Vec::new(),
            fleeting: Fleeting::default(),
            reserved: Reserved::default(),
            bits: super::bits::Copies::default(),
            trace: None,
            objects: None,
            tail_calls: 0,
            programs: 0,
            random: None,
            stop: None,
        };
        run.use_objects();
        run
    }

    /// Lets the program that is entered use allocated objects, if it uses any.
    fn use_objects(&mut self) {
        if self.image.objects.are_used()
            && let Some(heap) = objects::heap()
        {
            self.objects.get_or_insert_with(objects::pin);
            self.regions.lend_objects(heap.block());
        }
    }

    /// The same run from its beginning, once more. Random numbers go on.
    pub(crate) fn begin_again(&mut self) {
        self.loops = Loops::first(self.image);
        self.instructions_left = self.image.options.instruction_limit.unwrap_or(u64::MAX);
        self.calls.clear();
        self.tail_calls = 0;
        if self.faults.total > 0 {
            self.faults = FaultLog::default();
        }
        if let Some(guard) = &mut self.objects {
            guard.repin();
        }
    }

    /// The program.
    pub(crate) fn program(&self) -> &'r Program {
        self.image.verified.program()
    }

    /// Ends the run with this error, at the next instruction of the interpreter; compiled code runs on to its end,
    /// with every loop left. The first error counts.
    pub(crate) fn stop(&mut self, error: RunError) {
        self.stop.get_or_insert_with(|| Box::new(error));
        self.signal.stop();
    }

    /// Whether the run has been ended.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// The error that ended the run.
    pub(crate) fn take_stop(&mut self) -> Option<RunError> {
        self.stop.take().map(|error| *error)
    }

    /// Ends the run with a trap at `insn`.
    pub(crate) fn trap(&mut self, kind: TrapKind, insn: Option<InsnIdx>) {
        let (program, frames) = self.whereabouts(insn);
        self.stop(RunError::Trap(Box::new(Trap { kind, program, frames })));
    }

    /// The program's name, and the call chain as far as it is known, innermost first, of a run at `insn`.
    fn whereabouts(&self, insn: Option<InsnIdx>) -> (String, Vec<Frame>) {
        let program = self.program();
        let chain = insn.into_iter().chain(self.calls.iter().rev().copied());
        (program.name.clone(), chain.map(|at| Frame::new(program, at)).collect())
    }

    /// Releases the locks the program holds; `false` if it holds none.
    pub(crate) fn release_lock(&mut self) -> bool {
        let resilient = self.resilient.release_all();
        let lock = self.lock.take();
        if let Some(place) = lock {
            place.store(Size::W, 0, Ordering::Release);
        }
        lock.is_some() || resilient
    }

    /// Whether the run has been ended, or is to end because somebody else wants it to. Whatever may take long asks this each time
    /// round.
    #[inline]
    pub(crate) fn must_end(&mut self) -> bool {
        if self.deadline != u64::MAX {
            self.look_at_the_clock();
        }
        self.signal.is_raised() && self.end_at(None)
    }

    /// A run with a time limit does not rely on being told in time, and sometimes looks at the clock itself.
    fn look_at_the_clock(&mut self) {
        /// Questions for each look: a look takes some 20 ns.
        const QUESTIONS: u32 = 8;
        self.questions = self.questions.wrapping_add(1);
        if self.questions.is_multiple_of(QUESTIONS) && sys::host::monotonic_ns() >= self.deadline {
            self.signal.raise(Reason::TimeLimit);
        }
    }

    /// The run's CPU, unless it is to end before it gets one.
    pub(crate) fn cpu_unless_ended(&mut self) -> Option<u32> {
        let cpu = self.cpu.get_unless(|| self.signal.is_raised());
        if cpu.is_none() {
            self.must_end();
        }
        cpu
    }

    /// Ends the run if somebody else wants it to, while it is `at` this instruction.
    #[cold]
    pub(crate) fn end_at(&mut self, at: Option<InsnIdx>) -> bool {
        if self.stopped() {
            return true;
        }
        let reason = match self.signal.reason() {
            Some(Reason::Cancelled) => StopReason::Cancelled,
            Some(Reason::TimeLimit) => StopReason::TimeLimit(self.time_limit.unwrap_or_default()),
            None => return false,
        };
        let (program, frames) = self.whereabouts(at);
        self.stop(RunError::Stopped(Box::new(Stopped { reason, program, frames })));
        true
    }

    /// The answer to a `may_goto` whose budget is spent: 0 to leave the loop, or an [`Answer`], which is what the function is to ask
    /// with the next time. See [`Import::LoopBudget`](codegen::Import::LoopBudget).
    pub(crate) fn loop_budget(&mut self, state: u64, at: InsnIdx) -> u64 {
        let now = sys::host::monotonic_ns();
        if now >= self.deadline {
            self.signal.raise(Reason::TimeLimit);
        }
        if self.end_at(Some(at)) {
            return 0;
        }
        let loops = self.pace.next(now);
        let kept = Answer(state).kept();
        match self.image.options.loop_limit {
            // The time of the first question, without what does not fit.
            LoopLimit::Time(limit) => {
                let now = (now & Answer::MOST).max(1);
                if kept == 0 {
                    return Answer::new(loops, now).0;
                }
                let spent = now.wrapping_sub(kept) & Answer::MOST;
                if u128::from(spent) >= limit.as_nanos() { 0 } else { Answer::new(loops, kept).0 }
            }
            // The iterations that are left. More than fit are more than anybody waits for.
            LoopLimit::Iterations(_) => match kept {
                0 => 0,
                Answer::MOST => Answer::new(loops, kept).0,
                left => Answer::new(loops.min(left), left - loops.min(left)).0,
            },
        }
    }

    /// A pseudo-random number.
    pub(crate) fn random(&mut self) -> u32 {
        let seed = self.image.options.seed;
        self.random
            .get_or_insert_with(|| seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed))
            .u32(..)
    }

    /// Ends the run with a trap in the function that is being called.
    pub(crate) fn trap_in_call(&mut self, kind: TrapKind) {
        self.trap(kind, None);
    }

    /// Enters a callback; `None` once the run has been ended.
    pub(crate) fn call_back(&mut self, function: u64, args: [u64; 5]) -> Option<u64> {
        if self.stopped() || self.leave.is_some() {
            return None;
        }
        let result = match self.executor {
            Executor::Interpreter { callback_frame } => {
                interp::callback(self, function, args, callback_frame)
            }
            Executor::Compiled(entered) => entered.callback(self, function, args),
        };
        match result {
            Ok(value) if !self.stopped() && self.leave.is_none() => Some(value),
            Ok(_) => None,
            Err(kind) => {
                self.trap(kind, None);
                None
            }
        }
    }

    /// Runs another program with the same context, on a stack of its own.
    pub(crate) fn enter_program(&mut self, target: Arc<Loaded>, ctx: u64) -> u64 {
        let target = self.held.program(target);
        let needed = target.image.verified.ctx_bytes();
        if needed > 0 && self.regions.find(ctx, u64::from(needed), false).is_none() {
            // The caller gave no more than the first program accesses.
            self.stop(RunError::ContextTooSmall { needed, given: self.regions.ctx_bytes() });
            return 0;
        }
        let Some(stack) = self.held.stack(self.programs) else {
            self.stop(RunError::NoMemory);
            return 0;
        };
        let regions = self.regions.of_other(stack, target.image.maps.table());
        let loaded = std::mem::replace(&mut self.loaded, target);
        let image = std::mem::replace(&mut self.image, &target.image);
        let regions = std::mem::replace(&mut self.regions, regions);
        let calls = std::mem::take(&mut self.calls);
        let before = (self.loops, self.executor);
        self.loops = Loops::first(&target.image);
        self.programs += 1;
        self.use_objects();
        let result = target.enter(self, stack, ctx);
        self.programs -= 1;
        (self.loops, self.executor) = before;
        (self.loaded, self.image, self.regions, self.calls) = (loaded, image, regions, calls);
        result
    }

    /// Memory of the run, which all of the range belongs to.
    #[inline]
    pub(crate) fn memory(&self, address: u64, len: u64, write: bool) -> Result<Place<'r>, TrapKind> {
        match self.regions.find_on_stack(address, len) {
            Some(place) => Ok(place),
            None => self.memory_elsewhere(address, len, write),
        }
    }

    #[inline(never)]
    fn memory_elsewhere(&self, address: u64, len: u64, write: bool) -> Result<Place<'r>, TrapKind> {
        let of_object = || {
            let block = self.image.options.world.block(address).filter(|_| !write)?;
            let block = self.add_block(block, false);
            block.place(address.checked_sub(block.address())?, len)
        };
        let found = self.regions.find(address, len, write).or_else(of_object);
        found.ok_or(TrapKind::OutOfBounds { address, size: len, write })
    }

    /// The map that a program names by this handle, as argument number `argument` of `function`.
    #[inline]
    pub(crate) fn map(
        &self,
        function: &'static str,
        argument: u8,
        handle: u64,
    ) -> Result<&'r dyn UserMap, TrapKind> {
        let found = self.image.maps.map_of(handle).or_else(|| self.held.map_of(handle));
        found.ok_or(TrapKind::BadArgument { function, argument, value: handle })
    }

    /// The map with this index in the program, as compiled code passes it in the first argument of `function`; and what it was made
    /// from.
    #[inline]
    pub(crate) fn known_map(
        &self,
        function: &'static str,
        index: u64,
    ) -> Result<(&'r dyn UserMap, &'r MapSpec), TrapKind> {
        let found = self.image.maps.by_index(low32(index));
        found.ok_or(TrapKind::BadArgument { function, argument: 1, value: index })
    }

    /// Keeps memory alive until the run ends, and lets the program read it, and write it if `writable`.
    pub(crate) fn add_block(&self, block: Arc<Block>, writable: bool) -> &'r Block {
        self.held.block(block, writable)
    }

    /// A guarded load: 0 where there is nothing that the run may read.
    pub(crate) fn guarded_load(&self, address: u64, size: Size) -> u64 {
        let found = self.regions.find(address, u64::from(size.bytes()), false);
        match found {
            Some(place) => place.load(size, Ordering::Relaxed),
            None => self.image.options.world.load(address, size).unwrap_or(0),
        }
    }

    /// A guarded store: dropped where there is nothing that the run may write.
    pub(crate) fn guarded_store(&self, address: u64, size: Size, value: u64) {
        if let Some(place) = self.regions.find(address, u64::from(size.bytes()), true) {
            place.store(size, value, Ordering::Relaxed);
        }
    }

    /// Arena load at a window offset: 0 and a fault if the page is missing.
    pub(crate) fn arena_load(&mut self, at: i64, size: Size, order: Order, insn: InsnIdx) -> u64 {
        let value = self.image.maps.window().and_then(|w| window::load(w, at, size, order));
        value.unwrap_or_else(|| {
            self.fault(AccessKind::Load, at, size, order, insn);
            0
        })
    }

    /// Arena store at a window offset: dropped, and a fault, if the page is missing.
    pub(crate) fn arena_store(&mut self, at: i64, size: Size, value: u64, order: Order, insn: InsnIdx) {
        if self.image.maps.window().and_then(|w| window::store(w, at, size, value, order)).is_none() {
            self.fault(AccessKind::Store, at, size, order, insn);
        }
    }

    /// Arena read-modify-write at a window offset: the old value, `None` and a fault if the page is missing.
    pub(crate) fn arena_atomic(&mut self, at: i64, size: Size, operation: Rmw, insn: InsnIdx) -> Option<u64> {
        let old = self.image.maps.window().and_then(|w| window::atomic(w, at, size, operation));
        if old.is_none() {
            self.fault(AccessKind::Atomic, at, size, Order::Ordered, insn);
        }
        old
    }

    /// Where an access of which a part is missing meets nothing: what a processor reports too.
    fn first_missing(&self, at: i64, size: Size, order: Order) -> i64 {
        // That the access is not aligned matters first there, where alignment matters.
        if order == Order::Ordered && cfg!(target_arch = "aarch64") {
            return at;
        }
        let last_page = (at + i64::from(size.bytes()) - 1) & !0xfff;
        let begins_present = || {
            let window = self.image.maps.window();
            window.and_then(|w| window::load(w, at, Size::B, Order::Relaxed)).is_some()
        };
        if last_page > at && begins_present() { last_page } else { at }
    }

    /// Records an arena fault.
    fn fault(&mut self, kind: AccessKind, at: i64, size: Size, order: Order, insn: InsnIdx) {
        self.faults.total += 1;
        if self.faults.records.len() < self.image.options.fault_records {
            let chain = std::iter::once(insn).chain(self.calls.iter().rev().copied()).collect();
            let at = self.first_missing(at, size, order);
            let after = sys::fault::count_so_far();
            let loaded = Arc::clone(self.loaded);
            self.faults.records.push(RawFault { loaded, kind, at, size, chain, after });
        }
    }
}

/// How often the loops of one function may still go round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loops {
    /// Iterations until it looks whether it may go on.
    pub(crate) left: u64,
    /// What it was answered the last time, less what was used of it since.
    pub(crate) state: u64,
}

impl Loops {
    /// Of a function that begins.
    pub(crate) fn first(image: &Image) -> Self {
        match image.options.loop_limit {
            LoopLimit::Time(_) => Self::given(Answer::new(FIRST_LOOPS, 0)),
            LoopLimit::Iterations(0) => Self { left: 0, state: 0 },
            LoopLimit::Iterations(count) => {
                let loops = count.min(FIRST_LOOPS);
                Self::given(Answer::new(loops, (count - loops).min(Answer::MOST)))
            }
        }
    }

    /// Takes as many as are used between two looks, of those that there are.
    pub(crate) fn given(answer: Answer) -> Self {
        let left = answer.loops().min(LOOPS_PER_LOOK);
        Self { left, state: answer.0 - left }
    }
}

/// Memory that format strings refer to: the run's own, or the arena's by user address.
impl Source for Invocation<'_> {
    fn string(&self, address: u64, max: usize) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for offset in 0..max as u64 {
            let mut byte = [0];
            if !self.bytes(address.checked_add(offset)?, &mut byte) {
                return (offset > 0).then_some(text);
            }
            match byte {
                [0] => break,
                [other] => text.push(other),
            }
        }
        Some(text)
    }

    fn bytes(&self, address: u64, bytes: &mut [u8]) -> bool {
        match self.regions.find(address, bytes.len() as u64, false) {
            Some(place) => {
                place.read(bytes);
                true
            }
            None => {
                self.image.maps.read_arena(address, bytes) || self.image.options.world.read(address, bytes)
            }
        }
    }
}
