//! BPF ELF objects: from the bytes clang writes to linked programs.
//!
//! [`Object::parse`] reads ELF and BTF; [`Object::link`] gives a [`Program`]: relocated, with every function it reaches
//! joined behind it. Both are pure: no system call, no file, no clock, the same result for the same input on any
//! machine. Neither panics nor takes memory out of proportion on any input; every bound is in [`limits`].
//!
//! ```
//! use bpf_arena_object::{Linkage, MapType, Object};
//!
//! let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/arena.bpf.o"));
//! let object = Object::parse(bytes)?;
//! let (_, arena) = object.arena().ok_or("no arena")?;
//! assert_eq!((arena.map_type, arena.max_entries), (MapType::Arena, 100));
//!
//! let program = object.link("add")?;
//! let names: Vec<_> = program.subprograms.iter().map(|s| (s.name.as_str(), s.linkage)).collect();
//! assert_eq!(names, [("add", Linkage::Global), ("push", Linkage::Static)]);
//! assert_eq!(program.lines[0].source.as_ref(), "int add(void *ctx)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `elf` | sections, symbols and relocations of the file, bounds checked |
//! | `btf` | type information: reading, questions, changing, writing; `.BTF.ext` |
//! | `parse` | an [`Object`] from those two: functions, maps, variables, externs |
//! | `link` | a [`Program`] from an [`Object`]: joining functions, applying ELF relocations |
//! | `core_relo` | CO-RE relocations against a target BTF |
//! | `merge` | several objects into one: the static [`Linker`] |
//! | `kconfig` | values of `__kconfig` externs |
//! | `section_name` | what `SEC("...")` says about a program |
#![forbid(unsafe_code)]

mod btf;
mod core_relo;
mod elf;
mod error;
mod kconfig;
mod layout;
pub mod limits;
mod link;
mod map;
mod merge;
mod object;
mod parse;
mod program;
mod reader;
mod section_name;

pub use btf::{
    Array, Btf, BtfExt, BtfLinkage, Composite, CoreRelo, CoreReloKind, Enum, Enum64, FuncInfoRow, FuncProto,
    Int, Kind, KindTag, LineInfoRow, Member, Param, SecVar, StrId, Type, TypeId, essential_name,
};
pub use core_relo::UNANSWERED_RELOCATION;
pub use error::{
    BtfError, BtfFault, CoreError, ExternFault, KconfigFault, LinkError, MapFault, ObjectError,
    RelocationFault, SectionFault,
};
pub use isa::Endian;
pub use kconfig::{Kconfig, KconfigValue, Tristate};
pub use link::Linked;
pub use map::{
    BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_RDONLY_PROG, BPF_F_SEGV_ON_FAULT, MapOrigin, MapSlot, MapSpec,
    MapType,
};
pub use merge::{
    LinkedRelocationFault, LinkedSectionFault, Linker, SectionProperty, StaticLinkError, TypeMismatch,
};
pub use object::{LinkOptions, Object, ProgramInfo, Variable};
pub use program::{Extern, ExternKind, LineInfo, Linkage, ProgType, Program, ProgramKind, Subprogram};
pub use section_name::AttachType;
