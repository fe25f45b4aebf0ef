//! From [`Object`] to [`Program`]: joining the functions a program reaches, then relocating them.
//!
//! Work is done on raw slots, since relocations are defined on them; [`Linked::decode`] gives them their meaning.

mod relocate;

use std::collections::BTreeMap;
use std::sync::Arc;

use isa::{Endian, Imm64, Insn, InsnIdx, RawInsn};

use crate::core_relo::Resolver;
use crate::error::LinkError;
use crate::layout::{Function, TEXT_SECTION, Text};
use crate::limits::MAX_PROGRAM_SLOTS;
use crate::object::{LinkOptions, Object, ProgramInfo};
use crate::{Btf, Extern, LineInfo, Linkage, MapSpec, Program, ProgramKind, Subprogram};

/// A program linked but not decoded: what [`Object::link_raw`] gives. It may hold slots that are no instruction, which
/// the kernel's verifier is the one to refuse.
#[derive(Clone, Debug)]
pub struct Linked {
    /// Name of the entry function.
    pub name: String,
    /// ELF section.
    pub section: String,
    /// Type, attach type and flags that the section name implies.
    pub kind: ProgramKind,
    /// Instruction slots; see [`Program`] for what maps, externs and calls look like.
    pub slots: Vec<RawInsn>,
    /// Functions, by ascending start; the first is the entry.
    pub subprograms: Vec<Subprogram>,
    /// Every map of the object.
    pub maps: Arc<[MapSpec]>,
    /// Kernel functions and variables the code refers to.
    pub externs: Vec<Extern>,
    /// The object's type information.
    pub btf: Option<Arc<Btf>>,
    /// Source lines, by ascending instruction.
    pub lines: Vec<LineInfo>,
    /// Contents of the `license` section.
    pub license: String,
}

impl Linked {
    /// The slots as bytes, little endian.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.slots.iter().flat_map(|s| s.to_bytes(Endian::Little)).collect()
    }

    /// Decodes the slots.
    ///
    /// # Errors
    /// [`LinkError::Decode`] at the first slot that is no instruction.
    pub fn decode(self) -> Result<Program, LinkError> {
        let code = isa::decode(&self.bytes()).map_err(|error| self.refused(error))?;
        Ok(Program {
            name: self.name,
            section: self.section,
            kind: self.kind,
            code,
            subprograms: self.subprograms,
            maps: self.maps,
            externs: self.externs,
            btf: self.btf,
            lines: self.lines,
            license: self.license,
        })
    }

    fn refused(&self, error: isa::DecodeError) -> LinkError {
        let at = match error {
            isa::DecodeError::Refused { at, .. } => at,
            _ => InsnIdx(0),
        };
        let function = self.subprograms.iter().rev().find(|s| s.start <= at);
        LinkError::Decode {
            section: self.section.clone(),
            function: function.map_or_else(String::new, |s| s.name.clone()),
            insn: at,
            error,
        }
    }
}

/// Links the program called `name`.
pub(crate) fn program(object: &Object, name: &str, options: &LinkOptions) -> Result<Linked, LinkError> {
    let no_such = || LinkError::NoSuchProgram {
        name: name.to_owned(),
        available: object.programs.iter().map(|p| p.name.clone()).collect(),
    };
    let info = object.programs.iter().find(|p| p.name == name).ok_or_else(no_such)?;
    let functions = &object.layout.functions;
    let entry = functions
        .iter()
        .position(|f| {
            f.name == name && object.layout.texts.get(&f.section).is_some_and(|t| t.name == info.section)
        })
        .ok_or_else(no_such)?;
    let mut linker = Linker {
        object,
        program: name,
        core: Resolver::new(object, options),
        slots: Vec::new(),
        placed: BTreeMap::new(),
        subprograms: Vec::new(),
        externs: BTreeMap::new(),
        used: Vec::new(),
        lines: Vec::new(),
    };
    linker.join(entry)?;
    linker.exception_callback(info)?;
    Ok(Linked {
        name: info.name.clone(),
        section: info.section.clone(),
        kind: info.kind.clone(),
        slots: linker.slots,
        subprograms: linker.subprograms,
        maps: object.maps_with(options)?,
        externs: linker.used,
        btf: object.btf.clone(),
        lines: linker.lines,
        license: object.license.clone(),
    })
}

struct Linker<'a> {
    object: &'a Object,
    program: &'a str,
    core: Resolver<'a>,
    slots: Vec<RawInsn>,
    /// First slot of each function that is in.
    placed: BTreeMap<usize, u32>,
    subprograms: Vec<Subprogram>,
    /// Object's extern index to the program's.
    externs: BTreeMap<u32, u32>,
    used: Vec<Extern>,
    lines: Vec<LineInfo>,
}

/// A function whose calls are being followed.
struct Frame {
    function: usize,
    /// Next slot to look at, in the linked program.
    at: u32,
    end: u32,
}

impl<'a> Linker<'a> {
    /// Places the entry, then every function it reaches, in the order in which calls are met going through each
    /// function and at once into the one called, as libbpf does. A list stands for the recursion: an object decides
    /// how deep it is.
    fn join(&mut self, entry: usize) -> Result<(), LinkError> {
        let mut stack = vec![self.place(entry)?];
        while let Some(frame) = stack.last_mut() {
            let at = frame.at;
            if at >= frame.end {
                stack.pop();
                continue;
            }
            let Some(slot) = self.slots.get(at as usize).copied() else { break };
            frame.at += if slot.is_wide() { 2 } else { 1 };
            let from = frame.function;
            let Some((section, target)) = self.callee(from, at, &slot)? else { continue };
            let callee = self.object.layout.function_at(section, target).ok_or_else(|| {
                let (text, insn) = self.origin(from, at);
                LinkError::BadCall {
                    section: text.map_or_else(String::new, |t| t.name.clone()),
                    insn,
                    target_section: self.section_name(section),
                    target: i64::from(target),
                }
            })?;
            let start = match self.placed.get(&callee) {
                Some(&start) => start,
                None => {
                    let frame = self.place(callee)?;
                    let start = frame.at;
                    stack.push(frame);
                    start
                }
            };
            if let Some(slot) = self.slots.get_mut(at as usize) {
                slot.imm = i32::try_from(i64::from(start) - i64::from(at) - 1).unwrap_or(i32::MAX);
            }
        }
        Ok(())
    }

    /// Appends the function that handles the program's exceptions, which a declaration tag names and nothing calls.
    /// Several tags are for the verifier to refuse.
    fn exception_callback(&mut self, info: &ProgramInfo) -> Result<(), LinkError> {
        let (Some(btf), Some(func)) = (&self.object.btf, info.btf_func) else { return Ok(()) };
        let mut names = btf.decl_tags(func, None).filter_map(|tag| tag.strip_prefix("exception_callback:"));
        let (Some(name), None) = (names.next(), names.next()) else { return Ok(()) };
        let layout = &self.object.layout;
        let is_callback = |f: &Function| {
            f.name == name
                && f.linkage != Linkage::Static
                && layout.texts.get(&f.section).is_some_and(|t| t.name == TEXT_SECTION)
        };
        let callback = layout.functions.iter().position(is_callback).ok_or_else(|| {
            LinkError::ExceptionCallback { program: info.name.clone(), callback: name.to_owned() }
        })?;
        if self.placed.contains_key(&callback) { Ok(()) } else { self.join(callback) }
    }

    /// Appends a function: its slots, relocated but for calls, its subprogram entry and its lines.
    fn place(&mut self, index: usize) -> Result<Frame, LinkError> {
        let (function, text) = self.function(index)?;
        let code = text.code.get(function.start as usize..function.end as usize).unwrap_or_default();
        let start = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        if self.slots.len() + code.len() > MAX_PROGRAM_SLOTS {
            return Err(LinkError::TooLong { program: self.program.to_owned(), limit: MAX_PROGRAM_SLOTS });
        }
        self.slots.extend_from_slice(code);
        let end = start + (function.end - function.start);
        self.placed.insert(index, start);
        self.subprograms.push(Subprogram {
            name: function.name.clone(),
            start: InsnIdx(start),
            end: InsnIdx(end),
            btf_func: function.btf_func,
            linkage: function.linkage,
        });
        let first = text.lines.partition_point(|l| l.slot < function.start);
        for line in text.lines.get(first..).unwrap_or_default().iter().take_while(|l| l.slot < function.end) {
            self.lines.push(LineInfo {
                insn: InsnIdx(line.slot - function.start + start),
                file: Arc::clone(&line.file),
                line: line.line,
                column: line.column,
                source: Arc::clone(&line.source),
            });
        }
        self.relocate(function, text, start)?;
        self.core.apply(function, text, &mut self.slots, start)?;
        Ok(Frame { function: index, at: start, end })
    }

    fn function(&self, index: usize) -> Result<(&'a Function, &'a Text), LinkError> {
        let layout = &self.object.layout;
        layout
            .functions
            .get(index)
            .and_then(|f| Some((f, layout.texts.get(&f.section)?)))
            .ok_or_else(|| LinkError::NoSuchProgram { name: self.program.to_owned(), available: Vec::new() })
    }

    /// Where the slot `at` of the linked program, in a placed function, comes from.
    fn origin(&self, function: usize, at: u32) -> (Option<&'a Text>, InsnIdx) {
        let start = self.placed.get(&function).copied().unwrap_or_default();
        let layout = &self.object.layout;
        let Some(function) = layout.functions.get(function) else { return (None, InsnIdx(at)) };
        (layout.texts.get(&function.section), InsnIdx(function.start + at.saturating_sub(start)))
    }

    fn section_name(&self, section: usize) -> String {
        self.object.layout.texts.get(&section).map_or_else(String::new, |t| t.name.clone())
    }

    /// Index in the program's extern table of the object's extern.
    fn use_extern(&mut self, number: u32) -> Option<u32> {
        if let Some(&known) = self.externs.get(&number) {
            return Some(known);
        }
        let found = self.object.externs.get(number as usize)?;
        let index = u32::try_from(self.used.len()).ok()?;
        self.used.push(found.clone());
        self.externs.insert(number, index);
        Some(index)
    }
}

/// The slots of `dst = value ll`, keeping the destination of `first`.
fn wide(first: RawInsn, value: Imm64) -> Option<[RawInsn; 2]> {
    let dst = isa::Reg::new(first.dst_reg)?;
    let encoded = Insn::LoadImm64 { dst, value }.encode().ok()?;
    Some([encoded.first, encoded.second?])
}
