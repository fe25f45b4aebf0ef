//! `bpf-arena disasm`.

use std::borrow::Cow;

use bpf_arena::bpf_object::Program;
use bpf_arena::isa::{CallTarget, Imm64, InsnIdx, Names};

use crate::args::DisasmArgs;
use crate::failure::Failure;
use crate::output::say;
use crate::{input, report, verify};

/// Shows each program asked for.
pub(crate) fn run(args: &DisasmArgs) -> Result<(), Failure> {
    let object = input::object(&args.object)?;
    for (index, name) in input::programs(&object, args.program.as_deref())?.iter().enumerate() {
        if index > 0 {
            say!("")?;
        }
        let program = input::link(&object, name)?;
        say!("{name}: SEC(\"{}\"), {} instructions", program.section, program.code.iter().count())?;
        if args.jit { machine_code(&program)? } else { instructions(&program)? }
    }
    Ok(())
}

fn instructions(program: &Program) -> Result<(), Failure> {
    let names = ProgramNames(program);
    let mut marker = Marker::default();
    for (at, insn) in program.code.iter() {
        marker.show(program, at)?;
        say!("{:4}: {}", at.0, insn.text(at, &names))?;
    }
    Ok(())
}

fn machine_code(program: &Program) -> Result<(), Failure> {
    let verified = verify::accept(program)?;
    let compiled = bpf_arena::codegen::compile(&verified, &bpf_arena::codegen::Options::default())
        .map_err(Failure::refused)?;
    say!("{} bytes of machine code", compiled.text.len())?;
    let names = ProgramNames(program);
    let mut marker = Marker::default();
    let mut last = None;
    for machine in compiled.disassemble() {
        marker.show(program, machine.insn)?;
        if last != Some(machine.insn)
            && let Some(insn) = program.code.get(machine.insn)
        {
            say!("{:4}: {}", machine.insn.0, insn.text(machine.insn, &names))?;
            last = Some(machine.insn);
        }
        let fault = if machine.may_fault { "  ; may fault" } else { "" };
        say!("      {:6x}:  {}{fault}", machine.offset, machine.text)?;
    }
    Ok(())
}

/// Shows where functions and source lines begin.
#[derive(Default)]
struct Marker {
    function: Option<InsnIdx>,
    /// File and line shown last.
    line: Option<(String, u32)>,
}

impl Marker {
    fn show(&mut self, program: &Program, at: InsnIdx) -> Result<(), Failure> {
        if let Some(function) = program.subprogram_at(at)
            && self.function != Some(function.start)
        {
            say!("{}:", function.name)?;
            self.line = None;
            self.function = Some(function.start);
        }
        if let Some(line) = program.line_at(at) {
            let place = Some((report::file_name(line).to_owned(), line.line));
            if self.line != place {
                say!("; {} @ {}:{}", line.source.trim(), report::file_name(line), line.line)?;
                self.line = place;
            }
        }
        Ok(())
    }
}

/// Names of what a program's instructions refer to.
struct ProgramNames<'a>(&'a Program);

impl Names for ProgramNames<'_> {
    fn call(&self, at: InsnIdx, target: CallTarget) -> Option<Cow<'_, str>> {
        match target {
            CallTarget::Kfunc { btf_id, .. } => {
                let index = usize::try_from(btf_id).ok()?;
                Some(Cow::Borrowed(self.0.externs.get(index)?.name.as_str()))
            }
            CallTarget::Local(offset) => {
                let target = at.offset(i64::from(offset) + 1)?;
                let function = self.0.subprograms.iter().find(|s| s.start == target)?;
                Some(Cow::Borrowed(function.name.as_str()))
            }
            _ => None,
        }
    }

    fn imm64(&self, _at: InsnIdx, value: Imm64) -> Option<Cow<'_, str>> {
        let map = |index: u32| self.0.maps.get(usize::try_from(index).ok()?).map(|m| m.name.as_str());
        match value {
            Imm64::MapIdx(index) => Some(format!("map[{}]", map(index)?).into()),
            Imm64::MapIdxValue { map: index, offset } => {
                Some(format!("map[{}][0]+{offset}", map(index)?).into())
            }
            _ => None,
        }
    }
}
