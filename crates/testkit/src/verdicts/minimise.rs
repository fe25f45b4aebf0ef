//! Makes a program as small as it can be without losing what makes it interesting.

use bpf_object::Linked;
use isa::RawInsn;

use crate::program::subprograms;

/// `goto +0`: an instruction that does nothing, wherever it stands.
const NOTHING: RawInsn = RawInsn { opcode: 0x05, dst_reg: 0, src_reg: 0, offset: 0, imm: 0 };
const LDDW: u8 = 0x18;
const CALL: u8 = 0x85;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const GOTOL: u8 = 0x06;

/// Takes away instructions as long as `interesting` holds: first each is replaced by one that does nothing, then those
/// are removed.
pub fn minimise(program: &Linked, interesting: &mut dyn FnMut(&Linked) -> bool) -> Linked {
    let mut best = program.clone();
    best.lines.clear();
    let mut length = best.slots.len().next_power_of_two() / 2;
    while length > 0 {
        let mut at = 0;
        while at < best.slots.len() {
            let end = (at + length).min(best.slots.len());
            if let Some(candidate) = blanked(&best, at, end)
                && interesting(&candidate)
            {
                best = candidate;
            }
            at = end;
        }
        length /= 2;
    }
    let mut at = 0;
    while at < best.slots.len() {
        match removed(&best, at) {
            Some(candidate) if best.slots.get(at) == Some(&NOTHING) && interesting(&candidate) => {
                best = candidate;
            }
            _ => at += 1,
        }
    }
    best
}

/// The program with these slots replaced; `None` if nothing would change.
fn blanked(program: &Linked, start: usize, end: usize) -> Option<Linked> {
    let mut out = program.clone();
    let mut changed = false;
    let second = |at: usize, slots: &[RawInsn]| {
        at.checked_sub(1).and_then(|before| slots.get(before)).is_some_and(|slot| slot.opcode == LDDW)
    };
    for at in start..end {
        let tears = second(at, &program.slots) && at == start;
        let torn = program.slots.get(at).is_some_and(|slot| slot.opcode == LDDW) && at + 1 == end;
        if tears || (torn && end < program.slots.len() && length_is_one(start, end).is_none()) {
            continue;
        }
        let slot = out.slots.get_mut(at)?;
        changed |= *slot != NOTHING;
        *slot = NOTHING;
        if torn && let Some(next) = out.slots.get_mut(at + 1) {
            *next = NOTHING;
        }
    }
    rescan(&mut out);
    changed.then_some(out)
}

/// `Some` for a range of one slot: a wide instruction is then replaced whole.
fn length_is_one(start: usize, end: usize) -> Option<()> {
    (end - start == 1).then_some(())
}

/// The program without this slot, jumps and calls adjusted; `None` if one would not reach its target any more.
fn removed(program: &Linked, at: usize) -> Option<Linked> {
    let mut out = program.clone();
    out.slots.remove(at);
    let moved = |index: i64| if index > i64::try_from(at).unwrap_or(i64::MAX) { index - 1 } else { index };
    let mut wide = false;
    for (index, slot) in program.slots.iter().enumerate() {
        let second = std::mem::replace(&mut wide, slot.opcode == LDDW);
        if second || index == at {
            continue;
        }
        let here = i64::try_from(index).ok()?;
        let new = |distance: i64| moved(here + 1 + distance) - moved(here) - 1;
        let target = out.slots.get_mut(usize::try_from(moved(here)).ok()?)?;
        let class = slot.opcode & 7;
        let in_imm = slot.opcode == GOTOL
            || (slot.opcode == CALL && slot.src_reg == 1)
            || (slot.opcode == LDDW && slot.src_reg == 4);
        if in_imm {
            target.imm = i32::try_from(new(slot.imm.into())).ok()?;
        } else if (class == JMP || class == JMP32) && slot.opcode != CALL && slot.opcode != 0x95 {
            target.offset = i16::try_from(new(slot.offset.into())).ok()?;
        }
    }
    rescan(&mut out);
    Some(out)
}

/// Functions may be fewer, and start elsewhere.
fn rescan(program: &mut Linked) {
    let functions = std::mem::replace(&mut program.subprograms, subprograms(&program.slots));
    if functions.len() == program.subprograms.len() {
        for (new, old) in program.subprograms.iter_mut().zip(functions) {
            new.btf_func = old.btf_func;
            new.linkage = old.linkage;
        }
    }
}
