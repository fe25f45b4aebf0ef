//! The table of registers that matter in front of each instruction.

use std::fmt;

use isa::Reg;

use super::value::Names;
use crate::report::view::PlanView;

/// The table: loop, instruction, the digits of live registers, text.
pub(super) struct Table<'a> {
    pub(super) plan: &'a PlanView<'a>,
    pub(super) names: &'a Names<'a>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live regs before insn:\n")?;
        for (at, insn) in self.plan.program().code.iter() {
            match self.plan.loop_at(at) {
                Some(number) => write!(f, "{number:>3} ")?,
                None => f.write_str("    ")?,
            }
            write!(f, "{:>3}: ", at.0)?;
            for reg in Reg::ALL.into_iter().filter(|r| *r != Reg::R10) {
                if self.plan.is_live(at, reg) { write!(f, "{}", reg.number())? } else { f.write_str(".")? }
            }
            let opcode = insn.form().map_or(0, |form| form.opcode);
            writeln!(f, " ({opcode:02x}) {}", insn.text(at, self.names))?;
        }
        Ok(())
    }
}
