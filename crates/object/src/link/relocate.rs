//! ELF relocations of instructions.

use isa::{CallTarget, Imm64, Insn, InsnIdx, RawInsn};

use super::{Linker, wide};
use crate::elf::{R_BPF_64_32, R_BPF_64_64, Relocation};
use crate::error::{LinkError, RelocationFault};
use crate::layout::{Function, SymbolTarget, Text};

/// Opcode of a call with an immediate.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`.
const PSEUDO_CALL: u8 = 1;
/// `BPF_PSEUDO_FUNC`.
const PSEUDO_FUNC: u8 = 4;

impl Linker<'_> {
    /// Applies the relocations inside a function that was just appended at `start`, except those of calls and
    /// function addresses, which wait until their target has a place.
    pub(super) fn relocate(&mut self, function: &Function, text: &Text, start: u32) -> Result<(), LinkError> {
        for relocation in relocations(text, function) {
            let slot = u32::try_from(relocation.offset / 8).unwrap_or(u32::MAX);
            let at = slot.saturating_sub(function.start).saturating_add(start) as usize;
            let fail = |fault| self.failure(text, relocation, fault);
            if relocation.offset % 8 != 0 {
                return Err(fail(RelocationFault::NotAnInstruction { offset: relocation.offset }));
            }
            let target = self.object.layout.symbols.get(relocation.symbol).map(|s| s.target);
            let target = target.ok_or_else(|| fail(RelocationFault::BadTarget))?;
            let insn = self.slots.get(at).copied().unwrap_or_default();
            match relocation.kind {
                R_BPF_64_32 => self.relocate_call(at, insn, target),
                R_BPF_64_64 => self.relocate_wide(at, insn, target, relocation),
                kind => Err(RelocationFault::UnknownKind { kind }),
            }
            .map_err(|fault| self.failure(text, relocation, fault))?;
        }
        Ok(())
    }

    fn failure(&self, text: &Text, relocation: &Relocation, fault: RelocationFault) -> LinkError {
        LinkError::Relocation {
            section: text.name.clone(),
            insn: InsnIdx(u32::try_from(relocation.offset / 8).unwrap_or(u32::MAX)),
            symbol: self
                .object
                .layout
                .symbols
                .get(relocation.symbol)
                .map_or_else(String::new, |s| s.label.clone()),
            fault,
        }
    }

    fn relocate_call(
        &mut self,
        at: usize,
        insn: RawInsn,
        target: SymbolTarget,
    ) -> Result<(), RelocationFault> {
        if insn.opcode != CALL || insn.src_reg != PSEUDO_CALL {
            return Err(RelocationFault::WrongInstruction { opcode: insn.opcode });
        }
        match target {
            SymbolTarget::Text(_) => Ok(()),
            SymbolTarget::Extern(number) => {
                let index = self.use_extern(number).ok_or(RelocationFault::Undefined)?;
                let btf_id = i32::try_from(index).map_err(|_| RelocationFault::BadTarget)?;
                let call = Insn::Call { target: CallTarget::Kfunc { btf_id, module: 0 } };
                let encoded = call.encode().map_err(|_| RelocationFault::BadTarget)?;
                self.write(at, &[encoded.first]);
                Ok(())
            }
            SymbolTarget::Undefined => Err(RelocationFault::Undefined),
            _ => Err(RelocationFault::BadTarget),
        }
    }

    fn relocate_wide(
        &mut self,
        at: usize,
        insn: RawInsn,
        target: SymbolTarget,
        relocation: &Relocation,
    ) -> Result<(), RelocationFault> {
        if !insn.is_wide() {
            return Err(RelocationFault::WrongInstruction { opcode: insn.opcode });
        }
        let symbol = self.object.layout.symbols.get(relocation.symbol).map_or(0, |s| s.value);
        // The immediate is the addend: of a reference by section, the offset of the static in it.
        let addend = i64::from(insn.imm);
        let offset = i64::try_from(symbol).ok().and_then(|s| s.checked_add(addend));
        let value = match target {
            SymbolTarget::Text(_) if insn.src_reg == PSEUDO_FUNC => return Ok(()),
            // Clang marks the address of a global function so; older ones left the mark out.
            SymbolTarget::Text(_) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.src_reg = PSEUDO_FUNC;
                }
                return Ok(());
            }
            SymbolTarget::Maps(section) => {
                let offset = offset.and_then(|o| u64::try_from(o).ok());
                let found = offset.and_then(|o| self.object.layout.map_at.get(&(section, o)));
                let not_a_map = RelocationFault::NotAMap { offset: offset.unwrap_or(u64::MAX) };
                Imm64::MapIdx(*found.ok_or(not_a_map)?)
            }
            SymbolTarget::Data { map } => {
                // May point outside the value: the verifier judges the address where it is used.
                let offset = offset.and_then(low_half).ok_or(RelocationFault::BadTarget)?;
                Imm64::MapIdxValue { map, offset }
            }
            SymbolTarget::Kconfig { map, offset } => Imm64::MapIdxValue { map, offset },
            SymbolTarget::Extern(number) => {
                let index = self.use_extern(number).ok_or(RelocationFault::Undefined)?;
                let btf_id = i32::try_from(index).map_err(|_| RelocationFault::BadTarget)?;
                Imm64::BtfVar { btf_id, btf_fd: 0 }
            }
            SymbolTarget::JumpTable => return Err(RelocationFault::JumpTable),
            SymbolTarget::Undefined => return Err(RelocationFault::Undefined),
            SymbolTarget::Other => return Err(RelocationFault::BadTarget),
        };
        let slots = wide(insn, value).ok_or(RelocationFault::WrongInstruction { opcode: insn.opcode })?;
        self.write(at, &slots);
        Ok(())
    }

    fn write(&mut self, at: usize, slots: &[RawInsn]) {
        for (slot, new) in self.slots.iter_mut().skip(at).zip(slots) {
            *slot = *new;
        }
    }

    /// Section and slot of the function that the instruction calls or takes the address of, if it does.
    ///
    /// A call of a global function is relocated against it and holds -1; of a static function in another section,
    /// against the section and holds the function's slot - 1; in its own section, it has no relocation and is relative
    /// to itself. An address is relocated against the function, or the section and holds the byte offset.
    pub(super) fn callee(
        &self,
        function: usize,
        at: u32,
        insn: &RawInsn,
    ) -> Result<Option<(usize, u32)>, LinkError> {
        let call = insn.opcode == CALL && insn.src_reg == PSEUDO_CALL;
        let address = insn.is_wide() && insn.src_reg == PSEUDO_FUNC;
        if !(call || address) {
            return Ok(None);
        }
        let (Some(text), slot) = self.origin(function, at) else { return Ok(None) };
        let byte = u64::from(slot.0) * 8;
        let imm = i64::from(insn.imm);
        let first = text.relocations.partition_point(|r| r.offset < byte);
        let relocation = text.relocations.get(first).filter(|r| r.offset == byte);
        let symbol = relocation.and_then(|r| self.object.layout.symbols.get(r.symbol));
        let (section, target) = match (relocation, symbol) {
            (Some(relocation), Some(symbol)) => {
                let SymbolTarget::Text(section) = symbol.target else {
                    return Err(self.failure(text, relocation, RelocationFault::BadTarget));
                };
                let value = i64::try_from(symbol.value).unwrap_or(i64::MAX);
                let bytes = if call { imm.saturating_add(1).saturating_mul(8) } else { imm };
                (section, value.saturating_add(bytes))
            }
            _ if call => {
                let own = self.object.layout.functions.get(function).map_or(0, |f| f.section);
                (own, (i64::from(slot.0) + imm + 1) * 8)
            }
            _ => return Ok(None),
        };
        match u32::try_from(target / 8) {
            Ok(found) if target % 8 == 0 => Ok(Some((section, found))),
            _ => Err(LinkError::BadCall {
                section: text.name.clone(),
                insn: slot,
                target_section: self.section_name(section),
                target: target / 8,
            }),
        }
    }
}

/// Relocations of a section that lie inside a function.
fn relocations<'t>(text: &'t Text, function: &Function) -> impl Iterator<Item = &'t Relocation> + use<'t> {
    let (start, end) = (u64::from(function.start) * 8, u64::from(function.end) * 8);
    let first = text.relocations.partition_point(|r| r.offset < start);
    text.relocations.get(first..).unwrap_or_default().iter().take_while(move |r| r.offset < end)
}

/// The low 32 bits of an offset that fits in 32 bits, signed or not.
fn low_half(offset: i64) -> Option<u32> {
    u32::try_from(offset).ok().or_else(|| i32::try_from(offset).ok().map(i32::cast_unsigned))
}
