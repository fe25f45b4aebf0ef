//! `bpf-arena isa-plugin`: the plugin protocol of the public bpf_conformance suite.
//!
//! A test's program expects its memory in R1 and the memory's size in R2. It is made a function of a program of ours,
//! which is verified and run like any other:
//!
//! ```text
//! main: copy the context to the stack (memory up to 256 bytes), r1 = fp - size, r2 = size, call test; exit
//! ```

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use bpf_object::{Linkage, Program, Subprogram};
use isa::{CallTarget, Code, Imm64, Insn, InsnIdx};

use crate::args::IsaPluginArgs;
use crate::engine::{self, Printed};
use crate::failure::Failure;
use crate::output::{self, say};
use crate::{context, report};

/// Memory up to this size goes on the stack of the calling function, which leaves the test as much stack of its own.
const MAX_STACK_MEMORY: usize = 256;
/// Most characters of a program on standard input.
const MAX_INPUT: u64 = 64 << 20;

/// Runs one program of the suite.
pub(crate) fn run(args: &IsaPluginArgs) -> Result<(), Failure> {
    let mut memory =
        context::hex(args.memory.as_deref().unwrap_or_default()).context("memory").map_err(Failure::Usage)?;
    let program = program(args, memory.len()).map_err(Failure::Usage)?;
    let engine = engine::user(args.interp, &Printed::default());
    let maps = engine.maps(&program).map_err(Failure::refused)?;
    let loaded = engine.load_program(&program, &maps).map_err(|error| match error {
        bpf_arena::LoadError::Rejected { source, .. } if args.debug => {
            output::note(&report::refusal(&program, &source));
            Failure::Reported
        }
        other => Failure::refused(other),
    })?;
    let outcome = loaded.run(&mut memory).map_err(Failure::refused)?;
    say!("{:x}", outcome.r0)
}

fn program(args: &IsaPluginArgs, memory: usize) -> anyhow::Result<Program> {
    let text = match &args.program {
        Some(text) => text.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).context("standard input")?;
            text
        }
    };
    let bytes = context::hex(&text).context("program")?;
    if bytes.is_empty() {
        bail!("no program on standard input");
    }
    let test = isa::decode(&bytes).context("program")?;
    let mut code = entry(memory)?;
    let start = InsnIdx(u32::try_from(code.len())?);
    for (_, insn) in test.iter() {
        code.push(insn);
    }
    let functions = functions(&code, start);
    let mut program = Program::from_code("isa_plugin", "syscall", code);
    program.subprograms = functions;
    Ok(program)
}

/// The function that calls the test: the last instruction but one is the call, the test follows the last.
fn entry(memory: usize) -> anyhow::Result<Code> {
    let mut text = String::new();
    let size = memory;
    if memory <= MAX_STACK_MEMORY {
        let below = memory.next_multiple_of(8);
        for at in (0..below).step_by(8) {
            text += &format!("*(u64 *)(r10 -{}) = 0\n", below - at);
        }
        for at in 0..memory {
            text += &format!("r2 = *(u8 *)(r1 +{at})\n*(u8 *)(r10 -{}) = r2\n", below - at);
        }
        text += &format!("r1 = r10\nr1 += -{below}\n");
    }
    text += &format!("r2 = {size}\n");
    let mut code = isa::assemble(&text).map_err(|error| anyhow!("{error}"))?.code;
    code.push(Insn::Call { target: CallTarget::Local(1) });
    code.push(Insn::Exit);
    Ok(code)
}

/// Every function: the entry, the test, and what the test calls or takes the address of.
fn functions(code: &Code, test: InsnIdx) -> Vec<Subprogram> {
    let mut starts = vec![InsnIdx(0), test];
    for (at, insn) in code.iter() {
        let distance = match insn {
            Insn::Call { target: CallTarget::Local(distance) } => distance,
            Insn::LoadImm64 { value: Imm64::Func(distance), .. } => distance,
            _ => continue,
        };
        starts.extend(at.offset(i64::from(distance) + 1).filter(|&target| code.get(target).is_some()));
    }
    starts.sort_unstable();
    starts.dedup();
    let end = InsnIdx(u32::try_from(code.len()).unwrap_or(u32::MAX));
    let ends = starts.iter().copied().skip(1).chain([end]);
    let function = |(index, (start, end)): (usize, (InsnIdx, InsnIdx))| Subprogram {
        name: if index == 0 { "isa_plugin".to_owned() } else { format!("function_{start}") },
        start,
        end,
        btf_func: None,
        linkage: if index == 0 { Linkage::Global } else { Linkage::Static },
    };
    starts.iter().copied().zip(ends).enumerate().map(function).collect()
}
