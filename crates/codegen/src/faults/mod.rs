//! From the backend's trap records to the table of skippable instructions.
//!
//! Each record names a machine instruction that accesses arena memory. It is decoded once, here, and must be one
//! whose effect on a missing page can be had by setting at most one register and going on behind it. Anything else
//! is refused at compile time.

mod aarch64;
mod x86_64;

use isa::{AtomicOp, Insn, InsnIdx, Size};

use crate::machine::Machine;
use crate::{AccessKind, CompileError, FaultSite, Leaves};

/// What a BPF instruction does to memory.
pub(crate) fn access_of(insn: Insn) -> Option<(AccessKind, Size)> {
    match insn {
        Insn::Load { size, .. } | Insn::LoadAcquire { size, .. } => Some((AccessKind::Load, size)),
        Insn::Store { size, .. } | Insn::StoreRelease { size, .. } => Some((AccessKind::Store, size)),
        Insn::Atomic { size, .. } => Some((AccessKind::Atomic, size)),
        _ => None,
    }
}

/// Whether the program sees what an atomic operation found.
fn has_result(insn: Insn) -> bool {
    matches!(insn, Insn::Atomic { fetch, op, .. } if fetch || matches!(op, AtomicOp::Xchg | AtomicOp::CmpXchg))
}

/// A machine instruction that accesses memory and can be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    kind: AccessKind,
    /// Bytes it accesses.
    bytes: usize,
    leaves: Leaves,
    /// Bytes of the instruction itself.
    length: u32,
}

/// Bytes of a wide access, which stands for several of a BPF instruction.
const WIDE: usize = 16;

/// Describes the machine instruction at `offset` of a function's code, generated for the BPF instruction `insn`. A probe is a wide load,
/// whatever the instruction does.
pub(crate) fn site(
    machine: Machine,
    code: &[u8],
    offset: u32,
    at: InsnIdx,
    insn: Insn,
    probe: bool,
) -> Result<FaultSite, CompileError> {
    let refused = CompileError::UnskippableAccess { at, offset };
    let (kind, size) = access_of(insn).ok_or_else(|| refused.clone())?;
    let bytes = code.get(offset as usize..).unwrap_or_default();
    let access = match machine {
        Machine::X86_64 => x86_64::decode(bytes),
        Machine::Aarch64 { .. } => aarch64::decode(bytes, has_result(insn)),
    };
    let access = access.ok_or_else(|| refused.clone())?;
    let is_expected = match (probe, access.bytes) {
        (true, bytes) => bytes == WIDE && access.kind == AccessKind::Load,
        (false, WIDE) => access.kind == AccessKind::Store && kind == AccessKind::Store,
        (false, bytes) => access.kind == kind && bytes == usize::from(size.bytes()),
    };
    if !is_expected {
        return Err(refused);
    }
    let resume = offset.saturating_add(access.length);
    Ok(FaultSite {
        offset,
        resume,
        leaves: access.leaves,
        insn: at,
        inlined: None,
        access: kind,
        size,
        probe,
    })
}
