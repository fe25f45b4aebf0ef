//! What the running kernel does with arena accesses: the facts that the interpreter and the JIT are held to.

use bpf_arena_testkit::kernel::{KernelArena, KernelProgram, OracleError, Setup, missing_capability, run};
use isa::{AtomicOp, Code, Imm64, Insn, Operand, Reg, Size, Width};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> Result<(), Failed>;

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let tests: [(&str, Test); 4] = [
        ("missing_pages_read_as_zero", missing_pages),
        ("dropped_atomic_leaves_its_register", dropped_atomic),
        ("context_comes_back", context),
        ("refusal_has_a_log", refusal),
    ];
    let trials = tests.map(|(name, test)| match missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.into()).exit();
}

/// `r6` = arena pointer to `offset`, made so that the verifier knows it as one.
fn arena_pointer(offset: u32) -> [Insn; 3] {
    let imm = offset.cast_signed();
    [
        Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapIdx(0) },
        Insn::Mov { width: Width::W64, dst: Reg::R6, src: Operand::Imm(imm) },
        Insn::AddrSpaceCast { dst: Reg::R6, src: Reg::R6, dst_as: 0, src_as: 1 },
    ]
}

fn missing_pages() -> Result<(), Failed> {
    let arena = KernelArena::new(4, 0x1fe0_0000_0000, 0)?;
    if !arena.write(4096, &7_u64.to_le_bytes()) {
        return Err("the arena is not mapped".into());
    }
    for (offset, expected) in [(4096, 7), (0, 0)] {
        let load = Insn::Load { size: Size::DW, sign_extend: false, dst: Reg::R0, base: Reg::R6, offset: 0 };
        let code: Code = arena_pointer(offset).into_iter().chain([load, Insn::Exit]).collect();
        let got = run(&code, Setup { arena: Some(&arena), ctx: &mut [] })?;
        if got != expected {
            return Err(format!("page at {offset}: {got} instead of {expected}").into());
        }
    }
    Ok(())
}

fn dropped_atomic() -> Result<(), Failed> {
    let arena = KernelArena::new(4, 0x1fd0_0000_0000, 0)?;
    let atomic = Insn::Atomic {
        size: Size::DW,
        op: AtomicOp::Add,
        fetch: true,
        base: Reg::R6,
        offset: 0,
        src: Reg::R2,
    };
    let code: Code = arena_pointer(8192)
        .into_iter()
        .chain([
            Insn::Mov { width: Width::W64, dst: Reg::R2, src: Operand::Imm(5) },
            atomic,
            Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Reg(Reg::R2) },
            Insn::Exit,
        ])
        .collect();
    let got = run(&code, Setup { arena: Some(&arena), ctx: &mut [] })?;
    if got == 5 { Ok(()) } else { Err(format!("the register became {got}").into()) }
}

fn context() -> Result<(), Failed> {
    let code: Code = [
        Insn::Load { size: Size::W, sign_extend: false, dst: Reg::R0, base: Reg::R1, offset: 0 },
        Insn::Store { size: Size::W, base: Reg::R1, offset: 4, src: Operand::Imm(9) },
        Insn::Exit,
    ]
    .into_iter()
    .collect();
    let mut ctx = [3, 0, 0, 0, 0, 0, 0, 0];
    let got = KernelProgram::load(&code, None)?.run(&mut ctx)?;
    if got == 3 && ctx == [3, 0, 0, 0, 9, 0, 0, 0] { Ok(()) } else { Err(format!("{got}, {ctx:?}").into()) }
}

fn refusal() -> Result<(), Failed> {
    let code: Code = [Insn::Exit].into_iter().collect();
    match run(&code, Setup::default()) {
        Err(OracleError::Bpf(error)) if error.log().and_then(|l| l.last_line()) == Some("R0 !read_ok") => {
            Ok(())
        }
        other => Err(format!("{other:?}").into()),
    }
}
