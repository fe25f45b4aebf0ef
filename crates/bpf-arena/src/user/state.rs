//! What each run needs and the next run on the same thread can use again: a stack and a fault recorder.

use std::cell::Cell;

use codegen::abi::STACK_BYTES;
use sys::fault::Recorder;

use crate::access::Block;
use crate::runtime::Held;

thread_local! {
    /// One spare per thread. A run inside of a run (from an output sink) makes its own.
    static SPARE: Cell<Option<Box<RunState>>> = const { Cell::new(None) };
}

/// Stack and recorder of one run.
pub(super) struct RunState {
    /// The BPF stack, aligned to 16 bytes.
    pub(super) stack: Block,
    pub(super) recorder: Recorder,
    /// What the run keeps alive; empty between runs.
    pub(super) held: Held,
    capacity: usize,
}

/// A state in use; goes back to the thread when dropped.
pub(super) struct Borrowed {
    // Invariant: `Some` until it is dropped.
    state: Option<Box<RunState>>,
}

impl RunState {
    /// This thread's spare state or a new one; `None` if there is no memory.
    #[inline]
    pub(super) fn take(fault_records: usize) -> Option<Borrowed> {
        match SPARE.try_with(Cell::take).ok().flatten() {
            Some(state) if state.capacity == fault_records => Some(Borrowed { state: Some(state) }),
            _ => Self::make(fault_records),
        }
    }

    #[cold]
    fn make(fault_records: usize) -> Option<Borrowed> {
        let state = Self {
            stack: Block::new(STACK_BYTES)?,
            recorder: Recorder::new(fault_records),
            held: Held::default(),
            capacity: fault_records,
        };
        Some(Borrowed { state: Some(Box::new(state)) })
    }
}

impl Borrowed {
    /// The state.
    #[inline]
    pub(super) fn get(&mut self) -> Option<&mut RunState> {
        self.state.as_deref_mut()
    }
}

impl Drop for Borrowed {
    #[inline]
    fn drop(&mut self) {
        if let Some(state) = &mut self.state {
            state.held.clear();
        }
        // At the end of a thread there is nobody to keep it for.
        let _ = SPARE.try_with(|spare| spare.set(self.state.take()));
    }
}
