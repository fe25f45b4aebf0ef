//! Programs as text, with the facts verification would find.
//!
//! The language is the assembler's. Comments of instructions say the facts: `arena` or `proven` (whose memory; what is
//! addressed by `r10` is proven without saying so), `narrow`, `unreached`, `map N`. Maps are
//! an array of 100 values of 24 bytes, the same for each CPU, and a hash map of keys of 8 and values of 16 bytes. A label that begins with `sub_` begins a
//! subprogram; its line's comment may say `callback`, `global`, `stack N`, bytes, and `addressed N`, the slot at -N that a pointer
//! reaches. A line `; entry: ...` says the same of the first function.

use std::sync::Arc;

use bpf_object::{Extern, ExternKind, Linkage, MapSpec, MapType, Program, Subprogram};
use isa::{Assembly, CallTarget, Insn, InsnIdx, Reg};
use verifier::{FrameFacts, InsnFacts, Memory};

use crate::flow::Body;
use crate::source::Source;
use crate::{CompileError, Compiled, Options, Pass, PassSet};

/// Code that is the same on every x86-64. Tests for AArch64 are of atomic operations that are one instruction.
pub(super) const BASELINE: bool = cfg!(target_arch = "x86_64");

/// The kernel functions of all programs.
const KFUNCS: [&str; 4] = ["some_kfunc", "bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"];

/// A program and its claimed facts.
pub(super) struct Fixture {
    pub(super) program: Program,
    pub(super) facts: Vec<InsnFacts>,
    pub(super) frames: Vec<FrameFacts>,
}

impl Fixture {
    /// Reads a text.
    pub(super) fn parse(text: &str) -> Self {
        let kfunc = |name: &str| {
            let index = KFUNCS.iter().position(|known| *known == name)?;
            Some(CallTarget::Kfunc { btf_id: index as i32, module: 0 })
        };
        let assembly = isa::assemble_with(text, &kfunc).expect("the fixture assembles");
        let comments: Vec<&str> = text.lines().map(|l| l.split_once(';').map_or("", |(_, c)| c)).collect();
        let facts = (0..assembly.code.len())
            .map(|slot| {
                let line = assembly.lines[slot] as usize;
                facts(assembly.code.get(InsnIdx(slot as u32)), comments[line - 1])
            })
            .collect();
        let mut program = Program::from_code("test", "syscall", assembly.code.clone());
        program.externs = KFUNCS.map(external).into();
        program.maps = maps();
        let frames = functions(text, &assembly, &mut program.subprograms);
        Self { program, facts, frames }
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source::claimed(&self.program, &self.frames, &self.facts)
    }

    /// The bodies of all subprograms, before any pass.
    pub(super) fn bodies(&self) -> Vec<Body> {
        (0..self.frames.len())
            .map(|i| Body::build(self.source(), i).expect("the fixture is in order"))
            .collect()
    }

    pub(super) fn compile(&self) -> Result<Compiled, CompileError> {
        crate::compile::compile(self.source(), &Options { baseline: BASELINE, ..Options::default() })
    }

    /// Every call a call.
    pub(super) fn compile_with_calls(&self, baseline: bool) -> Result<Compiled, CompileError> {
        let passes = PassSet::ALL.without(Pass::Inline).without(Pass::Calls).without(Pass::Callbacks);
        crate::compile::compile(self.source(), &Options { passes, baseline, ..Options::default() })
    }

    /// As the program says, by no pass.
    pub(super) fn compile_plain(&self) -> Result<Compiled, CompileError> {
        crate::compile::compile(self.source(), &Options { passes: PassSet::NONE, ..Options::default() })
    }

    pub(super) fn compile_checked(&self) -> Result<Compiled, CompileError> {
        crate::compile::compile(
            self.source(),
            &Options { checked_arena: true, baseline: BASELINE, ..Options::default() },
        )
    }
}

fn maps() -> Arc<[MapSpec]> {
    let map = |map_type, key_size, value_size| MapSpec {
        key_size,
        value_size,
        max_entries: 100,
        ..MapSpec::new("map", map_type)
    };
    Arc::new([map(MapType::Array, 4, 24), map(MapType::PercpuArray, 4, 24), map(MapType::Hash, 8, 16)])
}

fn external(name: &str) -> Extern {
    Extern { name: name.to_owned(), kind: ExternKind::Function, weak: false, btf: None }
}

fn facts(insn: Option<Insn>, comment: &str) -> InsnFacts {
    let mut facts = InsnFacts::default();
    let Some(insn) = insn else { return facts };
    let says = |word: &str| comment.split_whitespace().any(|w| w == word);
    facts.reached = !says("unreached");
    facts.narrow = says("narrow");
    facts.map = comment.split_once("map ").map(|(_, number)| number.trim().parse().unwrap());
    facts.memory = match base(insn) {
        Some(Reg::R10) => Some(Memory::Proven),
        Some(_) if says("arena") => Some(Memory::Arena),
        Some(_) if says("proven") => Some(Memory::Proven),
        _ => None,
    };
    facts
}

fn base(insn: Insn) -> Option<Reg> {
    match insn {
        Insn::Load { base, .. }
        | Insn::Store { base, .. }
        | Insn::Atomic { base, .. }
        | Insn::LoadAcquire { base, .. }
        | Insn::StoreRelease { base, .. } => Some(base),
        _ => None,
    }
}

/// Splits at the `sub_` labels.
fn functions(text: &str, assembly: &Assembly, subprograms: &mut Vec<Subprogram>) -> Vec<FrameFacts> {
    let entry = subprograms[0].clone();
    let mut frames = vec![FrameFacts::default()];
    frames[0].reached = true;
    let mut words = text.lines().find_map(|l| l.strip_prefix("; entry:")).unwrap_or("").split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "stack" => stack(&mut frames[0], words.next().unwrap()),
            "addressed" => frames[0].addressed |= slot(words.next().unwrap()),
            other => panic!("unknown fact {other} of the entry"),
        }
    }
    let mut starts: Vec<_> = assembly.labels.iter().filter(|(name, _)| name.starts_with("sub_")).collect();
    starts.sort_by_key(|(_, at)| **at);
    for (name, &start) in starts {
        let line = text.lines().find(|l| l.trim_start().starts_with(&format!("{name}:"))).unwrap();
        let mut words = line.split(';').nth(1).unwrap_or("").split_whitespace();
        let mut frame = FrameFacts::default();
        frame.reached = true;
        let mut linkage = Linkage::Static;
        while let Some(word) = words.next() {
            match word {
                "callback" => frame.callback = true,
                "global" => linkage = Linkage::Global,
                "stack" => stack(&mut frame, words.next().unwrap()),
                "addressed" => frame.addressed |= slot(words.next().unwrap()),
                other => panic!("unknown fact {other} of {name}"),
            }
        }
        subprograms.last_mut().unwrap().end = start;
        subprograms.push(Subprogram { name: name.clone(), start, linkage, ..entry.clone() });
        frames.push(frame);
    }
    frames
}

fn stack(frame: &mut FrameFacts, bytes: &str) {
    frame.stack_bytes = bytes.parse().unwrap();
    frame.stack_depth = frame.stack_bytes;
}

/// The bit of the slot at `-offset`.
fn slot(offset: &str) -> u64 {
    1 << (offset.parse::<u32>().unwrap() / 8 - 1)
}
