//! Paths into a variable: `table.buckets[3].key`.

use bpf_object::{Btf, Kind, TypeId};

use crate::typed::layout::describe;

/// A part of a variable: its type and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its type, without modifiers and typedefs.
    pub ty: TypeId,
    /// Offset from the start of the variable, in bytes.
    pub offset: u64,
    /// Size in bytes; of a bit field: of the bytes it touches.
    pub size: u64,
    /// For a bit field: its lowest bit, counted from `offset`, and its width.
    pub bits: Option<(u8, u8)>,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Text that is neither `.name` nor `[number]`.
    #[error("`{rest}` is neither `.member` nor `[index]`")]
    Syntax {
        /// From here on.
        rest: String,
    },
    /// A member of something without members, or of another name.
    #[error("`{c_type}` has no member `{member}`")]
    NoMember {
        /// What the path led to before.
        c_type: String,
        /// Name asked for.
        member: String,
    },
    /// An index of something that is no array.
    #[error("`{c_type}` is no array")]
    NoArray {
        /// What the path led to before.
        c_type: String,
    },
    /// A pointer is needed.
    #[error("`{c_type}` is no pointer")]
    NoPointer {
        /// What the path led to.
        c_type: String,
    },
    /// An index past the end.
    #[error("index {index} is past the end of `{c_type}`")]
    PastEnd {
        /// The array's type.
        c_type: String,
        /// The index.
        index: u64,
    },
    /// A type without a size.
    #[error("`{c_type}` has no size")]
    Unsized {
        /// The type.
        c_type: String,
    },
}

impl Place {
    /// All of a value of this type.
    ///
    /// # Errors
    /// The type has no size.
    pub fn whole(btf: &Btf, ty: TypeId) -> Result<Self, PathError> {
        Self::at(btf, ty, 0)
    }

    fn at(btf: &Btf, ty: TypeId, offset: u64) -> Result<Self, PathError> {
        let size = btf.size_of(ty).ok_or_else(|| PathError::Unsized { c_type: describe(btf, ty) })?;
        Ok(Self { ty: btf.resolve(ty), offset, size, bits: None })
    }

    /// The part that `path` (`.member` and `[index]`, in any number) leads to.
    ///
    /// # Errors
    /// There is no such member or element, or the path is no path.
    pub fn follow(self, btf: &Btf, path: &str) -> Result<Self, PathError> {
        let mut place = self;
        let mut rest = path.trim();
        while !rest.is_empty() {
            let syntax = || PathError::Syntax { rest: rest.to_owned() };
            if let Some(after) = rest.strip_prefix('.') {
                let (member, next) = after.split_at(after.find(['.', '[']).unwrap_or(after.len()));
                if member.is_empty() {
                    return Err(syntax());
                }
                place = place.member(btf, member)?;
                rest = next;
            } else {
                let (index, next) =
                    rest.strip_prefix('[').and_then(|r| r.split_once(']')).ok_or_else(syntax)?;
                place = place.element(btf, index.trim().parse().map_err(|_| syntax())?)?;
                rest = next;
            }
        }
        Ok(place)
    }

    fn member(self, btf: &Btf, name: &str) -> Result<Self, PathError> {
        let missing = || PathError::NoMember { c_type: describe(btf, self.ty), member: name.to_owned() };
        let (member, bit_offset) = btf.member(self.ty, name).ok_or_else(missing)?;
        match btf.bit_field(member) {
            Some(width) => Ok(self.bit_field(btf.resolve(member.ty), bit_offset, width)),
            None => Self::at(btf, member.ty, self.offset.saturating_add(bit_offset / 8)),
        }
    }

    /// The bytes that a bit field touches, and where in them it lies.
    pub(super) fn bit_field(self, ty: TypeId, bit_offset: u64, width: u8) -> Self {
        let first = bit_offset % 8;
        Self {
            ty,
            offset: self.offset.saturating_add(bit_offset / 8),
            size: (first + u64::from(width)).div_ceil(8),
            bits: Some((u8::try_from(first).unwrap_or_default(), width)),
        }
    }

    fn element(self, btf: &Btf, index: u64) -> Result<Self, PathError> {
        let Some(Kind::Array(array)) = btf.kind(self.ty) else {
            return Err(PathError::NoArray { c_type: describe(btf, self.ty) });
        };
        if index >= u64::from(array.len) {
            return Err(PathError::PastEnd { c_type: describe(btf, self.ty), index });
        }
        let element = Self::at(btf, array.element, self.offset)?;
        // Fits: a size is at most that of the array, which `size_of` computed without overflow.
        Ok(Self { offset: self.offset.saturating_add(element.size.saturating_mul(index)), ..element })
    }
}
