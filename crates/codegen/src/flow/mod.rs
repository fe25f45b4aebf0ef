//! One subprogram as blocks of operations: the form between verification and lowering.
//!
//! A [`Body`] is what passes work on and what lowering reads; nothing behind it looks at BPF instructions again. Values are in
//! variables that are assigned as often as one likes (the backend finds out what is a value of its own), so that a pass may
//! copy, rename and move operations without more ado. [`Display`](std::fmt::Display) writes a body as text.

mod build;
mod op;
mod text;

use isa::InsnIdx;
use verifier::FrameFacts;

pub(crate) use op::{Budget, Op, Order, PacketIndex, Place, Src, Test, Use, Var};

/// One subprogram as basic blocks; execution begins at block 0.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    /// Index into [`Program::subprograms`](bpf_object::Program::subprograms).
    pub(crate) subprogram: usize,
    /// Its first instruction.
    pub(crate) start: InsnIdx,
    /// The blocks. Those of the program come by ascending instruction, those made by passes behind them.
    pub(crate) blocks: Vec<Block>,
    /// Number of variables.
    pub(crate) vars: u16,
    /// Number of loop budgets; 0 if nothing counts.
    pub(crate) budgets: u16,
    /// The calls whose callees were put in their places: [`Inlined`] counts from 1 in here.
    pub(crate) inlined: Vec<At>,
    /// The slots of stack.
    pub(crate) slots: Slots,
    /// Headers of loops that are not worth further copies: others do most of their iterations, or they do several at once.
    pub(crate) settled: Vec<BlockId>,
    /// Variables that are in memory between blocks.
    pub(crate) in_memory: Vec<Var>,
}

/// Slots of 8 bytes of the stack, by their offsets from `r10`, which are multiples of 8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Reached by loads and stores through `r10` itself.
    direct: Vec<i32>,
    /// Reached by pointers into the stack, or functions that are given some.
    addressed: Vec<i32>,
}

impl Slots {
    /// Those of a function.
    pub(crate) fn of(frame: &FrameFacts) -> Self {
        let slots = (0..u32::from(frame.stack_depth).div_ceil(8).min(u64::BITS))
            .filter_map(|slot| Some((i32::try_from(slot + 1).ok()? * -8, frame.addressed >> slot & 1 != 0)));
        let (addressed, direct): (Vec<_>, Vec<_>) = slots.partition(|(_, addressed)| *addressed);
        let offsets = |slots: Vec<(i32, bool)>| slots.into_iter().map(|(offset, _)| offset).collect();
        Self { direct: offsets(direct), addressed: offsets(addressed) }
    }

    /// Those that nothing reaches but loads and stores of the body through `r10` itself.
    pub(crate) fn private(&self) -> Vec<i32> {
        let mut slots: Vec<_> = self.direct.iter().copied().filter(|s| !self.addressed.contains(s)).collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
        slots
    }

    /// Those that pointers reach, or functions that are given some.
    pub(crate) fn addressed(&self) -> &[i32] {
        &self.addressed
    }

    /// Of a slot that pointers reached: nothing does any more.
    pub(crate) fn make_private(&mut self, slot: i32) {
        let before = self.addressed.len();
        self.addressed.retain(|addressed| *addressed != slot);
        if self.addressed.len() < before && !self.direct.contains(&slot) {
            self.direct.push(slot);
        }
    }

    /// Takes over those of a callee whose frame begins `stack` bytes below.
    pub(crate) fn join(&mut self, callee: &Self, stack: u32) {
        let Ok(below) = i32::try_from(stack) else { return };
        for (ours, theirs) in [(&mut self.direct, &callee.direct), (&mut self.addressed, &callee.addressed)] {
            for slot in theirs {
                let slot = slot.saturating_sub(below);
                if !ours.contains(&slot) {
                    ours.push(slot);
                }
            }
        }
    }
}

/// Where an operation or the end of a block comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The instruction that a fault names.
    pub(crate) insn: InsnIdx,
    /// The call that stood where this is now.
    pub(crate) inlined: Inlined,
}

/// A call that was replaced by its callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inlined(pub(crate) u16);

impl Inlined {
    /// None: the function's own code.
    pub(crate) const NOT: Self = Self(0);
    /// Most of one function: what fits into the backend's notion of a source location, beside an instruction.
    pub(crate) const MOST: u16 = (1 << (32 - crate::limits::PROGRAM_INSNS.ilog2() - 1)) - 2;
}

impl From<InsnIdx> for At {
    fn from(insn: InsnIdx) -> Self {
        Self { insn, inlined: Inlined::NOT }
    }
}

/// Index of a block in its [`Body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId(u32);

/// Operations that are executed one after the other, and how control leaves them.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// What is done.
    pub(crate) steps: Vec<Step>,
    /// Where the end comes from.
    pub(crate) at: At,
    /// How control leaves.
    pub(crate) end: End,
    /// Whether it is rarely executed: its code goes behind the rest.
    pub(crate) cold: bool,
}

/// One operation and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Where it comes from.
    pub(crate) at: At,
    /// What is done.
    pub(crate) op: Op,
}

/// How control leaves a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// To another block.
    Jump(BlockId),
    /// To `taken` if the condition holds, else to `next`.
    Branch { test: Test, taken: BlockId, next: BlockId },
    /// Takes an iteration from the budget and goes to `next`. With none left, the runtime is asked for more; if it gives none, to
    /// `taken`.
    MayGoto { budget: Budget, taken: BlockId, next: BlockId },
    /// Takes as many iterations from the budget and goes to `enough`. With fewer left, the runtime is asked for more; if it gives
    /// none, or too few, takes none and goes to `short`. A budget never holds much more than
    /// [`LOOPS_PER_LOOK`](crate::abi::LOOPS_PER_LOOK) at once, so that the run can be ended: more cannot be afforded.
    /// Without `asks`, the runtime is not asked.
    Afford { budget: Budget, iterations: u32, asks: bool, enough: BlockId, short: BlockId },
    /// To `next`, unless the run is to end: then to `taken`.
    Look { taken: BlockId, next: BlockId },
    /// To `next`; the backend is to reckon with `never`.
    Pretend { never: BlockId, next: BlockId },
    /// Return of a value.
    Exit(Var),
    /// Where verification says that execution never comes.
    Trap,
}

impl BlockId {
    /// Where execution begins.
    pub(crate) const ENTRY: Self = Self(0);

    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The index as a `usize`.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl End {
    /// The blocks that may come next, at most two.
    pub(crate) fn successors(&self) -> impl Iterator<Item = BlockId> + use<> {
        let (first, second) = match *self {
            Self::Jump(to) => (Some(to), None),
            Self::Branch { taken, next, .. }
            | Self::MayGoto { taken, next, .. }
            | Self::Look { taken, next }
            | Self::Pretend { never: taken, next } => (Some(taken), Some(next)),
            Self::Afford { enough, short, .. } => (Some(enough), Some(short)),
            Self::Exit(_) | Self::Trap => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Calls `each` with every block that may come next, to lead elsewhere.
    pub(crate) fn each_successor_mut(&mut self, mut each: impl FnMut(&mut BlockId)) {
        match self {
            Self::Jump(to) => each(to),
            Self::Branch { taken, next, .. }
            | Self::MayGoto { taken, next, .. }
            | Self::Look { taken, next }
            | Self::Pretend { never: taken, next } => {
                each(taken);
                each(next);
            }
            Self::Afford { enough, short, .. } => {
                each(enough);
                each(short);
            }
            Self::Exit(_) | Self::Trap => {}
        }
    }

    /// Has what led to `from` lead to `to`.
    pub(crate) fn redirect(&mut self, from: BlockId, to: BlockId) {
        self.each_successor_mut(|successor| {
            if *successor == from {
                *successor = to;
            }
        });
    }

    /// Calls `each` with every variable that is read.
    pub(crate) fn each_var_mut(&mut self, mut each: impl FnMut(&mut Var)) {
        match self {
            Self::Branch { test, .. } => test.each_var_mut(each),
            Self::Exit(value) => each(value),
            Self::Jump(_)
            | Self::MayGoto { .. }
            | Self::Afford { .. }
            | Self::Look { .. }
            | Self::Pretend { .. }
            | Self::Trap => {}
        }
    }

    /// Calls `each` with every variable that is read.
    pub(crate) fn reads(&self, mut each: impl FnMut(Var)) {
        let mut copy = *self;
        copy.each_var_mut(|var| each(*var));
    }
}

impl Body {
    /// One without blocks.
    pub(crate) fn empty(subprogram: usize, start: InsnIdx) -> Self {
        Self {
            subprogram,
            start,
            blocks: Vec::new(),
            vars: Var::REGISTERS,
            budgets: 0,
            inlined: Vec::new(),
            slots: Slots::default(),
            settled: Vec::new(),
            in_memory: Vec::new(),
        }
    }

    /// Number of operations, without those that end blocks.
    pub(crate) fn steps(&self) -> usize {
        self.blocks.iter().map(|b| b.steps.len()).sum()
    }

    /// Whether it accesses an arena.
    pub(crate) fn uses_arena(&self) -> bool {
        let mut steps = self.blocks.iter().flat_map(|block| &block.steps);
        steps.any(|step| step.op.accesses_arena())
    }

    /// The variables of 128 bits.
    pub(crate) fn wide_vars(&self) -> impl Iterator<Item = Var> + '_ {
        let ops = self.blocks.iter().flat_map(|block| &block.steps).map(|step| &step.op);
        ops.filter(|op| op.is_wide()).filter_map(Op::result)
    }

    /// The block with this number.
    pub(crate) fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id.index())
    }

    /// The block with this number, to change it.
    pub(crate) fn block_mut(&mut self, id: BlockId) -> Option<&mut Block> {
        self.blocks.get_mut(id.index())
    }

    /// Every block with its number.
    pub(crate) fn each_block(&self) -> impl Iterator<Item = (BlockId, &Block)> {
        self.blocks.iter().enumerate().map(|(index, block)| (BlockId::new(index), block))
    }

    /// A variable that nothing uses yet; `None` when there can be no more.
    pub(crate) fn new_var(&mut self) -> Option<Var> {
        let var = Var(self.vars);
        self.vars = self.vars.checked_add(1)?;
        Some(var)
    }

    /// Appends a block.
    pub(crate) fn push(&mut self, block: Block) -> BlockId {
        self.blocks.push(block);
        BlockId::new(self.blocks.len() - 1)
    }
}
