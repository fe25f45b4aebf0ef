//! The log in the kernel's form. The same texts are the running kernel's; `testkit` compares the logs of whole objects.

use std::error::Error;
use std::time::Duration;

use bpf_arena_verifier::log::{KernelLog, LogLevel};
use bpf_arena_verifier::{Env, verify_with};
use bpf_object::{LineInfo, Linkage, Program, Subprogram};
use isa::InsnIdx;

/// A function is called on one of two paths.
const ACCEPTED: &str = "\
r1 = *(u32 *)(r1 +0)
r1 &= 7
*(u64 *)(r10 -8) = r1
if r1 > 3 goto pc+1
call pc+2
r0 = 0
exit
w0 = 1
exit
";

/// The fault is on the second path.
const REFUSED: &str = "\
r2 = *(u64 *)(r1 +0)
r0 = 0
if r2 == 0x0 goto pc+1
exit
r0 = *(u8 *)(r2 +4)
exit
";

fn log(text: &str, level: u32) -> Result<String, Box<dyn Error>> {
    let mut program = Program::from_code("prog", "syscall", isa::assemble(text)?.code);
    if text == ACCEPTED {
        let (start, end) = (InsnIdx(7), InsnIdx(9));
        program.subprograms.iter_mut().for_each(|s| s.end = start);
        let name = "f".to_owned();
        program.subprograms.push(Subprogram { name, start, end, btf_func: None, linkage: Linkage::Static });
    }
    program.lines.push(LineInfo {
        insn: InsnIdx(0),
        file: "src/prog.c".into(),
        line: 3,
        column: 1,
        source: "\tlong x = *ctx;".into(),
    });
    let env = Env::default();
    let level = LogLevel::from_bits(level).ok_or("no such level")?;
    let mut log = KernelLog::new(&program, &env, level);
    let verdict = verify_with(&program, &env, &mut log);
    Ok(log.finish(&verdict, Duration::from_micros(250)))
}

#[test]
fn every_path_is_told() -> Result<(), Box<dyn Error>> {
    let expected = "\
func#0 @0
func#1 @7
Live regs before insn:
      0: .12345.... (61) r1 = *(u32 *)(r1 +0)
      1: .12345.... (57) r1 &= 7
      2: .12345.... (7b) *(u64 *)(r10 -8) = r1
      3: .12345.... (25) if r1 > 0x3 goto pc+1
      4: .12345.... (85) call pc+2
      5: .......... (b7) r0 = 0
      6: 0......... (95) exit
      7: .......... (b4) w0 = 1
      8: 0......... (95) exit
0: R1=ctx() R10=fp0
; long x = *ctx; @ prog.c:3
0: (61) r1 = *(u32 *)(r1 +0)          ; R1=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
1: (57) r1 &= 7                       ; R1=scalar(smin=smin32=0,smax=umax=smax32=umax32=7,var_off=(0x0; 0x7))
2: (7b) *(u64 *)(r10 -8) = r1         ; R1=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=7,var_off=(0x0; 0x7)) R10=fp0 fp-8=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=7,var_off=(0x0; 0x7))
3: (25) if r1 > 0x3 goto pc+1         ; R1=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=3,var_off=(0x0; 0x3))
4: (85) call pc+2
caller:
";
    let text = log(ACCEPTED, 2)?;
    assert!(text.starts_with(expected), "{text}");
    let rest = text.strip_prefix(expected).unwrap_or_default();
    for part in [
        "callee:\n frame1: R1=scalar(id=1,",
        "returning from callee:\n frame1: R0=1 R1=scalar(id=1,",
        "to caller at 5:\n R0=1 R10=fp0 fp-8=scalar(id=1,",
        "\nfrom 8 to 5: R0=1 R10=fp0",
        "\nfrom 3 to 5: safe\n",
    ] {
        assert!(rest.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.ends_with(" mark_read 0\n"), "{text}");
    Ok(())
}

#[test]
fn the_path_to_the_fault_is_told_alone() -> Result<(), Box<dyn Error>> {
    // What the other path added is cut off, but not what it changed: the end of the branch's line, as in the kernel.
    let expected = "\
0: R1=ctx() R10=fp0
; long x = *ctx; @ prog.c:3
0: (79) r2 = *(u64 *)(r1 +0)          ; R1=ctx() R2=scalar()
1: (b7) r0 = 0                        ; R0=0
2: (15) if r2 == 0x0 goto pc+1 4: R0=0 R1=ctx() R2=0 R10=fp0
4: (71) r0 = *(u8 *)(r2 +4)
R2 invalid mem access 'scalar'
processed 5 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
";
    assert_eq!(log(REFUSED, 1)?, expected);
    Ok(())
}

#[test]
fn statistics_tell_time_and_stack() -> Result<(), Box<dyn Error>> {
    let text = log(ACCEPTED, 4)?;
    assert!(text.starts_with("verification time 250 usec\nstack depth 8+0\nprocessed 10 insns "), "{text}");
    assert_eq!(log(ACCEPTED, 0)?, "");
    assert!(log(REFUSED, 4)?.starts_with("R2 invalid mem access 'scalar'\n"));
    Ok(())
}

#[test]
fn levels_are_the_kernels() {
    assert!(LogLevel::from_bits(7).is_some());
    assert!(LogLevel::from_bits(8).is_none());
}
