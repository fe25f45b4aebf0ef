//! How control leaves a block (RFC 9669 section 4.3), and the loop budget of `may_goto`.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, Value, types};
use isa::{Cond, InsnIdx, Width};

use super::stub::StubOf;
use super::{Counter, Lower, UNREACHED_TRAP, constant_memory, context_memory, field, stop_word};
use crate::abi::VmContext;
use crate::flow::{BlockId, Budget, End, Src, Test};
use crate::{CompileError, Import};

impl Lower<'_, '_> {
    pub(super) fn end(&mut self, at: InsnIdx, end: End) -> Result<(), CompileError> {
        match end {
            End::Jump(to) => {
                let to = self.label(at, to)?;
                self.b.ins().jump(to, &[]);
            }
            End::Branch { test, taken, next } => {
                let (taken, next) = (self.label(at, taken)?, self.label(at, next)?);
                let condition = self.condition(test);
                self.b.ins().brif(condition, taken, &[], next, &[]);
            }
            End::MayGoto { budget, taken, next } => {
                let (taken, next) = (self.label(at, taken)?, self.label(at, next)?);
                self.may_goto(at, budget, taken, next);
            }
            End::Look { taken, next } => {
                let (taken, next) = (self.label(at, taken)?, self.label(at, next)?);
                self.look(at, taken, next);
            }
            End::Afford { budget, iterations, asks, enough, short } => {
                let (enough, short) = (self.label(at, enough)?, self.label(at, short)?);
                self.afford(asks.then_some(at), budget, iterations, [enough, short]);
            }
            End::Pretend { never, next } => {
                let (never, next) = (self.label(at, never)?, self.label(at, next)?);
                // What loops have at hand anyway, if they access the arena.
                let word = if self.uses_arena { self.window } else { self.cold_context() };
                self.pretend(word, never, next);
            }
            End::Exit(value) => {
                let result = self.get(value);
                self.b.ins().return_(&[result]);
            }
            End::Trap => _ = self.b.ins().trap(UNREACHED_TRAP),
        }
        Ok(())
    }

    fn label(&self, at: InsnIdx, block: BlockId) -> Result<ir::Block, CompileError> {
        self.labels.get(block.index()).copied().ok_or(CompileError::BadTarget { at })
    }

    /// A value that is not 0 where the test holds.
    pub(super) fn condition(&mut self, test: Test) -> Value {
        let a = self.get_low(test.width, test.a);
        let b = self.operand(test.width, test.b);
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

    /// Counts one iteration down and goes to `next`. When none is left, more are [taken](Self::more); if there are no more, goes to
    /// `taken`.
    fn may_goto(&mut self, at: InsnIdx, budget: Budget, taken: ir::Block, next: ir::Block) {
        let Some(&counter) = self.budgets.get(budget.index()) else {
            self.b.ins().trap(UNREACHED_TRAP);
            return;
        };
        let [count, look] = [(); 2].map(|()| self.b.create_block());
        let left = counter.left.get(&mut self.b);
        // The rare way comes first, here and below: see the pass `layout`.
        let spent = self.b.ins().icmp_imm_s(IntCC::Equal, left, 0);
        self.b.ins().brif(spent, look, &[], count, &[]);

        self.b.switch_to_block(look);
        self.b.set_cold_block(look);
        let more = self.more(at, counter);
        let none = self.b.ins().icmp_imm_s(IntCC::Equal, more, 0);
        self.give_up_if(none, taken, count);

        self.b.switch_to_block(count);
        self.count(counter, -1);
        self.b.ins().jump(next, &[]);
    }

    /// Counts several iterations down and goes to `enough`. When too few are left, more are [taken](Self::more), for the instruction
    /// that `asks`; if there are still too few, counts none and goes to `short`.
    fn afford(
        &mut self,
        asks: Option<InsnIdx>,
        budget: Budget,
        iterations: u32,
        [enough, short]: [ir::Block; 2],
    ) {
        let Some(&counter) = self.budgets.get(budget.index()) else {
            self.b.ins().trap(UNREACHED_TRAP);
            return;
        };
        let iterations = i64::from(iterations);
        let count = self.b.create_block();
        let spent = self.has_fewer(counter, iterations);
        match asks {
            None => _ = self.b.ins().brif(spent, short, &[], count, &[]),
            Some(at) => {
                let look = self.b.create_block();
                self.b.ins().brif(spent, look, &[], count, &[]);

                self.b.switch_to_block(look);
                self.b.set_cold_block(look);
                self.more(at, counter);
                let spent = self.has_fewer(counter, iterations);
                self.give_up_if(spent, short, count);
            }
        }
        self.b.switch_to_block(count);
        self.count(counter, -iterations);
        self.b.ins().jump(enough, &[]);
    }

    /// Whether fewer iterations are left.
    fn has_fewer(&mut self, counter: Counter, iterations: i64) -> Value {
        let left = counter.left.get(&mut self.b);
        self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, left, iterations)
    }

    /// Takes more of the iterations that the runtime has given, or asks for them if there are none or the run is to end; gives how
    /// many.
    fn more(&mut self, at: InsnIdx, counter: Counter) -> Value {
        let Counter { left, state } = counter;
        let before = state.get(&mut self.b);
        let insn = self.b.ins().iconst(types::I64, i64::from(at.0));
        let taken = self.cold_call(StubOf::Loops, [before, insn]);
        let after = field(offset_of!(VmContext, loops_left));
        let context = self.cold_context();
        let after = self.b.ins().load(types::I64, context_memory(), context, after);
        state.set(&mut self.b, after);
        let kept = left.get(&mut self.b);
        let sum = self.b.ins().iadd(kept, taken);
        left.set(&mut self.b, sum);
        taken
    }

    /// Goes from a cold block to `go_on`, or to `give_up` if the condition holds. What is to be moved on the way there is cold, too, and
    /// in the loop, as far as the backend can see.
    fn give_up_if(&mut self, condition: Value, give_up: ir::Block, go_on: ir::Block) {
        let leave = self.b.create_block();
        self.b.ins().brif(condition, leave, &[], go_on, &[]);
        self.b.switch_to_block(leave);
        self.b.set_cold_block(leave);
        let context = self.cold_context();
        self.pretend(context, go_on, give_up);
    }

    /// Goes to `next`; for all the backend knows, there may be a run in which an address is 0, which goes to `never`.
    fn pretend(&mut self, address: Value, never: ir::Block, next: ir::Block) {
        let missing = self.b.ins().icmp_imm_s(IntCC::Equal, address, 0);
        self.b.ins().brif(missing, never, &[], next, &[]);
    }

    fn count(&mut self, counter: Counter, by: i64) {
        let left = counter.left.get(&mut self.b);
        let left = self.b.ins().iadd_imm_s(left, by);
        counter.left.set(&mut self.b, left);
    }

    /// Goes to `next` unless the run is to end, which the runtime is asked only if somebody wants it.
    fn look(&mut self, at: InsnIdx, taken: ir::Block, next: ir::Block) {
        let ask = self.b.create_block();
        let context = self.cold_context();
        let word = stop_word(&mut self.b, context);
        self.b.ins().brif(word, ask, &[], next, &[]);
        self.b.switch_to_block(ask);
        self.b.set_cold_block(ask);
        let insn = self.b.ins().iconst(types::I64, i64::from(at.0));
        let answer = self.cold_call(StubOf::Call(Import::MustEnd), [insn, insn]);
        self.b.ins().brif(answer, taken, &[], next, &[]);
    }

    /// Iterations that were counted and not used.
    pub(super) fn credit(&mut self, budget: Budget, iterations: Src) {
        let Some(&counter) = self.budgets.get(budget.index()) else { return };
        let left = counter.left.get(&mut self.b);
        let iterations = self.operand(Width::W64, iterations);
        let left = self.b.ins().iadd(left, iterations);
        counter.left.set(&mut self.b, left);
    }

    /// A whole budget.
    pub(super) fn begin_budget(&mut self, budget: Budget) {
        let Some(&Counter { left, state }) = self.budgets.get(budget.index()) else { return };
        for (register, offset) in
            [(left, offset_of!(VmContext, loop_budget)), (state, offset_of!(VmContext, loop_state))]
        {
            let value = self.b.ins().load(types::I64, constant_memory(), self.context, field(offset));
            register.set(&mut self.b, value);
        }
    }
}
