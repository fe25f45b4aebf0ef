//! Machine code as text, for people.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use isa::InsnIdx;

use crate::Compiled;
use crate::machine::Machine;

/// One machine instruction of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineInsn {
    /// Offset in the text.
    pub offset: u32,
    /// Bytes it takes.
    pub length: u8,
    /// The BPF instruction it belongs to.
    pub insn: InsnIdx,
    /// Intel's or Arm's syntax; addresses of code are offsets in the text.
    pub text: String,
    /// Whether it may touch a missing arena page.
    pub may_fault: bool,
}

impl Compiled {
    /// The BPF instruction that the code at this offset belongs to: that of a fault, or of a call when given the
    /// byte before its return address. `None` outside every function.
    #[must_use]
    pub fn insn_at(&self, offset: u32) -> Option<InsnIdx> {
        let after = self.functions.partition_point(|f| f.start <= offset);
        self.functions.get(after.checked_sub(1)?).filter(|f| offset < f.end)?;
        let after = self.lines.partition_point(|l| l.offset <= offset);
        self.lines.get(after.checked_sub(1)?).map(|l| l.insn)
    }

    /// Every machine instruction of every function, in order. One BPF instruction may have several stretches of
    /// code, and one that does nothing, or whose work was merged into another's, has none.
    pub fn disassemble(&self) -> impl Iterator<Item = MachineInsn> + '_ {
        self.functions.iter().flat_map(|f| self.written(f.start, f.end)).map(
            |Written { offset, length, text }| MachineInsn {
                offset,
                length,
                insn: self.insn_at(offset).unwrap_or_default(),
                text,
                may_fault: self.faults.binary_search_by_key(&offset, |f| f.offset).is_ok(),
            },
        )
    }

    fn written(&self, start: u32, end: u32) -> Vec<Written> {
        let bytes = self.text.get(start as usize..end as usize).unwrap_or_default();
        match self.machine {
            Machine::X86_64 => x86_64(start, bytes),
            Machine::Aarch64 { .. } => aarch64(start, bytes),
        }
    }
}

/// An instruction in writing.
struct Written {
    offset: u32,
    length: u8,
    text: String,
}

fn x86_64(start: u32, bytes: &[u8]) -> Vec<Written> {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_rip_relative_addresses(true);
    let mut decoder = Decoder::with_ip(64, bytes, u64::from(start), DecoderOptions::NONE);
    let mut written = Vec::new();
    while decoder.can_decode() {
        let machine = decoder.decode();
        let mut text = String::new();
        formatter.format(&machine, &mut text);
        let offset = u32::try_from(machine.ip()).unwrap_or(u32::MAX);
        written.push(Written { offset, length: u8::try_from(machine.len()).unwrap_or(u8::MAX), text });
    }
    written
}

fn aarch64(start: u32, bytes: &[u8]) -> Vec<Written> {
    let words = bytes.as_chunks::<4>().0.iter();
    let offsets = (start..).step_by(4);
    words.zip(offsets).map(|(word, offset)| Written { offset, length: 4, text: arm(*word, offset) }).collect()
}

/// One instruction at `offset`.
#[cfg(target_arch = "aarch64")]
fn arm(word: [u8; 4], offset: u32) -> String {
    use yaxpeax_arch::{Decoder, U8Reader};
    use yaxpeax_arm::armv8::a64::InstDecoder;

    let Ok(machine) = InstDecoder::default().decode(&mut U8Reader::new(&word)) else {
        return format!(".word {:#010x}", u32::from_le_bytes(word));
    };
    let text = machine.to_string();
    // Targets are written as distances: `$+0x40`.
    let Some((before, distance)) = text.rsplit_once('$') else { return text };
    let parsed = distance.split_once("0x").and_then(|(sign, digits)| {
        let magnitude = i64::from_str_radix(digits, 16).ok()?;
        Some(if sign == "-" { -magnitude } else { magnitude })
    });
    match parsed {
        // Pages are counted from that of the instruction.
        Some(distance) if text.starts_with("adrp") => {
            format!("{before}{:#x}", (i64::from(offset) & !0xfff).wrapping_add(distance))
        }
        Some(distance) => format!("{before}{:#x}", i64::from(offset).wrapping_add(distance)),
        None => text,
    }
}

/// Only where such code is made is there somebody to read it.
#[cfg(not(target_arch = "aarch64"))]
fn arm(word: [u8; 4], _offset: u32) -> String {
    format!(".word {:#010x}", u32::from_le_bytes(word))
}
