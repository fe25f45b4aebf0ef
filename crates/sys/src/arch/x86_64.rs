//! x86-64, System V.

use core::arch::global_asm;

use super::{Accessed, Landing, Primitive};

// Arguments are in rdi (address), rsi (operand), rdx (expected); results in rax (value) and rdx (missing). None of these
// touches the stack, so that the landing can return for any of them, and none has a frame to unwind. Whatever address
// faults, at whatever instruction between the two labels, execution goes on at the landing. `rep movsb` leaves in rcx
// what is yet to be copied; for the others rcx means nothing.
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
    "xor edx, edx",
    "ret",
    ".endm",
    "bpf_arena_sys_access load1",
    "movzx eax, byte ptr [rdi]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access load2",
    "movzx eax, word ptr [rdi]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access load4",
    "mov eax, dword ptr [rdi]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access load8",
    "mov rax, qword ptr [rdi]",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access store1",
    "mov byte ptr [rdi], sil",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access store2",
    "mov word ptr [rdi], si",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access store4",
    "mov dword ptr [rdi], esi",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access store8",
    "mov qword ptr [rdi], rsi",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access add4",
    "mov eax, esi",
    "lock xadd dword ptr [rdi], eax",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access add8",
    "mov rax, rsi",
    "lock xadd qword ptr [rdi], rax",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access xchg4",
    "mov eax, esi",
    "xchg dword ptr [rdi], eax",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access xchg8",
    "mov rax, rsi",
    "xchg qword ptr [rdi], rax",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access cmpxchg4",
    "mov eax, edx",
    "lock cmpxchg dword ptr [rdi], esi",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access cmpxchg8",
    "mov rax, rdx",
    "lock cmpxchg qword ptr [rdi], rsi",
    "bpf_arena_sys_return",
    ".macro bpf_arena_sys_bitwise op:req",
    "bpf_arena_sys_access \\op\\()4",
    "mov eax, dword ptr [rdi]",
    "2: mov ecx, eax",
    "\\op ecx, esi",
    "lock cmpxchg dword ptr [rdi], ecx",
    "jne 2b",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access \\op\\()8",
    "mov rax, qword ptr [rdi]",
    "2: mov rcx, rax",
    "\\op rcx, rsi",
    "lock cmpxchg qword ptr [rdi], rcx",
    "jne 2b",
    "bpf_arena_sys_return",
    ".endm",
    "bpf_arena_sys_bitwise or",
    "bpf_arena_sys_bitwise and",
    "bpf_arena_sys_bitwise xor",
    // (to, from, count)
    "bpf_arena_sys_access copy",
    "mov rcx, rdx",
    "xor eax, eax",
    "rep movsb",
    "bpf_arena_sys_return",
    "bpf_arena_sys_access access_landing",
    "mov rax, rcx",
    "mov edx, 1",
    "ret",
    ".purgem bpf_arena_sys_access",
    ".purgem bpf_arena_sys_return",
    ".purgem bpf_arena_sys_bitwise",
    ".popsection",
);

super::declare! {
    load1 = "bpf_arena_sys_load1",
    load2 = "bpf_arena_sys_load2",
    load4 = "bpf_arena_sys_load4",
    load8 = "bpf_arena_sys_load8",
    store1 = "bpf_arena_sys_store1",
    store2 = "bpf_arena_sys_store2",
    store4 = "bpf_arena_sys_store4",
    store8 = "bpf_arena_sys_store8",
    add4 = "bpf_arena_sys_add4",
    add8 = "bpf_arena_sys_add8",
    xchg4 = "bpf_arena_sys_xchg4",
    xchg8 = "bpf_arena_sys_xchg8",
    cmpxchg4 = "bpf_arena_sys_cmpxchg4",
    cmpxchg8 = "bpf_arena_sys_cmpxchg8",
    or4 = "bpf_arena_sys_or4",
    or8 = "bpf_arena_sys_or8",
    and4 = "bpf_arena_sys_and4",
    and8 = "bpf_arena_sys_and8",
    xor4 = "bpf_arena_sys_xor4",
    xor8 = "bpf_arena_sys_xor8",
    copy = "bpf_arena_sys_copy",
}

// A plain load has acquire and a plain store release semantics here.
pub(crate) use self::{
    load1 as acquire1, load2 as acquire2, load4 as acquire4, load8 as acquire8, store1 as release1,
    store2 as release2, store4 as release4, store8 as release8,
};

/// Registers by their number in machine code.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Number of general-purpose registers that a fault site may clear.
pub(crate) const REGISTER_COUNT: u8 = 16;

/// The registers of a thread that a signal interrupted.
#[derive(Debug)]
pub(crate) struct Context<'a>(&'a mut libc::ucontext_t);

impl<'a> Context<'a> {
    pub(crate) fn new(context: &'a mut libc::ucontext_t) -> Self {
        Self(context)
    }

    fn named(&mut self, name: libc::c_int) -> Option<&mut i64> {
        self.0.uc_mcontext.gregs.get_mut(usize::try_from(name).ok()?)
    }

    fn get(&mut self, name: libc::c_int) -> u64 {
        self.named(name).map_or(0, |value| value.cast_unsigned())
    }

    fn set(&mut self, name: libc::c_int, value: u64) {
        if let Some(register) = self.named(name) {
            *register = value.cast_signed();
        }
    }

    pub(crate) fn pc(&mut self) -> u64 {
        self.get(libc::REG_RIP)
    }

    pub(crate) fn stack_pointer(&mut self) -> u64 {
        self.get(libc::REG_RSP)
    }

    pub(crate) fn frame_pointer(&mut self) -> u64 {
        self.get(libc::REG_RBP)
    }

    pub(crate) fn set_pc(&mut self, pc: u64) {
        self.set(libc::REG_RIP, pc);
    }

    /// A general-purpose register, by its number in machine code.
    pub(crate) fn register(&mut self, number: u8) -> u64 {
        REGISTERS.get(usize::from(number)).map_or(0, |name| self.get(*name))
    }

    /// Sets a general-purpose register, by its number in machine code.
    pub(crate) fn set_register(&mut self, number: u8, value: u64) {
        if let Some(name) = REGISTERS.get(usize::from(number)) {
            self.set(*name, value);
        }
    }
}

/// Makes written code visible to execution: nothing to do on this processor.
pub(crate) fn flush_code(_start: u64, _len: u64) {}
