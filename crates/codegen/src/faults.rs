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
    Ok(FaultSite { offset, resume: offset + length, clear, insn: at, inlined: None, access, size })
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

#[cfg(test)]
mod tests {
    use super::*;

    const AT: InsnIdx = InsnIdx(7);

    fn load(size: Size) -> Insn {
        Insn::Load { size, sign_extend: false, dst: isa::Reg::R0, base: isa::Reg::R1, offset: 0 }
    }

    fn store(size: Size) -> Insn {
        Insn::Store { size, base: isa::Reg::R1, offset: 0, src: isa::Operand::Imm(0) }
    }

    fn atomic(size: Size) -> Insn {
        let (base, src) = (isa::Reg::R1, isa::Reg::R2);
        Insn::Atomic { size, op: isa::AtomicOp::Add, fetch: false, base, offset: 0, src }
    }

    #[test]
    fn loads_clear_the_whole_register() {
        for (code, size, register) in [
            (&[0x48, 0x8b, 0x07][..], Size::DW, 0),         // mov rax, [rdi]
            (&[0x45, 0x8b, 0x5d, 0x08], Size::W, 11),       // mov r11d, [r13+8]
            (&[0x0f, 0xb6, 0x3f], Size::B, 7),              // movzx edi, byte ptr [rdi]
            (&[0x48, 0x0f, 0xb7, 0x0f], Size::H, 1),        // movzx rcx, word ptr [rdi]
            (&[0x48, 0x63, 0x17], Size::W, 2),              // movsxd rdx, dword ptr [rdi]
            (&[0x4c, 0x0f, 0xbe, 0x34, 0x37], Size::B, 14), // movsx r14, byte ptr [rdi+rsi]
        ] {
            let site = site(code, 0, AT, load(size)).unwrap();
            assert_eq!(site.clear, Some(register), "{code:x?}");
            assert_eq!((site.resume as usize, site.access, site.size), (code.len(), AccessKind::Load, size));
        }
    }

    #[test]
    fn stores_and_atomics_keep_registers() {
        for (code, insn) in [
            (&[0x48, 0x89, 0x07][..], store(Size::DW)),        // mov [rdi], rax
            (&[0x66, 0xc7, 0x07, 0x05, 0x00], store(Size::H)), // mov word ptr [rdi], 5
            (&[0xf0, 0x48, 0x01, 0x07], atomic(Size::DW)),     // lock add [rdi], rax
            (&[0xf0, 0x0f, 0xc1, 0x07], atomic(Size::W)),      // lock xadd [rdi], eax
            (&[0x48, 0x87, 0x07], atomic(Size::DW)),           // xchg [rdi], rax
            (&[0xf0, 0x48, 0x0f, 0xb1, 0x0f], atomic(Size::DW)), // lock cmpxchg [rdi], rcx
        ] {
            let site = site(code, 0, AT, insn).unwrap();
            assert_eq!((site.clear, site.resume as usize, site.insn), (None, code.len(), AT), "{code:x?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (code, insn) in [
            (&[0x48, 0x03, 0x07][..], load(Size::DW)), // add rax, [rdi]: the register would be wrong
            (&[0x48, 0x3b, 0x07], load(Size::DW)),     // cmp rax, [rdi]: the flags would
            (&[0x66, 0x8b, 0x07], load(Size::H)),      // mov ax, [rdi]: keeps 48 bits
            (&[0x8a, 0x07], load(Size::B)),            // mov al, [rdi]: keeps 56 bits
            (&[0x0f, 0x10, 0x07], load(Size::DW)),     // movups xmm0, [rdi]
            (&[0x48, 0x0f, 0x44, 0x07], load(Size::DW)), // cmove rax, [rdi]: touches it either way
            (&[0x48, 0x8b, 0x07], load(Size::W)),      // of another size
            (&[0x48, 0x8b, 0x07], store(Size::DW)),    // of another kind
            (&[0x48, 0x01, 0x07], store(Size::DW)),    // add [rdi], rax: reads too
            (&[0x48, 0x01, 0x07], atomic(Size::DW)),   // not locked
            (&[0x48, 0x89, 0xc7], load(Size::DW)),     // mov rdi, rax: no memory at all
            (&[0xff, 0x37], load(Size::DW)),           // push [rdi]: moves the stack
            (&[0x48, 0x8b], load(Size::DW)),           // cut off
            (&[], load(Size::DW)),
            (&[0x48, 0x8b, 0x07], Insn::Exit),
        ] {
            let error = site(code, 0, AT, insn).unwrap_err();
            assert!(matches!(error, CompileError::UnskippableAccess { at: AT, offset: 0 }), "{code:x?}");
        }
    }
}
