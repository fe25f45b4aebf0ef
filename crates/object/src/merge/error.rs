//! Why objects cannot be linked into one.

use core::fmt;

use crate::{KindTag, ObjectError};

/// Why objects cannot be linked into one. Objects go by the names they were added under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StaticLinkError {
    /// An object that cannot be read.
    #[error("{object}: {error}")]
    Object {
        /// The object.
        object: String,
        /// What is wrong with it.
        error: Box<ObjectError>,
    },
    /// Nothing was added.
    #[error("no objects to link")]
    Nothing,
    /// More of something than [`limits`](crate::limits) allows in the result.
    #[error("{what} of the linked object exceeds the limit of {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A section that no object made by a compiler has.
    #[error("{object}: section `{section}`: {fault}")]
    BadSection {
        /// The object.
        object: String,
        /// The section.
        section: String,
        /// What is wrong with it.
        fault: LinkedSectionFault,
    },
    /// Two sections of the same name that cannot be joined.
    #[error("section `{section}`: its {what} differ in {first} and {second}")]
    SectionMismatch {
        /// The section.
        section: String,
        /// What differs.
        what: SectionProperty,
        /// The object that had the section first.
        first: String,
        /// The other object.
        second: String,
    },
    /// Two definitions of a symbol, neither of which is weak.
    #[error("`{symbol}` is defined in {first} and in {second}; one of the two must be __weak")]
    DuplicateSymbol {
        /// The symbol.
        symbol: String,
        /// The object that defined it first.
        first: String,
        /// The other object.
        second: String,
    },
    /// A symbol of which two objects speak, and one of them has no type information about it.
    #[error("{object}: no BTF describes `{symbol}`, which {other} has too (compile with -g)")]
    NoType {
        /// The symbol.
        symbol: String,
        /// The object that lacks it.
        object: String,
        /// The other object.
        other: String,
    },
    /// A declaration and a definition, or two of either, that are not of the same type.
    #[error("the types of `{symbol}` in {first} and {second} are incompatible: {mismatch}")]
    TypeMismatch {
        /// The symbol.
        symbol: String,
        /// The object that had it first.
        first: String,
        /// The other object.
        second: String,
        /// Where they part.
        mismatch: Box<TypeMismatch>,
    },
    /// Two descriptions of a map that are not the same.
    #[error("map `{symbol}` has another {attribute} in {second} than in {first}")]
    MapMismatch {
        /// The map.
        symbol: String,
        /// The object that had it first.
        first: String,
        /// The other object.
        second: String,
        /// Name of the attribute.
        attribute: &'static str,
    },
    /// A symbol that is declared to be in one section and is in another.
    #[error(
        "`{symbol}` is in section `{first_section}` of {first} and in section `{second_section}` of {second}"
    )]
    PlaceMismatch {
        /// The symbol.
        symbol: String,
        /// The object that had it first.
        first: String,
        /// Its section there.
        first_section: String,
        /// The other object.
        second: String,
        /// Its section there.
        second_section: String,
    },
    /// A global symbol in none of the object's sections (common, absolute).
    #[error("{object}: `{symbol}` is in no section")]
    NoPlace {
        /// The object.
        object: String,
        /// The symbol.
        symbol: String,
    },
    /// A relocation that cannot be carried over.
    #[error(
        "{object}: section `{section}` offset {offset:#x}: relocation (type {kind}) against `{symbol}`: {fault}"
    )]
    Relocation {
        /// The object.
        object: String,
        /// The section with the relocation.
        section: String,
        /// Byte offset in it.
        offset: u64,
        /// `R_BPF_*`.
        kind: u32,
        /// What it refers to.
        symbol: String,
        /// What is wrong with it.
        fault: LinkedRelocationFault,
    },
    /// The ELF file could not be written.
    #[error("cannot write the linked object: {0}")]
    Write(String),
}

/// What is wrong with a section of an object to be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkedSectionFault {
    /// A kind of section that has no place in a BPF object.
    #[error("unknown kind {kind:#x}")]
    UnknownKind {
        /// `sh_type`.
        kind: u32,
    },
    /// An alignment that is no power of two, or larger than the limit.
    #[error("unusable alignment {align}")]
    BadAlignment {
        /// `sh_addralign`.
        align: u64,
    },
    /// No name.
    #[error("it has no name")]
    NoName,
    /// A length that is not a whole number of instructions.
    #[error("{size} bytes are not a whole number of instructions")]
    OddLength {
        /// Size in bytes.
        size: u64,
    },
}

/// What must be the same for two sections to be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SectionProperty {
    /// `sh_type`.
    Kind,
    /// `sh_flags`.
    Flags,
    /// `sh_entsize`.
    EntrySize,
    /// All bytes, of `license` and `version`.
    Contents,
}

impl fmt::Display for SectionProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "types",
            Self::Flags => "flags",
            Self::EntrySize => "entry sizes",
            Self::Contents => "contents",
        })
    }
}

/// What is wrong with a relocation of an object to be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkedRelocationFault {
    /// A type of relocation that BPF objects do not have.
    #[error("unknown type")]
    UnknownKind,
    /// What it refers to is not carried over (debug information, a second `license`).
    #[error("the symbol is not part of the linked object")]
    NotCarried,
    /// It lies across the end of its section, or between instructions.
    #[error("there is nothing to relocate there")]
    Outside,
    /// The offset that it is about no longer fits.
    #[error("the offset in the joined section does not fit")]
    Overflow,
}

/// Where two types part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeMismatch {
    /// Kinds that are not the same.
    #[error("{first:?} and {second:?}")]
    Kind {
        /// In the first object.
        first: KindTag,
        /// In the second.
        second: KindTag,
    },
    /// Names that are not the same.
    #[error("{kind:?} `{first}` and `{second}`")]
    Name {
        /// What has the names.
        kind: KindTag,
        /// In the first object.
        first: String,
        /// In the second.
        second: String,
    },
    /// Sizes that are not the same.
    #[error("`{name}` has {first} and {second} bytes")]
    Size {
        /// Name of the type.
        name: String,
        /// In the first object, in bytes.
        first: u64,
        /// In the second.
        second: u64,
    },
    /// Numbers of members or parameters that are not the same.
    #[error("{kind:?} `{name}` with {first} and with {second} members or parameters")]
    Count {
        /// Struct, union or function type.
        kind: KindTag,
        /// Its name.
        name: String,
        /// In the first object.
        first: usize,
        /// In the second.
        second: usize,
    },
    /// Members at the same place that have different names or offsets.
    #[error("member {index} of `{name}`: `{first}` and `{second}`, or their offsets, differ")]
    Member {
        /// Name of the struct or union.
        name: String,
        /// Index of the member.
        index: usize,
        /// Its name in the first object.
        first: String,
        /// Its name in the second.
        second: String,
    },
    /// Static in one object alone.
    #[error("static in one object only")]
    Linkage,
    /// Types nested deeper than any compiler's.
    #[error("the types are too deep to be compared")]
    TooDeep,
}
