//! How control leaves a block.

use iced_x86::{Code, Instruction};
use isa::Width;

use super::cold::Cold;
use super::encode::{Gpr, Label};
use super::{EmitError, Emitter, codes};
use crate::flow::At;
use crate::x86::insn::{Alu, BlockId, Cc, End, Src};

impl Emitter<'_> {
    /// Writes the end of a block; `next` is written behind it.
    pub(super) fn end(&mut self, end: &End, at: At, next: Option<BlockId>) {
        match *end {
            End::Jump(to) => self.jump(to, next),
            End::Branch { yes, no, .. } if yes == no => self.jump(yes, next),
            End::Branch { test, yes, no } => {
                self.compare(test);
                let (cc, far, near) =
                    if next == Some(yes) { (test.cc.negated(), no, yes) } else { (test.cc, yes, no) };
                let far = self.block(far);
                self.asm.branch(codes::jump_if(cc), far);
                self.jump(near, next);
            }
            End::Afford { left, state, iterations, asks, enough, short } => {
                let Ok(number) = i32::try_from(iterations) else { return self.asm.fail(EmitError::Operand) };
                self.budget(Alu::Sub, left, number);
                let few = self.asm.label();
                self.asm.branch(codes::jump_if(Cc::Below), few);
                self.jump(enough, next);
                let (enough, short) = (self.block(enough), self.block(short));
                self.cold.push(Cold::Budget {
                    at,
                    left,
                    state: asks.then_some(state),
                    number,
                    few,
                    enough,
                    short,
                });
            }
            End::Look { word, taken, next: to } => {
                let word = self.address(word);
                let asked = self.asm.label();
                self.asm.put(Instruction::with2(codes::cmp(Width::W64).byte, word, 0));
                self.asm.branch(codes::jump_if(Cc::NotEqual), asked);
                self.jump(to, next);
                let (taken, to) = (self.block(taken), self.block(to));
                self.cold.push(Cold::Look { at, asked, taken, next: to });
            }
            End::Exit(value) => {
                self.fetch(Gpr::RAX, value);
                self.leave();
            }
            End::Trap => self.asm.put(Ok(Instruction::with(Code::Ud2))),
        }
    }

    /// Goes to a block, which is nothing if it is written next.
    pub(super) fn jump(&mut self, to: BlockId, next: Option<BlockId>) {
        if next != Some(to) {
            let to = self.block(to);
            self.asm.branch(Code::Jmp_rel32_64, to);
        }
    }

    /// Adds to what is left of a budget, or subtracts from it, and sets the flags.
    pub(super) fn budget(&mut self, op: Alu, left: Src, number: i32) {
        let Some(forms) = codes::alu(op, Width::W64) else { return self.asm.fail(EmitError::Operand) };
        let code = if i8::try_from(number).is_ok() { forms.byte } else { forms.number };
        match left {
            Src::Reg(left) => {
                let left = self.reg(left).r64();
                self.asm.put(Instruction::with2(code, left, number));
            }
            Src::Slot(left) => {
                let left = self.slot(left);
                self.asm.put(Instruction::with2(code, left, number));
            }
            Src::Imm(_) => self.asm.fail(EmitError::Operand),
        }
    }

    fn block(&mut self, id: BlockId) -> Label {
        self.blocks.get(id.index()).copied().unwrap_or_else(|| {
            self.asm.fail(EmitError::Unknown { number: id.0 });
            self.start
        })
    }
}
