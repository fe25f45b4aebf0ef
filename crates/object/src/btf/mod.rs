//! BTF, the type information of BPF objects and of the kernel.

mod dedup;
mod encode;
mod ext;
mod parse;
mod pool;
mod query;
mod remap;
mod types;

use std::sync::{Arc, OnceLock};

pub(crate) use dedup::deduplicate;
pub use ext::{BtfExt, CoreRelo, CoreReloKind, FuncInfoRow, LineInfoRow};
pub(crate) use pool::StringPool;
use query::NameIndex;
pub use query::essential_name;
pub use types::{
    Array, BtfLinkage, Composite, Enum, Enum64, FuncProto, Int, Kind, KindTag, Member, Param, SecVar, StrId,
    Type, TypeId,
};

use isa::Endian;

/// Parsed type information.
///
/// A *split* BTF continues a base: its ids and string offsets start where the base's end, as a kernel module's do.
/// Every question is answered for the base's types too.
#[derive(Clone)]
pub struct Btf {
    base: Option<Arc<Btf>>,
    /// First id that `types` holds; `types[0]` of a BTF without base is `void`.
    first_id: u32,
    /// Offset of the first string that `strings` holds.
    first_str: u32,
    types: Vec<Type>,
    /// NUL-terminated strings.
    strings: Vec<u8>,
    endian: Endian,
    names: OnceLock<NameIndex>,
}

impl Default for Btf {
    /// A BTF with `void` and the empty string only.
    fn default() -> Self {
        Self {
            base: None,
            first_id: 0,
            first_str: 0,
            types: vec![Type::default()],
            strings: vec![0],
            endian: Endian::Little,
            names: OnceLock::new(),
        }
    }
}

impl core::fmt::Debug for Btf {
    /// How much there is: the types themselves would fill pages wherever an object or a program is printed.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.types.len())
            .field("string_bytes", &self.strings.len())
            .field("endian", &self.endian)
            .field("base", &self.base)
            .finish()
    }
}
