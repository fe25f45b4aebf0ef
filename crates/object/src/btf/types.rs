//! The kinds of BTF types, as the kernel documents them (`Documentation/bpf/btf.rst`).

/// Id of a type in a [`Btf`](crate::Btf); 0 is `void`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`, which has no entry of its own.
    pub const VOID: Self = Self(0);
}

impl core::fmt::Display for TypeId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

/// A string of a [`Btf`](crate::Btf): an offset into its string section; 0 is the empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StrId(pub u32);

/// One type: its name and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Type {
    /// Its name; empty for anonymous types and kinds without a name. Text: [`Btf::str`](crate::Btf::str).
    pub name: StrId,
    /// What it is.
    pub kind: Kind,
}

/// What a type is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `void`: type 0 only.
    #[default]
    Void,
    /// An integer.
    Int(Int),
    /// A pointer to the type.
    Ptr(TypeId),
    /// An array.
    Array(Array),
    /// A struct.
    Struct(Composite),
    /// A union.
    Union(Composite),
    /// An enum of at most 32 bits.
    Enum(Enum),
    /// A struct or union declared, not defined.
    Fwd {
        /// Whether it is a union.
        is_union: bool,
    },
    /// A name for another type.
    Typedef(TypeId),
    /// `volatile`.
    Volatile(TypeId),
    /// `const`.
    Const(TypeId),
    /// `restrict`.
    Restrict(TypeId),
    /// A function.
    Func {
        /// Its [`Kind::FuncProto`].
        proto: TypeId,
        /// Static, global or extern.
        linkage: BtfLinkage,
    },
    /// A function's type.
    FuncProto(FuncProto),
    /// A variable.
    Var {
        /// Its type.
        ty: TypeId,
        /// Static, global or extern.
        linkage: BtfLinkage,
    },
    /// The variables of an ELF section (or of a pretended one: `.ksyms`, `.kconfig`).
    DataSec {
        /// Size of the section in bytes.
        size: u32,
        /// Its variables, by ascending offset.
        vars: Vec<SecVar>,
    },
    /// A floating-point number.
    Float {
        /// Size in bytes.
        size: u32,
    },
    /// `btf_decl_tag`: a text attached to a declaration. The text is the type's name.
    DeclTag {
        /// What it is attached to.
        target: TypeId,
        /// Which member or parameter; `None` is the target itself.
        component: Option<u32>,
        /// `kind_flag`: an attribute rather than a tag.
        attribute: bool,
    },
    /// `btf_type_tag`: a text attached to the type pointed to. The text is the type's name.
    TypeTag {
        /// The tagged type.
        ty: TypeId,
        /// `kind_flag`: an attribute rather than a tag.
        attribute: bool,
    },
    /// An enum of 64 bits.
    Enum64(Enum64),
}

/// An integer type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Int {
    /// Size in bytes.
    pub size: u32,
    /// Significant bits.
    pub bits: u8,
    /// Bit offset in the storage; 0 in all modern objects.
    pub offset: u8,
    /// Whether it is signed.
    pub signed: bool,
    /// Whether it is `char`.
    pub is_char: bool,
    /// Whether it is `bool`.
    pub is_bool: bool,
}

/// An array type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Array {
    /// Type of an element.
    pub element: TypeId,
    /// Type of an index.
    pub index: TypeId,
    /// Number of elements; 0 for a flexible array.
    pub len: u32,
}

/// A struct or union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Composite {
    /// Size in bytes.
    pub size: u32,
    /// Members in order.
    pub members: Vec<Member>,
    /// Whether the encoding separates bit-field sizes from offsets (`kind_flag`).
    pub kind_flag: bool,
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Name; empty for an anonymous struct or union.
    pub name: StrId,
    /// Type.
    pub ty: TypeId,
    /// Offset from the start of the struct, in bits.
    pub bit_offset: u32,
    /// Width of a bit field in bits, or 0. (Old encodings give the width in the integer type: see [`Int::bits`].)
    pub bit_size: u8,
}

/// An enum of at most 32 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enum {
    /// Size in bytes.
    pub size: u32,
    /// Whether values are signed.
    pub signed: bool,
    /// Names and values.
    pub values: Vec<(StrId, i32)>,
}

/// An enum of 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enum64 {
    /// Size in bytes.
    pub size: u32,
    /// Whether values are signed.
    pub signed: bool,
    /// Names and values, as bits.
    pub values: Vec<(StrId, u64)>,
}

/// A function's type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FuncProto {
    /// What it returns.
    pub ret: TypeId,
    /// Parameters; a last one with neither name nor type stands for `...`.
    pub params: Vec<Param>,
}

/// A parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Param {
    /// Name, possibly empty.
    pub name: StrId,
    /// Type.
    pub ty: TypeId,
}

/// A variable inside a [`Kind::DataSec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecVar {
    /// A [`Kind::Var`], or in `.ksyms` a [`Kind::Func`].
    pub ty: TypeId,
    /// Offset in the section, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// Linkage as BTF encodes it (`BTF_FUNC_*`, `BTF_VAR_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BtfLinkage {
    /// Known in its own object only.
    #[default]
    Static = 0,
    /// Defined here, visible elsewhere.
    Global = 1,
    /// Defined elsewhere.
    Extern = 2,
}

impl BtfLinkage {
    pub(crate) fn new(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Static),
            1 => Some(Self::Global),
            2 => Some(Self::Extern),
            _ => None,
        }
    }
}

/// Number of a kind, for searches by name and kind (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the kernel's BTF_KIND_*")]
#[repr(u8)]
pub enum KindTag {
    Void = 0,
    Int = 1,
    Ptr = 2,
    Array = 3,
    Struct = 4,
    Union = 5,
    Enum = 6,
    Fwd = 7,
    Typedef = 8,
    Volatile = 9,
    Const = 10,
    Restrict = 11,
    Func = 12,
    FuncProto = 13,
    Var = 14,
    DataSec = 15,
    Float = 16,
    DeclTag = 17,
    TypeTag = 18,
    Enum64 = 19,
}

impl Kind {
    /// The number of this kind.
    #[must_use]
    pub fn tag(&self) -> KindTag {
        match self {
            Self::Void => KindTag::Void,
            Self::Int(_) => KindTag::Int,
            Self::Ptr(_) => KindTag::Ptr,
            Self::Array(_) => KindTag::Array,
            Self::Struct(_) => KindTag::Struct,
            Self::Union(_) => KindTag::Union,
            Self::Enum(_) => KindTag::Enum,
            Self::Fwd { .. } => KindTag::Fwd,
            Self::Typedef(_) => KindTag::Typedef,
            Self::Volatile(_) => KindTag::Volatile,
            Self::Const(_) => KindTag::Const,
            Self::Restrict(_) => KindTag::Restrict,
            Self::Func { .. } => KindTag::Func,
            Self::FuncProto(_) => KindTag::FuncProto,
            Self::Var { .. } => KindTag::Var,
            Self::DataSec { .. } => KindTag::DataSec,
            Self::Float { .. } => KindTag::Float,
            Self::DeclTag { .. } => KindTag::DeclTag,
            Self::TypeTag { .. } => KindTag::TypeTag,
            Self::Enum64(_) => KindTag::Enum64,
        }
    }

    /// The struct or union, if it is one.
    #[must_use]
    pub fn as_composite(&self) -> Option<&Composite> {
        match self {
            Self::Struct(c) | Self::Union(c) => Some(c),
            _ => None,
        }
    }

    /// The type that a modifier or typedef wraps.
    #[must_use]
    pub fn modified(&self) -> Option<TypeId> {
        match *self {
            Self::Typedef(ty)
            | Self::Volatile(ty)
            | Self::Const(ty)
            | Self::Restrict(ty)
            | Self::TypeTag { ty, .. } => Some(ty),
            _ => None,
        }
    }
}
