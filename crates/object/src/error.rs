//! What can be wrong with an object, by stage. Variants carry the place; prose is in `Display` alone.

use isa::InsnIdx;

use crate::{CoreReloKind, TypeId};

/// Why bytes are not an object this crate can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not an ELF file, or a broken one.
    #[error("not a usable ELF file: {0}")]
    Elf(String),
    /// An ELF file for another machine.
    #[error("ELF machine {machine} is not BPF (247)")]
    NotBpf {
        /// `e_machine`.
        machine: u16,
    },
    /// A linked file or a core dump, not a relocatable object.
    #[error("ELF type {found} is not a relocatable object (1)")]
    NotRelocatable {
        /// `e_type`.
        found: u16,
    },
    /// An object for big-endian machines.
    #[error("big-endian BPF objects are not supported")]
    BigEndian,
    /// More of something than [`limits`](crate::limits) allows.
    #[error("{what} exceeds the limit of {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A section that cannot be read.
    #[error("section `{section}`: {reason}")]
    BadSection {
        /// Section name.
        section: String,
        /// What is wrong.
        reason: SectionFault,
    },
    /// Type information that cannot be read.
    #[error("section `{section}`: {error}")]
    Btf {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is wrong.
        error: BtfError,
    },
    /// Something that needs type information in an object that has none.
    #[error("section `{section}` needs BTF, which the object lacks (compile with -g)")]
    NoBtf {
        /// Section that needs it.
        section: String,
    },
    /// A map definition that cannot be read.
    #[error("map `{map}`: {fault}")]
    BadMap {
        /// Name of the map.
        map: String,
        /// What is wrong.
        fault: MapFault,
    },
    /// Arena globals in an object without an arena map.
    #[error("section `{section}` has arena globals, but the object declares no arena map")]
    NoArena {
        /// The section of the globals.
        section: String,
    },
    /// More than one arena map.
    #[error("several arena maps (`{first}`, `{second}`); a program can use one")]
    SeveralArenas {
        /// First arena.
        first: String,
        /// Second arena.
        second: String,
    },
    /// Arena globals that do not fit.
    #[error("arena globals take {needed} bytes; arena `{map}` has {available}")]
    ArenaTooSmall {
        /// The arena map.
        map: String,
        /// Bytes of globals.
        needed: u64,
        /// Bytes of the arena.
        available: u64,
    },
    /// A relocation of data that has no meaning before loading.
    #[error("section `{section}` offset {offset:#x}: relocation (type {kind}) against `{symbol}` in data")]
    DataRelocation {
        /// Section with the relocation.
        section: String,
        /// Byte offset in it.
        offset: u64,
        /// `R_BPF_*`.
        kind: u32,
        /// Symbol it refers to.
        symbol: String,
    },
    /// An extern without a place in BTF (`.ksyms` or `.kconfig`) or with a type that cannot be used.
    #[error("extern `{name}`: {fault}")]
    BadExtern {
        /// Symbol name.
        name: String,
        /// What is wrong.
        fault: ExternFault,
    },
}

/// What is wrong with a section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SectionFault {
    /// Its contents lie outside the file.
    #[error("contents lie outside the file")]
    OutsideFile,
    /// A name is longer than the limit or not UTF-8.
    #[error("symbol {index} has no usable name")]
    BadName {
        /// Index of the symbol.
        index: usize,
    },
    /// A length that is not a whole number of instructions.
    #[error("{size} bytes are not a whole number of instructions")]
    OddLength {
        /// Size in bytes.
        size: u64,
    },
    /// A symbol that reaches outside its section.
    #[error("symbol `{symbol}` (offset {offset:#x}, {size} bytes) lies outside the section")]
    SymbolOutside {
        /// Its name.
        symbol: String,
        /// Its offset.
        offset: u64,
        /// Its size.
        size: u64,
    },
    /// Two functions share instructions.
    #[error("functions `{first}` and `{second}` overlap")]
    Overlap {
        /// One function.
        first: String,
        /// The other.
        second: String,
    },
    /// A relocation that names a symbol or offset that does not exist.
    #[error("relocation at {offset:#x} names symbol {symbol}, which does not exist")]
    BadRelocation {
        /// Byte offset of the relocation.
        offset: u64,
        /// Symbol index.
        symbol: usize,
    },
    /// A `version` section that is not four bytes.
    #[error("{size} bytes where 4 are expected")]
    BadVersion {
        /// Size in bytes.
        size: usize,
    },
    /// Legacy map definitions (`SEC("maps")`), removed from libbpf 1.0 too.
    #[error("legacy map definitions are not supported; use BTF-defined maps in .maps")]
    LegacyMaps,
}

/// What is wrong with a map definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapFault {
    /// The variable's type is not a struct.
    #[error("its type {ty} is not a struct")]
    NotStruct {
        /// The type.
        ty: TypeId,
    },
    /// No BTF variable for the symbol.
    #[error("no BTF variable describes it")]
    NoVariable,
    /// An attribute that no loader knows.
    #[error("unknown attribute `{attribute}`")]
    UnknownAttribute {
        /// Name of the member.
        attribute: String,
    },
    /// An attribute with a type that cannot hold it.
    #[error("attribute `{attribute}` has a type that cannot express it")]
    BadAttribute {
        /// Name of the member.
        attribute: String,
    },
    /// Size and type of key or value disagree.
    #[error("`{attribute}` says {size} bytes, its type has {type_size}")]
    SizeConflict {
        /// `key_size` or `value_size`.
        attribute: String,
        /// Size stated.
        size: u32,
        /// Size of the type.
        type_size: u64,
    },
    /// No `type`.
    #[error("no map type")]
    NoType,
    /// A map type this crate does not know.
    #[error("unknown map type {number}")]
    UnknownType {
        /// The number.
        number: u32,
    },
    /// `values` in a map that cannot hold any.
    #[error("`values` is only for maps of maps and program arrays")]
    UnexpectedValues,
    /// A map of maps inside a map of maps.
    #[error("inner maps cannot hold maps")]
    NestedInner,
    /// `pinning` with a value other than none or by name.
    #[error("unknown pinning value {value}")]
    BadPinning {
        /// The value.
        value: u32,
    },
    /// An initial entry that is not a map or program as the map needs.
    #[error("entry at offset {offset:#x} refers to `{symbol}`, which cannot be stored there")]
    BadSlot {
        /// Byte offset in `.maps`.
        offset: u64,
        /// What it refers to.
        symbol: String,
    },
}

/// What is wrong with an extern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternFault {
    /// It is in a section other than `.ksyms` and `.kconfig`.
    #[error("it is neither in .ksyms nor in .kconfig")]
    WrongSection,
    /// A `.kconfig` type that no configuration value has.
    #[error("type {ty} cannot hold a kernel configuration value")]
    BadKconfigType {
        /// The type.
        ty: TypeId,
    },
}

/// What is wrong with a BTF or BTF.ext.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// Not BTF at all.
    #[error("bad BTF magic {found:#06x}")]
    BadMagic {
        /// The first two bytes.
        found: u16,
    },
    /// A version other than 1.
    #[error("BTF version {found} is not supported")]
    BadVersion {
        /// The version.
        found: u8,
    },
    /// More of something than the limits allow.
    #[error("BTF {what} exceeds the limit of {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A broken header or string section.
    #[error("BTF offset {offset:#x}: {fault}")]
    Malformed {
        /// Byte offset.
        offset: usize,
        /// What is wrong.
        fault: BtfFault,
    },
    /// A broken type.
    #[error("BTF type {id} (offset {offset:#x} in the type section): {fault}")]
    BadType {
        /// Its id.
        id: TypeId,
        /// Byte offset in the type section; 0 if only a reference is wrong.
        offset: usize,
        /// What is wrong.
        fault: BtfFault,
    },
    /// A broken row of BTF.ext.
    #[error("BTF.ext {part} offset {offset:#x}: {fault}")]
    BadExt {
        /// `func_info`, `line_info` or `core_relo`.
        part: &'static str,
        /// Byte offset in the part.
        offset: usize,
        /// What is wrong.
        fault: BtfFault,
    },
}

/// A fault in BTF bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfFault {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// The string section does not start and end with a NUL.
    #[error("the string section does not start and end with NUL")]
    UnterminatedStrings,
    /// A kind that this crate does not know.
    #[error("unknown kind {kind}")]
    UnknownKind {
        /// `BTF_KIND_*`.
        kind: u32,
    },
    /// A linkage other than static, global, extern.
    #[error("unknown linkage {linkage}")]
    BadLinkage {
        /// The number.
        linkage: u32,
    },
    /// A reference to a type that does not exist.
    #[error("no type {id}")]
    NoSuchType {
        /// The id.
        id: TypeId,
    },
    /// A reference to a string that does not exist.
    #[error("no string at {offset:#x}")]
    NoSuchString {
        /// Offset in the string section.
        offset: u32,
    },
    /// A name longer than the limit.
    #[error("the name at {offset:#x} is too long")]
    NameTooLong {
        /// Offset in the string section.
        offset: u32,
    },
    /// A name that is not UTF-8.
    #[error("the name at {offset:#x} is not UTF-8")]
    NameNotUtf8 {
        /// Offset in the string section.
        offset: u32,
    },
    /// A BTF.ext record size that is too small or odd.
    #[error("record size {size}")]
    BadRecordSize {
        /// The size.
        size: u32,
    },
    /// A CO-RE relocation of a kind that this crate does not know.
    #[error("unknown CO-RE relocation kind {kind}")]
    UnknownCoreKind {
        /// `enum bpf_core_relo_kind`.
        kind: u32,
    },
}

/// Why a program of a parsed object cannot be linked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The object has no program with this name.
    #[error("no program `{name}`; the object has: {}", .available.join(", "))]
    NoSuchProgram {
        /// The name asked for.
        name: String,
        /// Programs there are.
        available: Vec<String>,
    },
    /// More instructions than the kernel allows.
    #[error("program `{program}` has more than {limit} instruction slots")]
    TooLong {
        /// The program.
        program: String,
        /// The limit.
        limit: usize,
    },
    /// Bytes that are no instruction.
    #[error("section `{section}`, function `{function}`: {error}")]
    Decode {
        /// ELF section.
        section: String,
        /// Function the instruction is in.
        function: String,
        /// Slot in the linked program.
        insn: InsnIdx,
        /// What is wrong.
        error: isa::DecodeError,
    },
    /// A relocation that cannot be applied.
    #[error("section `{section}` instruction {insn}: relocation against `{symbol}`: {fault}")]
    Relocation {
        /// ELF section.
        section: String,
        /// Slot in the section.
        insn: InsnIdx,
        /// Symbol it refers to.
        symbol: String,
        /// What is wrong.
        fault: RelocationFault,
    },
    /// A call whose target is not the start of a function.
    #[error(
        "section `{section}` instruction {insn}: call to slot {target} of `{target_section}`, where no function starts"
    )]
    BadCall {
        /// ELF section of the call.
        section: String,
        /// Slot of the call in it.
        insn: InsnIdx,
        /// Section called into.
        target_section: String,
        /// Slot in that section.
        target: i64,
    },
    /// An exception callback (`__exception_cb`) that is no global function of `.text`.
    #[error("program `{program}`: exception callback `{callback}` is not a global function of the object")]
    ExceptionCallback {
        /// The program.
        program: String,
        /// The name in the declaration tag.
        callback: String,
    },
    /// A CO-RE relocation that failed.
    #[error("section `{section}` instruction {insn}: CO-RE: {error}")]
    Core {
        /// ELF section.
        section: String,
        /// Slot in the section.
        insn: InsnIdx,
        /// What is wrong.
        error: CoreError,
    },
    /// A kernel configuration value that is missing or does not fit.
    #[error("kernel configuration `{name}`: {fault}")]
    Kconfig {
        /// Name of the extern.
        name: String,
        /// What is wrong.
        fault: KconfigFault,
    },
}

/// What is wrong with a relocation of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelocationFault {
    /// A relocation type that has no meaning for instructions.
    #[error("relocation type {kind} is not for instructions")]
    UnknownKind {
        /// `R_BPF_*`.
        kind: u32,
    },
    /// The instruction there cannot take this relocation.
    #[error("opcode {opcode:#04x} cannot take it")]
    WrongInstruction {
        /// First byte of the instruction.
        opcode: u8,
    },
    /// The place is not an instruction.
    #[error("offset {offset:#x} is not an instruction")]
    NotAnInstruction {
        /// Byte offset in the section.
        offset: u64,
    },
    /// The symbol is in a section that programs cannot refer to.
    #[error("its section cannot be referred to")]
    BadTarget,
    /// A reference into `.maps` that is not the start of a map.
    #[error("offset {offset:#x} in .maps is not the start of a map")]
    NotAMap {
        /// Byte offset in `.maps`.
        offset: u64,
    },
    /// A jump table (`gotox`), which no kernel up to 6.18 loads.
    #[error("jump tables are not supported (compile with -fno-jump-tables)")]
    JumpTable,
    /// An extern that the object does not describe.
    #[error("it is undefined, and no BTF describes it (missing __ksym, or a function of another object?)")]
    Undefined,
}

/// What is wrong with a kernel configuration value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KconfigFault {
    /// No value was given, and the extern is not weak.
    #[error("no value given")]
    Missing,
    /// The value has another type than the extern.
    #[error("value `{value}` does not fit the extern's type")]
    WrongType {
        /// The value as text.
        value: String,
    },
    /// The value needs more bits than the extern has.
    #[error("value {value} does not fit in {bytes} bytes")]
    TooBig {
        /// The value.
        value: String,
        /// Bytes there are.
        bytes: u32,
    },
}

/// Why a CO-RE relocation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The object has CO-RE relocations, and no target BTF was named.
    #[error("relocation of `{root}` needs a target BTF")]
    NoTarget {
        /// Name of the root type.
        root: String,
    },
    /// The access path is broken.
    #[error("`{root}`: bad access path `{access}`")]
    BadAccess {
        /// Name of the root type.
        root: String,
        /// The path.
        access: String,
    },
    /// The root type has no name to look for.
    #[error("{kind:?} of anonymous type {ty}: only named types can be found in a target")]
    Anonymous {
        /// The type in the object's BTF.
        ty: TypeId,
        /// What is asked.
        kind: CoreReloKind,
    },
    /// The relocation kind cannot be asked of this type.
    #[error("`{root}`: {kind:?} cannot be asked of it")]
    BadKind {
        /// Name of the root type.
        root: String,
        /// The kind.
        kind: CoreReloKind,
    },
    /// Nothing in the target answers, and the caller wants an error instead of a poisoned instruction.
    #[error("{kind:?} of `{spec}`: nothing in the target BTF matches")]
    NoMatch {
        /// What is asked.
        kind: CoreReloKind,
        /// Type and field.
        spec: String,
    },
    /// Candidates disagree on the answer.
    #[error("{kind:?} of `{spec}`: candidates {first} and {second} disagree")]
    Ambiguous {
        /// What is asked.
        kind: CoreReloKind,
        /// Type and field.
        spec: String,
        /// One candidate.
        first: TypeId,
        /// The other.
        second: TypeId,
    },
    /// The instruction cannot hold the answer.
    #[error("{kind:?} of `{spec}`: instruction with opcode {opcode:#04x} cannot hold {value}")]
    BadInstruction {
        /// What is asked.
        kind: CoreReloKind,
        /// Type and field.
        spec: String,
        /// First byte of the instruction.
        opcode: u8,
        /// The answer.
        value: u64,
    },
    /// The instruction does not hold the value the object's own types give: the relocation is not for it.
    #[error("`{spec}`: instruction holds {found}, the object's types say {expected}")]
    UnexpectedValue {
        /// Type and field.
        spec: String,
        /// Value in the instruction.
        found: u64,
        /// Value it should have.
        expected: u64,
    },
    /// Anonymous structs of the target nested deeper than the limit.
    #[error("structs of the target are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The search took more steps than the limit.
    #[error("too many types to compare (limit {limit})")]
    TooManySteps {
        /// The limit.
        limit: usize,
    },
}
