//! Layouts and calling conventions shared by generated code and the runtime, defined once.
//!
//! Generated code holds no address of its own process: everything it needs comes through the [`VmContext`] it gets as
//! its first argument. The same bytes serve any number of instances and threads, each with its own context.

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
    /// Per map of the program (by index): the address `lddw MapIdxValue` adds its offset to.
    pub map_values: *const u64,
    /// Functions of the runtime, in the order of [`Compiled::imports`](crate::Compiled::imports).
    pub imports: *const RuntimeFn,
    /// `may_goto` iterations left before [`Import::LoopBudget`](crate::Import::LoopBudget) is asked; the runtime sets
    /// it before a run. A function that loops keeps it in a register and writes it back around calls, so the
    /// runtime sees it exact only in helpers and kfuncs.
    pub loop_budget: u64,
    /// The `r10` a callback gets that a helper or kfunc enters: that of the calling function, minus the bytes of
    /// stack the caller uses. Written before such a call if the program has callbacks at all; a callback overwrites
    /// it, so the runtime reads it once, before it enters the first.
    pub callback_frame: u64,
    /// The runtime's own state; generated code never looks at it.
    pub owner: *mut core::ffi::c_void,
}

/// A function of the runtime as generated code calls it: context, then `r1` to `r5`; the result is `r0`.
pub type RuntimeFn = extern "C" fn(*mut VmContext, u64, u64, u64, u64, u64) -> u64;

/// The entry of a compiled program: context, `r1`, and the address just above the BPF stack (`r10`), which extends
/// [`STACK_BYTES`] below it and is aligned to 16 bytes.
pub type EntryFn = extern "C" fn(*mut VmContext, u64, u64) -> u64;

/// A callback as the runtime enters it: context, `r1` to `r5`, and the `r10` of the new frame.
pub type CallbackFn = extern "C" fn(*mut VmContext, u64, u64, u64, u64, u64, u64) -> u64;

/// Bytes of BPF stack a run must provide: eight frames of 512.
pub const STACK_BYTES: usize = 8 * 512;
