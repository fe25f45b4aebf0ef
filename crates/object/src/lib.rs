//! BPF ELF objects.
#![forbid(unsafe_code)]

mod btf;
mod map;
mod program;
mod section_name;

pub use btf::{Btf, TypeId};
pub use map::{
    BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_RDONLY_PROG, BPF_F_SEGV_ON_FAULT, MapOrigin, MapSlot, MapSpec,
    MapType,
};
pub use program::{Extern, ExternKind, LineInfo, Linkage, ProgType, Program, ProgramKind, Subprogram};
