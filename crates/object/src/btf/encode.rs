//! Changing a BTF and writing it back as bytes.

use std::sync::{Arc, OnceLock};

use super::parse::{HEADER_BYTES, MAGIC};
use super::{Btf, BtfExt, Composite, CoreRelo, FuncInfoRow, Int, Kind, LineInfoRow, StrId, Type, TypeId};
use isa::Endian;

/// Bytes of the `.BTF.ext` header: what is common with `.BTF`, and three spans.
const EXT_HEADER_BYTES: u32 = 32;

impl Btf {
    /// A BTF of these types (`void` first) and this string section, which the caller keeps consistent.
    pub(crate) fn from_parts(types: Vec<Type>, strings: Vec<u8>) -> Self {
        Self { types, strings, ..Self::default() }
    }

    /// An empty BTF that continues `base`.
    #[must_use]
    pub fn split(base: Arc<Self>) -> Self {
        let (first_id, first_str, endian) = (base.end_id(), base.end_str(), base.endian);
        let (types, strings) = (Vec::new(), Vec::new());
        Self { base: Some(base), first_id, first_str, types, strings, endian, names: OnceLock::new() }
    }

    /// Sets the byte order that [`Btf::to_bytes`] writes.
    pub fn set_endian(&mut self, endian: Endian) {
        self.endian = endian;
    }

    /// Appends a type and gives its id. References in it are the caller's to keep valid.
    pub fn push(&mut self, ty: Type) -> TypeId {
        self.names = OnceLock::new();
        let id = TypeId(self.end_id());
        self.types.push(ty);
        id
    }

    /// Replaces a type of this BTF (not of its base); `false` if there is none with this id.
    pub fn replace(&mut self, id: TypeId, ty: Type) -> bool {
        self.names = OnceLock::new();
        let slot = id.0.checked_sub(self.first_id).and_then(|i| self.types.get_mut(i as usize));
        match slot {
            Some(slot) if id != TypeId::VOID => {
                *slot = ty;
                true
            }
            _ => false,
        }
    }

    /// The string's id, appending it unless it is there. A text with a NUL is cut at it.
    pub fn add_str(&mut self, text: &str) -> StrId {
        let text = text.split('\0').next().unwrap_or_default();
        if let Some(found) = self.find_str(text) {
            return found;
        }
        let id = StrId(self.end_str());
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        id
    }

    /// The bytes of a `.BTF` section, in this BTF's byte order. A split BTF gives its own part only.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut types = Writer { bytes: Vec::new(), endian: self.endian };
        for ty in self.types.iter().filter(|t| t.kind != Kind::Void) {
            types.ty(ty);
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (type_len, str_len) = (length(&types.bytes), length(&self.strings));
        let mut out = Writer { bytes: Vec::new(), endian: self.endian };
        out.u16(MAGIC);
        out.bytes.extend_from_slice(&[1, 0]);
        for word in [HEADER_BYTES, 0, type_len, type_len, str_len] {
            out.u32(word);
        }
        out.bytes.extend_from_slice(&types.bytes);
        out.bytes.extend_from_slice(&self.strings);
        out.bytes
    }
}

impl BtfExt {
    /// The bytes of a `.BTF.ext` section, little endian; `name` gives the string of a section's name in the BTF that goes
    /// with it.
    pub(crate) fn to_bytes(&self, name: &mut dyn FnMut(&str) -> StrId) -> Vec<u8> {
        let parts = [
            ext_part(&self.func_info, 8, name, |w, FuncInfoRow { offset, ty }| {
                [*offset, ty.0].into_iter().for_each(|word| w.u32(word));
            }),
            ext_part(&self.line_info, 16, name, |w, row: &LineInfoRow| {
                let place = row.line << 10 | row.column & 0x3ff;
                [row.offset, row.file.0, row.text.0, place].into_iter().for_each(|word| w.u32(word));
            }),
            ext_part(&self.core_relo, 16, name, |w, row: &CoreRelo| {
                let words = [row.offset, row.ty.0, row.access.0, row.kind as u32];
                words.into_iter().for_each(|word| w.u32(word));
            }),
        ];
        let mut out = Writer { bytes: Vec::new(), endian: Endian::Little };
        out.u16(MAGIC);
        out.bytes.extend_from_slice(&[1, 0]);
        out.u32(EXT_HEADER_BYTES);
        let mut offset = 0;
        for part in &parts {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            out.u32(offset);
            out.u32(length);
            offset = offset.saturating_add(length);
        }
        parts.iter().for_each(|part| out.bytes.extend_from_slice(part));
        out.bytes
    }
}

/// One part of a `.BTF.ext`; empty without rows.
fn ext_part<T>(
    sections: &[(String, Vec<T>)],
    record: u32,
    name: &mut dyn FnMut(&str) -> StrId,
    mut row: impl FnMut(&mut Writer, &T),
) -> Vec<u8> {
    let mut out = Writer { bytes: Vec::new(), endian: Endian::Little };
    for (section, rows) in sections.iter().filter(|(_, rows)| !rows.is_empty()) {
        if out.bytes.is_empty() {
            out.u32(record);
        }
        out.u32(name(section).0);
        out.u32(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        rows.iter().for_each(|r| row(&mut out, r));
    }
    out.bytes
}

/// One type as bytes, little endian.
pub(super) fn type_bytes(ty: &Type) -> Vec<u8> {
    let mut out = Writer { bytes: Vec::new(), endian: Endian::Little };
    out.ty(ty);
    out.bytes
}

struct Writer {
    bytes: Vec<u8>,
    endian: Endian,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    /// `struct btf_type`. More than 65,535 rows cannot come from [`Btf::parse`]; a larger edit is cut by the caller's
    /// own count.
    fn head(&mut self, ty: &Type, count: usize, kind_flag: bool, word: u32) {
        let count = u32::try_from(count & 0xffff).unwrap_or_default();
        self.u32(ty.name.0);
        self.u32(u32::from(kind_flag) << 31 | u32::from(ty.kind.tag() as u8) << 24 | count);
        self.u32(word);
    }

    fn ty(&mut self, ty: &Type) {
        match &ty.kind {
            Kind::Void => {}
            Kind::Int(int) => {
                self.head(ty, 0, false, int.size);
                self.u32(int_data(int));
            }
            Kind::Ptr(to) | Kind::Typedef(to) | Kind::Volatile(to) | Kind::Const(to) | Kind::Restrict(to) => {
                self.head(ty, 0, false, to.0);
            }
            Kind::Array(array) => {
                self.head(ty, 0, false, 0);
                [array.element.0, array.index.0, array.len].into_iter().for_each(|w| self.u32(w));
            }
            Kind::Struct(composite) | Kind::Union(composite) => self.composite(ty, composite),
            Kind::Enum(e) => {
                self.head(ty, e.values.len(), e.signed, e.size);
                for (name, value) in &e.values {
                    self.u32(name.0);
                    self.u32(value.cast_unsigned());
                }
            }
            Kind::Enum64(e) => {
                self.head(ty, e.values.len(), e.signed, e.size);
                for &(name, value) in &e.values {
                    let [low, high] = halves(value);
                    [name.0, low, high].into_iter().for_each(|w| self.u32(w));
                }
            }
            Kind::Fwd { is_union } => self.head(ty, 0, *is_union, 0),
            Kind::Func { proto, linkage } => self.head(ty, usize::from(*linkage as u8), false, proto.0),
            Kind::FuncProto(proto) => {
                self.head(ty, proto.params.len(), false, proto.ret.0);
                for param in &proto.params {
                    self.u32(param.name.0);
                    self.u32(param.ty.0);
                }
            }
            Kind::Var { ty: of, linkage } => {
                self.head(ty, 0, false, of.0);
                self.u32(u32::from(*linkage as u8));
            }
            Kind::DataSec { size, vars } => {
                self.head(ty, vars.len(), false, *size);
                for var in vars {
                    [var.ty.0, var.offset, var.size].into_iter().for_each(|w| self.u32(w));
                }
            }
            Kind::Float { size } => self.head(ty, 0, false, *size),
            Kind::DeclTag { target, component, attribute } => {
                self.head(ty, 0, *attribute, target.0);
                self.u32(component.unwrap_or(u32::MAX));
            }
            Kind::TypeTag { ty: of, attribute } => self.head(ty, 0, *attribute, of.0),
        }
    }

    fn composite(&mut self, ty: &Type, composite: &Composite) {
        self.head(ty, composite.members.len(), composite.kind_flag, composite.size);
        for member in &composite.members {
            self.u32(member.name.0);
            self.u32(member.ty.0);
            self.u32(u32::from(member.bit_size) << 24 | member.bit_offset);
        }
    }
}

fn int_data(int: &Int) -> u32 {
    let encoding = u8::from(int.signed) | u8::from(int.is_char) << 1 | u8::from(int.is_bool) << 2;
    u32::from_le_bytes([int.bits, 0, int.offset, encoding])
}

/// The low and the high half of a 64-bit value.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
