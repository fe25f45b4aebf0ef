//! From the backend's trap records to the table of skippable instructions.
//!
//! Each record names a machine instruction that accesses arena memory. It is decoded once, here, and must be one
//! whose effect on a missing page can be had by clearing at most one register and going on behind it. Anything else
//! is refused at compile time.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use isa::{Insn, InsnIdx, Size};

use crate::{AccessKind, CompileError, FaultSite};

/// What a BPF instruction does to memory.
pub(crate) fn access_of(insn: Insn) -> Option<(AccessKind, Size)> {
    match insn {
        Insn::Load { size, .. } | Insn::LoadAcquire { size, .. } => Some((AccessKind::Load, size)),
        Insn::Store { size, .. } | Insn::StoreRelease { size, .. } => Some((AccessKind::Store, size)),
        Insn::Atomic { size, .. } => Some((AccessKind::Atomic, size)),
        _ => None,
    }
}

/// Describes the x86-64 instruction at `offset` of a function's code, generated for the BPF instruction `insn`.
pub(crate) fn site(code: &[u8], offset: u32, at: InsnIdx, insn: Insn) -> Result<FaultSite, CompileError> {
    let refused = CompileError::UnskippableAccess { at, offset };
    let bytes = code.get(offset as usize..).unwrap_or_default();
    let machine = Decoder::with_ip(64, bytes, u64::from(offset), DecoderOptions::NONE).decode();
    let expected = access_of(insn).ok_or_else(|| refused.clone())?;
    let (access, clear) = classify(&machine).ok_or_else(|| refused.clone())?;
    let (kind, size) = expected;
    if access != kind || machine.memory_size().size() != usize::from(size.bytes()) {
        return Err(refused);
    }
    let length = u32::try_from(machine.len()).unwrap_or(0);
    Ok(FaultSite { offset, resume: offset + length, clear, insn: at, access, size })
}

/// What a machine instruction does to memory, and the register that a skipped load must clear. `None` for every
/// instruction whose other effects are not known to be none.
fn classify(machine: &Instruction) -> Option<(AccessKind, Option<u8>)> {
    let to_memory = machine.op0_kind() == OpKind::Memory;
    let from_memory = machine.op1_kind() == OpKind::Memory;
    match machine.mnemonic() {
        // A write of 32 bits clears the upper half of its register, one of 16 or 8 bits keeps it: only the wide ones
        // can be replaced by clearing all of it.
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd if from_memory => {
            let register = machine.op0_register();
            if !(register.is_gpr32() || register.is_gpr64()) {
                return None;
            }
            Some((AccessKind::Load, Some(u8::try_from(register.number()).ok()?)))
        }
        Mnemonic::Mov if to_memory => Some((AccessKind::Store, None)),
        Mnemonic::Add | Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Xadd | Mnemonic::Cmpxchg
            if to_memory && machine.has_lock_prefix() =>
        {
            Some((AccessKind::Atomic, None))
        }
        // Locks the bus without a prefix.
        Mnemonic::Xchg if to_memory && machine.code() != Code::INVALID => Some((AccessKind::Atomic, None)),
        _ => None,
    }
}
