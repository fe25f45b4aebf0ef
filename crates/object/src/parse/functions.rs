//! Functions: which there are, which of them are programs, and their source lines.

use std::collections::HashMap;
use std::sync::Arc;

use isa::{Endian, RawInsn};

use super::{Parser, bad_section, make_static};
use crate::btf::{Btf, LineInfoRow, StrId, TypeId};
use crate::elf::{Section, SectionKind, Symbol, SymbolKind};
use crate::error::{ObjectError, SectionFault};
use crate::layout::{Function, LineRow, SymbolTarget, TEXT_SECTION, Text};
use crate::limits::{MAX_FUNCTIONS, MAX_LINE_TEXT, MAX_LINE_TEXT_TOTAL};
use crate::object::ProgramInfo;
use crate::{Linkage, ProgramKind};

impl Parser<'_> {
    pub(super) fn functions(&mut self) -> Result<(), ObjectError> {
        let mut strings = LineStrings::default();
        let mut hidden = Vec::new();
        for (index, section) in self.elf.sections.iter().enumerate() {
            if section.name == ".jumptables"
                && let Some(role) = self.roles.get_mut(index)
            {
                *role = SymbolTarget::JumpTable;
            }
            if section.kind != SectionKind::Text || section.data.is_empty() {
                continue;
            }
            let (slots, rest) = section.data.as_chunks::<{ RawInsn::BYTES }>();
            if !rest.is_empty() {
                return Err(bad_section(section.name, SectionFault::OddLength { size: section.size }));
            }
            let types: HashMap<u64, TypeId> =
                self.ext.functions(section.name).iter().map(|f| (u64::from(f.offset), f.ty)).collect();
            for (_, symbol) in self.elf.symbols_in(index).filter(|(_, s)| s.kind == SymbolKind::Function) {
                let function = function(index, symbol, section, types.get(&symbol.value).copied())?;
                if symbol.hidden {
                    hidden.extend(function.btf_func);
                }
                self.layout.functions.push(function);
            }
            if self.layout.functions.len() > MAX_FUNCTIONS {
                return Err(ObjectError::TooLarge {
                    what: "number of functions",
                    limit: MAX_FUNCTIONS as u64,
                });
            }
            let mut core = self.ext.relocations(section.name).to_vec();
            core.sort_by_key(|r| r.offset);
            let text = Text {
                name: section.name.to_owned(),
                code: slots.iter().map(|s| RawInsn::from_bytes(*s, Endian::Little)).collect(),
                relocations: section.relocations.clone(),
                core,
                lines: strings.rows(self.btf.as_ref(), self.ext.lines(section.name)),
            };
            self.layout.texts.insert(index, text);
            if let Some(role) = self.roles.get_mut(index) {
                *role = SymbolTarget::Text(index);
            }
        }
        if let Some(btf) = &mut self.btf {
            hidden.into_iter().for_each(|f| make_static(btf, f));
        }
        self.layout.functions.sort_by_key(|f| (f.section, f.start, f.end));
        self.check_overlaps()?;
        self.find_programs();
        Ok(())
    }

    /// Two names for the same function are fine (aliases), two functions that share instructions are not.
    fn check_overlaps(&self) -> Result<(), ObjectError> {
        for pair in self.layout.functions.windows(2) {
            let [a, b] = pair else { continue };
            let same = (a.start, a.end) == (b.start, b.end);
            if a.section == b.section && b.start < a.end && !same {
                let section = self.elf.sections.get(a.section).map_or("", |s| s.name);
                let reason = SectionFault::Overlap { first: a.name.clone(), second: b.name.clone() };
                return Err(bad_section(section, reason));
            }
        }
        Ok(())
    }

    /// Global functions outside `.text` are programs.
    fn find_programs(&mut self) {
        for function in &self.layout.functions {
            let Some(text) = self.layout.texts.get(&function.section) else { continue };
            if function.linkage != Linkage::Static && text.name != TEXT_SECTION {
                self.programs.push(ProgramInfo {
                    name: function.name.clone(),
                    section: text.name.clone(),
                    kind: ProgramKind::from_section(&text.name),
                    btf_func: function.btf_func,
                });
            }
        }
    }
}

fn function(
    index: usize,
    symbol: &Symbol,
    section: &Section<'_>,
    btf_func: Option<TypeId>,
) -> Result<Function, ObjectError> {
    let outside = || {
        let reason = SectionFault::SymbolOutside {
            symbol: symbol.name.clone(),
            offset: symbol.value,
            size: symbol.size,
        };
        bad_section(section.name, reason)
    };
    let length = section.data.len() as u64;
    let end = symbol.value.checked_add(symbol.size).filter(|&e| e <= length).ok_or_else(outside)?;
    if symbol.size == 0 || !symbol.size.is_multiple_of(8) || !symbol.value.is_multiple_of(8) {
        return Err(bad_section(section.name, SectionFault::OddLength { size: symbol.size }));
    }
    let slot = |offset: u64| u32::try_from(offset / 8).map_err(|_| outside());
    let (start, end) = (slot(symbol.value)?, slot(end)?);
    let linkage = match symbol {
        Symbol { local: true, .. } | Symbol { hidden: true, .. } => Linkage::Static,
        Symbol { weak: true, .. } => Linkage::Weak,
        _ => Linkage::Global,
    };
    let btf_func = btf_func.filter(|id| *id != TypeId::VOID);
    Ok(Function { name: symbol.name.clone(), section: index, start, end, linkage, btf_func })
}

/// Texts of source lines, each kept once however many instructions it stands for.
#[derive(Default)]
struct LineStrings {
    known: HashMap<StrId, Arc<str>>,
    total: usize,
}

impl LineStrings {
    fn rows(&mut self, btf: Option<&Btf>, rows: &[LineInfoRow]) -> Vec<LineRow> {
        let Some(btf) = btf else { return Vec::new() };
        let mut lines: Vec<LineRow> = rows
            .iter()
            .map(|row| LineRow {
                slot: row.offset / 8,
                file: self.get(btf, row.file),
                source: self.get(btf, row.text),
                line: row.line,
                column: row.column,
            })
            .collect();
        lines.sort_by_key(|l| l.slot);
        lines
    }

    fn get(&mut self, btf: &Btf, id: StrId) -> Arc<str> {
        if let Some(known) = self.known.get(&id) {
            return Arc::clone(known);
        }
        let bytes = btf.str_bytes(id).unwrap_or_default();
        let room = MAX_LINE_TEXT.min(MAX_LINE_TEXT_TOTAL.saturating_sub(self.total));
        let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        self.total += bytes.len();
        let text: Arc<str> = Arc::from(String::from_utf8_lossy(bytes).as_ref());
        self.known.insert(id, Arc::clone(&text));
        text
    }
}
