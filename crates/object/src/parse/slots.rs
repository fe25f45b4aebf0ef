//! Static contents of maps: maps of maps, program arrays and `struct_ops` tables, given by relocations of their
//! sections.

use std::collections::HashMap;

use super::Parser;
use crate::btf::Kind;
use crate::elf::{Place, Relocation};
use crate::error::{MapFault, ObjectError};
use crate::layout::{Function, TEXT_SECTION};
use crate::limits::MAX_MAP_SLOTS;
use crate::{Linkage, MapSlot, MapSpec, MapType};

impl Parser<'_> {
    pub(super) fn slots(&mut self) -> Result<(), ObjectError> {
        let programs = self.program_places();
        let mut found = Vec::new();
        for (&(section, start), &map) in &self.layout.map_at {
            let Some(spec) = self.maps.get(map as usize) else { continue };
            let Some(elf_section) = self.elf.sections.get(section) else { continue };
            let (first, size) = match spec.map_type {
                MapType::StructOps => (0, u64::from(spec.value_size)),
                _ => self.values_member(section, start).unwrap_or_default(),
            };
            let rows = &elf_section.relocations;
            let from = rows.partition_point(|r| r.offset < start.saturating_add(first));
            let end = start.saturating_add(size.max(1));
            for relocation in rows.get(from..).unwrap_or_default().iter().take_while(|r| r.offset < end) {
                if found.len() >= MAX_MAP_SLOTS {
                    let limit = MAX_MAP_SLOTS as u64;
                    return Err(ObjectError::TooLarge { what: "number of initial map entries", limit });
                }
                found.push((map, self.slot(relocation, spec, start + first, &programs)?));
            }
        }
        for (map, slot) in found {
            if let Some(spec) = self.maps.get_mut(map as usize) {
                spec.slots.push(slot);
            }
        }
        Ok(())
    }

    /// Names of programs by section and byte offset.
    fn program_places(&self) -> HashMap<(usize, u64), String> {
        let is_program = |f: &&Function| {
            f.linkage != Linkage::Static
                && self.layout.texts.get(&f.section).is_some_and(|t| t.name != TEXT_SECTION)
        };
        let place = |f: &Function| ((f.section, u64::from(f.start) * 8), f.name.clone());
        self.layout.functions.iter().filter(is_program).map(place).collect()
    }

    /// Offset of `values` in the map variable at `start` of `.maps`, and the variable's size.
    fn values_member(&self, section: usize, start: u64) -> Option<(u64, u64)> {
        let btf = self.btf.as_ref()?;
        let name = self.elf.sections.get(section)?.name;
        let Kind::DataSec { vars, .. } = btf.kind(self.data_sec(name)?)? else { return None };
        let index = vars.partition_point(|v| u64::from(v.offset) < start);
        let var = vars.get(index).filter(|v| u64::from(v.offset) == start)?;
        let ty = super::maps::var_type(btf, var.ty)?;
        let member = btf.composite(ty)?.members.last().filter(|m| btf.str(m.name) == "values")?;
        Some((u64::from(member.bit_offset / 8), u64::from(var.size)))
    }

    fn slot(
        &self,
        relocation: &Relocation,
        map: &MapSpec,
        first: u64,
        programs: &HashMap<(usize, u64), String>,
    ) -> Result<MapSlot, ObjectError> {
        let label = self.elf.symbol_label(relocation.symbol);
        let bad = || ObjectError::BadMap {
            map: map.name.clone(),
            fault: MapFault::BadSlot { offset: relocation.offset, symbol: label.clone() },
        };
        let symbol = self.elf.symbols.get(relocation.symbol).ok_or_else(bad)?;
        let Place::Section(section) = symbol.place else { return Err(bad()) };
        let place = (section, symbol.value);
        let target = match map.map_type {
            MapType::ArrayOfMaps | MapType::HashOfMaps => self
                .layout
                .map_at
                .get(&place)
                .and_then(|&m| self.maps.get(m as usize))
                .map(|m| m.name.clone()),
            MapType::ProgArray | MapType::StructOps => programs.get(&place).cloned(),
            _ => None,
        };
        let at = relocation.offset.checked_sub(first).ok_or_else(bad)?;
        let index = match map.map_type {
            MapType::StructOps => at,
            _ if at % 8 == 0 => at / 8,
            _ => return Err(bad()),
        };
        Ok(MapSlot { index: u32::try_from(index).map_err(|_| bad())?, target: target.ok_or_else(bad)? })
    }
}
