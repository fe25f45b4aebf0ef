//! Relocations, about symbols of the linked object and with the offsets that sections have there.

use super::error::{LinkedRelocationFault, StaticLinkError};
use super::input::Input;
use super::sections::{OutRelocation, OutSection, Placement, Sections};
use super::symbols::Symbols;
use crate::elf::{
    Place, R_BPF_64_32, R_BPF_64_64, R_BPF_64_ABS32, R_BPF_64_ABS64, Relocation, SectionKind, SymbolKind,
};

/// Opcode of a call with an immediate.
const CALL: u8 = 0x85;

/// Carries over the relocations of all objects.
pub(super) fn carry(
    inputs: &[Input<'_>],
    sections: &mut Sections,
    symbols: &Symbols,
) -> Result<(), StaticLinkError> {
    for (object, input) in inputs.iter().enumerate() {
        for (index, section) in input.elf.sections.iter().enumerate() {
            let Some(placement) = sections.placement(object, index) else { continue };
            for relocation in &section.relocations {
                one(input, object, relocation, placement, sections, symbols).map_err(|fault| {
                    StaticLinkError::Relocation {
                        object: input.name.clone(),
                        section: section.name.to_owned(),
                        offset: relocation.offset,
                        kind: relocation.kind,
                        symbol: input.elf.symbol_label(relocation.symbol),
                        fault,
                    }
                })?;
            }
        }
    }
    Ok(())
}

fn one(
    input: &Input<'_>,
    object: usize,
    relocation: &Relocation,
    placement: Placement,
    sections: &mut Sections,
    symbols: &Symbols,
) -> Result<(), LinkedRelocationFault> {
    if ![R_BPF_64_64, R_BPF_64_ABS64, R_BPF_64_ABS32, R_BPF_64_32].contains(&relocation.kind) {
        return Err(LinkedRelocationFault::UnknownKind);
    }
    let target = input.elf.symbols.get(relocation.symbol).ok_or(LinkedRelocationFault::NotCarried)?;
    let symbol = symbols.of_object(object, relocation.symbol).ok_or(LinkedRelocationFault::NotCarried)?;
    // What is referred to by its section is found by an offset in it, which the instruction or the data holds.
    let moved_by = match target.place {
        Place::Section(section) if target.kind == SymbolKind::Section => {
            sections.placement(object, section).map_or(0, |p| p.offset)
        }
        _ => 0,
    };
    let offset = relocation.offset.saturating_add(placement.offset);
    let out = sections.out.get_mut(placement.section).ok_or(LinkedRelocationFault::NotCarried)?;
    if out.kind == SectionKind::Text && !offset.is_multiple_of(8) {
        return Err(LinkedRelocationFault::Outside);
    }
    if moved_by != 0 {
        move_target(out, offset, relocation.kind, moved_by)?;
    }
    out.relocations.push(OutRelocation { offset, kind: relocation.kind, symbol });
    Ok(())
}

/// Adds to the offset that the place at `offset` holds.
fn move_target(out: &mut OutSection, offset: u64, kind: u32, by: u64) -> Result<(), LinkedRelocationFault> {
    const OUTSIDE: LinkedRelocationFault = LinkedRelocationFault::Outside;
    const OVERFLOW: LinkedRelocationFault = LinkedRelocationFault::Overflow;
    let at = usize::try_from(offset).map_err(|_| OUTSIDE)?;
    let bytes = out.data.get_mut(at..).ok_or(OUTSIDE)?;
    if out.kind == SectionKind::Text {
        // A call counts in instructions, an address in bytes.
        let [opcode, _, _, _, imm @ ..] = bytes.first_chunk_mut::<8>().ok_or(OUTSIDE)?;
        let by = if *opcode == CALL { by / 8 } else { by };
        let by = i32::try_from(by).map_err(|_| OVERFLOW)?;
        *imm = i32::from_le_bytes(*imm).checked_add(by).ok_or(OVERFLOW)?.to_le_bytes();
    } else if kind == R_BPF_64_ABS32 {
        let word = bytes.first_chunk_mut::<4>().ok_or(OUTSIDE)?;
        let by = u32::try_from(by).map_err(|_| OVERFLOW)?;
        *word = u32::from_le_bytes(*word).checked_add(by).ok_or(OVERFLOW)?.to_le_bytes();
    } else {
        let word = bytes.first_chunk_mut::<8>().ok_or(OUTSIDE)?;
        *word = u64::from_le_bytes(*word).wrapping_add(by).to_le_bytes();
    }
    Ok(())
}
