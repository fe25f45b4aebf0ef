//! Moves that happen at once: no one reads what another one has written.

use iced_x86::{Code, Instruction, MemoryOperand};
use isa::Width;

use super::encode::Gpr;
use super::{EmitError, Emitter};

/// Where something is moved to or from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Register(Gpr),
    /// Memory of the frame.
    Memory(MemoryOperand),
    /// A number: not moved to.
    Number(i64),
}

impl Emitter<'_> {
    /// Moves to each first place what is in the second. No place is moved to twice, and what is moved to memory comes from a register, or
    /// is a number of 32 bits. Memory is not both read and written.
    pub(super) fn parallel(&mut self, moves: Vec<(Place, Place)>) {
        let mut registers = Vec::new();
        let mut loads = Vec::new();
        for (to, from) in moves {
            match (to, from) {
                (Place::Memory(to), Place::Register(from)) => {
                    self.asm.put(Instruction::with2(Code::Mov_rm64_r64, to, from.r64()));
                }
                (Place::Memory(to), Place::Number(value)) => match i32::try_from(value) {
                    Ok(value) => self.asm.put(Instruction::with2(Code::Mov_rm64_imm32, to, value)),
                    Err(_) => self.asm.fail(EmitError::Operand),
                },
                (Place::Register(to), Place::Register(from)) if to != from => registers.push((to, from)),
                (Place::Register(_), Place::Register(_)) => {}
                (Place::Register(to), from) => loads.push((to, from)),
                (Place::Memory(_), Place::Memory(_)) | (Place::Number(_), _) => {
                    self.asm.fail(EmitError::Operand)
                }
            }
        }
        self.shuffle(registers);
        for (to, from) in loads {
            match from {
                Place::Memory(from) => self.asm.put(Instruction::with2(Code::Mov_r64_rm64, to.r64(), from)),
                Place::Number(value) => self.number(Width::W64, to, value),
                Place::Register(_) => {}
            }
        }
    }

    /// Moves between registers: first those to where nothing is read from any more; what is left then goes in circles.
    fn shuffle(&mut self, mut moves: Vec<(Gpr, Gpr)>) {
        while !moves.is_empty() {
            let free = moves.iter().position(|(to, _)| moves.iter().all(|(_, from)| from != to));
            if let Some(free) = free {
                let (to, from) = moves.remove(free);
                self.copy(Width::W64, to, from);
            } else if let Some((to, from)) = moves.pop() {
                // `to` is right now. What was in it is where `from` was.
                self.asm.put(Instruction::with2(Code::Xchg_rm64_r64, to.r64(), from.r64()));
                for (_, other) in &mut moves {
                    if *other == to {
                        *other = from;
                    } else if *other == from {
                        *other = to;
                    }
                }
                moves.retain(|(to, from)| to != from);
            }
        }
    }
}
