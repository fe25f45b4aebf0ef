//! What a program may use where it is going to run.

use std::sync::Arc;

use bpf_object::{Btf, MapType};

use crate::host::Host;

/// The environment a program is verified against: which helpers and kfuncs the caller knows to execute is *not*
/// part of it; those are loading errors of an engine. Privileges are root's with `CAP_BPF` and `CAP_PERFMON`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Env {
    /// Bytes of context a `SEC("syscall")` program may be given at most; 0 stands for the kernel's own bound.
    pub max_ctx_bytes: u32,
    /// The types of the kernel that the program is for (`vmlinux` BTF). Programs that call kernel functions other than the
    /// arena's and the basic ones, or follow pointers into the kernel, need it.
    pub kernel: Option<Arc<Btf>>,
    /// How strictly to verify.
    pub flags: LoadFlags,
    /// Whether stack that nobody has written may not be read: the rule for those who load without `CAP_PERFMON`. Their other
    /// rules, which keep the kernel's addresses from leaking, are not modelled.
    pub refuse_uninit_stack: bool,
    /// What pointers to maps point to. Maps of a type that is missing here cannot be read through the pointer.
    pub map_structs: Arc<[MapStruct]>,
    /// What the engine's host adds to the kernel's functions.
    pub host: Host,
}

/// The flags of `bpf(BPF_PROG_LOAD)` that change verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadFlags {
    /// `BPF_F_STRICT_ALIGNMENT`: unaligned accesses are refused even where the processor allows them.
    pub strict_alignment: bool,
    /// `BPF_F_ANY_ALIGNMENT`: no access need be aligned.
    pub any_alignment: bool,
    /// `BPF_F_TEST_STATE_FREQ`: states are saved at every opportunity.
    pub test_state_freq: bool,
    /// `BPF_F_TEST_REG_INVARIANTS`: bounds that contradict each other are an error of the verifier.
    pub test_reg_invariants: bool,
}

impl LoadFlags {
    /// From the numbers of `BPF_PROG_LOAD`; those that say something about the program itself are left to
    /// [`ProgramKind`](bpf_object::ProgramKind).
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self {
            strict_alignment: bits & 1 != 0,
            any_alignment: bits & 1 << 1 != 0,
            test_state_freq: bits & 1 << 3 != 0,
            test_reg_invariants: bits & 1 << 7 != 0,
        }
    }
}

impl Env {
    /// With the types of a kernel.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Arc<Btf>) -> Self {
        self.kernel = Some(kernel);
        self
    }

    /// With these flags.
    #[must_use]
    pub fn with_flags(mut self, flags: LoadFlags) -> Self {
        self.flags = flags;
        self
    }

    /// With functions of the host.
    #[must_use]
    pub fn with_host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// The structures that pointers may point to: the host's and the kernel's.
    pub(crate) fn types(&self) -> Option<&Btf> {
        self.host.types.as_deref().or(self.kernel.as_deref())
    }

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
