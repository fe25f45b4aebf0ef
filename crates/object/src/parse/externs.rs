//! Externs: kernel functions and variables (`.ksyms`) and configuration values (`.kconfig`).

use std::collections::HashMap;

use super::Parser;
use crate::btf::{Btf, BtfLinkage, Kind, Type, TypeId, essential_name};
use crate::elf::{Place, SymbolKind};
use crate::error::{ExternFault, ObjectError};
use crate::layout::{KconfigKind, KconfigLayout, KconfigVar, SymbolTarget};
use crate::object::Variable;
use crate::{Extern, ExternKind, Linkage, MapOrigin, MapSpec, MapType};

/// An extern as BTF describes it.
struct Described<'a> {
    /// `VAR` or `FUNC`.
    id: TypeId,
    /// Name of its `DATASEC`.
    section: &'a str,
}

/// A `.kconfig` variable before it has a place.
struct Pending {
    symbol: usize,
    var: KconfigVar,
    align: u32,
    ty: TypeId,
}

impl Parser<'_> {
    pub(super) fn externs(&mut self) -> Result<(), ObjectError> {
        let Some(btf) = &self.btf else { return Ok(()) };
        let described = described_externs(btf);
        let mut pending = Vec::new();
        for (index, symbol) in self.elf.symbols.iter().enumerate() {
            if symbol.place != Place::Undefined
                || symbol.local
                || symbol.kind != SymbolKind::Data
                || symbol.name.is_empty()
            {
                continue;
            }
            // One that BTF does not describe is an error only where something refers to it.
            let Some(found) = described.get(symbol.name.as_str()) else { continue };
            match found.section {
                ".ksyms" => {
                    let number = u32::try_from(self.externs.len()).unwrap_or(u32::MAX);
                    self.externs.push(Extern {
                        name: essential_name(&symbol.name).to_owned(),
                        kind: extern_kind(btf, found.id),
                        weak: symbol.weak,
                        btf: Some(found.id),
                    });
                    self.undefined.insert(index, SymbolTarget::Extern(number));
                }
                ".kconfig" => pending.push(kconfig_var(btf, index, &symbol.name, symbol.weak, found.id)?),
                _ => {
                    return Err(ObjectError::BadExtern {
                        name: symbol.name.clone(),
                        fault: ExternFault::WrongSection,
                    });
                }
            }
        }
        if !pending.is_empty() {
            self.kconfig_map(pending)?;
        }
        Ok(())
    }

    /// Lays the variables out by descending alignment, then size and name, as libbpf does, and adds the map that holds
    /// them.
    fn kconfig_map(&mut self, mut pending: Vec<Pending>) -> Result<(), ObjectError> {
        pending.sort_by(|a, b| (b.align, a.var.size, &a.var.name).cmp(&(a.align, b.var.size, &b.var.name)));
        let mut end = 0u32;
        for entry in &mut pending {
            entry.var.offset = end.checked_next_multiple_of(entry.align).unwrap_or(u32::MAX);
            end = entry.var.offset.checked_add(entry.var.size).ok_or_else(|| ObjectError::TooLarge {
                what: "size of .kconfig",
                limit: u64::from(u32::MAX),
            })?;
        }
        let data_sec = self.data_sec(".kconfig");
        let map = self.add_map(MapSpec {
            key_size: 4,
            value_size: end,
            max_entries: 1,
            flags: crate::BPF_F_MMAPABLE | crate::BPF_F_RDONLY_PROG,
            value_btf: data_sec,
            origin: MapOrigin::Kconfig,
            ..MapSpec::new(".kconfig", MapType::Array)
        })?;
        if let (Some(btf), Some(id)) = (&mut self.btf, data_sec) {
            place_in_btf(btf, id, end, &pending);
        }
        for entry in &pending {
            self.undefined.insert(entry.symbol, SymbolTarget::Kconfig { map, offset: entry.var.offset });
            self.variables.push(Variable {
                name: entry.var.name.clone(),
                map: map as usize,
                offset: entry.var.offset,
                size: entry.var.size,
                ty: Some(entry.ty),
                linkage: if entry.var.weak { Linkage::Weak } else { Linkage::Global },
            });
        }
        let vars = pending.into_iter().map(|p| p.var).collect();
        self.layout.kconfig = Some(KconfigLayout { map: map as usize, vars });
        Ok(())
    }
}

/// Extern variables and functions by name, with the `DATASEC` they are in.
fn described_externs(btf: &Btf) -> HashMap<&str, Described<'_>> {
    let mut found = HashMap::new();
    for (_, ty) in btf.own_types() {
        let Kind::DataSec { vars, .. } = &ty.kind else { continue };
        for var in vars {
            if let Some(
                Kind::Var { linkage: BtfLinkage::Extern, .. }
                | Kind::Func { linkage: BtfLinkage::Extern, .. },
            ) = btf.kind(var.ty)
            {
                let described = Described { id: var.ty, section: btf.str(ty.name) };
                found.entry(btf.name(var.ty)).or_insert(described);
            }
        }
    }
    found
}

fn extern_kind(btf: &Btf, id: TypeId) -> ExternKind {
    match btf.kind(id) {
        Some(Kind::Func { .. }) => ExternKind::Function,
        Some(Kind::Var { ty, .. }) if btf.resolve(*ty) != TypeId::VOID => ExternKind::TypedVariable,
        _ => ExternKind::Address,
    }
}

fn kconfig_var(btf: &Btf, symbol: usize, name: &str, weak: bool, id: TypeId) -> Result<Pending, ObjectError> {
    let bad =
        |ty| ObjectError::BadExtern { name: name.to_owned(), fault: ExternFault::BadKconfigType { ty } };
    let Some(&Kind::Var { ty, .. }) = btf.kind(id) else { return Err(bad(id)) };
    let kind = kconfig_kind(btf, ty).ok_or_else(|| bad(ty))?;
    let size = btf.size_of(ty).and_then(|s| u32::try_from(s).ok()).ok_or_else(|| bad(ty))?;
    let align = btf.align_of(ty).and_then(|a| u32::try_from(a).ok()).unwrap_or(1);
    Ok(Pending { symbol, var: KconfigVar { name: name.to_owned(), offset: 0, size, kind, weak }, align, ty })
}

fn kconfig_kind(btf: &Btf, ty: TypeId) -> Option<KconfigKind> {
    let resolved = btf.resolve(ty);
    let tristate = btf.name(resolved) == "libbpf_tristate";
    match btf.kind(resolved)? {
        Kind::Int(int) if int.is_bool => (int.size == 1).then_some(KconfigKind::Bool),
        Kind::Int(int) => match int.size {
            1 => Some(KconfigKind::Char { signed: int.signed }),
            2 | 4 | 8 => Some(KconfigKind::Int { signed: int.signed }),
            _ => None,
        },
        Kind::Enum(e) if tristate && e.size == 4 => Some(KconfigKind::Tristate),
        Kind::Enum64(e) if tristate && e.size == 8 => Some(KconfigKind::Tristate),
        Kind::Array(array) if array.len > 0 => match btf.kind(btf.resolve(array.element))? {
            Kind::Int(int) if int.size == 1 && !int.is_bool => Some(KconfigKind::Text),
            _ => None,
        },
        _ => None,
    }
}

/// Gives `.kconfig` variables their offsets in BTF.
fn place_in_btf(btf: &mut Btf, id: TypeId, size: u32, pending: &[Pending]) {
    let offsets: HashMap<&str, (u32, u32)> =
        pending.iter().map(|p| (p.var.name.as_str(), (p.var.offset, p.var.size))).collect();
    let Some(Type { name, kind: Kind::DataSec { vars, .. } }) = btf.get(id).cloned() else { return };
    let mut vars = vars;
    for var in &mut vars {
        if let Some(&(offset, size)) = offsets.get(btf.name(var.ty)) {
            (var.offset, var.size) = (offset, size);
        }
    }
    vars.sort_by_key(|v| v.offset);
    btf.replace(id, Type { name, kind: Kind::DataSec { size, vars } });
}
