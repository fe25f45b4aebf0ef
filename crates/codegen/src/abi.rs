//! Layouts and calling conventions shared by generated code and the runtime, defined once.
//!
//! Generated code holds no address of its own process: everything it needs comes through the [`VmContext`] it gets as
//! its first argument. The same bytes serve any number of instances and threads, each with its own context.

use std::sync::atomic::AtomicU64;

use isa::{Insn, Size};

/// State of one run, read and written by generated code at fixed offsets.
#[derive(Debug)]
#[repr(C)]
pub struct VmContext {
    /// Address of offset 0 of the arena's 4 GiB window; an access goes to `window_base + u32(pointer) + offset`.
    pub window_base: u64,
    /// High half of the arena's user address, in place (bits 32 to 63, low half 0), which `addr_space_cast(.., 1, 0)`
    /// puts above a non-zero low half. 0 with `BPF_F_NO_USER_CONV`.
    pub user_vm_high: u64,
    /// Per map of the program (by index): the value of `lddw MapIdx`, an opaque handle.
    pub maps: *const u64,
    /// Per map of the program (by index): the address `lddw MapIdxValue` adds its offset to; the values of arrays begin there.
    pub map_values: *const u64,
    /// Per extern of the program (by index): the address of the variable that it is.
    pub variables: *const u64,
    /// Functions of the runtime, in the order of [`Compiled::imports`](crate::Compiled::imports).
    pub imports: *const RuntimeFn,
    /// `may_goto` iterations that a function has before it looks at the stop word for the first time, at most [`LOOPS_PER_LOOK`]; each entry of a function
    /// begins anew, as in the kernel.
    pub loop_budget: u64,
    /// What a function begins with in place of an answer of [`Import::LoopBudget`](crate::Import::LoopBudget). Its low bits are the
    /// iterations beyond those of `loop_budget`.
    pub loop_state: u64,
    /// The `r10` a callback gets that a helper or kfunc enters: that of the calling function, minus the bytes of
    /// stack the caller uses. Written before such a call if the program has callbacks at all; a callback overwrites
    /// it, so the runtime reads it once, before it enters the first.
    pub callback_frame: u64,
    /// Set by a function of the runtime that ends more than itself: see [`LEAVE_FUNCTION`] and [`LEAVE_PROGRAM`].
    pub leave: u64,
    /// What a function of the runtime gave that was called by a stub, which keeps all machine registers and so has no result.
    pub answer: u64,
    /// The CPU that the run has leased, for code that [asks](crate::Compiled::uses_cpu).
    pub cpu: u64,
    /// The address of the run's stop word, which any thread may write at any moment: [`GO_ON`] or [`STOP`]. The address stays the
    /// same during a run. Whatever may go on for long looks at the word: `may_goto` every
    /// [`LOOPS_PER_LOOK`] iterations or more often; code in
    /// place of a function of the runtime that would end a loop (`bpf_iter_num_next`) does so only while it finds [`GO_ON`].
    pub stop: *const AtomicU64,
    /// The address of a word of the thread that is not 0 after a wide load met a missing page. Code that makes such loads sets it to 0
    /// again.
    pub missed: *const AtomicU64,
    /// The address of a word of the thread that is not 0 after an access met a missing page. Code that looks at the stop word sets it to
    /// 0 again, and looks sooner the next time: see [`LOOPS_AFTER_FAULTS`].
    pub faulted: *const AtomicU64,
    /// Beside `answer`, of the stub that takes loop iterations: those that are left of what the runtime gave.
    pub loops_left: u64,
    /// The runtime's own state; generated code never looks at it.
    pub owner: *mut core::ffi::c_void,
}

/// In [`VmContext::leave`]: a tail call was done. The calling function returns what the runtime gave, and clears the word.
pub const LEAVE_FUNCTION: u64 = 1;

/// In [`VmContext::leave`]: an exception was thrown, or the run ends on the spot. Every function returns, and leaves the word as it is.
pub const LEAVE_PROGRAM: u64 = 2;

/// A function of the runtime as generated code calls it: context, then `r1` to `r5`; the result is `r0`.
pub type RuntimeFn = extern "C" fn(*mut VmContext, u64, u64, u64, u64, u64) -> u64;

/// The entry of a compiled program: context, `r1`, and the address just above the BPF stack (`r10`), which extends
/// [`STACK_BYTES`] below it and is aligned to 16 bytes.
pub type EntryFn = extern "C" fn(*mut VmContext, u64, u64) -> u64;

/// A callback as the runtime enters it: context, `r1` to `r5`, and the `r10` of the new frame.
pub type CallbackFn = extern "C" fn(*mut VmContext, u64, u64, u64, u64, u64, u64) -> u64;

/// Where a context has the pointer that its field of 4 bytes at `offset` stands for (`data`, `data_end`, `data_meta`), from
/// the start of the context. Such contexts have room for it behind the structure that programs know.
#[must_use]
pub const fn context_pointer(offset: i16) -> i16 {
    CONTEXT_POINTERS.saturating_add(offset.saturating_mul(2))
}

/// The load of the pointer for which the field of 4 bytes stands that this instruction loads.
#[must_use]
pub const fn context_pointer_load(insn: Insn) -> Insn {
    match insn {
        Insn::Load { dst, base, offset, .. } => {
            let offset = context_pointer(offset);
            Insn::Load { size: Size::DW, sign_extend: false, dst, base, offset }
        }
        other => other,
    }
}

/// Where the pointers of a context begin, in bytes. No context that has any is longer.
pub const CONTEXT_POINTERS: i16 = 256;

/// Distance of the values of an array, in bytes: each begins at a multiple of 8, as in the kernel.
#[must_use]
pub const fn value_stride(value_size: u32) -> u64 {
    (value_size as u64).next_multiple_of(8)
}

/// Distance of the values of two CPUs of a per-CPU array, in bytes: all values of one CPU lie together, and share no line of the
/// cache (nor the line that is fetched with it) with another's.
#[must_use]
pub const fn per_cpu_area(value_size: u32, max_entries: u32) -> u64 {
    value_stride(value_size).saturating_mul(max_entries as u64).saturating_add(127) & !127
}

/// In [`VmContext::stop`]: nobody wants the run to end.
pub const GO_ON: u64 = 0;

/// In [`VmContext::stop`]: the run is to end. Above every number of iterations.
pub const STOP: u64 = u64::MAX;

/// Most `may_goto` iterations of one function between two looks at the stop word, and most of a loop that counts no budget. A look
/// costs a short call and perhaps a mispredicted branch: looks every 16 iterations made programs slower by a tenth, and more than 128
/// make none faster.
pub const LOOPS_PER_LOOK: u64 = 128;

/// Iterations until the next look if an access met a missing page since the last one. Each that does takes two to three microseconds
/// instead of a part of a nanosecond; so many looks cost nothing beside that.
pub const LOOPS_AFTER_FAULTS: u64 = 16;

/// What of an answer of [`Import::LoopBudget`](crate::Import::LoopBudget) is the number of iterations until the next question; the
/// rest belongs to the runtime.
pub const LOOPS_MASK: u64 = 0xffff;

/// Bytes of BPF stack a run must provide: eight frames of 512.
pub const STACK_BYTES: usize = 8 * 512;
