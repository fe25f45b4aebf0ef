//! Programs that others wrote, with small changes.

use bpf_object::Linked;
use fastrand::Rng;
use isa::RawInsn;

use crate::program::subprograms;

const LDDW: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `r0 = r0`.
const SAME: RawInsn = RawInsn { opcode: 0xbf, dst_reg: 0, src_reg: 0, offset: 0, imm: 0 };

/// A program to change.
#[derive(Clone, Debug)]
pub struct Original {
    /// Where it comes from.
    pub name: String,
    /// Which of the judges has its maps.
    pub judge: usize,
    /// `BPF_F_*` it is loaded with.
    pub flags: u32,
    /// The program.
    pub program: Linked,
}

/// Makes changed programs.
#[derive(Clone, Debug, Default)]
pub struct Mutants {
    originals: Vec<Original>,
}

impl Mutants {
    /// Of these programs, those above `longest` slots left out: they take too long.
    #[must_use]
    pub fn new(mut originals: Vec<Original>, longest: usize) -> Self {
        originals.retain(|original| original.program.slots.len() <= longest);
        for original in &mut originals {
            original.program.lines.clear();
        }
        Self { originals }
    }

    /// Number of programs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.originals.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.originals.is_empty()
    }

    /// The mutant of this seed; `None` without any program.
    #[must_use]
    pub fn mutant(&self, seed: u64) -> Option<Original> {
        let mut rng = Rng::with_seed(seed);
        let mut mutant = self.originals.get(rng.usize(..self.originals.len().max(1)))?.clone();
        let slots = &mut mutant.program.slots;
        for _ in 0..=rng.usize(..3) {
            change(slots, &mut rng);
        }
        let functions = subprograms(slots);
        let same = functions.len() == mutant.program.subprograms.len()
            && functions.iter().zip(&mutant.program.subprograms).all(|(a, b)| a.start == b.start);
        if !same {
            mutant.program.subprograms = functions;
        }
        Some(mutant)
    }
}

/// One change of one instruction. Wide instructions stay, their values may change.
fn change(slots: &mut [RawInsn], rng: &mut Rng) {
    let at = rng.usize(..slots.len().max(1));
    let second = at.checked_sub(1).and_then(|i| slots.get(i)).is_some_and(|slot| slot.opcode == LDDW);
    let donor = slots.get(rng.usize(..slots.len().max(1))).copied();
    let Some(slot) = slots.get_mut(at).filter(|_| !second) else { return };
    let reg = rng.u8(..11);
    match rng.u8(..16) {
        0..=2 if !matches!(slot.opcode, CALL | EXIT) => slot.dst_reg = reg,
        3 | 4 if slot.opcode & 8 != 0 && slot.opcode != CALL && slot.opcode != LDDW => slot.src_reg = reg,
        5..=7 if slot.opcode != LDDW || slot.src_reg == 0 => slot.imm = number(slot.imm, rng),
        8 | 9 => slot.offset = offset(slot.offset, rng),
        // The operation of arithmetic and jumps, the size of accesses.
        10 | 11 => match slot.opcode & 7 {
            4 | 7 => slot.opcode = (slot.opcode & 0xf) | rng.u8(..14) << 4,
            5 | 6 if !matches!(slot.opcode, CALL | EXIT | 0x05) => {
                slot.opcode = (slot.opcode & 0xf) | rng.u8(1..14) << 4;
            }
            1..=3 => slot.opcode = (slot.opcode & !0x18) | rng.u8(..4) << 3,
            _ => {}
        },
        // 32 bits instead of 64 and the other way round, immediate instead of register.
        12 => match slot.opcode & 7 {
            4..=7 if !matches!(slot.opcode, CALL | EXIT) => {
                slot.opcode ^= if slot.opcode & 4 != 0 && slot.opcode & 7 > 5 { 3 } else { 8 };
            }
            _ => {}
        },
        13 if slot.opcode != LDDW => *slot = SAME,
        14 if slot.opcode != LDDW => {
            if let Some(donor) = donor.filter(|d| d.opcode != LDDW && d.opcode != 0) {
                *slot = donor;
            }
        }
        _ if slot.opcode != LDDW && slot.opcode != CALL && slot.opcode != EXIT => {
            if let Some([first, second]) =
                slots.get_mut(at..at + 2).and_then(|s| <&mut [RawInsn; 2]>::try_from(s).ok())
                && second.opcode != LDDW
            {
                std::mem::swap(first, second);
            }
        }
        _ => {}
    }
}

fn number(old: i32, rng: &mut Rng) -> i32 {
    match rng.u8(..5) {
        0 => old.wrapping_add(rng.i32(-8..9)),
        1 => old ^ (1 << rng.u8(..32)),
        2 => rng.choice([0, 1, -1, 7, 8, 63, 64, 255, 512, 4096, i32::MAX, i32::MIN]).unwrap_or(0),
        3 => old.wrapping_neg(),
        _ => rng.i32(-600..600),
    }
}

fn offset(old: i16, rng: &mut Rng) -> i16 {
    match rng.u8(..4) {
        0 => old.wrapping_add(rng.i16(-2..3)),
        1 => old.wrapping_add(rng.choice([-16, -8, -4, 4, 8, 16]).unwrap_or(8)),
        2 => rng.choice([0, -8, -16, -64, -512, -520, 8, 48, 64]).unwrap_or(0),
        _ => old.wrapping_neg(),
    }
}
