//! From ELF to [`Object`], one file per part of an object.

mod data;
mod externs;
mod functions;
mod maps;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::btf::{Btf, BtfExt, BtfLinkage, Kind, KindTag, Type, TypeId};
use crate::elf::{Elf, Place, SectionKind, Symbol, SymbolKind};
use crate::error::{ObjectError, SectionFault};
use crate::layout::{Layout, SymbolTarget, SymbolUse};
use crate::limits::{MAX_MAPS, MAX_NAME_BYTES};
use crate::object::{Object, ProgramInfo, Variable};
use crate::{Extern, MapSpec};

pub(crate) use maps::read_map;

/// Parses a whole object.
pub(crate) fn object(bytes: &[u8]) -> Result<Object, ObjectError> {
    let elf = Elf::parse(bytes)?;
    if elf.section("maps").is_some() {
        return Err(bad_section("maps", SectionFault::LegacyMaps));
    }
    let btf = match elf.section(".BTF") {
        Some((_, section)) => {
            Some(Btf::parse(section.data).map_err(|error| ObjectError::Btf { section: ".BTF", error })?)
        }
        None => None,
    };
    let ext = match (elf.section(".BTF.ext"), &btf) {
        (Some((_, section)), Some(btf)) => BtfExt::parse(section.data, btf)
            .map_err(|error| ObjectError::Btf { section: ".BTF.ext", error })?,
        _ => BtfExt::default(),
    };
    let mut parser = Parser {
        roles: vec![SymbolTarget::Other; elf.sections.len()],
        elf,
        btf,
        ext,
        layout: Layout::default(),
        programs: Vec::new(),
        maps: Vec::new(),
        variables: Vec::new(),
        externs: Vec::new(),
        undefined: BTreeMap::new(),
    };
    parser.fix_data_sections();
    parser.functions()?;
    parser.declared_maps()?;
    parser.data_sections()?;
    parser.externs()?;
    parser.struct_ops()?;
    parser.slots()?;
    parser.finish()
}

/// An object half parsed.
struct Parser<'a> {
    elf: Elf<'a>,
    btf: Option<Btf>,
    ext: BtfExt,
    layout: Layout,
    programs: Vec<ProgramInfo>,
    maps: Vec<MapSpec>,
    variables: Vec<Variable>,
    externs: Vec<Extern>,
    /// What symbols of a section stand for, by section index.
    roles: Vec<SymbolTarget>,
    /// What undefined symbols stand for, by symbol index.
    undefined: BTreeMap<usize, SymbolTarget>,
}

pub(super) fn bad_section(section: &str, reason: SectionFault) -> ObjectError {
    ObjectError::BadSection { section: section.to_owned(), reason }
}

impl Parser<'_> {
    /// Appends a map and gives its index.
    fn add_map(&mut self, map: MapSpec) -> Result<u32, ObjectError> {
        if self.maps.len() >= MAX_MAPS {
            return Err(ObjectError::TooLarge { what: "number of maps", limit: MAX_MAPS as u64 });
        }
        self.maps.push(map);
        Ok(u32::try_from(self.maps.len() - 1).unwrap_or(u32::MAX))
    }

    fn set_role(&mut self, section: usize, role: SymbolTarget) {
        if let Some(slot) = self.roles.get_mut(section) {
            *slot = role;
        }
    }

    /// Clang leaves the size of a `DATASEC` 0, and the offset of its global variables: the ELF section and symbols
    /// have them. (Static variables have their offset.) Hidden variables become static, as libbpf makes them.
    fn fix_data_sections(&mut self) {
        let Some(mut btf) = self.btf.take() else { return };
        let sections: Vec<TypeId> = btf
            .own_types()
            .filter(|(_, t)| matches!(t.kind, Kind::DataSec { .. }))
            .map(|(id, _)| id)
            .collect();
        let mut done = BTreeSet::new();
        for id in sections {
            let Some(Type { name, kind: Kind::DataSec { size, vars } }) = btf.get(id).cloned() else {
                continue;
            };
            let Some((index, section)) = self.elf.section(btf.str(name)) else { continue };
            // One `DATASEC` a section: more are none of a compiler's.
            if !done.insert(index) {
                continue;
            }
            // Objects that were linked together may each have a static variable of the same name, and be past this.
            let symbols: BTreeMap<(&str, bool), &Symbol> = self
                .elf
                .symbols_in(index)
                .filter(|(_, s)| s.kind == SymbolKind::Data)
                .map(|(_, s)| ((s.name.as_str(), s.local), s))
                .collect();
            let mut fixed = vars;
            let mut hidden = Vec::new();
            for var in &mut fixed {
                let is_static =
                    matches!(btf.kind(var.ty), Some(Kind::Var { linkage: BtfLinkage::Static, .. }));
                let Some(symbol) = symbols.get(&(btf.name(var.ty), is_static)) else { continue };
                if size == 0 || (!symbol.local && var.offset == 0) {
                    var.offset = u32::try_from(symbol.value).unwrap_or(u32::MAX);
                }
                if symbol.hidden {
                    hidden.push(var.ty);
                }
            }
            // Clang may shrink a static variable without shrinking its type, which kernels refuse. The symbol stays.
            fixed.retain(|v| btf.size_of(v.ty).is_none_or(|size| size <= u64::from(v.size)));
            fixed.sort_by_key(|v| v.offset);
            let size = if size == 0 { u32::try_from(section.size).unwrap_or(u32::MAX) } else { size };
            btf.replace(id, Type { name, kind: Kind::DataSec { size, vars: fixed } });
            for var in hidden {
                make_static(&mut btf, var);
            }
        }
        self.btf = Some(btf);
    }

    /// The `DATASEC` with this name.
    fn data_sec(&self, name: &str) -> Option<TypeId> {
        self.btf.as_ref()?.find(name, KindTag::DataSec)
    }

    fn finish(mut self) -> Result<Object, ObjectError> {
        let license = self.text_section("license")?;
        let version = match self.elf.section("version") {
            Some((_, section)) => {
                let bytes = <[u8; 4]>::try_from(section.data).map_err(|_| {
                    bad_section("version", SectionFault::BadVersion { size: section.data.len() })
                })?;
                u32::from_le_bytes(bytes)
            }
            None => 0,
        };
        self.layout.symbols = self.symbol_uses();
        Ok(Object {
            programs: self.programs,
            maps: Arc::from(self.maps),
            variables: self.variables,
            externs: self.externs,
            license,
            version,
            btf: self.btf.map(Arc::new),
            btf_ext: Arc::new(self.ext),
            layout: Arc::new(self.layout),
        })
    }

    fn symbol_uses(&self) -> Vec<SymbolUse> {
        let of = |(index, symbol): (usize, &Symbol)| {
            let target = match symbol.place {
                Place::Undefined => self.undefined.get(&index).copied().unwrap_or(SymbolTarget::Undefined),
                Place::Section(section) => self.roles.get(section).copied().unwrap_or(SymbolTarget::Other),
                Place::Special(_) => SymbolTarget::Other,
            };
            SymbolUse { label: self.elf.symbol_label(index), value: symbol.value, target }
        };
        self.elf.symbols.iter().enumerate().map(of).collect()
    }

    /// A section that holds one C string, cut at its NUL.
    fn text_section(&self, name: &str) -> Result<String, ObjectError> {
        let Some((_, section)) = self.elf.section(name).filter(|(_, s)| s.kind == SectionKind::Data) else {
            return Ok(String::new());
        };
        let text = section.data.split(|&b| b == 0).next().unwrap_or_default();
        if text.len() > MAX_NAME_BYTES {
            return Err(ObjectError::TooLarge { what: "license", limit: MAX_NAME_BYTES as u64 });
        }
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

/// Makes a function or variable static in BTF.
fn make_static(btf: &mut Btf, id: TypeId) {
    let Some(mut ty) = btf.get(id).cloned() else { return };
    if let Kind::Var { linkage, .. } | Kind::Func { linkage, .. } = &mut ty.kind {
        *linkage = BtfLinkage::Static;
        btf.replace(id, ty);
    }
}
