//! What an object uses that this engine cannot execute: all of it, each with the line that uses it first.

use bpf_object::{Extern, MapSpec, ProgType, Program, UNANSWERED_RELOCATION};
use isa::{CallTarget, Imm64, Insn, InsnIdx};

use crate::error::{Unsupported, UnsupportedKind};
use crate::host::HostFunctions;
use crate::runtime::hosted;
use crate::runtime::{self, maps};

/// Whether programs of this type can be run at all.
pub(crate) fn runs(prog_type: ProgType) -> bool {
    // What replaces another program's function has no context of its own.
    prog_type != ProgType::Ext
}

/// What a program uses in the instructions that count, each once, at its first use.
pub(super) fn of_program(
    program: &Program,
    host: &HostFunctions,
    counts: impl Fn(InsnIdx) -> bool,
) -> Vec<Unsupported> {
    let mut found: Vec<Unsupported> = Vec::new();
    if !program.kind.prog_type.is_some_and(runs) {
        found.push(at(program, InsnIdx(0), UnsupportedKind::ProgramType, program.section.clone()));
    }
    for (index, insn) in program.code.iter().filter(|(index, _)| counts(*index)) {
        let Some((kind, name)) = of_instruction(program, host, index, insn) else { continue };
        if found.iter().all(|known| (known.kind, &known.name) != (kind, &name)) {
            found.push(at(program, index, kind, name));
        }
    }
    found
}

/// The maps of types that cannot be created, each where a program names it first.
pub(super) fn of_maps(specs: &[MapSpec], programs: &[Program]) -> Vec<Unsupported> {
    let missing = (0..).zip(specs).filter(|(_, spec)| !maps::supported(spec.map_type));
    let found = missing.map(|(index, spec)| {
        let kind = UnsupportedKind::Map(spec.map_type);
        let uses = programs.iter().filter_map(|program| Some((program, first_use(program, index)?)));
        match uses.into_iter().next() {
            Some((program, insn)) => at(program, insn, kind, spec.name.clone()),
            None => Unsupported { program: None, name: spec.name.clone(), kind, insn: None, line: None },
        }
    });
    found.collect()
}

/// The extern with this index.
pub(super) fn external(program: &Program, index: i32) -> Option<&Extern> {
    program.externs.get(usize::try_from(index).ok()?)
}

fn at(program: &Program, insn: InsnIdx, kind: UnsupportedKind, name: String) -> Unsupported {
    let line = program.line_at(insn).cloned();
    Unsupported { program: Some(program.name.clone()), name, kind, insn: Some(insn), line }
}

/// The first instruction that names the map with this index.
fn first_use(program: &Program, map: u32) -> Option<InsnIdx> {
    program.code.iter().find_map(|(at, insn)| match insn {
        Insn::LoadImm64 { value: Imm64::MapIdx(named) | Imm64::MapIdxValue { map: named, .. }, .. } => {
            (named == map).then_some(at)
        }
        _ => None,
    })
}

/// What the runtime lacks to execute this instruction.
fn of_instruction(
    program: &Program,
    host: &HostFunctions,
    at: InsnIdx,
    insn: Insn,
) -> Option<(UnsupportedKind, String)> {
    match insn {
        Insn::Call { target } if hosted::find(program, host, target).is_some() => None,
        Insn::Call { target: CallTarget::Helper(UNANSWERED_RELOCATION) } => {
            Some((UnsupportedKind::Relocation, String::new()))
        }
        Insn::Call { target: CallTarget::Helper(number) } if runtime::helper(number).is_none() => {
            let name = isa::helper_name(number).unwrap_or("unknown").to_owned();
            Some((UnsupportedKind::Helper(number), name))
        }
        Insn::Call { target: CallTarget::Kfunc { btf_id, .. } } => {
            let name = external(program, btf_id).map_or_else(String::new, |function| function.name.clone());
            runtime::kfunc(&name).is_none().then_some((UnsupportedKind::Kfunc, name))
        }
        Insn::LoadImm64 { value: Imm64::BtfVar { btf_id, .. }, .. } => {
            let name = external(program, btf_id).map_or_else(String::new, |variable| variable.name.clone());
            host.variable(&name).is_none().then_some((UnsupportedKind::KernelVariable, name))
        }
        Insn::IndirectJump { .. } | Insn::Call { target: CallTarget::Register(_) } => {
            Some((UnsupportedKind::Instruction, insn.text(at, &()).to_string()))
        }
        _ => None,
    }
}
