//! A parsed object: everything that can be known without choosing a program, a kernel or an engine.

use std::sync::Arc;

use crate::layout::Layout;
use crate::{
    Btf, BtfExt, Extern, Kconfig, LinkError, Linkage, Linked, MapSpec, ObjectError, Program, ProgramKind,
    TypeId,
};

/// A parsed BPF object file. Made by [`Object::parse`], which makes no system call and reads nothing but its input.
#[derive(Clone, Debug)]
pub struct Object {
    /// Programs in the order of the file.
    pub programs: Vec<ProgramInfo>,
    /// Maps in libbpf's order: those of `.maps`, data sections, `.kconfig`, `struct_ops` tables.
    pub maps: Arc<[MapSpec]>,
    /// Global and static variables that live in maps: data sections, arena globals and `.kconfig`.
    pub variables: Vec<Variable>,
    /// Kernel functions and variables the object refers to.
    pub externs: Vec<Extern>,
    /// Contents of the `license` section; empty if there is none.
    pub license: String,
    /// Contents of the `version` section; 0 if there is none.
    pub version: u32,
    /// Type information, with what clang leaves open filled in: sizes and offsets of data sections' variables.
    pub btf: Option<Arc<Btf>>,
    /// Functions, lines and CO-RE relocations by ELF section.
    pub btf_ext: Arc<BtfExt>,
    pub(crate) layout: Arc<Layout>,
}

/// A program of an object, not yet linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Name of its entry function.
    pub name: String,
    /// ELF section.
    pub section: String,
    /// What the section name says.
    pub kind: ProgramKind,
    /// Its `FUNC` in the object's BTF.
    pub btf_func: Option<TypeId>,
}

/// A variable inside a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// Index of its map in [`Object::maps`].
    pub map: usize,
    /// Byte offset in the map's value; for an arena: from the arena's start.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Type of the value (not the BTF `VAR`), if BTF describes it.
    pub ty: Option<TypeId>,
    /// Linkage.
    pub linkage: Linkage,
}

/// What linking needs to know beyond the object.
#[derive(Clone, Debug, Default)]
pub struct LinkOptions {
    /// The BTF that CO-RE relocations are resolved against: the running kernel's, or one the caller names. An object's
    /// own BTF answers every question as the compiler did. Without any, a CO-RE relocation is an error.
    pub target_btf: Option<Arc<Btf>>,
    /// BTF of kernel modules, searched when `target_btf` has no candidate. What a split one shares with `target_btf` is
    /// not searched again.
    pub module_btfs: Vec<Arc<Btf>>,
    /// Values of `extern ... __kconfig` variables.
    pub kconfig: Kconfig,
    /// Whether a CO-RE relocation that nothing answers is an error. Otherwise its instruction is replaced by a call
    /// that every verifier refuses if it can be reached ([`UNANSWERED_RELOCATION`](crate::UNANSWERED_RELOCATION)), as libbpf does.
    pub strict_core: bool,
}

impl Object {
    /// Parses a little-endian BPF ELF object.
    ///
    /// # Errors
    /// [`ObjectError`] names the section, symbol or offset that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        crate::parse::object(bytes)
    }

    /// An object of maps and types alone, for programs that come without a file.
    #[must_use]
    pub fn of_maps(maps: Arc<[MapSpec]>, btf: Option<Arc<Btf>>) -> Self {
        Self {
            programs: Vec::new(),
            maps,
            variables: Vec::new(),
            externs: Vec::new(),
            license: String::new(),
            version: 0,
            btf,
            btf_ext: Arc::default(),
            layout: Arc::default(),
        }
    }

    /// The map with this name.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<(usize, &MapSpec)> {
        self.maps.iter().enumerate().find(|(_, m)| m.name == name)
    }

    /// The arena map, if there is one.
    #[must_use]
    pub fn arena(&self) -> Option<(usize, &MapSpec)> {
        self.maps.iter().enumerate().find(|(_, m)| m.map_type == crate::MapType::Arena)
    }

    /// The variable with this name; a global one before a static one.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        let mut named = self.variables.iter().filter(|v| v.name == name);
        let first = named.next()?;
        Some(core::iter::once(first).chain(named).find(|v| v.linkage != Linkage::Static).unwrap_or(first))
    }

    /// Links the program of this name with default options: no CO-RE target, no kernel configuration.
    ///
    /// # Errors
    /// [`LinkError`] names the instruction and the symbol.
    pub fn link(&self, name: &str) -> Result<Program, LinkError> {
        self.link_with(name, &LinkOptions::default())
    }

    /// Links the program of this name: relocates it and joins every function it reaches behind it.
    ///
    /// # Errors
    /// [`LinkError`] names the instruction and the symbol.
    pub fn link_with(&self, name: &str, options: &LinkOptions) -> Result<Program, LinkError> {
        self.link_raw(name, options)?.decode()
    }

    /// Links without decoding, for programs that only a kernel is to judge.
    ///
    /// # Errors
    /// [`LinkError`], but never [`LinkError::Decode`].
    pub fn link_raw(&self, name: &str, options: &LinkOptions) -> Result<Linked, LinkError> {
        crate::link::program(self, name, options)
    }

    /// The maps with `.kconfig` filled in from `options`: what [`Program::maps`] of programs linked with them is.
    ///
    /// # Errors
    /// [`LinkError::Kconfig`] for a value that is missing or does not fit.
    pub fn maps_with(&self, options: &LinkOptions) -> Result<Arc<[MapSpec]>, LinkError> {
        crate::kconfig::fill(self, options)
    }

    /// The `.BTF` section as a kernel accepts it (see [`Object::btf`]), or `None` without BTF.
    #[must_use]
    pub fn btf_bytes(&self) -> Option<Vec<u8>> {
        self.btf.as_ref().map(|b| b.to_bytes())
    }
}
