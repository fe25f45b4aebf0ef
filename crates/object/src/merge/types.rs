//! Type information of all objects in one BTF, each type once; functions, lines and CO-RE relocations with it.

use std::collections::HashMap;

use super::error::StaticLinkError;
use super::input::{Input, is_visible};
use super::sections::{Placement, Sections};
use super::symbols::{Global, OutPlace, Symbols};
use crate::btf::{
    Btf, BtfExt, CoreRelo, FuncInfoRow, Kind, LineInfoRow, SecVar, StrId, StringPool, Type, TypeId,
    deduplicate,
};
use crate::elf::SymbolKind;
use crate::limits::{MAX_BTF_STRINGS, MAX_BTF_TYPES};

/// Section of declarations that only a linker resolves: what remains of them is in no section.
const EXTERN_SECTION: &str = ".extern";

/// Contents of the sections of type information.
#[derive(Debug)]
pub(super) struct Tables {
    /// `.BTF`.
    pub(super) btf: Vec<u8>,
    /// `.BTF.ext`, unless nothing is in it.
    pub(super) ext: Option<Vec<u8>>,
}

/// Type information of the linked object; nothing if no object has types.
pub(super) fn merge(
    inputs: &[Input<'_>],
    sections: &Sections,
    symbols: &Symbols,
) -> Result<Option<Tables>, StaticLinkError> {
    let mut merger = Merger {
        inputs,
        sections,
        symbols,
        types: vec![Type::default()],
        strings: StringPool::default(),
        ids: Vec::new(),
        globals: vec![None; symbols.globals.len()],
    };
    merger.types()?;
    if merger.types.len() == 1 {
        return Ok(None);
    }
    merger.definitions();
    merger.declarations();
    let data_sections = merger.data_sections();
    merger.types.extend(data_sections);
    let mut ext = merger.ext();
    let (types, new_ids) = deduplicate(&merger.types);
    let new_id = |id: &mut TypeId| *id = new_ids.get(id.0 as usize).copied().unwrap_or_default();
    ext.func_info.iter_mut().flat_map(|(_, rows)| rows).for_each(|row| new_id(&mut row.ty));
    ext.core_relo.iter_mut().flat_map(|(_, rows)| rows).for_each(|row| new_id(&mut row.ty));
    let has_code = [ext.func_info.len(), ext.line_info.len(), ext.core_relo.len()] != [0; 3];
    let (types, strings, ext) = only_used_strings(Btf::from_parts(types, merger.strings.into_bytes()), ext);
    if types.len() > MAX_BTF_TYPES {
        let limit = MAX_BTF_TYPES as u64;
        return Err(StaticLinkError::TooLarge { what: "the number of types", limit });
    }
    if strings.len() > MAX_BTF_STRINGS {
        let limit = MAX_BTF_STRINGS as u64;
        return Err(StaticLinkError::TooLarge { what: "the length of all strings", limit });
    }
    let btf = Btf::from_parts(types, strings.into_bytes()).to_bytes();
    Ok(Some(Tables { btf, ext: has_code.then_some(ext) }))
}

/// The same with a string section that holds nothing else: what was left behind leaves its names too. Gives the bytes of
/// the `.BTF.ext` section.
fn only_used_strings(btf: Btf, mut ext: BtfExt) -> (Vec<Type>, StringPool, Vec<u8>) {
    let mut strings = StringPool::default();
    let mut text = |id: StrId| strings.copy(&btf, id);
    let void = core::iter::once(Type::default());
    let types = void.chain(btf.own_types().map(|(_, ty)| ty.remapped(&mut text, &mut |id| id))).collect();
    for row in ext.line_info.iter_mut().flat_map(|(_, rows)| rows) {
        (row.file, row.text) = (text(row.file), text(row.text));
    }
    for row in ext.core_relo.iter_mut().flat_map(|(_, rows)| rows) {
        row.access = text(row.access);
    }
    let ext = ext.to_bytes(&mut |section| strings.add(section.as_bytes()));
    (types, strings, ext)
}

struct Merger<'a> {
    inputs: &'a [Input<'a>],
    sections: &'a Sections,
    symbols: &'a Symbols,
    types: Vec<Type>,
    strings: StringPool,
    /// For each object, what its types became; `void` for those that are left behind.
    ids: Vec<Vec<TypeId>>,
    /// The `VAR` or `FUNC` of each shared name.
    globals: Vec<Option<TypeId>>,
}

/// The variables of one section of the linked object.
struct DataSection {
    name: String,
    vars: Vec<SecVar>,
    /// Bytes of the section; `None` if it is no ELF section (`.ksyms`, `.kconfig`).
    size: Option<u64>,
}

impl Merger<'_> {
    /// Collects the types of all objects. A name that objects share has one `VAR` or `FUNC`; sections come later.
    fn types(&mut self) -> Result<(), StaticLinkError> {
        for input in self.inputs {
            let from = self.types.len();
            let mut ids = vec![TypeId::VOID];
            for (_, ty) in input.btf.own_types() {
                ids.push(self.place(input, ty));
                if self.types.len() > 2 * MAX_BTF_TYPES {
                    let limit = 2 * MAX_BTF_TYPES as u64;
                    return Err(StaticLinkError::TooLarge { what: "the number of types", limit });
                }
            }
            let mut reference = |id: TypeId| ids.get(id.0 as usize).copied().unwrap_or_default();
            let Self { types, strings, .. } = self;
            for ty in types.iter_mut().skip(from) {
                *ty = ty.remapped(&mut |name| strings.copy(&input.btf, name), &mut reference);
            }
            self.ids.push(ids);
        }
        Ok(())
    }

    /// The id that a type of an object gets, appending it as it is unless it is known or left behind.
    fn place(&mut self, input: &Input<'_>, ty: &Type) -> TypeId {
        let next = TypeId(u32::try_from(self.types.len()).unwrap_or(u32::MAX));
        if matches!(ty.kind, Kind::DataSec { .. }) {
            return TypeId::VOID;
        }
        if is_visible(ty) {
            // Without a symbol, it is in a section that is not carried.
            let Some(global) = self.symbols.global(input.btf.str(ty.name)) else { return TypeId::VOID };
            let Some(slot) = self.globals.get_mut(global) else { return TypeId::VOID };
            if let Some(known) = *slot {
                return known;
            }
            *slot = Some(next);
        }
        self.types.push(ty.clone());
        next
    }

    /// What a type of an object became.
    fn id(&self, object: usize, id: TypeId) -> TypeId {
        self.ids.get(object).and_then(|ids| ids.get(id.0 as usize)).copied().unwrap_or_default()
    }

    /// Gives shared names the type of the definition in force.
    fn definitions(&mut self) {
        for (global, &id) in self.symbols.globals.iter().zip(&self.globals) {
            let (Some(id), Some(ty), Some(input)) = (id, global.ty, self.inputs.get(global.object)) else {
                continue;
            };
            let described = match input.btf.kind(ty) {
                Some(&Kind::Func { proto, linkage }) => {
                    Kind::Func { proto: self.id(global.object, proto), linkage }
                }
                Some(&Kind::Var { ty, linkage }) => Kind::Var { ty: self.id(global.object, ty), linkage },
                _ => continue,
            };
            if let Some(ty) = self.types.get_mut(id.0 as usize) {
                ty.kind = described;
            }
        }
    }

    /// A function's type that only a declaration referred to becomes that of the definition. It differs from it, lacking the
    /// names of parameters, and would be left over.
    fn declarations(&mut self) {
        let mut is_used = vec![false; self.types.len()];
        for ty in &self.types {
            ty.for_each_reference(&mut |id| {
                is_used.get_mut(id.0 as usize).into_iter().for_each(|used| *used = true);
            });
        }
        for (object, input) in self.inputs.iter().enumerate() {
            for (_, ty) in input.btf.own_types() {
                let Kind::Func { proto, .. } = ty.kind else { continue };
                let Some(global) = self.symbols.global(input.btf.str(ty.name)).filter(|_| is_visible(ty))
                else {
                    continue;
                };
                let defined = self.globals.get(global).copied().flatten();
                let defined = defined.and_then(|id| self.types.get(id.0 as usize)).map(|t| &t.kind);
                let Some(&Kind::Func { proto: kept, .. }) = defined else { continue };
                let left = self.id(object, proto).0 as usize;
                if is_used.get(left) == Some(&false)
                    && let Some(kept) = self.types.get(kept.0 as usize).cloned()
                    && let Some(left) = self.types.get_mut(left)
                {
                    *left = kept;
                }
            }
        }
    }

    /// One `DATASEC` for each section of which any object has one.
    fn data_sections(&mut self) -> Vec<Type> {
        let mut found: Vec<DataSection> = Vec::new();
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        let mut listed = vec![false; self.symbols.globals.len()];
        for (object, input) in self.inputs.iter().enumerate() {
            for (_, ty) in input.btf.own_types() {
                let Kind::DataSec { vars, .. } = &ty.kind else { continue };
                let name = input.btf.str(ty.name);
                let elf_section = input.elf.section(name).map(|(index, _)| index);
                let placement = elf_section.and_then(|index| self.sections.placement(object, index));
                if name == EXTERN_SECTION || (elf_section.is_some() && placement.is_none()) {
                    continue;
                }
                let index = *by_name.entry(name).or_insert_with(|| {
                    found.push(DataSection { name: name.to_owned(), vars: Vec::new(), size: None });
                    found.len() - 1
                });
                let Some(section) = found.get_mut(index) else { continue };
                if let Some(out) = placement.and_then(|p| self.sections.out.get(p.section)) {
                    section.size = Some(out.size);
                }
                let statics = static_places(input, elf_section, ty);
                for var in vars {
                    section.vars.extend(self.section_var(object, var, placement, &statics, &mut listed));
                }
            }
        }
        found
            .into_iter()
            .map(|mut section| {
                if section.size.is_some() {
                    section.vars.sort_by_key(|v| v.offset);
                }
                let size = section.size.and_then(|s| u32::try_from(s).ok()).unwrap_or_default();
                let name = self.strings.add(section.name.as_bytes());
                Type { name, kind: Kind::DataSec { size, vars: section.vars } }
            })
            .collect()
    }

    /// The row of a variable or function in the `DATASEC` of the linked object, if this object is the one to list it.
    fn section_var(
        &self,
        object: usize,
        var: &SecVar,
        placement: Option<Placement>,
        statics: &HashMap<&str, (u64, u64)>,
        listed: &mut [bool],
    ) -> Option<SecVar> {
        let input = self.inputs.get(object)?;
        let ty = input.btf.get(var.ty)?;
        let id = self.id(object, var.ty);
        if id == TypeId::VOID {
            return None;
        }
        if !is_visible(ty) {
            let clang = (u64::from(var.offset), u64::from(var.size));
            let (offset, size) = statics.get(input.btf.str(ty.name)).copied().unwrap_or(clang);
            let offset = placement.map_or(0, |p| p.offset).checked_add(offset)?;
            let size = u32::try_from(size).ok().filter(|&s| s != 0).unwrap_or(var.size);
            return Some(SecVar { ty: id, offset: u32::try_from(offset).ok()?, size });
        }
        let index = self.symbols.global(input.btf.str(ty.name))?;
        let global = self.symbols.globals.get(index)?;
        if global.defined && global.object != object {
            return None;
        }
        let listed = listed.get_mut(index).filter(|l| !**l)?;
        *listed = true;
        self.global_var(global, id, var)
    }

    /// The row of a shared name: where its symbol is, once it is defined.
    fn global_var(&self, global: &Global, id: TypeId, var: &SecVar) -> Option<SecVar> {
        let symbol = self.symbols.table.get(global.symbol)?;
        match symbol.place {
            OutPlace::Section(_) => {
                let size = u32::try_from(symbol.size).ok().filter(|&s| s != 0).unwrap_or(var.size);
                Some(SecVar { ty: id, offset: u32::try_from(symbol.value).ok()?, size })
            }
            _ => Some(SecVar { ty: id, ..*var }),
        }
    }

    /// Functions, lines and CO-RE relocations of all objects by section of the linked object, their types not yet
    /// deduplicated.
    fn ext(&mut self) -> BtfExt {
        let (mut functions, mut lines, mut relocations) = (Rows::default(), Rows::default(), Rows::default());
        for (object, input) in self.inputs.iter().enumerate() {
            let place = |section: &str| {
                let (index, _) = input.elf.section(section)?;
                u32::try_from(self.sections.placement(object, index)?.offset).ok()
            };
            let ids = self.ids.get(object).map_or(&[][..], Vec::as_slice);
            let id = |ty: TypeId| ids.get(ty.0 as usize).copied().unwrap_or_default();
            let strings = &mut self.strings;
            let mut text = |id: StrId| strings.copy(&input.btf, id);
            for (section, rows) in &input.ext.func_info {
                let Some(base) = place(section) else { continue };
                // What is left behind has no type, and a function without type has no row.
                let rows = rows.iter().filter(|row| id(row.ty) != TypeId::VOID);
                let moved = rows.filter_map(|row| {
                    Some(FuncInfoRow { offset: row.offset.checked_add(base)?, ty: id(row.ty) })
                });
                functions.extend(section, moved);
            }
            for (section, rows) in &input.ext.line_info {
                let Some(base) = place(section) else { continue };
                let moved = rows.iter().filter_map(|row| {
                    let offset = row.offset.checked_add(base)?;
                    Some(LineInfoRow { offset, file: text(row.file), text: text(row.text), ..*row })
                });
                lines.extend(section, moved);
            }
            for (section, rows) in &input.ext.core_relo {
                let Some(base) = place(section) else { continue };
                let moved = rows.iter().filter_map(|row| {
                    let offset = row.offset.checked_add(base)?;
                    Some(CoreRelo { offset, ty: id(row.ty), access: text(row.access), ..*row })
                });
                relocations.extend(section, moved);
            }
        }
        BtfExt { func_info: functions.sections, line_info: lines.sections, core_relo: relocations.sections }
    }
}

/// Places of the static variables of a section that clang leaves without a size and offsets: their symbols know.
fn static_places<'i>(
    input: &'i Input<'_>,
    elf_section: Option<usize>,
    section: &Type,
) -> HashMap<&'i str, (u64, u64)> {
    let (Some(index), Kind::DataSec { size: 0, .. }) = (elf_section, &section.kind) else {
        return HashMap::new();
    };
    let symbols = input.elf.symbols_in(index).map(|(_, s)| s);
    let statics = symbols.filter(|s| s.local && s.kind == SymbolKind::Data);
    statics.map(|s| (s.name.as_str(), (s.value, s.size))).collect()
}

/// Rows of one part of a `.BTF.ext`, by section in the order in which sections are met.
struct Rows<T> {
    sections: Vec<(String, Vec<T>)>,
    by_name: HashMap<String, usize>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { sections: Vec::new(), by_name: HashMap::new() }
    }
}

impl<T> Rows<T> {
    fn extend(&mut self, section: &str, rows: impl Iterator<Item = T>) {
        let index = *self.by_name.entry(section.to_owned()).or_insert_with(|| {
            self.sections.push((section.to_owned(), Vec::new()));
            self.sections.len() - 1
        });
        if let Some((_, all)) = self.sections.get_mut(index) {
            all.extend(rows);
        }
    }
}
