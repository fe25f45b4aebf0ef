//! BPF ELF objects: from the bytes clang writes to linked programs.
//!
//! [`Object::parse`] reads ELF and BTF; [`Object::link`] gives a [`Program`]: relocated, with every function it reaches
//! joined behind it. Both are pure: no system call, no file, no clock, the same result for the same input on any
//! machine. Neither panics nor takes memory out of proportion on any input; every bound is in [`limits`].
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
mod object;
mod parse;
mod program;
mod reader;
mod section_name;

pub use btf::{
    Array, Btf, BtfExt, BtfLinkage, Composite, CoreRelo, CoreReloKind, Enum, Enum64, FuncInfoRow, FuncProto,
    Int, Kind, KindTag, LineInfoRow, Member, Param, SecVar, StrId, Type, TypeId, essential_name,
};
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
pub use object::{LinkOptions, Object, ProgramInfo, Variable};
pub use program::{Extern, ExternKind, LineInfo, Linkage, ProgType, Program, ProgramKind, Subprogram};
pub use section_name::AttachType;
