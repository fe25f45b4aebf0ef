//! From BPF instructions, and what verification found out about them, to blocks of operations.

use bpf_object::{Linkage, Program, Subprogram};
use isa::{AtomicOp, ByteOrder, CallTarget, Cond, Imm64, Insn, InsnIdx, Reg, Size, SwapBits, Width};

use super::{Block, BlockId, Body, Budget, End, Op, Order, PacketIndex, Place, Slots, Src, Step, Test, Var};
use crate::source::Source;
use crate::{CompileError, abi};

impl Body {
    /// Splits a subprogram into blocks.
    ///
    /// Instructions that verification did not reach are dropped, whatever they are: only what is reached was checked.
    pub(crate) fn build(source: Source<'_>, subprogram: usize) -> Result<Self, CompileError> {
        let program = source.program();
        let Some(function) = program.subprograms.get(subprogram) else {
            return Ok(Self::empty(subprogram, InsnIdx(0)));
        };
        let leaders = Leaders::find(source, function)?;
        let stack = source.frames().get(subprogram).map_or(0, |frame| frame.stack_bytes.into());
        let mut builder = Builder { source, function, stack, leaders: &leaders, uses_budget: false };
        let mut blocks = Vec::with_capacity(leaders.starts.len());
        for &start in &leaders.starts {
            blocks.push(builder.block(start)?);
        }
        let budgets = builder.uses_budget.into();
        let slots = source.frames().get(subprogram).map(Slots::of).unwrap_or_default();
        let mut body = Self { blocks, budgets, slots, ..Self::empty(subprogram, function.start) };
        if subprogram != 0 && function.linkage != Linkage::Static && body.may_take_long() {
            body.skip_if_stopped();
        }
        Ok(body)
    }

    /// Whether calls of this may take much longer than what is around them.
    fn may_take_long(&self) -> bool {
        let goes_back =
            |(id, block): (BlockId, &Block)| block.end.successors().any(|to| to.index() <= id.index());
        let calls = |op: &Op| matches!(op, Op::Call { target: CallTarget::Local(_), .. });
        self.steps() + self.blocks.len() > SHORT
            || self.each_block().any(goes_back)
            || self.blocks.iter().any(|block| block.steps.iter().any(|step| calls(&step.op)))
    }

    /// Returns 0 at once if the run is to end. A function that is verified on its own may give any number, and does nothing that its
    /// caller relies on; so loops end early that only its calls make long, which nothing else would end.
    fn skip_if_stopped(&mut self) {
        let at = self.start.into();
        let moved = BlockId::new(self.blocks.len());
        for block in &mut self.blocks {
            block.end.each_successor_mut(|to| {
                if *to == BlockId::ENTRY {
                    *to = moved;
                }
            });
        }
        let skip = BlockId::new(self.blocks.len() + 1);
        let test = Test { width: Width::W64, cond: Cond::Ne, a: Var::RESULT, b: Src::Imm(0) };
        let look = Block {
            steps: vec![Step { at, op: Op::Stopped { dst: Var::RESULT } }],
            at,
            end: End::Branch { test, taken: skip, next: moved },
            cold: false,
        };
        let zero = Op::Mov { width: Width::W64, dst: Var::RESULT, src: Src::Imm(0) };
        let skipped =
            Block { steps: vec![Step { at, op: zero }], at, end: End::Exit(Var::RESULT), cold: true };
        if let Some(entry) = self.block_mut(BlockId::ENTRY) {
            let entry = std::mem::replace(entry, look);
            self.blocks.extend([entry, skipped]);
        }
    }
}

/// A function of no more operations, without loops and calls, takes no longer than the call of it.
const SHORT: usize = 30;

/// Where the blocks of a function begin.
struct Leaders {
    /// First slot of the function.
    base: InsnIdx,
    /// Per slot of the function: the block that begins there.
    ids: Vec<Option<BlockId>>,
    /// Per block: its first instruction.
    starts: Vec<InsnIdx>,
}

impl Leaders {
    fn find(source: Source<'_>, function: &Subprogram) -> Result<Self, CompileError> {
        let code = &source.program().code;
        let mut leads = vec![false; function.end.index().saturating_sub(function.start.index())];
        let mut mark = |target: InsnIdx| -> Option<()> {
            code.get(target)?;
            *leads.get_mut(target.index().checked_sub(function.start.index())?)? = true;
            Some(())
        };
        mark(function.start);
        for (at, insn) in reached(source, function) {
            if let Some(offset) = insn.jump_offset() {
                let target = at.offset(1 + i64::from(offset)).ok_or(CompileError::BadTarget { at })?;
                mark(target).ok_or(CompileError::BadTarget { at })?;
                if insn.falls_through() {
                    mark(code.next(at)).ok_or(CompileError::BadTarget { at })?;
                }
            }
        }
        let mut starts = Vec::new();
        let ids = (function.start.0..)
            .zip(leads)
            .map(|(slot, leads)| {
                leads.then(|| {
                    starts.push(InsnIdx(slot));
                    BlockId::new(starts.len() - 1)
                })
            })
            .collect();
        Ok(Self { base: function.start, ids, starts })
    }

    fn get(&self, at: InsnIdx) -> Option<BlockId> {
        self.ids.get(at.index().checked_sub(self.base.index())?).copied().flatten()
    }
}

/// The reached instructions of a function.
fn reached<'a>(source: Source<'a>, function: &Subprogram) -> impl Iterator<Item = (InsnIdx, Insn)> + use<'a> {
    let program: &'a Program = source.program();
    (function.start.0..function.end.0).map(InsnIdx).filter_map(move |at| {
        let insn = program.code.get(at)?;
        source.facts(at).reached.then_some((at, insn))
    })
}

/// Fills blocks with instructions.
struct Builder<'a> {
    source: Source<'a>,
    function: &'a Subprogram,
    /// Bytes of stack that the function uses.
    stack: u32,
    leaders: &'a Leaders,
    uses_budget: bool,
}

impl Builder<'_> {
    fn block(&mut self, start: InsnIdx) -> Result<Block, CompileError> {
        let code = &self.source.program().code;
        let mut steps = Vec::new();
        let mut at = start;
        let end = loop {
            let facts = self.source.facts(at);
            let Some(insn) = code.get(at).filter(|_| facts.reached && at < self.function.end) else {
                break End::Trap;
            };
            if let Some(end) = self.end(at, insn)? {
                break end;
            }
            steps.push(Step { at: at.into(), op: self.op(at, insn)? });
            let next = code.next(at);
            if let Some(to) = self.leaders.get(next) {
                break End::Jump(to);
            }
            at = next;
        };
        Ok(Block { steps, at: at.into(), end, cold: false })
    }

    /// How the block ends if `insn` is its last, `None` if it goes on.
    fn end(&mut self, at: InsnIdx, insn: Insn) -> Result<Option<End>, CompileError> {
        let bad = CompileError::BadTarget { at };
        let block = |target: Option<InsnIdx>| target.and_then(|t| self.leaders.get(t));
        let taken = insn.jump_offset().and_then(|offset| block(at.offset(1 + i64::from(offset))));
        let next = block(at.offset(1));
        Ok(Some(match insn {
            Insn::Exit => End::Exit(Var::RESULT),
            Insn::Jump { .. } => End::Jump(taken.ok_or(bad)?),
            Insn::Branch { width, cond, dst, src, .. } => {
                let test = Test { width, cond, a: dst.into(), b: src.into() };
                End::Branch { test, taken: taken.ok_or_else(|| bad.clone())?, next: next.ok_or(bad)? }
            }
            Insn::MayGoto { .. } => {
                self.uses_budget = true;
                let (taken, next) = (taken.ok_or_else(|| bad.clone())?, next.ok_or(bad)?);
                End::MayGoto { budget: Budget::OWN, taken, next }
            }
            Insn::IndirectJump { .. } | Insn::Call { target: CallTarget::Register(_) } => {
                return Err(CompileError::UnsupportedInsn { at, insn });
            }
            _ => return Ok(None),
        }))
    }

    /// What an instruction that ends no block does.
    fn op(&self, at: InsnIdx, insn: Insn) -> Result<Op, CompileError> {
        let facts = self.source.facts(at);
        let width_of = |width| if facts.narrow { Width::W32 } else { width };
        let place = |base: Reg, offset: i16| {
            let memory = facts.memory.ok_or(CompileError::UnknownMemory { at })?;
            Ok(Place { base: base.into(), index: None, offset: offset.into(), memory, clear: false })
        };
        let insn = if facts.context_pointer { abi::context_pointer_load(insn) } else { insn };
        Ok(match insn {
            Insn::Alu { width, op, dst, src } => {
                Op::Alu { width: width_of(width), op, dst: dst.into(), a: dst.into(), b: src.into() }
            }
            Insn::Neg { width, dst } => Op::Neg { width: width_of(width), dst: dst.into(), src: dst.into() },
            Insn::Mov { width, dst, src } => Op::Mov { width, dst: dst.into(), src: src.into() },
            Insn::MovSx { width, from, dst, src } => {
                Op::SignExtend { width, from, dst: dst.into(), src: src.into() }
            }
            Insn::ByteSwap { order, bits, dst } => byte_swap(order, bits, dst.into()),
            // To the program's space: the low half.
            Insn::AddrSpaceCast { dst, src, dst_as: 0, .. } => {
                Op::ZeroExtend { from: Size::W, dst: dst.into(), src: src.into() }
            }
            Insn::AddrSpaceCast { dst, src, .. } => Op::ToUser { dst: dst.into(), src: src.into() },
            Insn::LoadImm64 { dst, value: Imm64::Const(value) } => {
                Op::Mov { width: Width::W64, dst: dst.into(), src: Src::Imm(value.cast_signed()) }
            }
            Insn::LoadImm64 { value: Imm64::MapFd(_) | Imm64::MapValue { .. }, .. } => {
                return Err(CompileError::UnsupportedInsn { at, insn });
            }
            Insn::LoadImm64 { dst, value } => Op::Address { dst: dst.into(), of: value },
            Insn::Load { size, sign_extend, dst, base, offset } => {
                let place = place(base, offset)?;
                Op::Load { size, sign_extend, dst: dst.into(), place, order: Order::Plain }
            }
            Insn::LoadAcquire { size, dst, base, offset } => {
                let (place, order) = (place(base, offset)?, Order::Synchronizing);
                Op::Load { size, sign_extend: false, dst: dst.into(), place, order }
            }
            Insn::Store { size, base, offset, src } => {
                Op::Store { size, place: place(base, offset)?, src: src.into(), order: Order::Plain }
            }
            Insn::StoreRelease { size, base, offset, src } => {
                let (place, src) = (place(base, offset)?, Src::Var(src.into()));
                Op::Store { size, place, src, order: Order::Synchronizing }
            }
            Insn::Atomic { size, op, fetch, base, offset, src } => {
                let (place, src) = (place(base, offset)?, Var::from(src));
                let expected = (op == AtomicOp::CmpXchg).then_some(Var::RESULT);
                let fetches = fetch || matches!(op, AtomicOp::Xchg | AtomicOp::CmpXchg);
                let old = fetches.then_some(expected.unwrap_or(src));
                Op::Atomic { size, op, place, src, expected, old }
            }
            Insn::LoadPacket { size, from, imm } => {
                let (from, clobbers) = (PacketIndex::new(from), Reg::ARGS.map(Var::from));
                Op::LoadPacket { size, from, imm, dst: Var::RESULT, clobbers }
            }
            Insn::Call { target } => {
                let args = Reg::ARGS.map(Var::from);
                let (map, stack) = (facts.map, self.stack);
                Op::Call { target, map, stack, args, dst: Var::RESULT, clobbers: args }
            }
            _ => return Err(CompileError::UnsupportedInsn { at, insn }),
        })
    }
}

/// The machine is little-endian: `le` truncates, `be` and `bswap` truncate and swap.
fn byte_swap(order: ByteOrder, bits: SwapBits, dst: Var) -> Op {
    match order {
        ByteOrder::ToBe | ByteOrder::Swap => Op::SwapBytes { bits, dst, src: dst },
        ByteOrder::ToLe => {
            let from = match bits {
                SwapBits::B16 => Size::H,
                SwapBits::B32 => Size::W,
                SwapBits::B64 => Size::DW,
            };
            Op::ZeroExtend { from, dst, src: dst }
        }
    }
}
