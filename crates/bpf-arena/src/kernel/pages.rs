//! Pages of an arena in the kernel, allocated and freed by the host: small programs that call the kernel functions, for
//! bpf(2) has no such command.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use bpf_object::KindTag;
use isa::{CallTarget, Code, Endian, Imm64, Insn, Operand, Reg, Size, Width};
use sys::PageError;
use sys::bpf::{LogMode, Prog, ProgSpec, TestRun};

use super::running::Running;

const BPF_PROG_TYPE_SYSCALL: u32 = 31;
const BPF_F_SLEEPABLE: u32 = 1 << 4;

/// The kernel's page functions for one arena; each program is loaded when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct KernelPages {
    alloc: OnceLock<Option<Prog>>,
    free: OnceLock<Option<Prog>>,
    reserve: OnceLock<Option<Prog>>,
}

impl KernelPages {
    /// `bpf_arena_alloc_pages`: the user address of the first page, or 0.
    pub(crate) fn alloc(&self, arena: BorrowedFd<'_>, address: u64, count: u32) -> Result<u64, PageError> {
        call(&self.alloc, arena, "bpf_arena_alloc_pages", address, count)
    }

    /// `bpf_arena_free_pages`.
    pub(crate) fn free(&self, arena: BorrowedFd<'_>, address: u64, count: u32) -> Result<(), PageError> {
        call(&self.free, arena, "bpf_arena_free_pages", address, count).map(drop)
    }

    /// `bpf_arena_reserve_pages` (Linux 6.17): 0 or a negative error number.
    pub(crate) fn reserve(&self, arena: BorrowedFd<'_>, address: u64, count: u32) -> Result<i32, PageError> {
        // An `int`: the low half is the result.
        call(&self.reserve, arena, "bpf_arena_reserve_pages", address, count).map(|r0| {
            let [a, b, c, d, ..] = r0.to_le_bytes();
            i32::from_le_bytes([a, b, c, d])
        })
    }
}

/// Runs the program of a function, loading it first if need be. Where the kernel lacks the function, or does not let this
/// process load programs any more, the arena's pages are out of reach.
fn call(
    slot: &OnceLock<Option<Prog>>,
    arena: BorrowedFd<'_>,
    function: &str,
    address: u64,
    count: u32,
) -> Result<u64, PageError> {
    let prog = slot.get_or_init(|| load(arena, function)).as_ref().ok_or(PageError::KernelArena)?;
    let mut ctx = [0; 24];
    let words = [address, count.into(), 0];
    ctx.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
    prog.test_run(&mut TestRun { ctx: &mut ctx, ..TestRun::default() })
        .map_err(|_| PageError::KernelArena)?;
    let result = ctx.last_chunk().copied().unwrap_or_default();
    Ok(u64::from_ne_bytes(result))
}

fn load(arena: BorrowedFd<'_>, function: &str) -> Option<Prog> {
    let found = Running::get().ok()?.find(function, KindTag::Func)?;
    let load = |dst, offset| Insn::Load { size: Size::DW, sign_extend: false, dst, base: Reg::R6, offset };
    let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src };
    let call = CallTarget::Kfunc { btf_id: found.id.0.cast_signed(), module: 0 };
    // The context is the address, the count, and room for the result.
    let code: Code = [
        mov(Reg::R6, Operand::Reg(Reg::R1)),
        Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapFd(arena.as_raw_fd()) },
        load(Reg::R2, 0),
        load(Reg::R3, 8),
        mov(Reg::R4, Operand::Imm(-1)), // no NUMA node in particular
        mov(Reg::R5, Operand::Imm(0)),
        mov(Reg::R0, Operand::Imm(0)),
        Insn::Call { target: call },
        Insn::Store { size: Size::DW, base: Reg::R6, offset: 16, src: Operand::Reg(Reg::R0) },
        mov(Reg::R0, Operand::Imm(0)),
        Insn::Exit,
    ]
    .into_iter()
    .filter(|insn| !is_result_of_nothing(insn, function))
    .collect();
    let insns = code.encode(Endian::Little).ok()?;
    let spec = ProgSpec {
        name: "arena_pages",
        prog_type: BPF_PROG_TYPE_SYSCALL,
        insns: &insns,
        license: "GPL",
        flags: BPF_F_SLEEPABLE,
        log: LogMode::Never,
        ..ProgSpec::default()
    };
    Prog::load(&spec).ok().map(|(prog, _)| prog)
}

/// `bpf_arena_free_pages` returns nothing that could be stored.
fn is_result_of_nothing(insn: &Insn, function: &str) -> bool {
    function == "bpf_arena_free_pages" && matches!(insn, Insn::Store { .. })
}
