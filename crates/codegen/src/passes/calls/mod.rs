//! Functions of the runtime that are a few operations where they are called.
//!
//! `bpf_iter_num_new`, `bpf_iter_num_next` and `bpf_iter_num_destroy`, which are behind `bpf_for`, work on two numbers in the
//! program's stack. What the runtime's own functions do beside that, looking whether the run is to end, an [`End::Look`] does.

mod numbers;
mod private;

use crate::analysis::{Edges, FrameAddresses};
use crate::flow::{At, Block, BlockId, Body, End, Op, Place, Src, Step, Var};
use crate::source::Source;
use isa::{CallTarget, Width};
use numbers::Numbers;
use verifier::Memory;

/// Expands calls, in a program whose functions may be called back or not; the result is how many.
pub(super) fn run(body: &mut Body, source: Source<'_>, has_callbacks: bool) -> u32 {
    let externs = &source.program().externs;
    let of_name = |op: &Op| match *op {
        Op::Call { target: CallTarget::Kfunc { btf_id, .. }, .. } => {
            Numbers::from_name(&externs.get(usize::try_from(btf_id).ok()?)?.name)
        }
        _ => None,
    };
    let mut changes = 0;
    if externs.iter().any(|e| Numbers::from_name(&e.name).is_some()) {
        changes = expand(body, &find(body, of_name));
    }
    changes + private::mark(body, has_callbacks)
}

/// Puts operations in the place of calls. Those of one block come from its end to its beginning, so that the places of the others
/// stay.
fn expand(body: &mut Body, calls: &[Found]) -> u32 {
    let Some(vars) = Some(calls).filter(|c| !c.is_empty()).and_then(|_| body.new_var().zip(body.new_var()))
    else {
        return 0;
    };
    let mut changes = 0;
    for call in calls {
        if let Some(expansion) = Expansion::new(body, call, vars) {
            expansion.run(call.what);
            changes += 1;
        }
    }
    changes
}

/// A call that can be expanded.
#[derive(Clone, Copy, Debug)]
struct Found {
    block: BlockId,
    step: usize,
    what: Numbers,
    /// The first argument as `r10` plus a constant, if it is that.
    on_stack: Option<i32>,
}

/// The calls of a body, in each block from its end to its beginning.
fn find(body: &Body, what: impl Fn(&Op) -> Option<Numbers>) -> Vec<Found> {
    let edges = Edges::of(body);
    let addresses = FrameAddresses::of(body, &edges);
    let mut found = Vec::new();
    for &id in edges.order() {
        let Some(block) = body.block(id) else { continue };
        let mut state = addresses.at(id);
        let first = found.len();
        for (index, step) in block.steps.iter().enumerate() {
            if let (Some(what), Op::Call { args: [iterator, ..], .. }) = (what(&step.op), step.op) {
                found.push(Found { block: id, step: index, what, on_stack: state.offset(iterator) });
            }
            state.step(&step.op);
        }
        found.get_mut(first..).unwrap_or_default().reverse();
    }
    found
}

/// One call on its way to operations: what stood before it, and what comes behind.
struct Expansion<'a> {
    body: &'a mut Body,
    /// The block that the call was in: it ends where the call was.
    head: BlockId,
    at: At,
    args: [Var; 5],
    dst: Var,
    clobbers: [Var; 5],
    /// What followed, and how the block ended.
    rest: Block,
    /// Where the iterator is.
    iterator: Place,
    on_stack: Option<i32>,
    /// For numbers on the way.
    vars: (Var, Var),
}

impl<'a> Expansion<'a> {
    /// Cuts the block at the call.
    fn new(body: &'a mut Body, call: &Found, vars: (Var, Var)) -> Option<Self> {
        let block = body.blocks.get_mut(call.block.index())?;
        let Step { at, op: Op::Call { args, dst, clobbers, .. } } = *block.steps.get(call.step)? else {
            return None;
        };
        let mut steps = block.steps.split_off(call.step);
        steps.remove(0);
        let rest = Block { steps, at: block.at, end: block.end, cold: block.cold };
        let [pointer, ..] = args;
        let (base, offset) = call.on_stack.map_or((pointer, 0), |offset| (Var::FRAME, offset));
        let iterator = Place { base, index: None, offset, memory: Memory::Proven, clear: false };
        let (head, on_stack) = (call.block, call.on_stack);
        Some(Self { body, head, at, args, dst, clobbers, rest, iterator, on_stack, vars })
    }

    /// A block behind all others.
    fn block(&mut self, cold: bool) -> BlockId {
        let cold = cold || self.rest.cold;
        self.body.push(Block { steps: Vec::new(), at: self.at, end: End::Trap, cold })
    }

    fn push(&mut self, block: BlockId, op: Op) {
        let step = Step { at: self.at, op };
        if let Some(block) = self.body.block_mut(block) {
            block.steps.push(step);
        }
    }

    fn end(&mut self, block: BlockId, end: End) {
        if let Some(block) = self.body.block_mut(block) {
            (block.at, block.end) = (self.at, end);
        }
    }

    /// Gives the call's result in a block, and goes on there with what followed the call.
    fn go_on(&mut self, block: BlockId) {
        let rest = std::mem::take(&mut self.rest.steps);
        let (at, end) = (self.rest.at, self.rest.end);
        if let Some(block) = self.body.block_mut(block) {
            block.steps.extend(rest);
            (block.at, block.end) = (at, end);
        }
    }

    /// What is left of the call in a block that it returns from.
    fn give(&mut self, block: BlockId, result: Src) {
        self.push(block, Op::Mov { width: Width::W64, dst: self.dst, src: result });
        let (dst, spare) = (self.dst, self.clobbers.into_iter().find(|var| *var != self.dst));
        let vars = self.clobbers.map(|var| if var == dst { spare.unwrap_or(var) } else { var });
        self.push(block, Op::Forget { vars });
    }

    /// Goes on from two blocks, where the result is known to be 0 or not to be 0. If what follows soon asks for that, each goes its
    /// own way.
    fn go_on_apart(&mut self, zero: BlockId, other: BlockId) {
        match self.ways() {
            Some((if_zero, if_other)) => {
                for (block, to) in [(zero, if_zero), (other, if_other)] {
                    let (steps, at) = (self.rest.steps.clone(), self.rest.at);
                    if let Some(block) = self.body.block_mut(block) {
                        block.steps.extend(steps);
                        (block.at, block.end) = (at, End::Jump(to));
                    }
                }
            }
            None => {
                let behind = self.block(false);
                self.end(zero, End::Jump(behind));
                self.end(other, End::Jump(behind));
                self.go_on(behind);
            }
        }
    }

    /// Where a branch on the result leads that follows after a few copies: if it is 0, and if not.
    fn ways(&self) -> Option<(BlockId, BlockId)> {
        /// More operations are not worth having twice.
        const FEW: usize = 6;
        let mut copies = vec![self.dst];
        if self.rest.steps.len() > FEW {
            return None;
        }
        for step in &self.rest.steps {
            if !step.op.is_pure() {
                return None;
            }
            let copy = match step.op {
                Op::Mov { width: Width::W64, dst, src: Src::Var(src) } if copies.contains(&src) => Some(dst),
                _ => None,
            };
            step.op.writes(|var| copies.retain(|known| *known != var));
            copies.extend(copy);
        }
        let End::Branch { test, taken, next } = self.rest.end else { return None };
        let asks = test.width == Width::W64 && test.b == Src::Imm(0) && copies.contains(&test.a);
        match test.cond {
            isa::Cond::Eq if asks => Some((taken, next)),
            isa::Cond::Ne if asks => Some((next, taken)),
            _ => None,
        }
    }
}
