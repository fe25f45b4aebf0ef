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
        if let Some(function) = program.subprograms.iter().find(|function| function.start == at) {
            say!("{}:", function.name)?;
            marker = Marker::default();
        }
        marker.show(program, at)?;
        say!("{:4}: {}", at.0, insn.text(at, &names))?;
    }
    Ok(())
}

/// The machine code of each function, under the instructions and the source lines that it was made of. What was inlined stands
/// where it went, with its own lines.
fn machine_code(program: &Program) -> Result<(), Failure> {
    let verified = verify::accept(program)?;
    let compiled = bpf_arena::codegen::compile(&verified, &bpf_arena::codegen::Options::default())
        .map_err(Failure::refused)?;
    say!("{} bytes of machine code", compiled.text.len())?;
    let names = ProgramNames(program);
    let mut marker = Marker::default();
    let mut last = None;
    for machine in compiled.disassemble() {
        if let Some(function) = compiled.functions.iter().find(|function| function.start == machine.offset) {
            let subprogram = program.subprograms.get(function.subprogram);
            let name = subprogram.map_or("?", |subprogram| &subprogram.name);
            say!("{name}: {} bytes", function.end - function.start)?;
            marker = Marker { function: subprogram.map(|subprogram| subprogram.start), line: None };
            last = None;
        }
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

/// Shows where source lines begin.
#[derive(Default)]
struct Marker {
    /// Start of the function that is shown, if code of others may stand in it.
    function: Option<InsnIdx>,
    /// File and line shown last.
    line: Option<(String, u32)>,
}

impl Marker {
    fn show(&mut self, program: &Program, at: InsnIdx) -> Result<(), Failure> {
        let Some(line) = program.line_at(at) else { return Ok(()) };
        let place = Some((report::file_name(line).to_owned(), line.line));
        if self.line == place {
            return Ok(());
        }
        let home =
            program.subprogram_at(at).filter(|home| self.function.is_some_and(|own| own != home.start));
        let inlined = home.map(|home| format!(" (inlined from {})", home.name)).unwrap_or_default();
        say!("; {} @ {}:{}{inlined}", line.source.trim(), report::file_name(line), line.line)?;
        self.line = place;
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
