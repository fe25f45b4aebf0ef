//! From operations to machine instructions.
//!
//! Each variable is a register of its own to begin with; [`webs`](super::webs) finds out which of its values are separate. What the
//! machine cannot do, or what is not worth doing here, is [`None`]: the function is then compiled by the other backend.

mod alu;
mod call;
mod mem;
mod wide;

use std::mem::offset_of;

use isa::{Cond, Imm64, Width};

use super::insn::{
    Address, Alu, Block, BlockId, Cc, Class, End, Function, Insn, Reg, Slot, Src, Test, low_half,
};
use crate::abi::VmContext;
use crate::analysis::{Edges, Liveness};
use crate::flow::{self, At, Body, Budget, Op, Step, Var};
use crate::lower::{Imports, Unit};

/// A loop budget.
#[derive(Clone, Copy)]
struct Counter {
    left: Reg,
    state: Slot,
}

/// State while the instructions of one function are chosen.
pub(super) struct Select<'a> {
    unit: &'a Unit<'a>,
    body: &'a Body,
    imports: &'a mut Imports,
    function: Function,
    /// The instructions of the block that is made.
    insns: Vec<(Insn, At)>,
    /// The block that is made, and whether it is cold.
    block: BlockId,
    cold: bool,
    at: At,
    /// Variables that calls of this block have left without a value.
    forgotten: Vec<Var>,
    /// `r10`.
    frame: Reg,
    /// Base of the arena's window.
    window: Reg,
    counters: Vec<Counter>,
    has_callbacks: bool,
}

/// Chooses the instructions of a function.
pub(super) fn function(unit: &Unit<'_>, body: &Body, imports: &mut Imports) -> Option<Function> {
    let count = u32::try_from(body.blocks.len()).ok()?;
    let empty = Block { insns: Vec::new(), end: End::Trap, at: body.start.into(), cold: false };
    let mut classes = vec![Class::General; usize::from(body.vars)];
    for var in body.wide_vars() {
        *classes.get_mut(var.index())? = Class::Wide;
    }
    let window = Reg(u32::from(body.vars));
    classes.push(Class::General);
    let mut function = Function {
        blocks: vec![empty; body.blocks.len()],
        order: Vec::new(),
        classes,
        slots: 1,
        context: Slot(0),
        params: Vec::new(),
    };
    let mut counters = Vec::new();
    for _ in 0..body.budgets {
        let left = function.new_reg(Class::General);
        counters.push(Counter { left, state: function.new_slot() });
    }
    let frames = unit.source.frames();
    let mut select = Select {
        unit,
        body,
        imports,
        function,
        insns: Vec::new(),
        block: BlockId(count),
        cold: false,
        at: body.start.into(),
        forgotten: Vec::new(),
        frame: Reg(u32::from(Var::FRAME.0)),
        window,
        counters,
        has_callbacks: frames.iter().any(|f| f.callback),
    };
    for (id, block) in body.each_block() {
        select.begin(BlockId(u32::try_from(id.index()).ok()?), block.cold);
        if id == flow::BlockId::ENTRY {
            select.entry()?;
        }
        for step in &block.steps {
            select.step(step)?;
        }
        select.at = block.at;
        select.end(block.end)?;
    }
    Some(select.function)
}

impl Function {
    /// A register that nothing uses yet.
    pub(super) fn new_reg(&mut self, class: Class) -> Reg {
        self.classes.push(class);
        Reg(u32::try_from(self.classes.len() - 1).unwrap_or(u32::MAX))
    }

    /// Eight bytes of the frame that nothing uses yet.
    pub(super) fn new_slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    /// Appends a block.
    pub(super) fn push(&mut self, block: Block) -> BlockId {
        self.blocks.push(block);
        BlockId(u32::try_from(self.blocks.len() - 1).unwrap_or(u32::MAX))
    }
}

impl Select<'_> {
    fn begin(&mut self, block: BlockId, cold: bool) {
        self.block = block;
        self.cold = cold;
        self.forgotten.clear();
    }

    /// Ends the block that is made.
    fn finish(&mut self, end: End) -> Option<()> {
        let insns = std::mem::take(&mut self.insns);
        *self.function.blocks.get_mut(self.block.index())? =
            Block { insns, end, at: self.at, cold: self.cold };
        Some(())
    }

    /// A block behind those of the body, without instructions.
    fn new_block(&mut self) -> BlockId {
        self.function.push(Block { insns: Vec::new(), end: End::Trap, at: self.at, cold: false })
    }

    /// Ends the block that is made by a test, goes to `elsewhere` if it holds, and goes on in a new block if not.
    fn leave_if(&mut self, test: Test, elsewhere: BlockId) -> Option<()> {
        let go_on = self.new_block();
        self.finish(End::Branch { test, yes: elsewhere, no: go_on })?;
        self.block = go_on;
        Some(())
    }

    fn push(&mut self, insn: Insn) {
        self.insns.push((insn, self.at));
    }

    fn temp(&mut self) -> Reg {
        self.function.new_reg(Class::General)
    }

    /// A new register that holds a number.
    fn number(&mut self, value: i64) -> Reg {
        let dst = self.temp();
        self.push(Insn::Mov { width: Width::W64, dst, src: Src::Imm(value) });
        dst
    }

    /// The context, in a new register.
    fn context(&mut self) -> Reg {
        let dst = self.temp();
        let src = Src::Slot(self.function.context);
        self.push(Insn::Mov { width: Width::W64, dst, src });
        dst
    }

    /// Eight bytes at `base + offset`, in a new register.
    fn fetch(&mut self, base: Reg, offset: usize) -> Option<Reg> {
        let dst = self.temp();
        self.fetch_into(dst, base, offset)?;
        Some(dst)
    }

    fn fetch_into(&mut self, dst: Reg, base: Reg, offset: usize) -> Option<()> {
        let address = Address { base, index: None, offset: i32::try_from(offset).ok()? };
        self.push(Insn::load(dst, address));
        Some(())
    }

    /// A field of the context, in a new register.
    fn field(&mut self, offset: usize) -> Option<Reg> {
        let context = self.context();
        self.fetch(context, offset)
    }

    /// What comes before the first block: the arguments, and what the context says.
    fn entry(&mut self) -> Option<()> {
        let first = self.body.subprogram == 0;
        let arguments = if first { 1 } else { 5_u16 };
        let params = (1..=arguments).chain([Var::FRAME.0]).map(|var| Some(Src::Reg(Reg(var.into()))));
        self.function.params = params.collect();
        // What the program cannot read before it writes it is only ever passed on, unread, by calls.
        let live = Liveness::of(self.body, &Edges::of(self.body));
        for var in (0..Var::FRAME.0).filter(|var| !(1..=arguments).contains(var)) {
            if live.at(flow::BlockId::ENTRY).contains(Var(var)) {
                self.push(Insn::Mov { width: Width::W64, dst: Reg(var.into()), src: Src::Imm(0) });
            }
        }
        if self.body.uses_arena() {
            let context = self.context();
            self.fetch_into(self.window, context, offset_of!(VmContext, window_base))?;
        }
        if self.body.budgets > 0 {
            self.begin_budget(Budget::OWN)?;
        }
        // The first block may be the beginning of a loop.
        let edges = Edges::of(self.body);
        if !edges.predecessors(flow::BlockId::ENTRY).is_empty() {
            return None;
        }
        Some(())
    }

    fn step(&mut self, step: &Step) -> Option<()> {
        self.at = step.at;
        match step.op {
            Op::Alu { width, op, dst, a, b } => self.alu(width, op, dst, a, b)?,
            Op::Neg { width, dst, src } => self.push(Insn::Neg { width, dst: reg(dst), src: reg(src) }),
            Op::Mov { width, dst, src } => {
                let src = operand(width, src);
                let src = match (width, src) {
                    (Width::W32, Src::Imm(value)) => Src::Imm(value & 0xffff_ffff),
                    (_, src) => src,
                };
                self.push(Insn::Mov { width, dst: reg(dst), src });
            }
            Op::SignExtend { width, from, dst, src } => {
                let (dst, src) = (reg(dst), Src::Reg(reg(src)));
                self.push(Insn::Extend { from, signed: true, width, dst, src });
            }
            Op::ZeroExtend { from, dst, src } => {
                let (dst, src) = (reg(dst), Src::Reg(reg(src)));
                self.push(Insn::Extend { from, signed: false, width: Width::W64, dst, src });
            }
            Op::SwapBytes { bits, dst, src } => self.swap_bytes(bits, dst, src),
            Op::Select { dst, test, yes, no } => {
                let test = self.test(test);
                let (yes, no) = (operand(Width::W64, yes), operand(Width::W64, no));
                self.push(Insn::Select { dst: reg(dst), test, yes, no });
            }
            Op::Compare { dst, test } => {
                let test = self.test(test);
                self.push(Insn::Set { dst: reg(dst), test });
            }
            Op::ToUser { dst, src } => self.user_address(dst, src)?,
            Op::Address { dst, of } => self.load_address(dst, of)?,
            Op::Element { dst, map, key } => self.element(dst, map, key)?,
            Op::Load { size, sign_extend, dst, place, .. } => self.load(size, sign_extend, dst, place)?,
            Op::Store { size, place, src, .. } => self.store(size, place, src)?,
            Op::Atomic { size, op, place, src, expected, old } => {
                self.atomic(size, op, place, src, expected, old)?;
            }
            Op::LoadPacket { size, from, imm, dst, clobbers } => {
                self.load_packet(size, from, imm, dst)?;
                self.clobber(clobbers, Some(dst));
            }
            Op::Call { target, map, stack, args, dst, clobbers } => {
                self.call(target, map, stack, args, dst)?;
                self.clobber(clobbers, Some(dst));
            }
            Op::Forget { vars } => self.clobber(vars, None),
            Op::Stopped { dst } => {
                let word = self.field(offset_of!(VmContext, stop))?;
                self.fetch_into(reg(dst), word, 0)?;
            }
            Op::BeginBudget { budget } => self.begin_budget(budget)?,
            Op::Credit { budget, iterations } => {
                let left = self.counters.get(budget.index())?.left;
                let b = operand(Width::W64, iterations);
                self.push(Insn::add(left, left, b));
            }
            Op::MissedWord { dst } => {
                let context = self.context();
                self.fetch_into(reg(dst), context, offset_of!(VmContext, missed))?;
            }
            Op::Missed { dst, word } => self.fetch_into(reg(dst), reg(word), 0)?,
            Op::ForgetMissed { word } => {
                let address = Address { base: reg(word), index: None, offset: 0 };
                self.push(Insn::store(address, Src::Imm(0)));
            }
            Op::WideLoad { .. }
            | Op::WideStore { .. }
            | Op::Spread { .. }
            | Op::WideAlu { .. }
            | Op::WideEqual { .. }
            | Op::Bits { .. }
            | Op::Fold { .. }
            | Op::TrailingZeros { .. } => self.wide(step.op)?,
        }
        if let Some(result) = step.op.result() {
            self.forgotten.retain(|var| *var != result);
        }
        Some(())
    }

    fn end(&mut self, end: flow::End) -> Option<()> {
        let to = |id: flow::BlockId| u32::try_from(id.index()).ok().map(BlockId);
        let end = match end {
            flow::End::Jump(next) | flow::End::Pretend { next, .. } => End::Jump(to(next)?),
            flow::End::Branch { test, taken, next } => {
                let test = self.test(test);
                End::Branch { test, yes: to(taken)?, no: to(next)? }
            }
            flow::End::MayGoto { budget, taken, next } => {
                let Counter { left, state } = *self.counters.get(budget.index())?;
                let left = Src::Reg(left);
                End::Afford { left, state, iterations: 1, asks: true, enough: to(next)?, short: to(taken)? }
            }
            flow::End::Afford { budget, iterations, asks, enough, short } => {
                let Counter { left, state } = *self.counters.get(budget.index())?;
                let left = Src::Reg(left);
                End::Afford { left, state, iterations, asks, enough: to(enough)?, short: to(short)? }
            }
            flow::End::Look { taken, next } => {
                let base = self.field(offset_of!(VmContext, stop))?;
                let word = Address { base, index: None, offset: 0 };
                End::Look { word, taken: to(taken)?, next: to(next)? }
            }
            flow::End::Exit(value) => End::Exit(Src::Reg(reg(value))),
            flow::End::Trap => End::Trap,
        };
        self.finish(end)
    }

    /// A whole budget.
    fn begin_budget(&mut self, budget: Budget) -> Option<()> {
        let Counter { left, state } = *self.counters.get(budget.index())?;
        let context = self.context();
        self.fetch_into(left, context, offset_of!(VmContext, loop_budget))?;
        let value = self.fetch(context, offset_of!(VmContext, loop_state))?;
        self.push(Insn::ToSlot { slot: state, src: Src::Reg(value) });
        Some(())
    }

    fn test(&mut self, test: flow::Test) -> Test {
        let cc = match test.cond {
            Cond::Eq => Cc::Equal,
            Cond::Ne | Cond::Set => Cc::NotEqual,
            Cond::Gt => Cc::Above,
            Cond::Ge => Cc::AboveEqual,
            Cond::Lt => Cc::Below,
            Cond::Le => Cc::BelowEqual,
            Cond::SGt => Cc::Greater,
            Cond::SGe => Cc::GreaterEqual,
            Cond::SLt => Cc::Less,
            Cond::SLe => Cc::LessEqual,
        };
        let a = Src::Reg(reg(test.a));
        Test { cc, and: test.cond == Cond::Set, width: test.width, a, b: operand(test.width, test.b) }
    }

    /// To the arena's space: a user address, the high half put above a low half that is not 0.
    fn user_address(&mut self, dst: Var, src: Var) -> Option<()> {
        let low = self.temp();
        self.push(Insn::Mov { width: Width::W32, dst: low, src: Src::Reg(reg(src)) });
        let high = self.field(offset_of!(VmContext, user_vm_high))?;
        let address = self.temp();
        self.push(Insn::alu(Alu::Or, address, low, Src::Reg(high)));
        let test = Test { cc: Cc::NotEqual, and: false, width: Width::W32, a: Src::Reg(low), b: Src::Imm(0) };
        self.push(Insn::Select { dst: reg(dst), test, yes: Src::Reg(address), no: Src::Reg(low) });
        Some(())
    }

    fn load_address(&mut self, dst: Var, of: Imm64) -> Option<()> {
        let dst = reg(dst);
        match of {
            Imm64::Const(value) => {
                let src = Src::Imm(value.cast_signed());
                self.push(Insn::Mov { width: Width::W64, dst, src });
            }
            Imm64::MapIdx(map) => self.entry_of(dst, offset_of!(VmContext, maps), map)?,
            Imm64::MapIdxValue { map, offset } => {
                let base = self.temp();
                self.entry_of(base, offset_of!(VmContext, map_values), map)?;
                self.push(Insn::add(dst, base, Src::Imm(i64::from(offset))));
            }
            Imm64::Func(offset) => match self.unit.source.subprogram_at(self.at.insn, offset) {
                Some(index) => self.push(Insn::Subprogram { dst, index }),
                // A callback that no path enters has no code.
                None => self.push(Insn::Mov { width: Width::W64, dst, src: Src::Imm(0) }),
            },
            Imm64::BtfVar { btf_id, .. } => {
                let externs = &self.unit.source.program().externs;
                let index = usize::try_from(btf_id).ok().filter(|index| *index < externs.len())?;
                self.entry_of(dst, offset_of!(VmContext, variables), u32::try_from(index).ok()?)?;
            }
            Imm64::MapFd(_) | Imm64::MapValue { .. } => return None,
        }
        Some(())
    }

    /// An entry of one of the context's tables.
    fn entry_of(&mut self, dst: Reg, table: usize, index: u32) -> Option<()> {
        let table = self.field(table)?;
        self.fetch_into(dst, table, usize::try_from(index).ok()?.checked_mul(8)?)
    }

    /// What a call leaves without a value: nothing, so that what was there need not be kept.
    fn clobber(&mut self, vars: [Var; 5], but: Option<Var>) {
        for var in vars.into_iter().filter(|var| Some(*var) != but) {
            self.push(Insn::Mov { width: Width::W64, dst: reg(var), src: Src::Imm(0) });
            self.forgotten.push(var);
        }
    }
}

/// The register that stands for a variable.
fn reg(var: Var) -> Reg {
    Reg(u32::from(var.0))
}

/// A source operand; of 32 bits a number is its low half, sign-extended, as the machine writes it.
fn operand(width: Width, src: flow::Src) -> Src {
    match (width, src) {
        (_, flow::Src::Var(var)) => Src::Reg(reg(var)),
        (Width::W64, flow::Src::Imm(imm)) => Src::Imm(imm),
        (Width::W32, flow::Src::Imm(imm)) => Src::Imm(low_half(imm)),
    }
}
