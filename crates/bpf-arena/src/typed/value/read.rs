//! From bytes to a [`Value`].

use bpf_object::{Array, Btf, Composite, Kind, StrId, TypeId};

use super::{Place, Value};
use crate::typed::layout::describe;

/// Types nested deeper than this are not read.
const MAX_DEPTH: usize = 32;
/// Values that one reading makes, at most.
const MAX_VALUES: usize = 1 << 16;

/// Why bytes give no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There are fewer bytes than the type has.
    #[error("`{c_type}` ends behind the {len} bytes there are")]
    Truncated {
        /// The type.
        c_type: String,
        /// Bytes there are.
        len: usize,
    },
    /// A type that is nested too deep or has too many parts.
    #[error("`{c_type}` is too large to be shown whole (more than {MAX_VALUES} parts)")]
    TooLarge {
        /// The type.
        c_type: String,
    },
}

/// Reads the value at `place` of a variable whose bytes are given.
///
/// # Errors
/// Too few bytes, or a type with too many parts.
pub fn read(btf: &Btf, place: Place, variable: &[u8]) -> Result<Value, ReadError> {
    Reader { btf, variable, left: MAX_VALUES }.value(place, MAX_DEPTH)
}

struct Reader<'a> {
    btf: &'a Btf,
    variable: &'a [u8],
    /// Values that may still be made.
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self, place: Place, depth: usize) -> Result<Value, ReadError> {
        let too_large = || ReadError::TooLarge { c_type: describe(self.btf, place.ty) };
        let depth = depth.checked_sub(1).ok_or_else(too_large)?;
        self.left = self.left.checked_sub(1).ok_or_else(too_large)?;
        let btf = self.btf;
        let bytes = self.bytes(place)?;
        if let Some((first, width)) = place.bits {
            let bits = unsigned(bytes) >> first;
            return Ok(scalar(btf, place.ty, bits, u32::from(width)));
        }
        let width = u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_mul(8);
        match btf.kind(place.ty) {
            Some(Kind::Int(_) | Kind::Enum(_) | Kind::Enum64(_)) if width <= 128 => {
                Ok(scalar(btf, place.ty, unsigned(bytes), width))
            }
            Some(Kind::Ptr(_)) => {
                let address = u64::try_from(unsigned(bytes)).unwrap_or_default();
                Ok(Value::Pointer { address, c_type: describe(btf, place.ty) })
            }
            Some(Kind::Float { .. }) => Ok(float(bytes)),
            Some(Kind::Struct(composite) | Kind::Union(composite)) => self.members(composite, place, depth),
            Some(Kind::Array(array)) => self.elements(array, place, depth),
            _ => Ok(Value::Bytes(bytes.to_vec())),
        }
    }

    fn bytes(&self, place: Place) -> Result<&'_ [u8], ReadError> {
        let range = || {
            let start = usize::try_from(place.offset).ok()?;
            self.variable.get(start..start.checked_add(usize::try_from(place.size).ok()?)?)
        };
        range().ok_or_else(|| ReadError::Truncated {
            c_type: describe(self.btf, place.ty),
            len: self.variable.len(),
        })
    }

    fn part(&self, ty: TypeId, offset: u64) -> Result<Place, ReadError> {
        let place = Place::whole(self.btf, ty);
        let place = place.map_err(|_| ReadError::TooLarge { c_type: describe(self.btf, ty) })?;
        Ok(Place { offset, ..place })
    }

    fn members(&mut self, composite: &Composite, place: Place, depth: usize) -> Result<Value, ReadError> {
        let mut fields = Vec::new();
        for member in &composite.members {
            let bit_offset = u64::from(member.bit_offset);
            let part = match self.btf.bit_field(member) {
                Some(width) => place.bit_field(self.btf.resolve(member.ty), bit_offset, width),
                None => self.part(member.ty, place.offset.saturating_add(bit_offset / 8))?,
            };
            let value = self.value(part, depth)?;
            match (self.btf.str(member.name), value) {
                // Members of anonymous structures and unions are members of the outer one, as in C.
                ("", Value::Struct(inner)) => fields.extend(inner),
                // Unnamed bit fields are padding.
                ("", _) => {}
                (name, value) => fields.push((name.to_owned(), value)),
            }
        }
        Ok(Value::Struct(fields))
    }

    fn elements(&mut self, array: &Array, place: Place, depth: usize) -> Result<Value, ReadError> {
        if let Some(text) = self.text(array, place)? {
            return Ok(Value::Text(text));
        }
        let first = self.part(array.element, place.offset)?;
        let mut elements = Vec::new();
        for index in 0..u64::from(array.len) {
            let offset = place.offset.saturating_add(first.size.saturating_mul(index));
            elements.push(self.value(Place { offset, ..first }, depth)?);
        }
        Ok(Value::Array(elements))
    }

    /// An array of `char` that holds a text: UTF-8 up to a NUL, and nothing but NULs behind it.
    fn text(&self, array: &Array, place: Place) -> Result<Option<String>, ReadError> {
        let char_like = match self.btf.kind(self.btf.resolve(array.element)) {
            // Compilers for BPF say of `char` only that it is signed and called so.
            Some(Kind::Int(int)) => {
                int.size == 1 && (int.is_char || self.btf.name(self.btf.resolve(array.element)) == "char")
            }
            _ => false,
        };
        if !char_like {
            return Ok(None);
        }
        let bytes = self.bytes(place)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let (text, rest) = bytes.split_at(end);
        let printable = rest.iter().all(|&b| b == 0);
        Ok(std::str::from_utf8(text).ok().filter(|_| printable).map(str::to_owned))
    }
}

/// Little-endian bytes, at most 16, as a number.
fn unsigned(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u128::from(byte))
}

/// The low `width` bits as an integer of this type.
fn scalar(btf: &Btf, ty: TypeId, bits: u128, width: u32) -> Value {
    let unused = 128u32.saturating_sub(width).min(127);
    let unsigned = (bits << unused >> unused).cast_signed();
    let signed = bits.cast_signed() << unused >> unused;
    match btf.kind(ty) {
        Some(Kind::Int(int)) if int.is_bool && unsigned <= 1 => Value::Bool(unsigned == 1),
        Some(Kind::Int(int)) => Value::Int(if int.signed { signed } else { unsigned }),
        Some(Kind::Enum(e)) => {
            let value = if e.signed { signed } else { unsigned };
            // The table holds bits; an unsigned enum's are read as such.
            let as_listed = |v: i32| if e.signed { i128::from(v) } else { i128::from(v.cast_unsigned()) };
            named(btf, value, e.values.iter().map(|&(name, v)| (name, as_listed(v))))
        }
        Some(Kind::Enum64(e)) => {
            let value = if e.signed { signed } else { unsigned };
            let as_listed = |v: u64| if e.signed { i128::from(v.cast_signed()) } else { i128::from(v) };
            named(btf, value, e.values.iter().map(|&(name, v)| (name, as_listed(v))))
        }
        _ => Value::Int(unsigned),
    }
}

fn named(btf: &Btf, value: i128, mut constants: impl Iterator<Item = (StrId, i128)>) -> Value {
    let name = constants.find(|&(_, v)| v == value).map(|(name, _)| btf.str(name).to_owned());
    Value::Enum { name, value }
}

fn float(bytes: &[u8]) -> Value {
    match *bytes {
        [a, b, c, d] => Value::Float(f64::from(f32::from_le_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => Value::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use bpf_object::{Member, Type};

    use super::*;

    fn add(btf: &mut Btf, kind: Kind) -> TypeId {
        btf.push(Type { kind, ..Type::default() })
    }

    fn structure(members: Vec<Member>, size: u32) -> Kind {
        Kind::Struct(Composite { size, members, kind_flag: false })
    }

    fn whole(btf: &Btf, ty: TypeId, bytes: &[u8]) -> Result<Value, ReadError> {
        read(btf, Place::whole(btf, ty).unwrap(), bytes)
    }

    #[test]
    fn four_billion_empty_elements_are_too_large() {
        let mut btf = Btf::default();
        let empty = add(&mut btf, structure(Vec::new(), 0));
        let array = add(&mut btf, Kind::Array(Array { element: empty, index: empty, len: u32::MAX }));
        assert!(matches!(whole(&btf, array, &[]), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn structures_that_double_at_each_level_are_too_large() {
        let mut btf = Btf::default();
        let name = btf.add_str("half");
        let mut ty = add(&mut btf, structure(Vec::new(), 0));
        for _ in 0..24 {
            let half = Member { name, ty, ..Member::default() };
            ty = add(&mut btf, structure(vec![half, half], 0));
        }
        assert!(matches!(whole(&btf, ty, &[]), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn a_structure_inside_itself_ends() {
        let mut btf = Btf::default();
        let name = btf.add_str("me");
        let id = TypeId(btf.end_id());
        let me = Member { name, ty: id, ..Member::default() };
        assert_eq!(add(&mut btf, structure(vec![me], 8)), id);
        assert!(matches!(whole(&btf, id, &[0; 8]), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn missing_bytes_are_an_error() {
        let mut btf = Btf::default();
        let pointer = add(&mut btf, Kind::Ptr(TypeId::VOID));
        assert!(matches!(whole(&btf, pointer, &[0; 7]), Err(ReadError::Truncated { len: 7, .. })));
        assert_eq!(whole(&btf, pointer, &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap().to_string(), "0x1");
        let member = Member { ty: pointer, bit_offset: u32::MAX, ..Member::default() };
        let far = add(&mut btf, structure(vec![member], 8));
        assert!(matches!(whole(&btf, far, &[0; 8]), Err(ReadError::Truncated { .. })));
    }
}
