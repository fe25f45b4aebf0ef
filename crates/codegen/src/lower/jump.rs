//! How control leaves a block (RFC 9669 section 4.3), and the loop budget of `may_goto`.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, Value, types};
use isa::{Cond, InsnIdx, Reg};

use super::{Budget, Lower, Register, UNREACHED_TRAP, constant_memory, field, location};
use crate::abi::{LOOPS_PER_QUESTION, VmContext};
use crate::flow::{BlockId, End, Test};
use crate::{CompileError, Import};

impl Lower<'_, '_> {
    pub(super) fn end(&mut self, end: End) -> Result<(), CompileError> {
        match end {
            End::Jump { at, to } => {
                self.b.set_srcloc(location(at));
                let to = self.label(at, to)?;
                self.b.ins().jump(to, &[]);
            }
            End::Branch { at, test, taken, next } => {
                self.b.set_srcloc(location(at));
                let (taken, next) = (self.label(at, taken)?, self.label(at, next)?);
                let condition = self.condition(test);
                self.b.ins().brif(condition, taken, &[], next, &[]);
            }
            End::MayGoto { at, taken, next } => {
                self.b.set_srcloc(location(at));
                let (taken, next) = (self.label(at, taken)?, self.label(at, next)?);
                self.may_goto(taken, next);
            }
            End::Exit { at } => {
                self.b.set_srcloc(location(at));
                let result = self.get(Reg::R0);
                self.b.ins().return_(&[result]);
            }
            End::Trap { at } => {
                self.b.set_srcloc(location(at));
                self.b.ins().trap(UNREACHED_TRAP);
            }
        }
        Ok(())
    }

    fn label(&self, at: InsnIdx, block: BlockId) -> Result<ir::Block, CompileError> {
        self.labels.get(block.index()).copied().ok_or(CompileError::BadTarget { at })
    }

    fn condition(&mut self, test: Test) -> Value {
        let a = self.get_low(test.width, test.dst);
        let b = self.operand(test.width, test.src);
        let code = match test.cond {
            Cond::Eq => IntCC::Equal,
            Cond::Ne => IntCC::NotEqual,
            Cond::Gt => IntCC::UnsignedGreaterThan,
            Cond::Ge => IntCC::UnsignedGreaterThanOrEqual,
            Cond::Lt => IntCC::UnsignedLessThan,
            Cond::Le => IntCC::UnsignedLessThanOrEqual,
            Cond::SGt => IntCC::SignedGreaterThan,
            Cond::SGe => IntCC::SignedGreaterThanOrEqual,
            Cond::SLt => IntCC::SignedLessThan,
            Cond::SLe => IntCC::SignedLessThanOrEqual,
            Cond::Set => return self.b.ins().band(a, b),
        };
        self.b.ins().icmp(code, a, b)
    }

    /// Counts one iteration down and goes to `next`. When none is left, the runtime is asked for more; if it gives
    /// none, goes to `taken`.
    fn may_goto(&mut self, taken: ir::Block, next: ir::Block) {
        let Some(Budget { left, state }) = self.budget else {
            self.b.ins().trap(UNREACHED_TRAP);
            return;
        };
        let (ask, more, count) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let budget = left.get(&mut self.b);
        self.b.ins().brif(budget, count, &[], ask, &[]);

        self.b.switch_to_block(ask);
        self.b.set_cold_block(ask);
        let zero = self.b.ins().iconst(types::I64, 0);
        let before = state.get(&mut self.b);
        let answer = self.runtime_call(Import::LoopBudget, [before, zero, zero, zero, zero]);
        self.b.ins().brif(answer, more, &[], taken, &[]);

        self.b.switch_to_block(more);
        self.b.set_cold_block(more);
        state.set(&mut self.b, answer);
        let refill = self.b.ins().iconst(types::I64, LOOPS_PER_QUESTION.cast_signed());
        left.set(&mut self.b, refill);
        self.b.ins().jump(count, &[]);

        self.b.switch_to_block(count);
        let budget = left.get(&mut self.b);
        let budget = self.b.ins().iadd_imm_s(budget, -1);
        left.set(&mut self.b, budget);
        self.b.ins().jump(next, &[]);
    }

    /// The budget of a function that begins.
    pub(super) fn begin_budget(&mut self, left: Register, state: Register) {
        for (register, offset) in
            [(left, offset_of!(VmContext, loop_budget)), (state, offset_of!(VmContext, loop_state))]
        {
            let value = self.b.ins().load(types::I64, constant_memory(), self.context, field(offset));
            register.set(&mut self.b, value);
        }
        self.budget = Some(Budget { left, state });
    }
}
