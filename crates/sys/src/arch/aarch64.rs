//! AArch64, AAPCS64.

use core::arch::global_asm;

use super::{Accessed, Landing, Primitive};

// Arguments are in x0 (address), x1 (operand), x2 (expected); results in x0 (value) and x1 (missing). As on x86-64 none
// touches the stack, and whatever faults between the two labels goes on at the landing. `copy` keeps in x2 what is yet
// to be copied; for the others x2 means nothing. Exclusive loads and stores, which every processor has.
global_asm!(
    ".pushsection .text.bpf_arena_sys_access, \"ax\", @progbits",
    ".balign 16",
    ".hidden bpf_arena_sys_access_start",
    ".globl bpf_arena_sys_access_start",
    "bpf_arena_sys_access_start:",
    ".macro bpf_arena_sys_access name:req",
    ".hidden bpf_arena_sys_\\name",
    ".globl bpf_arena_sys_\\name",
    ".type bpf_arena_sys_\\name, @function",
    "bpf_arena_sys_\\name:",
    ".endm",
    ".macro bpf_arena_sys_return",
    "mov x1, xzr",
    "ret",
    ".endm",
    ".macro bpf_arena_sys_plain bytes:req, suffix, reg:req",
    "bpf_arena_sys_access load\\bytes",
    "ldr\\suffix \\reg\\()0, [x0]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access acquire\\bytes",
    "ldar\\suffix \\reg\\()0, [x0]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access store\\bytes",
    "str\\suffix \\reg\\()1, [x0]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access release\\bytes",
    "stlr\\suffix \\reg\\()1, [x0]",
    "bpf_arena_sys_return",
    ".endm",
    "bpf_arena_sys_plain 1, b, w",
    "bpf_arena_sys_plain 2, h, w",
    "bpf_arena_sys_plain 4, , w",
    "bpf_arena_sys_plain 8, , x",
    ".macro bpf_arena_sys_update name:req, op:req, bytes:req, reg:req",
    "bpf_arena_sys_access \\name\\bytes",
    "2: ldaxr \\reg\\()3, [x0]",
    "\\op \\reg\\()4, \\reg\\()3, \\reg\\()1",
    "stlxr w5, \\reg\\()4, [x0]",
    "cbnz w5, 2b",
    "dmb ish",
    "mov x0, x3",
    "bpf_arena_sys_return",
    ".endm",
    "bpf_arena_sys_update add, add, 4, w",
    "bpf_arena_sys_update add, add, 8, x",
    "bpf_arena_sys_update or, orr, 4, w",
    "bpf_arena_sys_update or, orr, 8, x",
    "bpf_arena_sys_update and, and, 4, w",
    "bpf_arena_sys_update and, and, 8, x",
    "bpf_arena_sys_update xor, eor, 4, w",
    "bpf_arena_sys_update xor, eor, 8, x",
    ".macro bpf_arena_sys_exchange bytes:req, reg:req",
    "bpf_arena_sys_access xchg\\bytes",
    "2: ldaxr \\reg\\()3, [x0]",
    "stlxr w5, \\reg\\()1, [x0]",
    "cbnz w5, 2b",
    "dmb ish",
    "mov x0, x3",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access cmpxchg\\bytes",
    "2: ldaxr \\reg\\()3, [x0]",
    "cmp \\reg\\()3, \\reg\\()2",
    "b.ne 3f",
    "stlxr w5, \\reg\\()1, [x0]",
    "cbnz w5, 2b",
    "3: dmb ish",
    "mov x0, x3",
    "bpf_arena_sys_return",
    ".endm",
    "bpf_arena_sys_exchange 4, w",
    "bpf_arena_sys_exchange 8, x",
    // (to, from, count)
    "bpf_arena_sys_access copy",
    "2: cbz x2, 3f",
    "ldrb w3, [x1], #1",
    "strb w3, [x0], #1",
    "sub x2, x2, #1",
    "b 2b",
    "3: mov x0, xzr",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access access_landing",
    "mov x0, x2",
    "mov x1, #1",
    "ret",
    ".purgem bpf_arena_sys_access",
    ".purgem bpf_arena_sys_return",
    ".purgem bpf_arena_sys_plain",
    ".purgem bpf_arena_sys_update",
    ".purgem bpf_arena_sys_exchange",
    ".popsection",
);

super::declare! {
    load1 = "bpf_arena_sys_load1",
    load2 = "bpf_arena_sys_load2",
    load4 = "bpf_arena_sys_load4",
    load8 = "bpf_arena_sys_load8",
    acquire1 = "bpf_arena_sys_acquire1",
    acquire2 = "bpf_arena_sys_acquire2",
    acquire4 = "bpf_arena_sys_acquire4",
    acquire8 = "bpf_arena_sys_acquire8",
    store1 = "bpf_arena_sys_store1",
    store2 = "bpf_arena_sys_store2",
    store4 = "bpf_arena_sys_store4",
    store8 = "bpf_arena_sys_store8",
    release1 = "bpf_arena_sys_release1",
    release2 = "bpf_arena_sys_release2",
    release4 = "bpf_arena_sys_release4",
    release8 = "bpf_arena_sys_release8",
    add4 = "bpf_arena_sys_add4",
    add8 = "bpf_arena_sys_add8",
    or4 = "bpf_arena_sys_or4",
    or8 = "bpf_arena_sys_or8",
    and4 = "bpf_arena_sys_and4",
    and8 = "bpf_arena_sys_and8",
    xor4 = "bpf_arena_sys_xor4",
    xor8 = "bpf_arena_sys_xor8",
    xchg4 = "bpf_arena_sys_xchg4",
    xchg8 = "bpf_arena_sys_xchg8",
    cmpxchg4 = "bpf_arena_sys_cmpxchg4",
    cmpxchg8 = "bpf_arena_sys_cmpxchg8",
    copy = "bpf_arena_sys_copy",
}

/// Number of general-purpose registers that a fault site may clear.
pub(crate) const REGISTER_COUNT: u8 = 31;

const FRAME_POINTER: u8 = 29;

/// The registers of a thread that a signal interrupted.
#[derive(Debug)]
pub(crate) struct Context<'a>(&'a mut libc::ucontext_t);

impl<'a> Context<'a> {
    pub(crate) fn new(context: &'a mut libc::ucontext_t) -> Self {
        Self(context)
    }

    pub(crate) fn pc(&mut self) -> u64 {
        self.0.uc_mcontext.pc
    }

    pub(crate) fn stack_pointer(&mut self) -> u64 {
        self.0.uc_mcontext.sp
    }

    pub(crate) fn frame_pointer(&mut self) -> u64 {
        self.register(FRAME_POINTER)
    }

    pub(crate) fn set_pc(&mut self, pc: u64) {
        self.0.uc_mcontext.pc = pc;
    }

    /// A general-purpose register, by its number in machine code.
    pub(crate) fn register(&mut self, number: u8) -> u64 {
        self.0.uc_mcontext.regs.get(usize::from(number)).copied().unwrap_or(0)
    }

    /// Sets a general-purpose register, by its number in machine code.
    pub(crate) fn set_register(&mut self, number: u8, value: u64) {
        if let Some(register) = self.0.uc_mcontext.regs.get_mut(usize::from(number)) {
            *register = value;
        }
    }
}

/// Makes written code visible to execution.
pub(crate) fn flush_code(start: u64, len: u64) {
    unsafe extern "C" {
        fn __clear_cache(start: u64, end: u64);
    }
    // SAFETY: only caches of the range are affected.
    unsafe { __clear_cache(start, start + len) };
    // Another thread may have fetched what was at these addresses before. A kernel that cannot make it forget that (before
    // Linux 4.16) says so, and there is nothing else to be done: such a thread is hardly still there after system calls.
    for command in [
        libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
        libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
    ] {
        // SAFETY: the call accesses no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    }
}
