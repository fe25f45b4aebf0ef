//! What linking needs of the ELF file once it is parsed: code by section, and what each symbol stands for.

use std::collections::BTreeMap;
use std::sync::Arc;

use isa::RawInsn;

use crate::elf::Relocation;
use crate::{CoreRelo, Linkage, TypeId};

/// The section of functions that are only ever called.
pub(crate) const TEXT_SECTION: &str = ".text";

/// The linker's view of an object.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Executable sections, by ELF section index.
    pub(crate) texts: BTreeMap<usize, Text>,
    /// Every function, by section and start.
    pub(crate) functions: Vec<Function>,
    /// What relocations refer to, by symbol index.
    pub(crate) symbols: Vec<SymbolUse>,
    /// Maps of `.maps`: `(section, offset)` to index.
    pub(crate) map_at: BTreeMap<(usize, u64), u32>,
    /// `.kconfig`: the map and its externs.
    pub(crate) kconfig: Option<KconfigLayout>,
}

/// An executable section.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) code: Vec<RawInsn>,
    /// By ascending offset.
    pub(crate) relocations: Vec<Relocation>,
    /// By ascending offset.
    pub(crate) core: Vec<CoreRelo>,
    /// By ascending slot.
    pub(crate) lines: Vec<LineRow>,
}

#[derive(Clone, Debug)]
pub(crate) struct LineRow {
    pub(crate) slot: u32,
    pub(crate) file: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A function symbol; slots count from its section's start.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) section: usize,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) linkage: Linkage,
    pub(crate) btf_func: Option<TypeId>,
}

/// What a symbol stands for in a relocation.
#[derive(Clone, Debug)]
pub(crate) struct SymbolUse {
    /// Its name, or its section's.
    pub(crate) label: String,
    pub(crate) value: u64,
    pub(crate) target: SymbolTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolTarget {
    /// An executable section.
    Text(usize),
    /// `.maps`.
    Maps(usize),
    /// A section that became this map's value (an arena's included).
    Data { map: u32 },
    /// An entry of the object's extern table.
    Extern(u32),
    /// A variable at this offset of the `.kconfig` map.
    Kconfig { map: u32, offset: u32 },
    /// `.jumptables`.
    JumpTable,
    /// An undefined symbol that no BTF describes.
    Undefined,
    /// Anything else.
    Other,
}

/// The `.kconfig` map.
#[derive(Clone, Debug)]
pub(crate) struct KconfigLayout {
    /// Index of the map.
    pub(crate) map: usize,
    pub(crate) vars: Vec<KconfigVar>,
}

#[derive(Clone, Debug)]
pub(crate) struct KconfigVar {
    pub(crate) name: String,
    pub(crate) offset: u32,
    pub(crate) size: u32,
    pub(crate) kind: KconfigKind,
    pub(crate) weak: bool,
}

/// Types that a kernel configuration value can have in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KconfigKind {
    Bool,
    Char { signed: bool },
    Int { signed: bool },
    Tristate,
    Text,
}

impl Layout {
    /// The function that starts at this slot of a section.
    pub(crate) fn function_at(&self, section: usize, slot: u32) -> Option<usize> {
        let key = (section, slot);
        let index = self.functions.partition_point(|f| (f.section, f.start) < key);
        self.functions.get(index).filter(|f| (f.section, f.start) == key).map(|_| index)
    }
}
