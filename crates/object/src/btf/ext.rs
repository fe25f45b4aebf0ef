//! `.BTF.ext`: functions, source lines and CO-RE relocations of the ELF sections.

use super::parse::Sections;
use super::{Btf, StrId, TypeId};
use crate::error::{BtfError, BtfFault};
use crate::limits::{MAX_EXT_SECTIONS, MAX_NAME_BYTES};
use crate::reader::Reader;

/// Parsed `.BTF.ext`. Offsets are in bytes from the start of the ELF section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BtfExt {
    /// Functions, by ELF section name.
    pub func_info: Vec<(String, Vec<FuncInfoRow>)>,
    /// Source lines, by ELF section name.
    pub line_info: Vec<(String, Vec<LineInfoRow>)>,
    /// CO-RE relocations, by ELF section name.
    pub core_relo: Vec<(String, Vec<CoreRelo>)>,
}

/// A function's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfoRow {
    /// Byte offset of the first instruction.
    pub offset: u32,
    /// Its `FUNC`.
    pub ty: TypeId,
}

/// The first instruction of a source line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfoRow {
    /// Byte offset of the instruction.
    pub offset: u32,
    /// File name.
    pub file: StrId,
    /// Text of the line.
    pub text: StrId,
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
}

/// A CO-RE relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// Byte offset of the instruction.
    pub offset: u32,
    /// The root type in the object's BTF.
    pub ty: TypeId,
    /// Access path, e.g. `0:1:2`.
    pub access: StrId,
    /// What is asked.
    pub kind: CoreReloKind,
}

/// What a CO-RE relocation asks (`enum bpf_core_relo_kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CoreReloKind {
    /// Byte offset of a field.
    FieldByteOffset = 0,
    /// Size of a field in bytes.
    FieldByteSize = 1,
    /// Whether a field exists.
    FieldExists = 2,
    /// Whether a field is signed.
    FieldSigned = 3,
    /// Left shift that brings a bit field to the top of 64 bits.
    FieldLshift = 4,
    /// Right shift that then brings it to the bottom.
    FieldRshift = 5,
    /// Type id in the object's own BTF.
    TypeIdLocal = 6,
    /// Type id in the target.
    TypeIdTarget = 7,
    /// Whether a type exists.
    TypeExists = 8,
    /// Size of a type in bytes.
    TypeSize = 9,
    /// Whether an enumerator exists.
    EnumvalExists = 10,
    /// Value of an enumerator.
    EnumvalValue = 11,
    /// Whether a type exists that matches in every member.
    TypeMatches = 12,
}

impl CoreReloKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        use CoreReloKind as K;
        [
            K::FieldByteOffset,
            K::FieldByteSize,
            K::FieldExists,
            K::FieldSigned,
            K::FieldLshift,
            K::FieldRshift,
            K::TypeIdLocal,
            K::TypeIdTarget,
            K::TypeExists,
            K::TypeSize,
            K::EnumvalExists,
            K::EnumvalValue,
            K::TypeMatches,
        ]
        .get(number as usize)
        .copied()
    }
}

impl BtfExt {
    /// Parses the contents of a `.BTF.ext` section that goes with `btf`.
    ///
    /// # Errors
    /// [`BtfError`] when the section is cut short, or refers to strings or types that `btf` lacks.
    pub fn parse(bytes: &[u8], btf: &Btf) -> Result<Self, BtfError> {
        let sections = Sections::parse(bytes)?;
        let end = btf.end_id();
        let check_type =
            |id: u32| if id < end { Ok(TypeId(id)) } else { Err(BtfFault::NoSuchType { id: TypeId(id) }) };
        let check_str = |offset: u32| match btf.str_bytes(StrId(offset)) {
            Some(_) => Ok(StrId(offset)),
            None => Err(BtfFault::NoSuchString { offset }),
        };
        const SHORT: BtfFault = BtfFault::Truncated;
        let func_info = parse_part(&sections, 0, 8, btf, |r| {
            let (offset, ty) = (r.u32().ok_or(SHORT)?, r.u32().ok_or(SHORT)?);
            Ok(FuncInfoRow { offset, ty: check_type(ty)? })
        })?;
        let line_info = parse_part(&sections, 1, 16, btf, |r| {
            let (offset, file, text) = (r.u32().ok_or(SHORT)?, r.u32().ok_or(SHORT)?, r.u32().ok_or(SHORT)?);
            let place = r.u32().ok_or(SHORT)?;
            let (file, text) = (check_str(file)?, check_str(text)?);
            Ok(LineInfoRow { offset, file, text, line: place >> 10, column: place & 0x3ff })
        })?;
        let core_relo = parse_part(&sections, 2, 16, btf, |r| {
            let (offset, ty, access) = (r.u32().ok_or(SHORT)?, r.u32().ok_or(SHORT)?, r.u32().ok_or(SHORT)?);
            let number = r.u32().ok_or(SHORT)?;
            let kind = CoreReloKind::from_number(number).ok_or(BtfFault::UnknownCoreKind { kind: number })?;
            Ok(CoreRelo { offset, ty: check_type(ty)?, access: check_str(access)?, kind })
        })?;
        Ok(Self { func_info, line_info, core_relo })
    }

    /// Functions of the ELF section.
    #[must_use]
    pub fn functions(&self, section: &str) -> &[FuncInfoRow] {
        rows(&self.func_info, section)
    }

    /// Source lines of the ELF section.
    #[must_use]
    pub fn lines(&self, section: &str) -> &[LineInfoRow] {
        rows(&self.line_info, section)
    }

    /// CO-RE relocations of the ELF section.
    #[must_use]
    pub fn relocations(&self, section: &str) -> &[CoreRelo] {
        rows(&self.core_relo, section)
    }
}

fn rows<'a, T>(part: &'a [(String, Vec<T>)], section: &str) -> &'a [T] {
    part.iter().find(|(name, _)| name == section).map_or(&[], |(_, rows)| rows)
}

/// Reads one part: a record size, then per ELF section its name, a count and that many records. Records may be longer
/// than the fields this crate knows; the rest of each is skipped.
fn parse_part<T>(
    sections: &Sections<'_>,
    index: usize,
    least: u32,
    btf: &Btf,
    mut row: impl FnMut(&mut Reader<'_>) -> Result<T, BtfFault>,
) -> Result<Vec<(String, Vec<T>)>, BtfError> {
    let bytes = sections.span(index)?;
    let mut parts: Vec<(String, Vec<T>)> = Vec::new();
    if bytes.is_empty() {
        return Ok(parts);
    }
    let mut reader = Reader::new(bytes, sections.endian);
    let part = ["func_info", "line_info", "core_relo"].get(index).copied().unwrap_or_default();
    let bad = |offset: usize| move |fault| BtfError::BadExt { part, offset, fault };
    let record = reader.u32().ok_or(BtfFault::Truncated).map_err(bad(0))?;
    if record < least || record % 4 != 0 {
        return Err(bad(0)(BtfFault::BadRecordSize { size: record }));
    }
    while !reader.is_empty() {
        let at = reader.position();
        let (Some(name), Some(count)) = (reader.u32(), reader.u32()) else {
            return Err(bad(at)(BtfFault::Truncated));
        };
        if parts.len() >= MAX_EXT_SECTIONS {
            return Err(BtfError::TooLarge {
                what: "number of sections in BTF.ext",
                limit: MAX_EXT_SECTIONS,
            });
        }
        let name = btf
            .str_bytes(StrId(name))
            .filter(|n| n.len() <= MAX_NAME_BYTES)
            .ok_or(BtfFault::NoSuchString { offset: name })
            .map_err(bad(at))?;
        let mut rows = Vec::new();
        for _ in 0..count {
            let at = reader.position();
            let bytes = reader.take(record as usize).ok_or(BtfFault::Truncated).map_err(bad(at))?;
            rows.push(row(&mut Reader::new(bytes, sections.endian)).map_err(bad(at))?);
        }
        parts.push((String::from_utf8_lossy(name).into_owned(), rows));
    }
    Ok(parts)
}
