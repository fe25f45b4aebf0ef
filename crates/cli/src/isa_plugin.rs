//! `bpf-arena isa-plugin`: the plugin protocol of the public bpf_conformance suite.
//!
//! A test's program expects its memory in R1 and the memory's size in R2. The memory is the value of a data map, where a
//! verifier allows accesses of every kind and alignment, and two instructions in front of the test load the registers:
//!
//! ```text
//! r1 = map[memory][0]+0
//! r2 = size
//! ```

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bpf_arena::LoadError;
use bpf_arena::bpf_object::{Linkage, MapOrigin, MapSpec, MapType, Program, Subprogram};
use bpf_arena::isa::{CallTarget, Code, Imm64, Insn, InsnIdx, Operand, Reg, Width};

use crate::args::IsaPluginArgs;
use crate::engine::{self, Printed};
use crate::failure::Failure;
use crate::output::{self, say};
use crate::{context, report};

/// Most characters of a program on standard input.
const MAX_INPUT: u64 = 64 << 20;

/// Runs one program of the suite.
pub(crate) fn run(args: &IsaPluginArgs) -> Result<(), Failure> {
    let memory = context::hex(args.memory.as_deref().unwrap_or_default());
    let memory = memory.context("memory").map_err(Failure::Usage)?;
    let program = program(&test(args).map_err(Failure::Usage)?, memory).map_err(Failure::Usage)?;
    let engine = engine::user(args.interp, &Printed::default());
    let maps = engine.maps(&program).map_err(Failure::refused)?;
    let instance = engine.load_program(&program, &maps).map_err(|error| match error {
        LoadError::Rejected { source, .. } if args.debug => {
            output::note(&report::refusal(&program, &source));
            Failure::Reported
        }
        other => Failure::refused(other),
    })?;
    say!("{:x}", instance.run(&mut []).map_err(Failure::refused)?.r0)
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
    bpf_arena::isa::decode(&bytes).context("program")
}

/// The test with its memory in R1 and R2.
fn program(test: &Code, memory: Vec<u8>) -> anyhow::Result<Program> {
    let size = u32::try_from(memory.len())?;
    let mut code = Code::new();
    let value = if size == 0 { Imm64::Const(0) } else { Imm64::MapIdxValue { map: 0, offset: 0 } };
    code.push(Insn::LoadImm64 { dst: Reg::R1, value });
    let length = Operand::Imm(size.try_into()?);
    code.push(Insn::Mov { width: Width::W64, dst: Reg::R2, src: length });
    for (_, insn) in test.iter() {
        code.push(insn);
    }
    let functions = functions(&code);
    let mut program = Program::from_code("isa_plugin", "syscall", code);
    program.subprograms = functions;
    if size != 0 {
        program.maps = Arc::from([spec(size, memory)]);
    }
    Ok(program)
}

/// The data map that holds the memory.
fn spec(size: u32, memory: Vec<u8>) -> MapSpec {
    MapSpec {
        key_size: 4,
        value_size: size,
        max_entries: 1,
        origin: MapOrigin::Data { section: ".data".to_owned(), read_only: false },
        initial: memory,
        ..MapSpec::new("memory", MapType::Array)
    }
}

/// Every function: the test, and what it calls or takes the address of.
fn functions(code: &Code) -> Vec<Subprogram> {
    let mut starts = vec![InsnIdx(0)];
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
    let function = |(start, end): (InsnIdx, InsnIdx)| Subprogram {
        name: if start == InsnIdx(0) { "isa_plugin".to_owned() } else { format!("function_{start}") },
        start,
        end,
        btf_func: None,
        linkage: if start == InsnIdx(0) { Linkage::Global } else { Linkage::Static },
    };
    starts.iter().copied().zip(ends).map(function).collect()
}
