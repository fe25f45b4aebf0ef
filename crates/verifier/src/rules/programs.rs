//! Program types: their context and what they may return.

use bpf_object::ProgType;

use crate::limits::MAX_SYSCALL_CTX;

/// What a program type's context looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CtxRules {
    /// Plain bytes, as many as the caller gives: aligned accesses below the bound, both ways.
    Bytes { max: u32 },
    /// Arguments of 8 bytes each: aligned reads below the bound.
    Arguments { max: u32 },
}

/// Most arguments of a traced kernel function (`MAX_BPF_FUNC_ARGS`).
const MAX_FUNC_ARGS: u32 = 12;

/// A program type.
#[derive(Debug)]
pub(crate) struct ProgRules {
    pub(crate) prog_type: ProgType,
    pub(crate) ctx: CtxRules,
    /// Range `R0` must be in when the program ends, if the kernel asks for one.
    pub(crate) returns: Option<(i64, i64)>,
}

/// The rules for this type, if there are any.
pub(crate) fn find(prog_type: ProgType) -> Option<&'static ProgRules> {
    PROGRAMS.iter().find(|p| p.prog_type == prog_type)
}

static PROGRAMS: [ProgRules; 2] = [
    ProgRules { prog_type: ProgType::Syscall, ctx: CtxRules::Bytes { max: MAX_SYSCALL_CTX }, returns: None },
    ProgRules {
        prog_type: ProgType::RawTracepoint,
        ctx: CtxRules::Arguments { max: 8 * MAX_FUNC_ARGS },
        returns: None,
    },
];
