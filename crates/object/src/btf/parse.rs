//! From bytes to types.

use std::sync::{Arc, OnceLock};

use super::{
    Array, Btf, BtfLinkage, Composite, Enum, Enum64, FuncProto, Int, Kind, Member, Param, SecVar, StrId,
    Type, TypeId,
};
use crate::error::{BtfError, BtfFault};
use crate::limits::{MAX_BTF_STRINGS, MAX_BTF_TYPES, MAX_NAME_BYTES};
use isa::Endian;

use crate::reader::Reader;

/// `BTF_MAGIC`.
pub(super) const MAGIC: u16 = 0xeb9f;
/// Bytes of the header this crate writes and the least it reads.
pub(super) const HEADER_BYTES: u32 = 24;

/// Where the parts of a BTF or BTF.ext lie.
pub(super) struct Sections<'a> {
    pub(super) endian: Endian,
    /// Bytes after the header, which all offsets count from.
    pub(super) body: &'a [u8],
    /// `(offset, length)` pairs of the header, in order.
    pub(super) spans: Vec<(u32, u32)>,
}

impl<'a> Sections<'a> {
    /// Reads the header common to `.BTF` and `.BTF.ext`: magic, version, flags, length, then pairs.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let at = |offset: usize, fault| BtfError::Malformed { offset, fault };
        let short = || at(0, BtfFault::Truncated);
        let endian = match bytes.first_chunk::<2>().map(|b| u16::from_le_bytes(*b)) {
            Some(MAGIC) => Endian::Little,
            Some(m) if m == MAGIC.swap_bytes() => Endian::Big,
            Some(m) => return Err(BtfError::BadMagic { found: m }),
            None => return Err(short()),
        };
        let mut reader = Reader::new(bytes, endian);
        reader.take(2).ok_or_else(short)?;
        let version = reader.u8().ok_or_else(short)?;
        if version != 1 {
            return Err(BtfError::BadVersion { found: version });
        }
        reader.u8().ok_or_else(short)?;
        let header_len = reader.u32().ok_or_else(short)?;
        let header_end = usize::try_from(header_len).map_err(|_| short())?;
        if header_len < HEADER_BYTES {
            return Err(at(4, BtfFault::Truncated));
        }
        let body = bytes.get(header_end..).ok_or_else(|| at(4, BtfFault::Truncated))?;
        let mut spans = Vec::new();
        // BTF.ext has three pairs in today's kernels; a longer header may have more, which are ignored.
        while reader.position() + 8 <= header_end && spans.len() < 3 {
            spans.push((reader.u32().ok_or_else(short)?, reader.u32().ok_or_else(short)?));
        }
        Ok(Self { endian, body, spans })
    }

    /// The bytes of pair `index`; empty when the header is too short to have it.
    pub(super) fn span(&self, index: usize) -> Result<&'a [u8], BtfError> {
        let Some(&(offset, len)) = self.spans.get(index) else { return Ok(&[]) };
        let (start, len) = (offset as usize, len as usize);
        start
            .checked_add(len)
            .and_then(|end| self.body.get(start..end))
            .ok_or(BtfError::Malformed { offset: start, fault: BtfFault::Truncated })
    }
}

impl Btf {
    /// Parses the contents of a `.BTF` section (or `/sys/kernel/btf/vmlinux`), of either byte order.
    ///
    /// # Errors
    /// [`BtfError`] says what is wrong and where; every name and type reference is checked, so that queries on the
    /// result never meet a dangling one.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        Self::parse_on(bytes, None)
    }

    /// Parses a split BTF (a kernel module's) that continues `base`.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(bytes: &[u8], base: Arc<Self>) -> Result<Self, BtfError> {
        Self::parse_on(bytes, Some(base))
    }

    fn parse_on(bytes: &[u8], base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let sections = Sections::parse(bytes)?;
        let type_bytes = sections.span(0)?;
        let string_bytes = sections.span(1)?;
        let (first_id, first_str) = match &base {
            Some(base) => (base.end_id(), base.end_str()),
            None => (0, 0),
        };
        let end_str = first_str as usize + string_bytes.len();
        if end_str > MAX_BTF_STRINGS {
            return Err(BtfError::TooLarge { what: "string section", limit: MAX_BTF_STRINGS });
        }
        match (string_bytes.first(), string_bytes.last()) {
            (Some(&first), Some(0)) if first == 0 || base.is_some() => {}
            (None, _) if base.is_some() => {}
            _ => return Err(BtfError::Malformed { offset: 0, fault: BtfFault::UnterminatedStrings }),
        }
        let mut btf = Self {
            types: if base.is_none() { vec![Type::default()] } else { Vec::new() },
            base,
            first_id,
            first_str,
            strings: string_bytes.to_vec(),
            endian: sections.endian,
            names: OnceLock::new(),
        };
        let mut reader = Reader::new(type_bytes, sections.endian);
        while !reader.is_empty() {
            if btf.end_id() as usize >= MAX_BTF_TYPES {
                return Err(BtfError::TooLarge { what: "number of types", limit: MAX_BTF_TYPES });
            }
            let offset = reader.position();
            let ty = parse_type(&mut reader).map_err(|fault| BtfError::BadType {
                id: TypeId(btf.end_id()),
                offset,
                fault,
            })?;
            btf.types.push(ty);
        }
        btf.check()?;
        Ok(btf)
    }

    /// Checks that every name and every type reference exists.
    fn check(&self) -> Result<(), BtfError> {
        let end = self.end_id();
        let plain = self.strings_are_plain();
        for (index, ty) in (self.first_id..).zip(&self.types) {
            let bad = |fault| BtfError::BadType { id: TypeId(index), offset: 0, fault };
            let mut fault = None;
            ty.for_each_name(&mut |name| {
                // In a plain section every offset is that of a name.
                if !plain || name.0 < self.first_str || name.0 >= self.end_str() {
                    fault = fault.take().or_else(|| self.check_name(name).err());
                }
            });
            ty.for_each_reference(&mut |id| {
                if id.0 >= end {
                    fault = fault.take().or(Some(BtfFault::NoSuchType { id }));
                }
            });
            if let Some(fault) = fault {
                return Err(bad(fault));
            }
        }
        Ok(())
    }

    /// Whether the whole string section is ASCII without overlong strings, as every compiler writes it.
    fn strings_are_plain(&self) -> bool {
        self.strings.is_ascii() && self.strings.split(|&b| b == 0).all(|s| s.len() <= MAX_NAME_BYTES)
    }

    fn check_name(&self, name: StrId) -> Result<(), BtfFault> {
        let text = self.str_bytes(name).ok_or(BtfFault::NoSuchString { offset: name.0 })?;
        if text.len() > MAX_NAME_BYTES {
            return Err(BtfFault::NameTooLong { offset: name.0 });
        }
        core::str::from_utf8(text).map(drop).map_err(|_| BtfFault::NameNotUtf8 { offset: name.0 })
    }
}

impl Type {
    /// Calls `f` with every name in the type, its own first.
    pub(crate) fn for_each_name(&self, f: &mut dyn FnMut(StrId)) {
        f(self.name);
        match &self.kind {
            Kind::Struct(c) | Kind::Union(c) => c.members.iter().for_each(|m| f(m.name)),
            Kind::Enum(e) => e.values.iter().for_each(|v| f(v.0)),
            Kind::Enum64(e) => e.values.iter().for_each(|v| f(v.0)),
            Kind::FuncProto(p) => p.params.iter().for_each(|p| f(p.name)),
            _ => {}
        }
    }

    /// Calls `f` with every type the type refers to.
    pub(crate) fn for_each_reference(&self, f: &mut dyn FnMut(TypeId)) {
        match &self.kind {
            Kind::Void
            | Kind::Int(_)
            | Kind::Enum(_)
            | Kind::Enum64(_)
            | Kind::Fwd { .. }
            | Kind::Float { .. } => {}
            Kind::Ptr(ty) | Kind::Typedef(ty) | Kind::Volatile(ty) | Kind::Const(ty) | Kind::Restrict(ty) => {
                f(*ty)
            }
            Kind::Func { proto: ty, .. }
            | Kind::Var { ty, .. }
            | Kind::TypeTag { ty, .. }
            | Kind::DeclTag { target: ty, .. } => f(*ty),
            Kind::Array(a) => [a.element, a.index].into_iter().for_each(f),
            Kind::Struct(c) | Kind::Union(c) => c.members.iter().for_each(|m| f(m.ty)),
            Kind::FuncProto(p) => {
                f(p.ret);
                p.params.iter().for_each(|p| f(p.ty));
            }
            Kind::DataSec { vars, .. } => vars.iter().for_each(|v| f(v.ty)),
        }
    }
}

/// The common head of every type: `struct btf_type`.
struct Head {
    count: usize,
    kind_flag: bool,
    /// `size` or `type`, by kind.
    word: u32,
}

fn parse_type(reader: &mut Reader<'_>) -> Result<Type, BtfFault> {
    const SHORT: BtfFault = BtfFault::Truncated;
    let name = StrId(reader.u32().ok_or(SHORT)?);
    let info = reader.u32().ok_or(SHORT)?;
    let word = reader.u32().ok_or(SHORT)?;
    let head = Head { count: (info & 0xffff) as usize, kind_flag: info >> 31 != 0, word };
    let kind = parse_kind(reader, (info >> 24) & 0x1f, &head)?;
    Ok(Type { name, kind })
}

fn parse_kind(reader: &mut Reader<'_>, number: u32, head: &Head) -> Result<Kind, BtfFault> {
    const SHORT: BtfFault = BtfFault::Truncated;
    let ty = TypeId(head.word);
    let size = head.word;
    let linkage = |number| BtfLinkage::new(number).ok_or(BtfFault::BadLinkage { linkage: number });
    Ok(match number {
        1 => Kind::Int(parse_int(reader.u32().ok_or(SHORT)?, size)),
        2 => Kind::Ptr(ty),
        3 => {
            let (element, index) = (reader.u32().ok_or(SHORT)?, reader.u32().ok_or(SHORT)?);
            let len = reader.u32().ok_or(SHORT)?;
            Kind::Array(Array { element: TypeId(element), index: TypeId(index), len })
        }
        4 => Kind::Struct(parse_composite(reader, head)?),
        5 => Kind::Union(parse_composite(reader, head)?),
        6 => Kind::Enum(Enum {
            size,
            signed: head.kind_flag,
            values: repeat(head, || Some((StrId(reader.u32()?), reader.i32()?)))?,
        }),
        7 => Kind::Fwd { is_union: head.kind_flag },
        8 => Kind::Typedef(ty),
        9 => Kind::Volatile(ty),
        10 => Kind::Const(ty),
        11 => Kind::Restrict(ty),
        12 => Kind::Func { proto: ty, linkage: linkage(u32::try_from(head.count).unwrap_or(u32::MAX))? },
        13 => Kind::FuncProto(FuncProto {
            ret: ty,
            params: repeat(head, || Some(Param { name: StrId(reader.u32()?), ty: TypeId(reader.u32()?) }))?,
        }),
        14 => Kind::Var { ty, linkage: linkage(reader.u32().ok_or(SHORT)?)? },
        15 => Kind::DataSec {
            size,
            vars: repeat(head, || {
                Some(SecVar { ty: TypeId(reader.u32()?), offset: reader.u32()?, size: reader.u32()? })
            })?,
        },
        16 => Kind::Float { size },
        17 => {
            let component = reader.i32().ok_or(SHORT)?;
            Kind::DeclTag { target: ty, component: u32::try_from(component).ok(), attribute: head.kind_flag }
        }
        18 => Kind::TypeTag { ty, attribute: head.kind_flag },
        19 => Kind::Enum64(Enum64 {
            size,
            signed: head.kind_flag,
            values: repeat(head, || {
                let (name, low, high) = (reader.u32()?, reader.u32()?, reader.u32()?);
                Some((StrId(name), u64::from(high) << 32 | u64::from(low)))
            })?,
        }),
        _ => return Err(BtfFault::UnknownKind { kind: number }),
    })
}

fn parse_int(data: u32, size: u32) -> Int {
    let [bits, _, offset, encoding] = data.to_le_bytes();
    Int {
        size,
        bits,
        offset,
        signed: encoding & 1 != 0,
        is_char: encoding & 2 != 0,
        is_bool: encoding & 4 != 0,
    }
}

fn parse_composite(reader: &mut Reader<'_>, head: &Head) -> Result<Composite, BtfFault> {
    let members = repeat(head, || {
        let (name, ty, offset) = (StrId(reader.u32()?), TypeId(reader.u32()?), reader.u32()?);
        let [.., bit_size] = offset.to_le_bytes();
        Some(if head.kind_flag {
            Member { name, ty, bit_offset: offset & 0x00ff_ffff, bit_size }
        } else {
            Member { name, ty, bit_offset: offset, bit_size: 0 }
        })
    })?;
    Ok(Composite { size: head.word, members, kind_flag: head.kind_flag })
}

/// `head.count` rows read by `row`. Nothing is reserved ahead: the count is the input's claim.
fn repeat<T>(head: &Head, mut row: impl FnMut() -> Option<T>) -> Result<Vec<T>, BtfFault> {
    let mut rows = Vec::new();
    for _ in 0..head.count {
        rows.push(row().ok_or(BtfFault::Truncated)?);
    }
    rows.shrink_to_fit();
    Ok(rows)
}
