//! What a relocation asks about, and the number that answers it.

use super::Budget;
use super::matching::{types_compatible, types_match};
use super::path::{Path, Step, indices};
use crate::btf::{Btf, CoreRelo, CoreReloKind, Kind, TypeId, essential_name};
use crate::error::CoreError;

/// What is asked about, in one BTF.
#[derive(Clone, Debug)]
pub(super) enum Subject<'b> {
    /// A field.
    Field(Path<'b>),
    /// A type.
    Type { btf: &'b Btf, id: TypeId },
    /// An enumerator.
    Value { name: &'b str, value: u64 },
}

/// A number, and what it says about the instruction that holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) value: u64,
    /// Whether the instruction must hold this value before it is replaced. Not so where compilers choose (bit fields)
    /// or linkers renumber (type ids).
    pub(super) checked: bool,
    /// The memory access that a field offset is for.
    pub(super) access: Option<Access>,
}

/// Size of a field, and whether an access may take another size instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) size: u64,
    pub(super) class: AccessClass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessClass {
    Pointer,
    Unsigned,
    Other,
}

impl Answer {
    /// An answer that replaces whatever is there.
    pub(super) fn unchecked(value: u64) -> Self {
        Self { value, checked: false, access: None }
    }

    fn checked(value: u64) -> Self {
        Self { value, checked: true, access: None }
    }
}

impl<'b> Subject<'b> {
    /// What the object asks about.
    pub(super) fn parse(local: &'b Btf, relo: &CoreRelo) -> Result<Self, CoreError> {
        let text = local.str(relo.access);
        let bad = || CoreError::BadAccess { root: local.name(relo.ty).to_owned(), access: text.to_owned() };
        let path = indices(text).ok_or_else(bad)?;
        match group(relo.kind) {
            Group::Type if path == [0] => Ok(Self::Type { btf: local, id: relo.ty }),
            Group::Type => Err(bad()),
            Group::Field => Path::follow(local, relo.ty, &path).map(Self::Field).ok_or_else(bad),
            Group::Value => match path.as_slice() {
                &[index] => enumerator(local, relo.ty, index).ok_or_else(bad),
                _ => Err(bad()),
            },
        }
    }

    /// The same in a candidate of the target, if it is there.
    pub(super) fn find_in<'t>(
        &self,
        btf: &'t Btf,
        id: TypeId,
        kind: CoreReloKind,
        budget: &mut Budget,
    ) -> Result<Option<Subject<'t>>, CoreError> {
        budget.spend()?;
        Ok(match *self {
            Self::Field(ref path) => path.find_in(btf, id, budget)?.map(Subject::Field),
            Self::Type { btf: local, id: local_id } => {
                let found = match kind {
                    CoreReloKind::TypeMatches => types_match(local, local_id, btf, id, budget)?,
                    _ => types_compatible(local, local_id, btf, id, budget)?,
                };
                found.then_some(Subject::Type { btf, id })
            }
            Self::Value { name, .. } => {
                let wanted = essential_name(name);
                let mut found = None;
                for (name, value) in enumerators(btf, id) {
                    budget.spend()?;
                    if essential_name(name) == wanted {
                        found = Some(Subject::Value { name, value });
                        break;
                    }
                }
                found
            }
        })
    }

    /// Offset of a field in bits; 0 for what has none.
    pub(super) fn bit_offset(&self) -> u64 {
        match self {
            Self::Field(path) => path.bit_offset,
            _ => 0,
        }
    }

    /// The path as C would write it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Field(path) => path.text(),
            Self::Type { .. } => String::new(),
            Self::Value { name, .. } => format!("::{name}"),
        }
    }
}

/// The answer for a subject that was found.
pub(super) fn found(subject: &Subject<'_>, kind: CoreReloKind, root: &str) -> Result<Answer, CoreError> {
    answer(subject, kind).ok_or_else(|| CoreError::BadKind { root: root.to_owned(), kind })
}

/// The answer when nothing matches; `None` if there is none, so that the instruction cannot be run.
pub(super) fn absent(kind: CoreReloKind) -> Option<Answer> {
    match kind {
        CoreReloKind::FieldExists | CoreReloKind::EnumvalExists => Some(Answer::checked(0)),
        _ if group(kind) == Group::Type => Some(Answer::checked(0)),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Field,
    Type,
    Value,
}

fn group(kind: CoreReloKind) -> Group {
    use CoreReloKind as K;
    match kind {
        K::FieldByteOffset
        | K::FieldByteSize
        | K::FieldExists
        | K::FieldSigned
        | K::FieldLshift
        | K::FieldRshift => Group::Field,
        K::TypeIdLocal | K::TypeIdTarget | K::TypeExists | K::TypeSize | K::TypeMatches => Group::Type,
        K::EnumvalExists | K::EnumvalValue => Group::Value,
    }
}

fn enumerator(btf: &Btf, id: TypeId, index: u32) -> Option<Subject<'_>> {
    let index = index as usize;
    let (name, value) = match btf.kind(btf.resolve(id))? {
        Kind::Enum(e) => {
            e.values.get(index).map(|&(name, value)| (name, i64::from(value).cast_unsigned()))?
        }
        Kind::Enum64(e) => *e.values.get(index)?,
        _ => return None,
    };
    Some(Subject::Value { name: btf.str(name), value })
}

/// Names and values of an enum, behind modifiers and typedefs.
fn enumerators(btf: &Btf, id: TypeId) -> impl Iterator<Item = (&str, u64)> {
    let kind = btf.kind(btf.resolve(id));
    let (small, large) = match kind {
        Some(Kind::Enum(e)) => (e.values.as_slice(), &[][..]),
        Some(Kind::Enum64(e)) => (&[][..], e.values.as_slice()),
        _ => (&[][..], &[][..]),
    };
    let small = small.iter().map(|&(name, value)| (btf.str(name), i64::from(value).cast_unsigned()));
    small.chain(large.iter().map(|&(name, value)| (btf.str(name), value)))
}

fn answer(subject: &Subject<'_>, kind: CoreReloKind) -> Option<Answer> {
    match (subject, kind) {
        (_, CoreReloKind::FieldExists | CoreReloKind::TypeExists | CoreReloKind::TypeMatches) => {
            Some(Answer::checked(1))
        }
        (Subject::Type { id, .. }, CoreReloKind::TypeIdTarget) => Some(Answer::unchecked(u64::from(id.0))),
        (Subject::Type { btf, id }, CoreReloKind::TypeSize) => btf.size_of(*id).map(Answer::checked),
        (Subject::Value { .. }, CoreReloKind::EnumvalExists) => Some(Answer::checked(1)),
        (Subject::Value { value, .. }, CoreReloKind::EnumvalValue) => Some(Answer::checked(*value)),
        (Subject::Field(path), kind) => field(path, kind),
        _ => None,
    }
}

fn field(path: &Path<'_>, kind: CoreReloKind) -> Option<Answer> {
    match *path.steps.last()? {
        Step::Element { ty, .. } => match kind {
            CoreReloKind::FieldByteOffset => {
                Some(Answer { access: access(path.btf, ty), ..Answer::checked(path.bit_offset / 8) })
            }
            CoreReloKind::FieldByteSize => path.btf.size_of(ty).map(Answer::checked),
            _ => None,
        },
        Step::Member { member, .. } => {
            let ty = path.btf.resolve(member.ty);
            match path.btf.bit_field(member) {
                Some(bits) => bit_field(path, ty, u64::from(bits), kind),
                None => plain_field(path, ty, kind),
            }
        }
    }
}

fn plain_field(path: &Path<'_>, ty: TypeId, kind: CoreReloKind) -> Option<Answer> {
    let size = path.btf.size_of(ty)?;
    let offset = path.bit_offset / 8;
    Some(match kind {
        CoreReloKind::FieldByteOffset => Answer { access: access(path.btf, ty), ..Answer::checked(offset) },
        CoreReloKind::FieldByteSize => Answer::checked(size),
        CoreReloKind::FieldSigned => Answer::checked(u64::from(is_signed(path.btf, ty))),
        CoreReloKind::FieldLshift => {
            Answer::checked(64u64.wrapping_sub(path.bit_offset - offset * 8 + size.wrapping_mul(8)))
        }
        CoreReloKind::FieldRshift => Answer::checked(64u64.wrapping_sub(size.wrapping_mul(8))),
        _ => return None,
    })
}

/// A bit field is read through the smallest aligned integer that holds it whole, starting from its declared type.
/// Which one the compiler took is its own affair, so only sign and right shift are checked.
fn bit_field(path: &Path<'_>, ty: TypeId, bits: u64, kind: CoreReloKind) -> Option<Answer> {
    let mut size = path.btf.size_of(ty).filter(|s| (1..=8).contains(s))?;
    let start = path.bit_offset;
    let mut offset = start / 8 / size * size;
    while start + bits > (offset + size) * 8 {
        if size >= 8 {
            return None;
        }
        size *= 2;
        offset = start / 8 / size * size;
    }
    Some(match kind {
        CoreReloKind::FieldByteOffset => Answer::unchecked(offset),
        CoreReloKind::FieldByteSize => Answer::unchecked(size),
        CoreReloKind::FieldSigned => Answer::checked(u64::from(is_signed(path.btf, ty))),
        CoreReloKind::FieldLshift => Answer::unchecked(64u64.wrapping_sub(start + bits - offset * 8)),
        CoreReloKind::FieldRshift => Answer::checked(64u64.wrapping_sub(bits)),
        _ => return None,
    })
}

fn is_signed(btf: &Btf, ty: TypeId) -> bool {
    match btf.kind(ty) {
        Some(Kind::Int(int)) => int.signed,
        Some(Kind::Enum(e)) => e.signed,
        Some(Kind::Enum64(e)) => e.signed,
        _ => false,
    }
}

fn access(btf: &Btf, ty: TypeId) -> Option<Access> {
    let class = match btf.kind(ty)? {
        Kind::Ptr(_) => AccessClass::Pointer,
        Kind::Int(int) if !int.signed => AccessClass::Unsigned,
        _ => AccessClass::Other,
    };
    Some(Access { size: btf.size_of(ty)?, class })
}
