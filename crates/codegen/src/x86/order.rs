//! How blocks are connected, which are in loops, and the order in which they are written.

use super::insn::{Block, BlockId, End, Function};
use crate::analysis::{Dominators, Edges, Loops};
use crate::flow::{self, Body, Src as BodySrc, Test as BodyTest, Var};

/// How many times as often a block of a loop is executed as those around the loop.
pub(super) const ITERATIONS: f32 = 16.0;
/// Loops in more loops than these count as if they were in no more.
const DEPTH: usize = 5;
/// How often what is rarely executed is, beside the rest.
const RARELY: f32 = 0.01;

/// The shape of a function.
pub(super) struct Shape {
    pub(super) edges: Edges,
    pub(super) loops: Loops,
    /// Per block, how often it is executed, as far as one can tell.
    pub(super) weights: Vec<f32>,
    /// Per block, where it leads.
    ends: Vec<flow::End>,
}

impl Shape {
    /// Of a function.
    pub(super) fn of(function: &Function) -> Self {
        let mut skeleton = Body::empty(0, isa::InsnIdx(0));
        for block in &function.blocks {
            let end = outline(block.end);
            let cold = block.cold;
            skeleton.blocks.push(flow::Block { steps: Vec::new(), at: block.at, end, cold });
        }
        let edges = Edges::of(&skeleton);
        let loops = Loops::of(&skeleton, &edges, &Dominators::of(&edges));
        let weight = |(id, block): (flow::BlockId, &flow::Block)| {
            let depth = i32::try_from(loops.depth(id).min(DEPTH)).unwrap_or(0);
            ITERATIONS.powi(depth) * if block.cold { RARELY } else { 1.0 }
        };
        let weights = skeleton.each_block().map(weight).collect();
        let ends = skeleton.blocks.iter().map(|block| block.end).collect();
        Self { edges, loops, weights, ends }
    }

    /// The blocks that may come next.
    pub(super) fn successors(&self, id: flow::BlockId) -> impl Iterator<Item = flow::BlockId> + use<> {
        self.ends.get(id.index()).copied().into_iter().flat_map(|end| end.successors())
    }

    /// How often a block is executed.
    pub(super) fn weight(&self, id: BlockId) -> f32 {
        self.weights.get(id.index()).copied().unwrap_or(1.0)
    }

    /// The blocks that are reached, each loop in one piece where that is possible.
    pub(super) fn order(&self) -> Vec<BlockId> {
        self.edges.order().iter().filter_map(|id| own(*id)).collect()
    }
}

/// The number of a block among those of a body.
pub(super) fn outer(id: BlockId) -> flow::BlockId {
    flow::BlockId::new(id.index())
}

/// The number of a block of a body, here.
pub(super) fn own(id: flow::BlockId) -> Option<BlockId> {
    u32::try_from(id.index()).ok().map(BlockId)
}

/// Where an end leads. Of two ways the first comes directly behind.
fn outline(end: End) -> flow::End {
    let test = BodyTest { width: isa::Width::W64, cond: isa::Cond::Eq, a: Var(0), b: BodySrc::Imm(0) };
    match end {
        End::Jump(to) => flow::End::Jump(outer(to)),
        End::Branch { yes, no, .. } => flow::End::Branch { test, taken: outer(no), next: outer(yes) },
        End::Afford { enough, short, .. } => {
            flow::End::Branch { test, taken: outer(enough), next: outer(short) }
        }
        End::Look { taken, next, .. } => flow::End::Branch { test, taken: outer(next), next: outer(taken) },
        End::Exit(_) => flow::End::Exit(Var::RESULT),
        End::Trap => flow::End::Trap,
    }
}

impl Function {
    /// The block with this number.
    pub(super) fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id.index())
    }

    /// The block with this number, to change it.
    pub(super) fn block_mut(&mut self, id: BlockId) -> Option<&mut Block> {
        self.blocks.get_mut(id.index())
    }
}
