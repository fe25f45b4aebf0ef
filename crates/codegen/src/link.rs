//! Puts the functions of a program one behind the other and resolves what they say of each other.

use std::borrow::Cow;

use cranelift_codegen::ir::function::FunctionParameters;
use cranelift_codegen::ir::{ExternalName, UserExternalName};
use cranelift_codegen::{CompiledCode, FinalizedMachReloc, FinalizedRelocTarget};
use isa::InsnIdx;

use crate::flow::{At, Inlined};
use crate::lower::{self, ARENA_TRAP, PROBE_TRAP};
use crate::machine::Machine;
use crate::passes::Changes;
use crate::reloc::Form;
use crate::source::Source;
use crate::{
    CompileError, Compiled, FaultSite, FrameStep, Function, Import, InlinedCall, Line, Stub, faults, limits,
    unwind,
};

/// Alignment of a function.
const ALIGNMENT: usize = 16;

/// The text so far.
pub(crate) struct Text {
    machine: Machine,
    bytes: Vec<u8>,
    functions: Vec<Function>,
    faults: Vec<FaultSite>,
    lines: Vec<Line>,
    inlined: Vec<InlinedCall>,
    /// With the subprogram that each is of; where they are is counted from the beginning of the text.
    references: Vec<(usize, Reference)>,
    /// By their numbers.
    stubs: Vec<Stub>,
}

/// The code of one function and what is known of it. Offsets are from its beginning.
pub(crate) struct Code<'a> {
    /// Instructions, and perhaps constants behind them.
    pub(crate) bytes: Cow<'a, [u8]>,
    /// Bytes of instructions.
    pub(crate) length: u32,
    /// Where the code of each operation begins.
    pub(crate) locations: Vec<(u32, At)>,
    /// Instructions that access an arena, and whether each is a probe.
    pub(crate) traps: Vec<(u32, bool)>,
    /// What it says of other functions.
    pub(crate) references: Vec<Reference>,
    /// How it builds its frame.
    pub(crate) frame: Vec<FrameStep>,
}

/// Four bytes in the code of a function that refer to another one, plus `addend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) form: Form,
    pub(crate) at: u32,
    pub(crate) to: Target,
    pub(crate) addend: i64,
}

/// What functions refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A subprogram, by its index.
    Subprogram(usize),
    /// A stub, by its number.
    Stub(usize),
}

impl Target {
    fn new(name: &UserExternalName) -> Option<Self> {
        match name.namespace {
            lower::SUBPROGRAMS => Some(Self::Subprogram(name.index as usize)),
            lower::STUBS => Some(Self::Stub(name.index as usize)),
            _ => None,
        }
    }
}

impl<'a> Code<'a> {
    /// What the backend made of a subprogram, or of a stub.
    pub(crate) fn of(
        subprogram: usize,
        code: &'a CompiledCode,
        names: &FunctionParameters,
    ) -> Result<Self, CompileError> {
        let reference = |relocation: &FinalizedMachReloc| {
            let unresolved = CompileError::Unresolved { subprogram, offset: relocation.offset };
            let to = match &relocation.target {
                FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => {
                    names.user_named_funcs().get(*name).and_then(Target::new)
                }
                _ => None,
            };
            let form = Form::of(relocation.kind).ok_or_else(|| unresolved.clone())?;
            let to = to.ok_or(unresolved)?;
            Ok(Reference { form, at: relocation.offset, to, addend: relocation.addend })
        };
        let locations = code.buffer.get_srclocs_sorted();
        let traps = code.buffer.traps().iter().filter(|t| [ARENA_TRAP, PROBE_TRAP].contains(&t.code));
        Ok(Self {
            bytes: code.code_buffer().into(),
            // Constants may follow the instructions; only these have locations, be it the one that says nothing.
            length: locations.iter().map(|l| l.end).max().unwrap_or(0),
            locations: locations.iter().filter_map(|l| Some((l.start, lower::located(l.loc)?))).collect(),
            traps: traps.map(|trap| (trap.offset, trap.code == PROBE_TRAP)).collect(),
            references: code.buffer.relocs().iter().map(reference).collect::<Result<_, _>>()?,
            frame: unwind::steps(code),
        })
    }
}

impl Text {
    /// No functions yet.
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            bytes: Vec::new(),
            functions: Vec::new(),
            faults: Vec::new(),
            lines: Vec::new(),
            inlined: Vec::new(),
            references: Vec::new(),
            stubs: Vec::new(),
        }
    }

    /// Appends the code of a subprogram.
    pub(crate) fn append(
        &mut self,
        source: Source<'_>,
        subprogram: usize,
        code: &Code<'_>,
        inlined: &[At],
    ) -> Result<(), CompileError> {
        let start = self.append_code(subprogram, code)?;
        let end = start + code.length;

        let first = self.lines.len();
        self.append_lines(source, subprogram, start, code, inlined);
        self.append_faults(source, start, first, code)?;
        let is_callback = source.frames().get(subprogram).is_some_and(|f| f.callback);
        let callback = is_callback.then_some(start);
        let frame = unwind::moved(start, &code.frame);
        self.functions.push(Function { subprogram, start, end, callback, frame });
        Ok(())
    }

    /// Appends the code of the next stub, which accesses no arena.
    pub(crate) fn append_stub(&mut self, import: Import, code: &Code<'_>) -> Result<(), CompileError> {
        let start = self.append_code(0, code)?;
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.stubs.push(Stub { import, start, end, frame: unwind::moved(start, &code.frame) });
        Ok(())
    }

    /// Where the bytes of a function begin that were appended, with what they say of functions.
    fn append_code(&mut self, subprogram: usize, code: &Code<'_>) -> Result<u32, CompileError> {
        let aligned = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(aligned, self.machine.padding());
        let end = aligned.saturating_add(code.bytes.len());
        limits::check(subprogram, "bytes of machine code", end as u64, limits::TEXT_BYTES)?;
        self.bytes.extend_from_slice(&code.bytes);
        let start = u32::try_from(aligned).unwrap_or(u32::MAX);
        let moved = |reference: &Reference| Reference { at: start + reference.at, ..*reference };
        self.references.extend(code.references.iter().map(|reference| (subprogram, moved(reference))));
        Ok(start)
    }

    /// Where the code of each BPF instruction begins; the function's first bytes belong to its first instruction.
    fn append_lines(
        &mut self,
        source: Source<'_>,
        subprogram: usize,
        start: u32,
        code: &Code<'_>,
        inlined: &[At],
    ) {
        let before = u32::try_from(self.inlined.len()).unwrap_or(u32::MAX);
        let call = |inlined: Inlined| u32::from(inlined.0).checked_sub(1).map(|index| before + index);
        self.inlined
            .extend(inlined.iter().map(|at| InlinedCall { insn: at.insn, inlined: call(at.inlined) }));

        let first = source.program().subprograms.get(subprogram).map_or(InsnIdx(0), |s| s.start);
        self.lines.push(Line { offset: start, insn: first, inlined: None });
        for &(offset, At { insn, inlined }) in &code.locations {
            let line = Line { offset: start + offset, insn, inlined: call(inlined) };
            match self.lines.last_mut() {
                Some(last) if (last.insn, last.inlined) == (line.insn, line.inlined) => {}
                Some(last) if last.offset == line.offset => *last = line,
                _ => self.lines.push(line),
            }
        }
    }

    fn append_faults(
        &mut self,
        source: Source<'_>,
        start: u32,
        first_line: usize,
        code: &Code<'_>,
    ) -> Result<(), CompileError> {
        let lines = self.lines.get(first_line..).unwrap_or_default();
        for &(offset, probe) in &code.traps {
            let before = lines.partition_point(|l| l.offset <= start + offset);
            let line = before.checked_sub(1).and_then(|i| lines.get(i));
            let at = line.map_or(InsnIdx(0), |l| l.insn);
            let inlined = line.and_then(|l| l.inlined);
            let refused = CompileError::UnskippableAccess { at, offset };
            let insn = source.program().code.get(at).ok_or(refused)?;
            let site = faults::site(self.machine, &code.bytes, offset, at, insn, probe)?;
            let (offset, resume) = (start + site.offset, start + site.resume);
            self.faults.push(FaultSite { offset, resume, inlined, ..site });
        }
        Ok(())
    }

    /// Resolves the references and gives the whole.
    pub(crate) fn finish(mut self, imports: Vec<Import>) -> Result<Compiled, CompileError> {
        let starts: Vec<_> = self.functions.iter().map(|f| (f.subprogram, f.start)).collect();
        for &(from, Reference { form, at, to, addend }) in &self.references {
            let unresolved = CompileError::Unresolved { subprogram: from, offset: at };
            let target = match to {
                Target::Subprogram(index) => {
                    let found = starts.binary_search_by_key(&index, |&(subprogram, _)| subprogram);
                    found.ok().and_then(|i| starts.get(i)).map(|&(_, start)| start)
                }
                Target::Stub(number) => self.stubs.get(number).map(|stub| stub.start),
            };
            let target = target.ok_or_else(|| unresolved.clone())?;
            let to = i64::from(target) + addend;
            let field = self.bytes.get_mut(at as usize..).and_then(|rest| rest.first_chunk_mut::<4>());
            let field = field.ok_or_else(|| unresolved.clone())?;
            *field = form.resolve(*field, i64::from(at), to).ok_or(unresolved)?;
        }
        self.faults.sort_by_key(|f| f.offset);
        let entry = self.functions.first().map_or(0, |f| f.start);
        Ok(Compiled {
            machine: self.machine,
            uses_cpu: false,
            changes: Changes::default(),
            text: self.bytes,
            entry,
            functions: self.functions,
            stubs: self.stubs,
            faults: self.faults,
            lines: self.lines,
            inlined: self.inlined,
            imports,
        })
    }
}
