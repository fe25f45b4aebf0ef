//! References between functions, in the encodings of the machines.

use cranelift_codegen::binemit::Reloc;

/// The text begins at a multiple of this, so that distances between pages are known.
const PAGE: i64 = 4096;

/// How a reference is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// x86-64: the distance from the reference itself.
    Distance,
    /// AArch64 `b`, `bl`: the distance in instructions, in 26 bits.
    Branch,
    /// AArch64 `adrp`: the distance of the pages, in pages, in 21 bits.
    Page,
    /// AArch64 `add`: the offset in the page, in 12 bits.
    PageOffset,
}

impl Form {
    /// That of a relocation of the backend.
    pub(crate) fn of(relocation: Reloc) -> Option<Self> {
        match relocation {
            Reloc::X86CallPCRel4 => Some(Self::Distance),
            Reloc::Arm64Call => Some(Self::Branch),
            Reloc::Aarch64AdrPrelPgHi21 => Some(Self::Page),
            Reloc::Aarch64AddAbsLo12Nc => Some(Self::PageOffset),
            _ => None,
        }
    }

    /// The field at `at` made to refer to `to`. `None` if that is too far, or not where an instruction can begin.
    pub(crate) fn resolve(self, field: [u8; 4], at: i64, to: i64) -> Option<[u8; 4]> {
        let distance = to - at;
        let word = u32::from_le_bytes(field);
        let word = match self {
            Self::Distance => i32::try_from(distance).ok()?.cast_unsigned(),
            Self::Branch => {
                let instructions = (distance % 4 == 0).then_some(distance / 4)?;
                word & !0x03ff_ffff | bits(instructions, 26)?
            }
            Self::Page => {
                let pages = bits(to.div_euclid(PAGE) - at.div_euclid(PAGE), 21)?;
                word & !0x60ff_ffe0 | (pages & 3) << 29 | pages >> 2 << 5
            }
            Self::PageOffset => word & !(0xfff << 10) | bits(to.rem_euclid(PAGE), 13)? << 10,
        };
        Some(word.to_le_bytes())
    }
}

/// A signed number as a field of `width` bits.
fn bits(number: i64, width: u32) -> Option<u32> {
    let limit = 1_i64 << (width - 1);
    let fits = (-limit..limit).contains(&number);
    fits.then(|| u32::try_from(number.rem_euclid(limit * 2)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words are an assembler's.
    #[test]
    fn references_are_encoded() {
        let resolve = |form: Form, word: u32, at: i64, to: i64| {
            form.resolve(word.to_le_bytes(), at, to).map(u32::from_le_bytes)
        };
        assert_eq!(resolve(Form::Distance, 0, 0x100, 0x40), Some(0xffff_ff40));
        let (bl, adrp, add) = (0x9400_0000, 0x9000_0000, 0x9100_0000);
        assert_eq!(resolve(Form::Branch, bl, 0x100, 0x140), Some(0x9400_0010)); // bl .+0x40
        assert_eq!(resolve(Form::Branch, bl, 0x100, 0xfc), Some(0x97ff_ffff)); // bl .-4
        assert_eq!(resolve(Form::Branch, bl, 0, (1 << 27) - 4), Some(0x95ff_ffff));
        assert_eq!(resolve(Form::Branch, bl, 0, 1 << 27), None);
        assert_eq!(resolve(Form::Branch, bl, 0, 6), None);
        assert_eq!(resolve(Form::Page, adrp, 0x1ffc, 0x1000), Some(0x9000_0000)); // adrp x0, .
        assert_eq!(resolve(Form::Page, adrp | 5, 0x1ffc, 0x6008), Some(0xb000_0025)); // adrp x5, .+0x5000
        assert_eq!(resolve(Form::Page, adrp, 0x1000, 0xfff), Some(0xf0ff_ffe0)); // adrp x0, .-0x1000
        assert_eq!(resolve(Form::PageOffset, add, 0x1ffc, 0x6008), Some(0x9100_2000)); // add x0, x0, #8
        assert_eq!(resolve(Form::PageOffset, add, 0, 0xfff), Some(0x913f_fc00)); // add x0, x0, #0xfff
    }
}
