//! From text to bytes.

use bpf_object::{Btf, Kind, TypeId};

use super::Place;
use crate::typed::layout::describe;

/// Why a text gives no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A number out of range, or no number at all.
    #[error("`{text}` is no value of type `{c_type}` (expected {expected})")]
    Invalid {
        /// What was given.
        text: String,
        /// The type.
        c_type: String,
        /// What would do.
        expected: String,
    },
    /// A text longer than its array.
    #[error("{len} bytes of text do not fit `{c_type}`")]
    TooLong {
        /// Bytes of the text.
        len: usize,
        /// The array's type.
        c_type: String,
    },
    /// A structure, union or array: only its parts can be set.
    #[error("`{c_type}` cannot be set as a whole, only its members or elements")]
    Whole {
        /// The type.
        c_type: String,
    },
}

/// Parses `text` as a value for `place` and writes it into `part`, the bytes of that place.
///
/// Numbers are decimal or `0x` hexadecimal; an enum takes the names of its constants, a `bool` `true` and `false`, a
/// pointer `NULL`, an array of `char` any text shorter than it.
///
/// # Errors
/// The text is no value of the place's type; nothing is written.
pub fn write(btf: &Btf, place: Place, text: &str, part: &mut [u8]) -> Result<(), ParseError> {
    if let Some(Kind::Array(array)) = btf.kind(place.ty)
        && btf.size_of(array.element) == Some(1)
        && btf.name(btf.resolve(array.element)) == "char"
    {
        return write_text(btf, place.ty, text, part);
    }
    let width = place.bits.map_or(place.size.saturating_mul(8), |(_, width)| u64::from(width));
    let value = number(btf, place.ty, text, u32::try_from(width).unwrap_or(u32::MAX))?;
    let shift = place.bits.map_or(0, |(first, _)| u32::from(first));
    let mask = ones(u32::try_from(width).unwrap_or(128)) << shift;
    let bits = value.cast_unsigned() << shift;
    for (index, byte) in part.iter_mut().enumerate().take(16) {
        let at = |bits: u128| bits.to_le_bytes().get(index).copied().unwrap_or_default();
        *byte = *byte & !at(mask) | at(bits) & at(mask);
    }
    Ok(())
}

fn write_text(btf: &Btf, ty: TypeId, text: &str, part: &mut [u8]) -> Result<(), ParseError> {
    if text.len() >= part.len() {
        return Err(ParseError::TooLong { len: text.len(), c_type: describe(btf, ty) });
    }
    part.fill(0);
    part.iter_mut().zip(text.bytes()).for_each(|(byte, new)| *byte = new);
    Ok(())
}

/// A mask of the low `width` bits.
fn ones(width: u32) -> u128 {
    1u128.checked_shl(width).map_or(u128::MAX, |bit| bit - 1)
}

fn number(btf: &Btf, ty: TypeId, text: &str, width: u32) -> Result<i128, ParseError> {
    let c_type = || describe(btf, ty);
    let invalid = |expected: &str| ParseError::Invalid {
        text: text.to_owned(),
        c_type: c_type(),
        expected: expected.to_owned(),
    };
    let constants: Vec<(&str, i128)> = match btf.kind(ty) {
        Some(Kind::Int(int)) if int.is_bool => vec![("false", 0), ("true", 1)],
        Some(Kind::Int(_)) => Vec::new(),
        Some(Kind::Enum(e)) => e.values.iter().map(|&(name, v)| (btf.str(name), i128::from(v))).collect(),
        Some(Kind::Enum64(e)) => {
            e.values.iter().map(|&(name, v)| (btf.str(name), i128::from(v.cast_signed()))).collect()
        }
        Some(Kind::Ptr(_)) => vec![("NULL", 0)],
        _ => return Err(ParseError::Whole { c_type: c_type() }),
    };
    if let Some(&(_, value)) = constants.iter().find(|(name, _)| *name == text) {
        return Ok(value);
    }
    let signed = match btf.kind(ty) {
        Some(Kind::Int(int)) => int.signed,
        Some(Kind::Enum(e)) => e.signed,
        Some(Kind::Enum64(e)) => e.signed,
        _ => false,
    };
    let bits = width.clamp(1, 64);
    let (low, high) = match signed {
        true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        false => (0, (1i128 << bits) - 1),
    };
    let expected = || {
        let names: Vec<&str> = constants.iter().map(|(name, _)| *name).collect();
        let range = format!("a number from {low} to {high}");
        if names.is_empty() { range } else { format!("{}, or {range}", names.join(", ")) }
    };
    parse(text).filter(|value| (low..=high).contains(value)).ok_or_else(|| invalid(&expected()))
}

fn parse(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    // The standard parsers accept a sign of their own.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with(['+', '-']) => i128::from_str_radix(hex, 16).ok()?,
        Some(_) => return None,
        None => digits.parse().ok()?,
    };
    value.checked_mul(if negative { -1 } else { 1 })
}
