//! What a program may use where it is going to run.

use std::sync::Arc;

use bpf_object::MapType;

/// The environment a program is verified against: which helpers and kfuncs the caller knows to execute is *not*
/// part of it; those are loading errors of an engine. Privileges are root's with `CAP_BPF` and `CAP_PERFMON`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Env {
    /// Bytes of context a `SEC("syscall")` program may be given at most; 0 stands for the kernel's own bound.
    pub max_ctx_bytes: u32,
    /// What pointers to maps point to. Maps of a type that is missing here cannot be read through the pointer.
    pub map_structs: Arc<[MapStruct]>,
}

impl Env {
    pub(crate) fn map_struct(&self, map_type: MapType) -> Option<&MapStruct> {
        self.map_structs.iter().find(|s| s.map_type == map_type)
    }
}

/// The structure that a pointer to a map of one type points to. Programs may read its members and write nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStruct {
    /// The type of map.
    pub map_type: MapType,
    /// The structure's name without `struct`, e.g. `bpf_arena`.
    pub name: String,
    /// Its size in bytes.
    pub size: u32,
    /// Its members, those of nested structures in their place. None is a pointer.
    pub members: Vec<MapMember>,
}

/// A member of a [`MapStruct`]: a number, or an array of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMember {
    /// Its name.
    pub name: String,
    /// Where it begins, in bytes from the start of the structure.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
}
