//! `bpf-arena isa-plugin`: the plugin protocol of the public bpf_conformance suite.
//!
//! A test's program expects its memory in R1 and the memory's size in R2. It is made a function of a program of ours, which
//! is verified and run like any other. No memory allows everything, so two are tried:
//!
//! ```text
//! context:  r2 = size; call test; exit                                           constant offsets, any alignment
//! stack:    copy the context to fp - size; r1 = fp - size; r2 = size; call ..    atomics, variable offsets, aligned
//! ```

use std::io::Read;

use anyhow::{Context as _, anyhow, bail};
use bpf_arena::{Instance, LoadError};
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

/// Where a test finds its memory.
#[derive(Clone, Copy)]
enum Home {
    Context,
    Stack,
}

/// Runs one program of the suite.
pub(crate) fn run(args: &IsaPluginArgs) -> Result<(), Failure> {
    let mut memory =
        context::hex(args.memory.as_deref().unwrap_or_default()).context("memory").map_err(Failure::Usage)?;
    let test = test(args).map_err(Failure::Usage)?;
    let size = memory.len();
    let instance = match load(args, &test, Home::Context, size) {
        Err(Failure::Reported | Failure::Refused(_)) if (1..=MAX_STACK_MEMORY).contains(&size) => {
            load(args, &test, Home::Stack, size)?
        }
        other => other?,
    };
    let outcome = instance.run(&mut memory).map_err(Failure::refused)?;
    say!("{:x}", outcome.r0)
}

/// The program to be tested.
fn test(args: &IsaPluginArgs) -> anyhow::Result<Code> {
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
    isa::decode(&bytes).context("program")
}

fn load(args: &IsaPluginArgs, test: &Code, home: Home, size: usize) -> Result<Instance, Failure> {
    let program = program(test, home, size).map_err(Failure::Usage)?;
    let engine = engine::user(args.interp, &Printed::default());
    let maps = engine.maps(&program).map_err(Failure::refused)?;
    engine.load_program(&program, &maps).map_err(|error| match error {
        LoadError::Rejected { source, .. } if args.debug => {
            output::note(&report::refusal(&program, &source));
            Failure::Reported
        }
        other => Failure::refused(other),
    })
}

fn program(test: &Code, home: Home, size: usize) -> anyhow::Result<Program> {
    let mut code = entry(home, size)?;
    let start = InsnIdx(u32::try_from(code.len())?);
    for (_, insn) in test.iter() {
        code.push(insn);
    }
    let functions = functions(&code, start);
    let mut program = Program::from_code("isa_plugin", "syscall", code);
    program.subprograms = functions;
    Ok(program)
}

/// The function that calls the test, which follows it.
fn entry(home: Home, size: usize) -> anyhow::Result<Code> {
    let mut text = String::new();
    if let Home::Stack = home {
        let below = size.next_multiple_of(8);
        for at in 0..size {
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
