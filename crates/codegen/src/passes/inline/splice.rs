//! One caller into which callees are put.

use isa::{AluOp, Width};

use crate::flow::{At, Block, BlockId, Body, Budget, End, Inlined, Op, Src, Step, Var};

/// A caller in the making.
pub(super) struct Splice {
    body: Body,
    /// The first variable of a callee; callees beside one another have the same.
    first_var: u16,
    /// The first budget of a callee.
    first_budget: u16,
    steps: usize,
    count: u32,
}

impl Splice {
    /// Of a body.
    pub(super) fn new(body: Body) -> Self {
        let (first_var, first_budget, steps) = (body.vars, body.budgets, body.steps());
        Self { body, first_var, first_budget, steps, count: 0 }
    }

    /// Number of operations now.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Number of blocks now.
    pub(super) fn blocks(&self) -> usize {
        self.body.blocks.len()
    }

    /// The first variable of a callee.
    pub(super) fn first_var(&self) -> u16 {
        self.first_var
    }

    /// Whether places can say that they come from a callee.
    pub(super) fn room_for(&self, callee: &Body) -> bool {
        self.body.inlined.len() + 1 + callee.inlined.len() <= usize::from(Inlined::MOST)
            && self.first_budget.checked_add(callee.budgets).is_some()
    }

    /// Puts the callees that `choose` gives in the place of their calls; it is asked once for each operation.
    pub(super) fn run<'b>(&mut self, mut choose: impl FnMut(&Self, BlockId, &Step) -> Option<&'b Body>) {
        for index in 0..self.body.blocks.len() {
            let block = BlockId::new(index);
            // The block that operations are put into, and what is left of those the block had.
            let mut here = block;
            let Some(old) = self.body.blocks.get_mut(index) else { continue };
            if !old.steps.iter().any(|step| matches!(step.op, Op::Call { .. })) {
                continue;
            }
            let steps = std::mem::take(&mut old.steps);
            let (at, end) = (old.at, std::mem::replace(&mut old.end, End::Trap));
            let cold = old.cold;
            for step in steps {
                match choose(self, block, &step) {
                    Some(callee) => here = self.put(here, &step, callee, cold),
                    None => self.push(here, step),
                }
            }
            if let Some(last) = self.body.blocks.get_mut(here.index()) {
                (last.at, last.end) = (at, end);
            }
        }
    }

    /// The caller, and how many calls were replaced.
    pub(super) fn finish(self) -> (Body, u32) {
        (self.body, self.count)
    }

    fn push(&mut self, block: BlockId, step: Step) {
        if let Some(block) = self.body.blocks.get_mut(block.index()) {
            block.steps.push(step);
        }
    }

    /// Puts a callee behind what a block has; the result is where execution goes on.
    fn put(&mut self, here: BlockId, call: &Step, callee: &Body, cold: bool) -> BlockId {
        let Op::Call { stack, args, dst, clobbers, .. } = call.op else {
            return here;
        };
        self.count += 1;
        self.steps += callee.steps() + callee.blocks.len();
        let rename = Rename {
            var: self.first_var,
            budget: self.first_budget,
            stack,
            call: self.enter(call.at, callee),
        };
        self.body.slots.join(&callee.slots, stack);
        let at = call.at;
        for (number, src) in (1..).zip(args) {
            let dst = rename.var(Var(number));
            self.push(here, Step { at, op: Op::Mov { width: Width::W64, dst, src: Src::Var(src) } });
        }
        let vars = [0, 6, 7, 8, 9].map(|number| rename.var(Var(number)));
        self.push(here, Step { at, op: Op::Forget { vars } });
        if callee.budgets > 0 {
            self.push(here, Step { at, op: Op::BeginBudget { budget: rename.budget(Budget::OWN) } });
        }
        let into = self.blocks_for(here, callee, cold, at);
        let exits = callee.blocks.iter().filter(|block| matches!(block.end, End::Exit(_))).count();
        let behind =
            (exits != 1).then(|| self.body.push(Block { steps: Vec::new(), at, end: End::Trap, cold }));
        let mut last = behind.unwrap_or(here);
        for (block, &id) in callee.blocks.iter().zip(&into) {
            for step in &block.steps {
                self.copy(id, step, &rename);
            }
            let end = self.end(id, block, &rename, &into);
            let end = match end {
                End::Exit(value) => {
                    self.push(id, Step { at, op: Op::Mov { width: Width::W64, dst, src: Src::Var(value) } });
                    match behind {
                        Some(behind) => End::Jump(behind),
                        None => {
                            last = id;
                            End::Trap
                        }
                    }
                }
                other => other,
            };
            if let Some(new) = self.body.blocks.get_mut(id.index()) {
                (new.at, new.end) = (rename.at(block.at), end);
            }
        }
        // What a call clobbers; its result may be among it.
        let vars = clobbers.map(|var| if var == dst { rename.var(Var::RESULT) } else { var });
        self.push(last, Step { at, op: Op::Forget { vars } });
        last
    }

    /// Makes room for the callee's variables, budgets, and calls that were inlined into it; the result is what its own operations
    /// say they are in the place of.
    fn enter(&mut self, call: At, callee: &Body) -> Inlined {
        self.body.vars = self.body.vars.max(self.first_var.saturating_add(callee.vars));
        self.body.budgets = self.body.budgets.max(self.first_budget.saturating_add(callee.budgets));
        self.body.inlined.push(call);
        let own = Inlined(u16::try_from(self.body.inlined.len()).unwrap_or(u16::MAX));
        self.body.inlined.extend(callee.inlined.iter().map(|inner| within(own, *inner)));
        own
    }

    /// The blocks that those of a callee become: the first one is where the call was, unless the callee goes back to it.
    fn blocks_for(&mut self, here: BlockId, callee: &Body, cold: bool, at: At) -> Vec<BlockId> {
        let mut successors = callee.blocks.iter().flat_map(|block| block.end.successors());
        let returns_to_entry = successors.any(|to| to == BlockId::ENTRY);
        let into: Vec<_> = callee
            .each_block()
            .map(|(id, block)| {
                if id == BlockId::ENTRY && !returns_to_entry {
                    return here;
                }
                self.body.push(Block { steps: Vec::new(), at, end: End::Trap, cold: cold || block.cold })
            })
            .collect();
        if let (true, Some(&entry), Some(block)) =
            (returns_to_entry, into.first(), self.body.blocks.get_mut(here.index()))
        {
            (block.at, block.end) = (at, End::Jump(entry));
        }
        into
    }

    /// Puts an operation of the callee behind what a block has. Stack stays stack that is addressed by `r10` itself.
    fn copy(&mut self, block: BlockId, step: &Step, rename: &Rename) {
        let Step { at, mut op } = *step;
        let on_stack = op.place_mut().is_some_and(|place| place.base == Var::FRAME);
        let mut frames = 0;
        op.each_var_mut(|var, _| {
            frames += u32::from(*var == Var::FRAME);
            *var = rename.var(*var);
        });
        if on_stack && let Some(place) = op.place_mut() {
            frames -= 1;
            place.base = Var::FRAME;
            place.offset = place.offset.saturating_sub(i32::try_from(rename.stack).unwrap_or(i32::MAX));
        }
        match &mut op {
            Op::BeginBudget { budget } | Op::Credit { budget, .. } => *budget = rename.budget(*budget),
            Op::Call { stack, .. } => *stack = stack.saturating_add(rename.stack),
            _ => {}
        }
        let at = rename.at(at);
        self.make_frame(block, at, frames, rename);
        self.push(block, Step { at, op });
    }

    /// How a block of the callee ends, with its variables and blocks in the caller.
    fn end(&mut self, id: BlockId, block: &Block, rename: &Rename, into: &[BlockId]) -> End {
        let mut end = block.end;
        let mut frames = 0;
        end.each_var_mut(|var| {
            frames += u32::from(*var == Var::FRAME);
            *var = rename.var(*var);
        });
        self.make_frame(id, rename.at(block.at), frames, rename);
        end.each_successor_mut(|to| *to = into.get(to.index()).copied().unwrap_or(*to));
        match &mut end {
            End::MayGoto { budget, .. } | End::Afford { budget, .. } => *budget = rename.budget(*budget),
            End::Jump(_)
            | End::Branch { .. }
            | End::Look { .. }
            | End::Pretend { .. }
            | End::Exit(_)
            | End::Trap => {}
        }
        end
    }

    /// Computes the callee's `r10` if it is read.
    fn make_frame(&mut self, block: BlockId, at: At, reads: u32, rename: &Rename) {
        let (dst, a) = (rename.var(Var::FRAME), Var::FRAME);
        if reads > 0 && dst != a {
            let b = Src::Imm(-i64::from(rename.stack));
            self.push(block, Step { at, op: Op::Alu { width: Width::W64, op: AluOp::Add, dst, a, b } });
        }
    }
}

/// What the callee's names are in the caller.
struct Rename {
    /// The callee's `r0`; the others lie behind it.
    var: u16,
    /// The callee's own budget.
    budget: u16,
    /// How far below the caller's `r10` the callee's is.
    stack: u32,
    /// The call.
    call: Inlined,
}

impl Rename {
    fn var(&self, var: Var) -> Var {
        if var == Var::FRAME && self.stack == 0 { var } else { Var(self.var.saturating_add(var.0)) }
    }

    fn budget(&self, budget: Budget) -> Budget {
        Budget(self.budget.saturating_add(budget.0))
    }

    fn at(&self, at: At) -> At {
        within(self.call, at)
    }
}

/// What comes from a callee, seen from its caller.
fn within(call: Inlined, at: At) -> At {
    At { insn: at.insn, inlined: Inlined(call.0.saturating_add(at.inlined.0)) }
}
