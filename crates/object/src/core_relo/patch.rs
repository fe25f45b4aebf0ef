//! Writing answers into instructions.

use isa::RawInsn;

use super::answer::{AccessClass, Answer};
use crate::btf::CoreReloKind;
use crate::error::CoreError;

/// Helper number that stands for "this relocation has no answer". It exists nowhere, so every verifier refuses the
/// call if it can be reached, and the number in its log says why. libbpf's choice (`0xbad2310`), kept so that logs read
/// the same.
pub const UNANSWERED_RELOCATION: u32 = 195_896_080;
const CALL: u8 = 0x85;

/// Classes: the low three bits of an opcode.
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const ALU64: u8 = 7;
/// `BPF_X`: the source is a register.
const SOURCE_REG: u8 = 8;
/// Bits of the access size.
const SIZE_MASK: u8 = 0x18;

/// Replaces `old` by `new` in the instruction at the start of `slots`.
pub(super) fn write(
    slots: &mut [RawInsn],
    old: &Answer,
    new: &Answer,
    strict: bool,
    spec: &dyn Fn() -> String,
    kind: CoreReloKind,
) -> Result<(), CoreError> {
    let (Some(&first), second) = (slots.first(), slots.get(1).copied()) else { return Ok(()) };
    let cannot = || CoreError::BadInstruction { kind, spec: spec(), opcode: first.opcode, value: new.value };
    let check = |found: u64| {
        if old.checked && found != old.value {
            return Err(CoreError::UnexpectedValue { spec: spec(), found, expected: old.value });
        }
        Ok(())
    };
    match first.opcode & 7 {
        ALU | ALU64 if first.opcode & SOURCE_REG == 0 => {
            check(i64::from(first.imm).cast_unsigned())?;
            let imm = imm(new.value).ok_or_else(cannot)?;
            set(slots, 0, RawInsn { imm, ..first });
        }
        LDX | ST | STX => {
            check(i64::from(first.offset).cast_unsigned())?;
            let offset = i16::try_from(new.value).map_err(|_| cannot())?;
            let opcode = match resized(first.opcode, old, new) {
                Resized::Keep => first.opcode,
                Resized::To(opcode) => opcode,
                Resized::Wrong if strict => return Err(cannot()),
                Resized::Wrong => return poison(slots, spec, kind),
                Resized::Unexpected => return Err(cannot()),
            };
            set(slots, 0, RawInsn { opcode, offset, ..first });
        }
        LD if first.is_wide() => {
            let plain = RawInsn { opcode: 0, dst_reg: 0, src_reg: 0, offset: 0, imm: 0 };
            let second = second.filter(|s| RawInsn { imm: 0, ..*s } == plain).ok_or_else(cannot)?;
            if first.src_reg != 0 || first.offset != 0 {
                return Err(cannot());
            }
            check(u64::from(second.imm.cast_unsigned()) << 32 | u64::from(first.imm.cast_unsigned()))?;
            let [a, b, c, d, e, f, g, h] = new.value.to_le_bytes();
            set(slots, 0, RawInsn { imm: i32::from_le_bytes([a, b, c, d]), ..first });
            set(slots, 1, RawInsn { imm: i32::from_le_bytes([e, f, g, h]), ..second });
        }
        _ => return Err(cannot()),
    }
    Ok(())
}

/// Makes the instruction at the start of `slots` one that no verifier lets run.
pub(super) fn poison(
    slots: &mut [RawInsn],
    spec: &dyn Fn() -> String,
    kind: CoreReloKind,
) -> Result<(), CoreError> {
    let Some(&first) = slots.first() else { return Ok(()) };
    let call =
        RawInsn { opcode: CALL, dst_reg: 0, src_reg: 0, offset: 0, imm: UNANSWERED_RELOCATION.cast_signed() };
    let can = match first.opcode & 7 {
        ALU | ALU64 => first.opcode & SOURCE_REG == 0,
        LDX | ST | STX => true,
        LD => first.is_wide(),
        _ => false,
    };
    if !can {
        return Err(CoreError::BadInstruction { kind, spec: spec(), opcode: first.opcode, value: 0 });
    }
    set(slots, 0, call);
    if first.is_wide() {
        set(slots, 1, call);
    }
    Ok(())
}

fn set(slots: &mut [RawInsn], index: usize, insn: RawInsn) {
    if let Some(slot) = slots.get_mut(index) {
        *slot = insn;
    }
}

/// A value that a sign- or zero-extended 32-bit immediate can hold.
fn imm(value: u64) -> Option<i32> {
    let signed = i32::try_from(value.cast_signed()).ok();
    signed.or_else(|| u32::try_from(value).ok().map(u32::cast_signed))
}

enum Resized {
    Keep,
    To(u8),
    /// The field has another size and another meaning: reading it so would give wrong values.
    Wrong,
    /// The access never had the field's size.
    Unexpected,
}

/// The opcode of an access whose field has another size in the target. Only pointers and unsigned integers keep their
/// value when read with another width.
fn resized(opcode: u8, old: &Answer, new: &Answer) -> Resized {
    let (Some(old), Some(new)) = (old.access, new.access) else {
        return if old.access == new.access { Resized::Keep } else { Resized::Wrong };
    };
    if old.size == new.size {
        return Resized::Keep;
    }
    if old.class != new.class || old.class == AccessClass::Other {
        return Resized::Wrong;
    }
    let sizes = [(4u64, 0x00u8), (2, 0x08), (1, 0x10), (8, 0x18)];
    let has = sizes.iter().find(|(_, bits)| *bits == opcode & SIZE_MASK).map(|(bytes, _)| *bytes);
    match sizes.iter().find(|(bytes, _)| *bytes == new.size) {
        Some((_, bits)) if has == Some(old.size) => Resized::To(opcode & !SIZE_MASK | bits),
        _ => Resized::Unexpected,
    }
}
