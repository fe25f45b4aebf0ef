//! Functions of the runtime that are a few operations where they are called.
//!
//! `bpf_iter_num_new`, `bpf_iter_num_next` and `bpf_iter_num_destroy`, which are behind `bpf_for`, work on two numbers in the
//! program's stack. What the runtime's own functions do beside that, looking whether the run is to end, an [`End::Look`] does.
//!
//! `bpf_map_lookup_elem` on an array that is known compares and computes. Where the number of the element was stored into the stack
//! right before, it need not go there any more.

mod elements;
mod numbers;
mod private;

use crate::analysis::{Edges, FrameAddresses};
use crate::flow::{At, Block, BlockId, Body, End, Op, Order, Place, Src, Step, Var};
use crate::lower::inline::MAP_LOOKUP_ELEM;
use crate::source::Source;
use elements::Array;
use isa::{CallTarget, Size, Width};
use numbers::Numbers;
use verifier::Memory;

/// Expands calls, in a program whose functions may be called back or not; the result is how many.
pub(super) fn run(body: &mut Body, source: Source<'_>, has_callbacks: bool) -> u32 {
    let changes = expand(body, &find(body, |op| What::of(op, source)));
    changes + private::mark(body, source.program(), has_callbacks)
}

/// What a call becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A step of an iterator over numbers.
    Numbers(Numbers),
    /// The address of a value.
    Element(Array),
}

impl What {
    fn of(op: &Op, source: Source<'_>) -> Option<Self> {
        match *op {
            Op::Call { target: CallTarget::Kfunc { btf_id, .. }, .. } => {
                let called = source.program().externs.get(usize::try_from(btf_id).ok()?)?;
                Numbers::from_name(&called.name).map(Self::Numbers)
            }
            Op::Call { target: CallTarget::Helper(MAP_LOOKUP_ELEM), map: Some(map), .. } => {
                Array::of(source.program(), map).map(Self::Element)
            }
            _ => None,
        }
    }

    /// The argument that says where the operands are: the iterator, or the number of the element.
    fn pointer(self, [first, second, ..]: [Var; 5]) -> Var {
        match self {
            Self::Numbers(_) => first,
            Self::Element(_) => second,
        }
    }
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
            match call.what {
                What::Numbers(numbers) => expansion.iterate(numbers),
                What::Element(array) => expansion.look_up(array),
            }
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
    what: What,
    /// What points to the operands as `r10` plus a constant, if it is that.
    on_stack: Option<i32>,
}

/// The calls of a body, in each block from its end to its beginning.
fn find(body: &Body, what: impl Fn(&Op) -> Option<What>) -> Vec<Found> {
    let mut steps = body.blocks.iter().flat_map(|block| &block.steps);
    if !steps.any(|step| what(&step.op).is_some()) {
        return Vec::new();
    }
    let edges = Edges::of(body);
    let addresses = FrameAddresses::of(body, &edges);
    let mut found = Vec::new();
    for &id in edges.order() {
        let Some(block) = body.block(id) else { continue };
        let mut state = addresses.at(id);
        let first = found.len();
        for (index, step) in block.steps.iter().enumerate() {
            if let (Some(what), Op::Call { args, .. }) = (what(&step.op), step.op) {
                found.push(Found {
                    block: id,
                    step: index,
                    what,
                    on_stack: state.offset(what.pointer(args)),
                });
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
    /// Where the operands are.
    operands: Place,
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
        let pointer = call.what.pointer(args);
        let (base, offset) = call.on_stack.map_or((pointer, 0), |offset| (Var::FRAME, offset));
        let operands = Place { base, index: None, offset, memory: Memory::Proven, clear: false };
        let (head, on_stack) = (call.block, call.on_stack);
        Some(Self { body, head, at, args, dst, clobbers, rest, operands, on_stack, vars })
    }

    /// A block behind all others.
    fn block(&mut self, cold: bool) -> BlockId {
        let cold = cold || self.rest.cold;
        self.body.push(Block { steps: Vec::new(), at: self.at, end: End::Trap, cold })
    }

    /// Reads 32 bits of the operands.
    fn read(&mut self, block: BlockId, dst: Var, offset: i32) {
        let (place, order) = (self.part(offset), Order::Plain);
        self.push(block, Op::Load { size: Size::W, sign_extend: false, dst, place, order });
    }

    fn part(&self, offset: i32) -> Place {
        Place { offset: self.operands.offset.saturating_add(offset), ..self.operands }
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
