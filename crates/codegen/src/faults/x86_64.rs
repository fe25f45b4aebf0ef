//! x86-64: what the backend's memory instructions do.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::Access;
use crate::{AccessKind, Leaves};

/// The instruction that `bytes` begin with.
pub(super) fn decode(bytes: &[u8]) -> Option<Access> {
    let machine = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    let (kind, leaves) = classify(&machine)?;
    let length = u32::try_from(machine.len()).ok()?;
    Some(Access { kind, bytes: machine.memory_size().size(), leaves, length })
}

/// What an instruction does to memory, and what it must leave when it is skipped. `None` for every instruction whose
/// other effects are not known to be none.
///
/// `xadd`, `xchg` and `cmpxchg` have their result in the register that held the operand (the expected value).
fn classify(machine: &Instruction) -> Option<(AccessKind, Leaves)> {
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
            Some((AccessKind::Load, Leaves::Zero(u8::try_from(register.number()).ok()?)))
        }
        Mnemonic::Mov if to_memory => Some((AccessKind::Store, Leaves::Registers)),
        // Of 16 bytes, aligned or not. What a skipped load leaves is not looked at.
        Mnemonic::Movdqu | Mnemonic::Movups if from_memory => Some((AccessKind::Load, Leaves::Registers)),
        Mnemonic::Movdqu | Mnemonic::Movups if to_memory => Some((AccessKind::Store, Leaves::Registers)),
        Mnemonic::Add | Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Xadd | Mnemonic::Cmpxchg
            if to_memory && machine.has_lock_prefix() =>
        {
            Some((AccessKind::Atomic, Leaves::Registers))
        }
        // Locks the bus without a prefix.
        Mnemonic::Xchg if to_memory && machine.code() != Code::INVALID => {
            Some((AccessKind::Atomic, Leaves::Registers))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use isa::{Insn, InsnIdx, Size};

    use super::*;
    use crate::machine::Machine;
    use crate::{CompileError, FaultSite};

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

    fn site(code: &[u8], insn: Insn) -> Result<FaultSite, CompileError> {
        super::super::site(Machine::X86_64, code, 0, AT, insn, false)
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
            let site = site(code, load(size)).unwrap();
            assert_eq!(site.leaves, Leaves::Zero(register), "{code:x?}");
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
            let site = site(code, insn).unwrap();
            assert_eq!(
                (site.leaves, site.resume as usize, site.insn),
                (Leaves::Registers, code.len(), AT),
                "{code:x?}"
            );
        }
    }

    #[test]
    fn wide_accesses_keep_registers() {
        for (code, kind) in [
            (&[0xf3, 0x0f, 0x6f, 0x07][..], AccessKind::Load), // movdqu xmm0, [rdi]
            (&[0xf3, 0x47, 0x0f, 0x7f, 0x4c, 0x10, 0x10], AccessKind::Store), // movdqu [r8+r10+16], xmm9
            (&[0x0f, 0x10, 0x07], AccessKind::Load),           // movups xmm0, [rdi]
            (&[0x0f, 0x11, 0x07], AccessKind::Store),          // movups [rdi], xmm0
        ] {
            let access = decode(code).unwrap();
            assert_eq!(
                (access.kind, access.bytes, access.leaves),
                (kind, 16, Leaves::Registers),
                "{code:x?}"
            );
            assert_eq!(access.length as usize, code.len());
        }
        for code in [
            [0x66, 0x0f, 0xfe, 0x07], // paddd xmm0, [rdi]: the sum would be wrong
            [0xf3, 0x0f, 0x7e, 0x07], // movq xmm0, [rdi]
            [0xc5, 0xfe, 0x6f, 0x07], // vmovdqu ymm0, [rdi]
            [0xc5, 0xf1, 0xfe, 0x07], // vpaddd xmm0, xmm1, [rdi]
            [0xf3, 0x0f, 0x6f, 0xc7], // movdqu xmm0, xmm7: no memory at all
        ] {
            assert!(decode(&code).is_none(), "{code:x?}");
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
            let error = site(code, insn).unwrap_err();
            assert!(matches!(error, CompileError::UnskippableAccess { at: AT, offset: 0 }), "{code:x?}");
        }
    }
}
