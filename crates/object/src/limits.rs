//! Every limit on what an object may ask for, in one place. Each is far above what compilers produce and low enough
//! that no input makes parsing or linking take memory or time out of proportion to its own length.

/// Bytes of an object file.
pub const MAX_OBJECT_BYTES: usize = 256 << 20;
/// Bytes of a name that is kept (function, map, variable, BTF type). The kernel allows 511.
pub const MAX_NAME_BYTES: usize = 2048;
/// Bytes of the names of all ELF symbols together.
pub const MAX_SYMBOL_NAMES: usize = 64 << 20;
/// Functions in an object.
pub const MAX_FUNCTIONS: usize = 1 << 16;
/// Instruction slots of a linked program: the kernel's limit for privileged users (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const MAX_PROGRAM_SLOTS: usize = 1_000_000;
/// Variables in the data sections of an object.
pub const MAX_VARIABLES: usize = 1 << 16;
/// Initial entries of all maps of an object.
pub const MAX_MAP_SLOTS: usize = 1 << 16;
/// Sections that one part of a BTF.ext describes.
pub const MAX_EXT_SECTIONS: usize = 1 << 14;
/// Maps of an object, data sections included.
pub const MAX_MAPS: usize = 1 << 12;
/// Bytes of a data section (initialised or not).
pub const MAX_DATA_BYTES: u64 = 1 << 30;
/// Types in one BTF, its base included (`BTF_MAX_TYPE`).
pub const MAX_BTF_TYPES: usize = 1 << 20;
/// Bytes of a BTF string section (`BTF_MAX_NAME_OFFSET`).
pub const MAX_BTF_STRINGS: usize = 0x00ff_ffff;
/// Modifiers, typedefs and array levels followed from one type (`MAX_RESOLVE_DEPTH`).
pub const MAX_BTF_DEPTH: usize = 32;
/// Bytes kept of a source line's text.
pub const MAX_LINE_TEXT: usize = 1024;
/// Bytes of source line text kept for one object; lines past it have an empty text.
pub const MAX_LINE_TEXT_TOTAL: usize = 64 << 20;
/// Length of the access path of a CO-RE relocation, and depth of anonymous structs looked into for each of its steps
/// (`BPF_CORE_SPEC_MAX_LEN`).
pub const MAX_CORE_PATH: usize = 64;
/// Types, members and enumerators looked at while one link resolves its CO-RE relocations.
pub const MAX_CORE_STEPS: usize = 10_000_000;
/// Objects that are linked into one.
pub const MAX_LINKED_OBJECTS: usize = 1 << 12;
/// Sections of a linked object: below `SHN_LORESERVE` with one of relocations for each.
pub const MAX_LINKED_SECTIONS: usize = 1 << 14;
/// Alignment of a section of a linked object, in bytes.
pub const MAX_LINKED_ALIGN: u64 = 1 << 16;
/// Types looked at while the types of all symbols that objects share are compared.
pub const MAX_LINKED_STEPS: usize = 10_000_000;
