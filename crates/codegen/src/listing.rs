//! Machine code as text, for people.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};
use isa::InsnIdx;

use crate::Compiled;

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
    /// Intel syntax; addresses of code are offsets in the text.
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
        let mut formatter = IntelFormatter::new();
        let options = formatter.options_mut();
        options.set_space_after_operand_separator(true);
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        options.set_rip_relative_addresses(true);
        let functions = self.functions.iter();
        functions.flat_map(|f| self.machine_insns(f.start, f.end)).map(move |machine| {
            let offset = u32::try_from(machine.ip()).unwrap_or(u32::MAX);
            let mut text = String::new();
            formatter.format(&machine, &mut text);
            MachineInsn {
                offset,
                length: u8::try_from(machine.len()).unwrap_or(u8::MAX),
                insn: self.insn_at(offset).unwrap_or_default(),
                text,
                may_fault: self.faults.binary_search_by_key(&offset, |f| f.offset).is_ok(),
            }
        })
    }

    fn machine_insns(&self, start: u32, end: u32) -> impl Iterator<Item = Instruction> + '_ {
        let bytes = self.text.get(start as usize..end as usize).unwrap_or_default();
        let mut decoder = Decoder::with_ip(64, bytes, u64::from(start), DecoderOptions::NONE);
        core::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
    }
}
