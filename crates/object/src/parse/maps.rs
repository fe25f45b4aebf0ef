//! Maps that an object declares: BTF-defined maps in `.maps`, and `struct_ops` tables.

use super::{Parser, bad_section};
use crate::btf::{Btf, Composite, Kind, Member, SecVar, TypeId};
use crate::error::{MapFault, ObjectError, SectionFault};
use crate::layout::SymbolTarget;
use crate::{MapSpec, MapType};

/// Sections of `struct_ops` tables; a `?` means "not loaded unless asked for", `.link` how the table is attached.
const STRUCT_OPS: [&str; 4] = [".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link"];

impl Parser<'_> {
    /// Reads `.maps`: one map per variable, its attributes encoded in the variable's type.
    pub(super) fn declared_maps(&mut self) -> Result<(), ObjectError> {
        let Some((index, section)) = self.elf.section(".maps") else { return Ok(()) };
        if section.size == 0 {
            return Ok(());
        }
        self.set_role(index, SymbolTarget::Maps(index));
        let vars = self.section_vars(".maps")?;
        for var in vars {
            let Some(btf) = &self.btf else { continue };
            let name = btf.name(var.ty).to_owned();
            let map = read_map(btf, &name, var.ty)
                .map_err(|fault| ObjectError::BadMap { map: name.clone(), fault })?;
            if map.map_type == MapType::Arena
                && let Some(first) = self.maps.iter().find(|m| m.map_type == MapType::Arena)
            {
                return Err(ObjectError::SeveralArenas { first: first.name.clone(), second: name });
            }
            let map = self.add_map(map)?;
            self.layout.map_at.insert((index, u64::from(var.offset)), map);
        }
        Ok(())
    }

    /// Reads `struct_ops` tables: each variable is a map of one value, the table itself.
    pub(super) fn struct_ops(&mut self) -> Result<(), ObjectError> {
        for name in STRUCT_OPS {
            let Some((index, section)) = self.elf.section(name) else { continue };
            if section.size == 0 {
                continue;
            }
            let data = section.data;
            self.set_role(index, SymbolTarget::Maps(index));
            for var in self.section_vars(name)? {
                let Some(btf) = &self.btf else { continue };
                let (start, size) = (var.offset as usize, var.size as usize);
                let contents = start.checked_add(size).and_then(|end| data.get(start..end));
                let contents = contents.ok_or_else(|| bad_section(name, SectionFault::OutsideFile))?;
                let map = MapSpec {
                    key_size: 4,
                    value_size: var.size,
                    max_entries: 1,
                    value_btf: var_type(btf, var.ty),
                    initial: contents.to_vec(),
                    ..MapSpec::new(btf.name(var.ty), MapType::StructOps)
                };
                let map = self.add_map(map)?;
                self.layout.map_at.insert((index, u64::from(var.offset)), map);
            }
        }
        Ok(())
    }

    /// Variables of a section that makes no sense without BTF.
    fn section_vars(&self, name: &str) -> Result<Vec<SecVar>, ObjectError> {
        let no_btf = || ObjectError::NoBtf { section: name.to_owned() };
        let btf = self.btf.as_ref().ok_or_else(no_btf)?;
        let id = self.data_sec(name).ok_or_else(no_btf)?;
        match btf.kind(id) {
            Some(Kind::DataSec { vars, .. }) => Ok(vars.clone()),
            _ => Err(no_btf()),
        }
    }
}

/// The type of a `VAR`.
pub(super) fn var_type(btf: &Btf, var: TypeId) -> Option<TypeId> {
    match btf.kind(var)? {
        Kind::Var { ty, .. } => Some(*ty),
        _ => None,
    }
}

/// What the `VAR` of a map says about it.
pub(crate) fn read_map(btf: &Btf, name: &str, var: TypeId) -> Result<MapSpec, MapFault> {
    let ty = var_type(btf, var).ok_or(MapFault::NoVariable)?;
    let resolved = btf.resolve(ty);
    let Some(Kind::Struct(definition)) = btf.kind(resolved) else {
        return Err(MapFault::NotStruct { ty: resolved });
    };
    read_definition(btf, name, definition, false)
}

/// What a definition has said so far.
struct Definition {
    map: MapSpec,
    number: Option<u32>,
}

fn read_definition(btf: &Btf, name: &str, definition: &Composite, inner: bool) -> Result<MapSpec, MapFault> {
    let mut at = Definition { map: MapSpec::new(name, MapType::Array), number: None };
    for (index, member) in definition.members.iter().enumerate() {
        let last = index + 1 == definition.members.len();
        attribute(btf, member, &mut at, inner, last)?;
    }
    let number = at.number.ok_or(MapFault::NoType)?;
    at.map.map_type = MapType::from_number(number).ok_or(MapFault::UnknownType { number })?;
    Ok(at.map)
}

fn attribute(
    btf: &Btf,
    member: &Member,
    at: &mut Definition,
    inner: bool,
    last: bool,
) -> Result<(), MapFault> {
    let name = btf.str(member.name);
    let bad = || MapFault::BadAttribute { attribute: name.to_owned() };
    let number = || array_len(btf, member.ty).ok_or_else(bad);
    let Definition { map, number: map_type } = at;
    match name {
        "type" => *map_type = Some(number()?),
        "max_entries" => map.max_entries = number()?,
        "map_flags" => map.flags = number()?,
        "numa_node" => map.numa_node = number()?,
        "map_extra" => map.extra = long_number(btf, member.ty).ok_or_else(bad)?,
        "key_size" => set_size(&mut map.key_size, number()?.into(), name)?,
        "value_size" => set_size(&mut map.value_size, number()?.into(), name)?,
        "key" | "value" => {
            let Some(&Kind::Ptr(ty)) = btf.kind(member.ty) else { return Err(bad()) };
            let size = btf.size_of(ty).ok_or_else(bad)?;
            if name == "key" {
                set_size(&mut map.key_size, size, "key_size")?;
                map.key_btf = Some(ty);
            } else {
                set_size(&mut map.value_size, size, "value_size")?;
                map.value_btf = Some(ty);
            }
        }
        "pinning" if !inner => {
            map.pin_by_name = match number()? {
                0 => false,
                1 => true,
                value => return Err(MapFault::BadPinning { value }),
            };
        }
        "values" => {
            if inner {
                return Err(MapFault::NestedInner);
            }
            if !last {
                return Err(bad());
            }
            let of_maps = match map_type.and_then(MapType::from_number) {
                Some(MapType::ArrayOfMaps | MapType::HashOfMaps) => true,
                Some(MapType::ProgArray) => false,
                _ => return Err(MapFault::UnexpectedValues),
            };
            set_size(&mut map.value_size, 4, "value_size")?;
            map.inner = values(btf, member.ty, of_maps, &map.name)?.map(Box::new);
        }
        _ => return Err(MapFault::UnknownAttribute { attribute: name.to_owned() }),
    }
    Ok(())
}

/// `__uint(name, N)`: a pointer to an array of N.
fn array_len(btf: &Btf, ty: TypeId) -> Option<u32> {
    let Kind::Ptr(to) = btf.kind(btf.resolve(ty))? else { return None };
    match btf.kind(*to)? {
        Kind::Array(array) => Some(array.len),
        _ => None,
    }
}

/// `__ulong(name, N)`: an anonymous enum with the one value N. `__uint` is fine too.
fn long_number(btf: &Btf, ty: TypeId) -> Option<u64> {
    match btf.kind(btf.resolve(ty))? {
        Kind::Enum(e) => match *e.values.as_slice() {
            [(_, value)] if e.signed => Some(i64::from(value).cast_unsigned()),
            [(_, value)] => Some(u64::from(value.cast_unsigned())),
            _ => None,
        },
        Kind::Enum64(e) => match *e.values.as_slice() {
            [(_, value)] => Some(value),
            _ => None,
        },
        _ => array_len(btf, ty).map(u64::from),
    }
}

/// Sets a size that may have been stated before, as a number or by a type.
fn set_size(slot: &mut u32, size: u64, attribute: &str) -> Result<(), MapFault> {
    let new = u32::try_from(size).map_err(|_| MapFault::BadAttribute { attribute: attribute.to_owned() })?;
    if *slot != 0 && *slot != new {
        return Err(MapFault::SizeConflict { attribute: attribute.to_owned(), size: *slot, type_size: size });
    }
    *slot = new;
    Ok(())
}

/// `__array(values, T)`: an array of no length of pointers to T: a map definition, or for program arrays a function
/// type.
fn values(btf: &Btf, ty: TypeId, of_maps: bool, map: &str) -> Result<Option<MapSpec>, MapFault> {
    let bad = || MapFault::BadAttribute { attribute: "values".to_owned() };
    let element = match btf.kind(ty) {
        Some(Kind::Array(array)) if array.len == 0 => array.element,
        _ => return Err(bad()),
    };
    let Some(&Kind::Ptr(to)) = btf.kind(btf.resolve(element)) else { return Err(bad()) };
    match btf.kind(btf.resolve(to)) {
        Some(Kind::Struct(definition)) if of_maps => {
            read_definition(btf, &format!("{map}.inner"), definition, true).map(Some)
        }
        Some(Kind::FuncProto(_)) if !of_maps => Ok(None),
        _ => Err(bad()),
    }
}
