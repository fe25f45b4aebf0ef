//! How control leaves a block (RFC 9669 section 4.3), and the loop budget of `may_goto`.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, Value, types};
use isa::{Cond, InsnIdx, Reg};

use super::{Lower, UNREACHED_TRAP, context_memory, field, location};
use crate::abi::VmContext;
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
                self.save_budget();
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
        let Some(register) = self.budget else {
            self.b.ins().trap(UNREACHED_TRAP);
            return;
        };
        let (ask, count) = (self.b.create_block(), self.b.create_block());
        let budget = register.get(&mut self.b);
        self.b.ins().brif(budget, count, &[], ask, &[]);

        self.b.switch_to_block(ask);
        self.b.set_cold_block(ask);
        let zero = self.b.ins().iconst(types::I64, 0);
        let refill = self.runtime_call(Import::LoopBudget, [zero; 5]);
        register.set(&mut self.b, refill);
        self.b.ins().brif(refill, count, &[], taken, &[]);

        self.b.switch_to_block(count);
        let budget = register.get(&mut self.b);
        let budget = self.b.ins().iadd_imm_s(budget, -1);
        register.set(&mut self.b, budget);
        self.b.ins().jump(next, &[]);
    }

    /// Writes the loop budget back, before other code may use it.
    pub(super) fn save_budget(&mut self) {
        if let Some(register) = self.budget {
            let budget = register.get(&mut self.b);
            let offset = field(offset_of!(VmContext, loop_budget));
            self.b.ins().store(context_memory(), budget, self.context, offset);
        }
    }

    /// Reads the loop budget, at entry and after other code may have used it.
    pub(super) fn reload_budget(&mut self) {
        if let Some(register) = self.budget {
            let offset = field(offset_of!(VmContext, loop_budget));
            let budget = self.b.ins().load(types::I64, context_memory(), self.context, offset);
            register.set(&mut self.b, budget);
        }
    }
}
