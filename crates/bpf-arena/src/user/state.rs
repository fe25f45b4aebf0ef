//! What each run needs and the next run on the same thread can use again: a stack and a fault recorder.

use std::cell::Cell;

use codegen::abi::STACK_BYTES;
use sys::fault::Recorder;

use crate::access::Block;

thread_local! {
    /// One spare per thread. A run inside of a run (from an output sink) makes its own.
    static SPARE: Cell<Option<Box<RunState>>> = const { Cell::new(None) };
}

/// Stack and recorder of one run.
pub(super) struct RunState {
    /// The BPF stack, aligned to 16 bytes.
    pub(super) stack: Block,
    pub(super) recorder: Recorder,
    capacity: usize,
}

impl RunState {
    /// This thread's spare state or a new one; `None` if there is no memory.
    pub(super) fn take(fault_records: usize) -> Option<Box<Self>> {
        match SPARE.try_with(Cell::take).ok().flatten() {
            Some(state) if state.capacity == fault_records => Some(state),
            _ => Some(Box::new(Self {
                stack: Block::new(STACK_BYTES)?,
                recorder: Recorder::new(fault_records),
                capacity: fault_records,
            })),
        }
    }

    /// Keeps it for the thread's next run.
    pub(super) fn give_back(self: Box<Self>) {
        // At the end of a thread there is nobody to keep it for.
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }
}
