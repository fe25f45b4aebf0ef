//! Data sections: each becomes an array map of one value, arena globals the start of the arena.

use std::collections::HashSet;

use super::Parser;
use super::maps::var_type;
use crate::btf::Kind;
use crate::elf::{Place, R_BPF_64_ABS64, Relocation, SectionKind, Symbol, SymbolKind};
use crate::error::ObjectError;
use crate::layout::SymbolTarget;
use crate::limits::{MAX_DATA_BYTES, MAX_VARIABLES};
use crate::map::ARENA_PAGE_BYTES;
use crate::object::Variable;
use crate::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BtfLinkage, Linkage, MapOrigin, MapSpec, MapType, TypeId};

/// Where clang puts variables of address space 1.
const ARENA_SECTION: &str = ".addr_space.1";

impl Parser<'_> {
    pub(super) fn data_sections(&mut self) -> Result<(), ObjectError> {
        for index in 0..self.elf.sections.len() {
            let Some(section) = self.elf.sections.get(index) else { continue };
            let name = section.name;
            let is =
                |prefix: &str| name.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('.'));
            let read_only = match section.kind {
                _ if section.size == 0 => continue,
                SectionKind::Data if name == ARENA_SECTION => {
                    self.arena_globals(index)?;
                    continue;
                }
                SectionKind::Data if is(".rodata") => true,
                SectionKind::Data if is(".data") => false,
                SectionKind::Zero if is(".bss") => false,
                _ => continue,
            };
            self.data_section(index, read_only)?;
        }
        Ok(())
    }

    fn data_section(&mut self, index: usize, read_only: bool) -> Result<(), ObjectError> {
        let Some(section) = self.elf.sections.get(index) else { return Ok(()) };
        if section.size > MAX_DATA_BYTES {
            return Err(ObjectError::TooLarge { what: "data section", limit: MAX_DATA_BYTES });
        }
        // A pointer in an array map's value means nothing: the value's address is the kernel's (or the host's) secret.
        if let Some(relocation) = section.relocations.first() {
            return Err(self.refused(section.name, relocation));
        }
        let name = section.name.to_owned();
        let initial = section.data.to_vec();
        let value_size = u32::try_from(section.size).unwrap_or(u32::MAX);
        let data_sec = self.data_sec(&name);
        // The host may map sections that have a variable it can know by name.
        let visible = self.has_visible_variable(data_sec);
        let mut flags = 0;
        if read_only {
            flags |= BPF_F_RDONLY_PROG;
        }
        if visible {
            flags |= BPF_F_MMAPABLE;
        }
        let map = MapSpec {
            key_size: 4,
            value_size,
            max_entries: 1,
            flags,
            value_btf: data_sec,
            origin: MapOrigin::Data { section: name.clone(), read_only },
            initial,
            ..MapSpec::new(&name, MapType::Array)
        };
        let map = self.add_map(map)?;
        self.set_role(index, SymbolTarget::Data { map });
        self.section_variables(index, map)
    }

    fn refused(&self, section: &str, relocation: &Relocation) -> ObjectError {
        ObjectError::DataRelocation {
            section: section.to_owned(),
            offset: relocation.offset,
            kind: relocation.kind,
            symbol: self.elf.symbol_label(relocation.symbol),
        }
    }

    fn has_visible_variable(&self, data_sec: Option<TypeId>) -> bool {
        let Some(btf) = &self.btf else { return false };
        let Some(Kind::DataSec { vars, .. }) = data_sec.and_then(|id| btf.kind(id)) else { return false };
        vars.iter().any(
            |v| matches!(btf.kind(v.ty), Some(Kind::Var { linkage, .. }) if *linkage != BtfLinkage::Static),
        )
    }

    /// Arena globals are copied to the start of the only arena.
    fn arena_globals(&mut self, index: usize) -> Result<(), ObjectError> {
        let Some(section) = self.elf.sections.get(index) else { return Ok(()) };
        let (map_index, arena) = self
            .maps
            .iter()
            .enumerate()
            .find(|(_, m)| m.map_type == MapType::Arena)
            .ok_or_else(|| ObjectError::NoArena { section: section.name.to_owned() })?;
        let available = u64::from(arena.max_entries) * ARENA_PAGE_BYTES;
        if section.size > available {
            return Err(ObjectError::ArenaTooSmall {
                map: arena.name.clone(),
                needed: section.size,
                available,
            });
        }
        let initial = self.arena_contents(index, arena.extra)?;
        if let Some(arena) = self.maps.get_mut(map_index) {
            arena.initial = initial;
        }
        let map = u32::try_from(map_index).unwrap_or(u32::MAX);
        self.set_role(index, SymbolTarget::Data { map });
        self.section_variables(index, map)
    }

    /// The bytes of arena globals. A pointer to another arena global is known when the arena's address is: when the
    /// object fixes it with `map_extra`.
    fn arena_contents(&self, index: usize, address: u64) -> Result<Vec<u8>, ObjectError> {
        let Some(section) = self.elf.sections.get(index) else { return Ok(Vec::new()) };
        let mut bytes = section.data.to_vec();
        for relocation in &section.relocations {
            let refused = || self.refused(section.name, relocation);
            let symbol = self.elf.symbols.get(relocation.symbol).ok_or_else(refused)?;
            if relocation.kind != R_BPF_64_ABS64 || symbol.place != Place::Section(index) || address == 0 {
                return Err(refused());
            }
            let at = usize::try_from(relocation.offset).map_err(|_| refused())?;
            let slot = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<8>()).ok_or_else(refused)?;
            let addend = u64::from_le_bytes(*slot);
            *slot = address.wrapping_add(symbol.value).wrapping_add(addend).to_le_bytes();
        }
        Ok(bytes)
    }

    /// Variables of a section: from BTF, and symbols that BTF does not know.
    fn section_variables(&mut self, index: usize, map: u32) -> Result<(), ObjectError> {
        let Some(section) = self.elf.sections.get(index) else { return Ok(()) };
        let described = self.data_sec(section.name);
        let mut seen = HashSet::new();
        let map = map as usize;
        if let (Some(btf), Some(id)) = (&self.btf, described)
            && let Some(Kind::DataSec { vars, .. }) = btf.kind(id)
        {
            let weak: HashSet<&str> =
                self.elf.symbols_in(index).filter(|(_, s)| s.weak).map(|(_, s)| s.name.as_str()).collect();
            for var in vars.iter().take(MAX_VARIABLES + 1) {
                let Some(Kind::Var { linkage, .. }) = btf.kind(var.ty) else { continue };
                let name = btf.name(var.ty).to_owned();
                let linkage = match linkage {
                    BtfLinkage::Static => Linkage::Static,
                    _ if weak.contains(name.as_str()) => Linkage::Weak,
                    _ => Linkage::Global,
                };
                seen.insert(name.clone());
                let ty = var_type(btf, var.ty);
                self.variables.push(Variable { name, map, offset: var.offset, size: var.size, ty, linkage });
            }
        }
        for (_, symbol) in self.elf.symbols_in(index) {
            if symbol.kind == SymbolKind::Data && symbol.size != 0 && !seen.contains(&symbol.name) {
                self.variables.extend(symbol_variable(symbol, map));
            }
            if self.variables.len() > MAX_VARIABLES {
                break;
            }
        }
        if self.variables.len() > MAX_VARIABLES {
            return Err(ObjectError::TooLarge { what: "number of variables", limit: MAX_VARIABLES as u64 });
        }
        Ok(())
    }
}

fn symbol_variable(symbol: &Symbol, map: usize) -> Option<Variable> {
    Some(Variable {
        name: symbol.name.clone(),
        map,
        offset: u32::try_from(symbol.value).ok()?,
        size: u32::try_from(symbol.size).ok()?,
        ty: None,
        linkage: match symbol {
            Symbol { local: true, .. } | Symbol { hidden: true, .. } => Linkage::Static,
            Symbol { weak: true, .. } => Linkage::Weak,
            _ => Linkage::Global,
        },
    })
}
