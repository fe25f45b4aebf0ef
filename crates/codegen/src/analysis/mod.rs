//! What passes ask about a body: how blocks are connected, what is in loops, which values are still needed.
//!
//! Nothing here follows changes: a pass that changes blocks asks anew.

mod bits;
mod dominators;
mod edges;
mod frames;
mod induction;
mod limit;
mod live;
mod loops;
mod pressure;
mod shape;
mod vars;
mod work;

#[cfg(test)]
mod tests;

pub(crate) use bits::Bits;
pub(crate) use dominators::Dominators;
pub(crate) use edges::{Edges, drop_unreached};
pub(crate) use frames::{FrameAddresses, FrameState, followed};
pub(crate) use induction::{Counted, Induction, Inductions};
pub(crate) use limit::{Limit, limit, swapped};
pub(crate) use live::{Liveness, reads_and_writes, union_behind};
pub(crate) use loops::{Loop, LoopId, Loops};
pub(crate) use pressure::{most_live, registers};
pub(crate) use shape::Shape;
pub(crate) use vars::VarSet;
pub(crate) use work::Worklist;
