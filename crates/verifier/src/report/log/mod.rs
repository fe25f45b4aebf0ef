//! The log in the kernel's form: the events of a verification as the text that `bpf(BPF_PROG_LOAD)` leaves in its log
//! buffer.
//!
//! What is printed when follows from the level, as there: every path with [`LogLevel::PATHS`], with [`LogLevel::PATH`]
//! only the one that led to the fault, at any level the final message and a line of statistics. The lines that tell how
//! the kernel searches backwards for what made a number (`mark_precise: ..`) have no counterpart: here that is known
//! without a search.

mod live;
mod preface;
mod touched;
mod value;

use std::fmt::Write;
use std::time::Duration;

use bpf_object::{LineInfo, Program};
use isa::{CallTarget, Insn, InsnIdx};

use crate::limits::MAX_WALKED;
use crate::report::events::{Detail, Event, Observer};
use crate::report::view::{FrameView, StateView};
use crate::{Env, Reason, Rejection, Stats, Verified};
use touched::Touched;
use value::{FrameText, Names};

/// The number of the helper `bpf_loop`.
const BPF_LOOP: u32 = 181;

/// What the log tells, in the bits of the kernel's `log_level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLevel(u32);

impl LogLevel {
    /// `BPF_LOG_LEVEL1`: instructions and states of the path that led to the fault.
    pub const PATH: Self = Self(1);
    /// `BPF_LOG_LEVEL2`: instructions and states of every path.
    pub const PATHS: Self = Self(2);
    /// `BPF_LOG_STATS`: time and depth of stack.
    pub const STATS: Self = Self(4);

    /// From the number that `bpf(BPF_PROG_LOAD)` takes; `None` if the kernel would refuse it.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits <= 7).then_some(Self(bits))
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn walks(self) -> bool {
        self.has(Self(Self::PATH.0 | Self::PATHS.0))
    }
}

/// Writes the log while it observes a verification.
#[derive(Debug)]
pub struct KernelLog<'a> {
    program: &'a Program,
    names: Names<'a>,
    level: LogLevel,
    text: String,
    /// What the last instruction worked on.
    touched: Touched,
    /// The source line printed last.
    line: Option<&'a LineInfo>,
    /// The end of the text just after the instruction printed last, and the length of its line.
    insn: (usize, usize),
    /// The instruction walked last on this path.
    last: InsnIdx,
    /// The path did not come here from the instruction before: the whole state is printed.
    elsewhere: bool,
    /// The instruction walked last called back.
    called_back: bool,
    /// The fault has been told in full.
    told: bool,
    /// Bytes of stack of each function.
    depths: Vec<u16>,
    /// For each waiting path, where the text was when it was put aside.
    waiting: Vec<usize>,
}

impl<'a> KernelLog<'a> {
    /// An empty log of the verification of `program` against `env`.
    #[must_use]
    pub fn new(program: &'a Program, env: &'a Env, level: LogLevel) -> Self {
        Self {
            program,
            names: Names { program, kernel: env.types() },
            level,
            text: String::new(),
            touched: Touched::default(),
            line: None,
            insn: (0, 0),
            last: InsnIdx(0),
            elsewhere: false,
            called_back: false,
            told: false,
            depths: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The whole text, once the verdict is known; `elapsed` is what is told of the time.
    #[must_use]
    pub fn finish(mut self, verdict: &Result<Verified, Rejection>, elapsed: Duration) -> String {
        if self.level == LogLevel::default() {
            return self.text;
        }
        let stats = match verdict {
            Ok(verified) => verified.stats(),
            Err(rejection) => {
                if !std::mem::replace(&mut self.told, true) {
                    self.fault(rejection.reason());
                }
                rejection.stats()
            }
        };
        self.statistics(&stats, elapsed);
        self.text
    }

    fn statistics(&mut self, stats: &Stats, elapsed: Duration) {
        if self.level.has(LogLevel::STATS) {
            self.print(format_args!("verification time {} usec\nstack depth ", elapsed.as_micros()));
            let depth = |i| self.depths.get(i).copied().unwrap_or(0);
            let depths: Vec<String> =
                (0..self.program.subprograms.len()).map(|i| depth(i).to_string()).collect();
            self.print(format_args!("{}\n", depths.join("+")));
        }
        self.print(format_args!(
            "processed {} insns (limit {MAX_WALKED}) max_states_per_insn {} total_states {} peak_states {} mark_read 0\n",
            stats.insns_walked, stats.max_states_per_insn, stats.total_states, stats.peak_states
        ));
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(text);
    }

    /// The header of the log of all paths: functions, and registers that matter.
    fn plan(&mut self, plan: &crate::report::view::PlanView<'_>) {
        if self.level.has(LogLevel::PATHS) {
            for (i, subprog) in self.program.subprograms.iter().enumerate() {
                self.print(format_args!("func#{i} @{}\n", subprog.start));
            }
            let names = self.names;
            self.print(format_args!("{}", live::Table { plan, names: &names }));
        }
        if let Some(remark) = plan.entry_remark() {
            self.print(format_args!("{remark}\n"));
        }
    }

    fn function(&mut self, subprog: u32) {
        self.touched = Touched::all();
        (self.elsewhere, self.last) = (false, InsnIdx(u32::MAX));
        if subprog > 0 {
            let name = self.names.function(subprog);
            self.print(format_args!("Validating {name}() func#{subprog}...\n"));
        }
    }

    fn instruction(&mut self, at: InsnIdx, state: StateView<'_>) {
        self.settle(state);
        if self.elsewhere && self.level.has(LogLevel::PATHS) {
            let last = self.last;
            self.print(format_args!("\nfrom {last} to {at}:"));
            self.everything(state.frame(), state);
            self.elsewhere = false;
        }
        if self.touched.any() {
            self.changes(at, state);
        }
        self.source(at);
        let start = self.text.len();
        let Some(insn) = self.program.code.get(at) else { return };
        let (names, opcode) = (self.names, insn.form().map_or(0, |form| form.opcode));
        self.print(format_args!("{at}: ({opcode:02x}) {}\n", insn.text(at, &names)));
        self.insn = (self.text.len(), self.text.len() - start);
        self.last = at;
        self.touched.by(&insn, state);
    }

    /// What the last instruction changed: behind it, if nothing came between.
    fn changes(&mut self, at: InsnIdx, state: StateView<'_>) {
        let (end, width) = self.insn;
        if end > 0 && end == self.text.len() {
            self.text.truncate(end - 1);
            let gap = (width + 4).max(40).next_multiple_of(8).saturating_sub(width + 1);
            self.print(format_args!("{:gap$};", ""));
        } else {
            self.print(format_args!("{at}:"));
        }
        let Some(frame) = state.frame() else { return };
        let (only, names) = (Some(self.touched.clone()), self.names);
        self.print(format_args!("{}\n", FrameText { frame, state, only, names: &names }));
        self.touched.clear();
    }

    fn everything(&mut self, frame: Option<FrameView<'_>>, state: StateView<'_>) {
        let Some(frame) = frame else { return };
        let names = self.names;
        self.print(format_args!("{}\n", FrameText { frame, state, only: None, names: &names }));
    }

    fn source(&mut self, at: InsnIdx) {
        let after = self.program.lines.partition_point(|line| line.insn <= at);
        let Some(line) = after.checked_sub(1).and_then(|i| self.program.lines.get(i)) else { return };
        if self.line.is_some_and(|last| (last.line, &last.file) == (line.line, &line.file)) {
            return;
        }
        let file = line.file.rsplit('/').next().unwrap_or_default();
        self.print(format_args!("; {} @ {file}:{}\n", line.source.trim_start(), line.line));
        self.line = Some(line);
    }

    fn call(&mut self, state: StateView<'_>) {
        let caller = state.depth().checked_sub(1).and_then(|n| state.frame_at(n));
        self.print(format_args!("caller:\n"));
        self.everything(caller, state);
        self.print(format_args!("callee:\n"));
        self.everything(state.frame(), state);
        self.touched = Touched::all();
    }

    fn leave(&mut self, to: InsnIdx, callee: FrameView<'_>, state: StateView<'_>) {
        self.print(format_args!("returning from callee:\n"));
        self.everything(Some(callee), state);
        self.print(format_args!("to caller at {to}:\n"));
        self.everything(state.frame(), state);
        self.elsewhere = true;
    }

    fn global_call(&mut self, subprog: u32) {
        let name = self.names.function(subprog);
        self.print(format_args!("Func#{subprog} ('{name}') is global and assumed valid.\n"));
    }

    /// A path is put aside. Where a function is called back, the whole state is told of both.
    fn branch(&mut self, at: InsnIdx, to: InsnIdx) {
        self.waiting.push(self.text.len());
        let entered = self.program.subprograms.iter().any(|s| s.start == to);
        if entered && matches!(self.program.code.get(at), Some(Insn::Call { .. })) {
            self.touched = Touched::all();
            self.called_back = true;
        }
    }

    fn endless(&mut self, at: InsnIdx, state: StateView<'_>, earlier: StateView<'_>) {
        self.fault(&Reason::InfiniteLoop { at });
        self.print(format_args!("cur state:"));
        self.everything(state.frame(), state);
        self.print(format_args!("old state:"));
        self.everything(earlier.frame(), earlier);
        self.told = true;
    }

    fn fault(&mut self, reason: &Reason) {
        if let Some(before) = preface::preface(reason) {
            self.print(format_args!("{before}\n"));
        }
        self.print(format_args!("{reason}\n"));
    }

    /// What the last instruction has left to say before the next.
    fn settle(&mut self, state: StateView<'_>) {
        self.touched.compare_stacks(state);
        let looped = matches!(
            self.program.code.get(self.last),
            Some(Insn::Call { target: CallTarget::Helper(BPF_LOOP) })
        );
        if looped && !self.called_back && !self.elsewhere {
            self.print(format_args!("frame{} bpf_loop iteration limit reached\n", state.depth()));
        }
        self.called_back = false;
    }

    fn pruned(&mut self, at: InsnIdx) {
        if self.elsewhere {
            let last = self.last;
            self.print(format_args!("\nfrom {last} to {at}: safe\n"));
        } else {
            self.print(format_args!("{at}: safe\n"));
        }
        self.touched = Touched::all();
    }

    fn resume(&mut self, from: InsnIdx) {
        let mark = self.waiting.pop();
        if let Some(mark) = mark.filter(|_| !self.level.has(LogLevel::PATHS)) {
            self.text.truncate(mark);
        }
        (self.last, self.elsewhere) = (from, true);
    }

    fn function_done(&mut self, subprog: u32) {
        if !self.level.has(LogLevel::PATHS) {
            self.text.clear();
        }
        if subprog > 0 {
            let name = self.names.function(subprog);
            self.print(format_args!(
                "Func#{subprog} ('{name}') is safe for any args that match its prototype\n"
            ));
        }
    }
}

impl Observer for KernelLog<'_> {
    fn detail(&self) -> Detail {
        if self.level.walks() { Detail::Steps } else { Detail::Paths }
    }

    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Planned { ref plan } => self.plan(plan),
            Event::Function { subprog } => self.function(subprog),
            Event::FunctionDone { subprog } => self.function_done(subprog),
            Event::Insn { at, state } => self.instruction(at, state),
            Event::Branched { at, state } => {
                self.touched.compare_stacks(state);
                self.changes(at, state);
            }
            Event::Call { state, .. } => self.call(state),
            Event::Return { to, callee, state } => self.leave(to, callee, state),
            Event::GlobalCall { subprog, .. } => self.global_call(subprog),
            Event::Branch { at, to } => self.branch(at, to),
            Event::Endless { at, state, earlier } => self.endless(at, state, earlier),
            Event::Walked { frames, .. } => self.depths = frames.iter().map(|f| f.stack_depth).collect(),
            Event::Resume { from, .. } => self.resume(from),
            Event::Pruned { at } => self.pruned(at),
            Event::Exit { .. } => self.touched = Touched::all(),
            Event::Restart { .. } => {
                self.text.clear();
                self.waiting.clear();
                (self.line, self.insn) = (None, (0, 0));
            }
            Event::Save { .. } => {}
        }
    }
}

impl isa::Names for Names<'_> {
    fn call(&self, _: InsnIdx, target: CallTarget) -> Option<std::borrow::Cow<'_, str>> {
        let CallTarget::Kfunc { btf_id, .. } = target else { return None };
        let called = self.program.externs.get(usize::try_from(btf_id).ok()?)?;
        Some(called.name.as_str().into())
    }
}
