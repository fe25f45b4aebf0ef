//! Control flow of one subprogram: the form between verification and lowering.
//!
//! Passes that improve code (forming selects, unrolling, inlining) work on a [`Body`]; lowering reads nothing else.

use bpf_object::{Program, Subprogram};
use isa::{CallTarget, Cond, Insn, InsnIdx, Operand, Reg, Width};
use verifier::Memory;

use crate::source::Source;
use crate::{CompileError, abi};

/// One subprogram as basic blocks; execution begins at block 0.
#[derive(Debug)]
pub(crate) struct Body {
    /// Index into [`Program::subprograms`].
    pub(crate) subprogram: usize,
    /// Blocks by ascending instruction.
    pub(crate) blocks: Vec<Block>,
    /// Whether some block ends with `may_goto`.
    pub(crate) uses_budget: bool,
}

/// Index of a block in its [`Body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockId(u32);

impl BlockId {
    /// The index as a `usize`.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Instructions that are executed one after the other, and how control leaves them.
#[derive(Debug)]
pub(crate) struct Block {
    /// First instruction.
    pub(crate) start: InsnIdx,
    /// Instructions that do not change control.
    pub(crate) steps: Vec<Step>,
    /// How control leaves.
    pub(crate) end: End,
}

/// One instruction to lower, with what lowering needs to know of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Where it comes from.
    pub(crate) at: InsnIdx,
    /// The instruction; 64-bit arithmetic that is to be done in 32 bits already says so.
    pub(crate) insn: Insn,
    /// Whose memory it accesses.
    pub(crate) memory: Option<Memory>,
    /// The map that a call is given.
    pub(crate) map: Option<u32>,
}

/// How control leaves a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// To another block.
    Jump { at: InsnIdx, to: BlockId },
    /// To `taken` if the condition holds, else to `next`.
    Branch { at: InsnIdx, test: Test, taken: BlockId, next: BlockId },
    /// To `taken` when the loop budget is spent, else to `next`.
    MayGoto { at: InsnIdx, taken: BlockId, next: BlockId },
    /// Return of `r0`.
    Exit { at: InsnIdx },
    /// Where verification says that execution never comes.
    Trap { at: InsnIdx },
}

/// Condition of a branch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Test {
    /// Width of the operands.
    pub(crate) width: Width,
    /// The comparison.
    pub(crate) cond: Cond,
    /// Left operand.
    pub(crate) dst: Reg,
    /// Right operand.
    pub(crate) src: Operand,
}

impl Body {
    /// Number of instructions to lower, without those that end blocks.
    pub(crate) fn steps(&self) -> usize {
        self.blocks.iter().map(|b| b.steps.len()).sum()
    }

    /// Splits a subprogram into blocks.
    ///
    /// Instructions that verification did not reach are dropped, whatever they are: only what is reached was checked.
    pub(crate) fn build(source: Source<'_>, subprogram: usize) -> Result<Self, CompileError> {
        let program = source.program();
        let Some(function) = program.subprograms.get(subprogram) else {
            return Ok(Self { subprogram, blocks: Vec::new(), uses_budget: false });
        };
        let leaders = Leaders::find(source, function)?;
        let mut builder = Builder { source, function, leaders: &leaders, uses_budget: false };
        let mut blocks = Vec::with_capacity(leaders.starts.len());
        for &start in &leaders.starts {
            blocks.push(builder.block(start)?);
        }
        Ok(Self { subprogram, blocks, uses_budget: builder.uses_budget })
    }
}

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
                    BlockId(u32::try_from(starts.len() - 1).unwrap_or(u32::MAX))
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
                break End::Trap { at };
            };
            if let Some(end) = self.end(at, insn)? {
                break end;
            }
            let insn = match insn {
                insn if facts.narrow => narrowed(insn),
                insn if facts.context_pointer => abi::context_pointer_load(insn),
                insn => insn,
            };
            steps.push(Step { at, insn, memory: facts.memory, map: facts.map });
            let next = code.next(at);
            if let Some(to) = self.leaders.get(next) {
                break End::Jump { at, to };
            }
            at = next;
        };
        Ok(Block { start, steps, end })
    }

    /// How the block ends if `insn` is its last, `None` if it goes on.
    fn end(&mut self, at: InsnIdx, insn: Insn) -> Result<Option<End>, CompileError> {
        let bad = CompileError::BadTarget { at };
        let block = |target: Option<InsnIdx>| target.and_then(|t| self.leaders.get(t));
        let taken = insn.jump_offset().and_then(|offset| block(at.offset(1 + i64::from(offset))));
        let next = block(at.offset(1));
        Ok(Some(match insn {
            Insn::Exit => End::Exit { at },
            Insn::Jump { .. } => End::Jump { at, to: taken.ok_or(bad)? },
            Insn::Branch { width, cond, dst, src, .. } => {
                let test = Test { width, cond, dst, src };
                End::Branch { at, test, taken: taken.ok_or_else(|| bad.clone())?, next: next.ok_or(bad)? }
            }
            Insn::MayGoto { .. } => {
                self.uses_budget = true;
                End::MayGoto { at, taken: taken.ok_or_else(|| bad.clone())?, next: next.ok_or(bad)? }
            }
            Insn::IndirectJump { .. } | Insn::Call { target: CallTarget::Register(_) } => {
                return Err(CompileError::UnsupportedInsn { at, insn });
            }
            _ => return Ok(None),
        }))
    }
}

/// The same arithmetic in 32 bits, the result zero-extended.
fn narrowed(insn: Insn) -> Insn {
    match insn {
        Insn::Alu { op, dst, src, .. } => Insn::Alu { width: Width::W32, op, dst, src },
        Insn::Neg { dst, .. } => Insn::Neg { width: Width::W32, dst },
        other => other,
    }
}
