//! What verification does, as a stream of structured events.
//!
//! Renderers (a log in the kernel's form, annotated source lines) read these; the walk itself writes no text.

use isa::InsnIdx;

use crate::FrameFacts;
use crate::report::view::{FrameView, PlanView, StateView, ValuesView};

/// How much an observer wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing: no event is made.
    Nothing,
    /// Where paths begin, end and are cut off.
    Paths,
    /// Every instruction, with the state in front of it.
    #[default]
    Steps,
}

/// One step of the walk.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What needs no walk has been checked.
    Planned {
        /// What is known of the program.
        plan: PlanView<'a>,
    },
    /// A function is about to be verified on its own: the entry, or a global subprogram.
    Function {
        /// Index in [`Program::subprograms`](bpf_object::Program::subprograms).
        subprog: u32,
    },
    /// That function is safe.
    FunctionDone {
        /// Index in [`Program::subprograms`](bpf_object::Program::subprograms).
        subprog: u32,
    },
    /// An instruction is about to be walked ([`Detail::Steps`]).
    Insn {
        /// Where.
        at: InsnIdx,
        /// The state in front of it.
        state: StateView<'a>,
    },
    /// A conditional jump has been decided or has split the path ([`Detail::Steps`]).
    Branched {
        /// The jump.
        at: InsnIdx,
        /// The state in which this path goes on.
        state: StateView<'a>,
    },
    /// A static function is entered ([`Detail::Steps`]).
    Call {
        /// The call.
        at: InsnIdx,
        /// The state, in the callee's frame.
        state: StateView<'a>,
    },
    /// A static function or a callback has ended ([`Detail::Steps`]).
    Return {
        /// Where the caller goes on.
        to: InsnIdx,
        /// The frame that is left.
        callee: FrameView<'a>,
        /// The state, in the caller's frame.
        state: StateView<'a>,
    },
    /// A global function was called: it is verified on its own ([`Detail::Steps`]).
    GlobalCall {
        /// The call.
        at: InsnIdx,
        /// Index in [`Program::subprograms`](bpf_object::Program::subprograms).
        subprog: u32,
    },
    /// A second path starts here and waits.
    Branch {
        /// The instruction that splits the paths.
        at: InsnIdx,
        /// Where the waiting path starts.
        to: InsnIdx,
    },
    /// The path that was put aside last is taken up.
    Resume {
        /// The instruction that split the paths.
        from: InsnIdx,
        /// Where the path starts.
        at: InsnIdx,
    },
    /// The state was saved, to be compared with later ones.
    Save {
        /// Where.
        at: InsnIdx,
    },
    /// The path ends here: an earlier state covers it.
    Pruned {
        /// Where.
        at: InsnIdx,
    },
    /// The path came back to where it was with nothing changed: it would never end.
    Endless {
        /// Where.
        at: InsnIdx,
        /// The state now.
        state: StateView<'a>,
        /// The state then.
        earlier: StateView<'a>,
    },
    /// The path ends with the program.
    Exit {
        /// Where.
        at: InsnIdx,
    },
    /// Everything starts over: one instruction works on arena pointers on one path and on numbers on another, or callbacks
    /// need a closer look.
    Restart {
        /// That instruction, or where the function begins.
        at: InsnIdx,
    },
    /// Everything has been walked, or the walk has failed: what values were found to matter is final.
    Walked {
        /// What is known of the values.
        values: ValuesView<'a>,
        /// What is known of each subprogram.
        frames: &'a [FrameFacts],
    },
}

/// Receives the events of a verification.
pub trait Observer {
    /// How much it wants to be told; asked once.
    fn detail(&self) -> Detail {
        Detail::default()
    }

    /// Takes one event.
    fn event(&mut self, event: &Event<'_>);
}

/// Wants to know nothing.
impl Observer for () {
    fn detail(&self) -> Detail {
        Detail::Nothing
    }

    fn event(&mut self, _event: &Event<'_>) {}
}

/// Passes on to an observer only what it wants.
pub(crate) struct Listener<'a> {
    observer: &'a mut dyn Observer,
    detail: Detail,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(observer: &'a mut dyn Observer) -> Self {
        let detail = observer.detail();
        Self { observer, detail }
    }

    /// Whether instructions and states are wanted.
    pub(crate) fn wants_steps(&self) -> bool {
        self.detail >= Detail::Steps
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) {
        if self.detail > Detail::Nothing {
            self.observer.event(event);
        }
    }
}
