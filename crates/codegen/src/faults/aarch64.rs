//! AArch64: what the backend's memory instructions do.
//!
//! Decoded are the forms that the backend uses for integers, by the encodings of the Arm Architecture Reference Manual,
//! "Loads and Stores". What writes an address back, takes two registers, or is one half of an exclusive pair cannot be
//! skipped.

use super::Access;
use crate::{AccessKind, Leaves};

/// Register 31 is zero as an operand, and nothing as a result.
const ZERO: u8 = 31;

/// The instruction that `code` begins with. `has_result`: the program sees the result of an atomic operation.
pub(super) fn decode(code: &[u8], has_result: bool) -> Option<Access> {
    let word = Word(u32::from_le_bytes(*code.first_chunk()?));
    if let Some(kind) = word.wide() {
        return Some(Access { kind, bytes: 16, leaves: Leaves::Registers, length: 4 });
    }
    let (kind, leaves) = word.plain().or_else(|| word.ordered()).or_else(|| word.atomic(has_result))?;
    Some(Access { kind, bytes: 1 << word.field(30, 2), leaves, length: 4 })
}

/// An instruction.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    /// `width` bits from `low` on, at most eight.
    fn field(self, low: u32, width: u32) -> u8 {
        u8::try_from(self.0 >> low & ((1 << width) - 1)).unwrap_or(u8::MAX)
    }

    fn is(self, mask: u32, value: u32) -> bool {
        self.0 & mask == value
    }

    /// `ldr`, `str` and the like, with an address that is a register and a scaled (`ldr`) or unscaled (`ldur`) number, or
    /// another register.
    fn plain(self) -> Option<(AccessKind, Leaves)> {
        let scaled = self.is(0x3f00_0000, 0x3900_0000);
        let unscaled = self.is(0x3f20_0c00, 0x3800_0000);
        let indexed = self.is(0x3f20_0c00, 0x3820_0800);
        if !(scaled || unscaled || indexed) {
            return None;
        }
        let size = self.field(30, 2);
        match self.field(22, 2) {
            0 => Some((AccessKind::Store, Leaves::Registers)),
            // Extended with zeros.
            1 => Some(self.load()),
            // With the sign, to 64 and to 32 bits. At other sizes that is a prefetch or nothing at all.
            2 if size < 3 => Some(self.load()),
            3 if size < 2 => Some(self.load()),
            _ => None,
        }
    }

    /// `ldr` and `str` of a whole vector register, with the same addresses. What a skipped load leaves is not looked at.
    fn wide(self) -> Option<AccessKind> {
        let forms = [(0xffc0_0000, 0x3d80_0000), (0xffe0_0c00, 0x3c80_0000), (0xffe0_0c00, 0x3ca0_0800)];
        const LOADS: u32 = 1 << 22;
        let is_any = |bits: u32| forms.iter().any(|&(mask, value)| self.is(mask, value | bits));
        if is_any(LOADS) {
            return Some(AccessKind::Load);
        }
        is_any(0).then_some(AccessKind::Store)
    }

    /// `ldar` and `stlr`.
    fn ordered(self) -> Option<(AccessKind, Leaves)> {
        if self.is(0x3fff_fc00, 0x08df_fc00) {
            return Some(self.load());
        }
        self.is(0x3fff_fc00, 0x089f_fc00).then_some((AccessKind::Store, Leaves::Registers))
    }

    /// A load writes all 64 bits of its register, whatever its size.
    fn load(self) -> (AccessKind, Leaves) {
        let leaves = match self.field(0, 5) {
            ZERO => Leaves::Registers,
            number => Leaves::Zero(number),
        };
        (AccessKind::Load, leaves)
    }

    /// Single instructions that read and write, with acquire and release semantics.
    fn atomic(self, has_result: bool) -> Option<(AccessKind, Leaves)> {
        let (operand, result) = (self.field(16, 5), self.field(0, 5));
        // `casal`: one register has the expected value before and the one found afterwards.
        if self.is(0x3fe0_fc00, 0x08e0_fc00) {
            return Some((AccessKind::Atomic, Leaves::Registers));
        }
        if !self.is(0x3fe0_0c00, 0x38e0_0000) {
            return None;
        }
        let inverted = match self.field(12, 4) {
            // `ldaddal`, `ldeoral`, `ldsetal`, `swpal`.
            0b0000 | 0b0010 | 0b0011 | 0b1000 => false,
            // `ldclral` does a logical and with the inverted operand.
            0b0001 => true,
            _ => return None,
        };
        let leaves = match (operand, result) {
            _ if !has_result => Leaves::Registers,
            _ if inverted => return None,
            (_, ZERO) => Leaves::Registers,
            (ZERO, to) => Leaves::Zero(to),
            (from, to) => Leaves::Operand { from, to },
        };
        Some((AccessKind::Atomic, leaves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words are what an assembler makes of the comments.
    const LOADS: [(u32, usize, u8); 16] = [
        (0xf940_0020, 8, 0),  // ldr x0, [x1]
        (0xb940_0c3e, 4, 30), // ldr w30, [x1, #12]
        (0x7940_1029, 2, 9),  // ldrh w9, [x1, #8]
        (0x39ff_fc20, 1, 0),  // ldrsb w0, [x1, #4095]
        (0x3980_0422, 1, 2),  // ldrsb x2, [x1, #1]
        (0x7980_0023, 2, 3),  // ldrsh x3, [x1]
        (0xb980_0820, 4, 0),  // ldrsw x0, [x1, #8]
        (0xf85f_8020, 8, 0),  // ldur x0, [x1, #-8]
        (0x385f_f024, 1, 4),  // ldurb w4, [x1, #-1]
        (0xb89f_c025, 4, 5),  // ldursw x5, [x1, #-4]
        (0xf862_4820, 8, 0),  // ldr x0, [x1, w2, uxtw]
        (0xb862_6820, 4, 0),  // ldr w0, [x1, x2]
        (0xb8a2_c826, 4, 6),  // ldrsw x6, [x1, w2, sxtw]
        (0x08df_fc20, 1, 0),  // ldarb w0, [x1]
        (0x88df_fc47, 4, 7),  // ldar w7, [x2]
        (0xc8df_fc20, 8, 0),  // ldar x0, [x1]
    ];

    const STORES: [(u32, usize); 8] = [
        (0xf900_0020, 8), // str x0, [x1]
        (0xb900_043f, 4), // str wzr, [x1, #4]
        (0x3800_1020, 1), // sturb w0, [x1, #1]
        (0x7822_5820, 2), // strh w0, [x1, w2, uxtw #1]
        (0x089f_fc20, 1), // stlrb w0, [x1]
        (0x489f_fc20, 2), // stlrh w0, [x1]
        (0x889f_fc20, 4), // stlr w0, [x1]
        (0xc89f_fc20, 8), // stlr x0, [x1]
    ];

    /// With the operand and the result.
    const ATOMICS: [(u32, usize, Leaves); 8] = [
        (0xf8e1_0062, 8, Leaves::Operand { from: 1, to: 2 }), // ldaddal x1, x2, [x3]
        (0xb8e1_0061, 4, Leaves::Operand { from: 1, to: 1 }), // ldaddal w1, w1, [x3]
        (0xf8ff_0062, 8, Leaves::Zero(2)),                    // ldaddal xzr, x2, [x3]
        (0xf8e1_3062, 8, Leaves::Operand { from: 1, to: 2 }), // ldsetal x1, x2, [x3]
        (0xf8e1_2062, 8, Leaves::Operand { from: 1, to: 2 }), // ldeoral x1, x2, [x3]
        (0xb8e1_8062, 4, Leaves::Operand { from: 1, to: 2 }), // swpal w1, w2, [x3]
        (0xc8e1_fc62, 8, Leaves::Registers),                  // casal x1, x2, [x3]
        (0x88e1_fc62, 4, Leaves::Registers),                  // casal w1, w2, [x3]
    ];

    fn decoded(word: u32, has_result: bool) -> Option<(AccessKind, usize, Leaves)> {
        let access = decode(&word.to_le_bytes(), has_result)?;
        assert_eq!(access.length, 4);
        Some((access.kind, access.bytes, access.leaves))
    }

    #[test]
    fn loads_leave_zero() {
        for (word, bytes, register) in LOADS {
            let expected = Some((AccessKind::Load, bytes, Leaves::Zero(register)));
            assert_eq!(decoded(word, false), expected, "{word:#x}");
        }
        // ldr xzr, [x1]
        assert_eq!(decoded(0xf940_003f, false), Some((AccessKind::Load, 8, Leaves::Registers)));
    }

    #[test]
    fn stores_leave_registers() {
        for (word, bytes) in STORES {
            let expected = Some((AccessKind::Store, bytes, Leaves::Registers));
            assert_eq!(decoded(word, false), expected, "{word:#x}");
        }
    }

    #[test]
    fn atomics_leave_their_operand() {
        for (word, bytes, leaves) in ATOMICS {
            assert_eq!(decoded(word, true), Some((AccessKind::Atomic, bytes, leaves)), "{word:#x}");
            let unseen = Some((AccessKind::Atomic, bytes, Leaves::Registers));
            assert_eq!(decoded(word, false), unseen, "{word:#x}");
        }
        // ldclral x1, x2, [x3]: what is in x1 is not the operand.
        assert_eq!(decoded(0xf8e1_1062, false), Some((AccessKind::Atomic, 8, Leaves::Registers)));
        assert_eq!(decoded(0xf8e1_1062, true), None);
    }

    #[test]
    fn wide_accesses_leave_registers() {
        for (word, kind) in [
            (0x3dc0_0020, AccessKind::Load),  // ldr q0, [x1]
            (0x3dc3_fc5f, AccessKind::Load),  // ldr q31, [x2, #4080]
            (0x3cdf_0023, AccessKind::Load),  // ldur q3, [x1, #-16]
            (0x3ce2_6820, AccessKind::Load),  // ldr q0, [x1, x2]
            (0x3ce2_4824, AccessKind::Load),  // ldr q4, [x1, w2, uxtw]
            (0x3d80_0020, AccessKind::Store), // str q0, [x1]
            (0x3c80_1025, AccessKind::Store), // stur q5, [x1, #1]
            (0x3ca2_6820, AccessKind::Store), // str q0, [x1, x2]
        ] {
            assert_eq!(decoded(word, false), Some((kind, 16, Leaves::Registers)), "{word:#x}");
        }
        for word in [
            0x3cc1_0420_u32, // ldr q0, [x1], #16: writes the address back
            0x3cc1_0c20,     // ldr q0, [x1, #16]!: too
            0xad40_0420,     // ldp q0, q1, [x1]: two registers
            0x9c00_0080,     // ldr q0, .+16
            0x4c40_7020,     // ld1 {v0.16b}, [x1]
        ] {
            assert_eq!(decoded(word, false), None, "{word:#x}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for word in [
            0xf840_8420_u32, // ldr x0, [x1], #8: writes the address back
            0xf840_8c20,     // ldr x0, [x1, #8]!: too
            0xf840_0820,     // ldtr x0, [x1]: of another privilege
            0xa940_0420,     // ldp x0, x1, [x1]: two registers
            0xa900_0420,     // stp x0, x1, [x1]
            0xc85f_fc20,     // ldaxr x0, [x1]: the store of the pair would fail for ever
            0xc85f_7c20,     // ldxr x0, [x1]
            0xc805_fc20,     // stlxr w5, x0, [x1]
            0xf980_0020,     // prfm pldl1keep, [x1]
            0xf8a2_6820,     // prfm pldl1keep, [x1, x2]
            0xb9c0_0020,     // unallocated
            0xfd40_0020,     // ldr d0, [x1]
            0xfc62_6820,     // ldr d0, [x1, x2]
            0x5800_0040,     // ldr x0, .+8
            0xf8a1_0062,     // ldadda x1, x2, [x3]: not ordered enough
            0xf821_0062,     // ldadd x1, x2, [x3]
            0xc8a1_7c62,     // cas x1, x2, [x3]
            0xf8e1_4062,     // ldsmaxal x1, x2, [x3]: no such operation in BPF
            0x38bf_c020,     // ldaprb w0, [x1]
            0x0860_fc82,     // caspal w0, w1, w2, w3, [x4]
            0xd503_3bbf,     // dmb ish
            0x9100_0420,     // add x0, x1, #1
            0x0000_0000,     // udf #0
        ] {
            assert_eq!(decoded(word, false), None, "{word:#x}");
            assert_eq!(decoded(word, true), None, "{word:#x}");
        }
        assert_eq!(decode(&[0x20, 0, 0x40], false), None);
        assert_eq!(decode(&[], false), None);
    }
}
