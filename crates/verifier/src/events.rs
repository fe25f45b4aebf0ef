//! What verification does, as a stream of structured events.
//!
//! Renderers (a log in the kernel's form, annotated source lines) read these; the walk itself writes no text.

use isa::InsnIdx;

/// One step of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A function is about to be verified on its own: the entry, or a global subprogram.
    Function {
        /// Index in [`Program::subprograms`](bpf_object::Program::subprograms).
        subprog: u32,
    },
    /// An instruction is walked.
    Insn {
        /// Where.
        at: InsnIdx,
        /// Number of the frame it runs in.
        frame: u8,
    },
    /// A second path starts here and waits.
    Branch {
        /// The instruction that splits the paths.
        at: InsnIdx,
        /// Where the waiting path starts.
        to: InsnIdx,
    },
    /// A waiting path is taken up.
    Resume {
        /// Where.
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
    /// The path ends with the program.
    Exit {
        /// Where.
        at: InsnIdx,
    },
    /// Everything starts over: one instruction works on arena pointers on one path and on numbers on another.
    Restart {
        /// That instruction.
        at: InsnIdx,
    },
}

/// Receives the events of a verification.
pub trait Observer {
    /// Takes one event.
    fn event(&mut self, event: Event);
}

/// Ignores every event.
impl Observer for () {
    fn event(&mut self, _event: Event) {}
}

/// Keeps every event.
impl Observer for Vec<Event> {
    fn event(&mut self, event: Event) {
        self.push(event);
    }
}
