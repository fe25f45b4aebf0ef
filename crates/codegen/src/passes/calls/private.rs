//! Slots of the stack that nothing but the function's own loads and stores reaches any more.
//!
//! Verification says of a slot that something else reaches it if a kernel function does, or a subprogram that is given a pointer. Once
//! those are operations of the function, accesses through copies of `r10` become accesses through `r10` itself; a slot that no
//! other pointer to the stack can reach then is a private one.
//!
//! What a pointer can reach that is passed to a helper or kernel function: what lies above it. One that goes anywhere else (memory, a
//! subprogram or callback, arithmetic with numbers that are not constants) may reach all of the stack.

use isa::CallTarget;
use verifier::Memory;

use crate::analysis::{Edges, FrameAddresses, FrameState, Liveness, followed};
use crate::flow::{BlockId, Body, End, Op, Place, Src, Var};

/// Bytes of a slot.
const BYTES: i32 = 8;

/// Has slots be private that are; the result is how many were not before.
pub(super) fn mark(body: &mut Body, has_callbacks: bool) -> u32 {
    if body.slots.addressed().is_empty() {
        return 0;
    }
    let edges = Edges::of(body);
    let addresses = FrameAddresses::of(body, &edges);
    let reachable = reachable(body, &edges, &addresses, has_callbacks).min(0);
    let is_private = |slot: &i32| slot.saturating_add(BYTES) <= reachable;
    let private: Vec<_> = body.slots.addressed().iter().copied().filter(is_private).collect();
    if !private.is_empty() {
        address_by_frame(body, &addresses);
    }
    private.iter().for_each(|slot| body.slots.make_private(*slot));
    u32::try_from(private.len()).unwrap_or(u32::MAX)
}

/// Where a place is from `r10`, if that is known.
fn on_stack(place: &Place, state: &FrameState<'_>) -> Option<i32> {
    let base =
        state.offset(place.base).filter(|_| place.index.is_none() && place.memory == Memory::Proven)?;
    base.checked_add(place.offset)
}

/// Has accesses through copies of `r10` go through `r10`.
fn address_by_frame(body: &mut Body, addresses: &FrameAddresses) {
    for (index, block) in body.blocks.iter_mut().enumerate() {
        let mut state = addresses.at(BlockId::new(index));
        for step in &mut block.steps {
            if let Some(place) = step.op.place_mut()
                && let Some(offset) = on_stack(place, &state)
            {
                (place.base, place.offset) = (Var::FRAME, offset);
            }
            state.step(&step.op);
        }
    }
}

/// From which offset on pointers reach the stack.
fn reachable(body: &Body, edges: &Edges, addresses: &FrameAddresses, has_callbacks: bool) -> i32 {
    /// All of it.
    const EVERYWHERE: i32 = i32::MIN;
    let mut reachable = i32::MAX;
    if !addresses.mixed().is_empty() {
        let live = Liveness::of(body, edges);
        if addresses.mixed().iter().any(|(block, var)| live.at(*block).contains(*var)) {
            return EVERYWHERE;
        }
    }
    for &id in edges.order() {
        let Some(block) = body.block(id) else { continue };
        let mut state = addresses.at(id);
        for step in &block.steps {
            reachable = reachable.min(reached_by(&step.op, &mut state, has_callbacks).unwrap_or(EVERYWHERE));
        }
        if let End::Exit(value) = block.end
            && state.offset(value).is_some()
        {
            return EVERYWHERE;
        }
    }
    reachable
}

/// The lowest offset that an operation makes reachable; `None` if that may be all of the stack.
fn reached_by(op: &Op, state: &mut FrameState<'_>, has_callbacks: bool) -> Option<i32> {
    let mut lowest: Option<i32> = None;
    op.reads(|var| {
        if let Some(offset) = state.offset(var) {
            lowest = Some(lowest.map_or(offset, |lowest| lowest.min(offset)));
        }
    });
    let before = lowest;
    // A store's value, a selection's sides, whatever is computed with an address: not followed.
    let goes_nowhere = match op {
        Op::Load { place, .. } => on_stack(place, state).is_some(),
        Op::Store { place, src, .. } => {
            let stored = matches!(src, Src::Var(var) if state.offset(*var).is_some());
            !stored && (on_stack(place, state).is_some() || before.is_none())
        }
        Op::Atomic { place, src, expected, .. } => {
            let stored = [Some(*src), *expected].into_iter().flatten().any(|var| state.offset(var).is_some());
            !stored && (on_stack(place, state).is_some() || before.is_none())
        }
        Op::Compare { .. } => true,
        _ => false,
    };
    let follows = followed(op);
    state.step(op);
    match (before, op) {
        (None, _) => Some(i32::MAX),
        _ if goes_nowhere => Some(i32::MAX),
        _ if follows.is_some_and(|(dst, ..)| state.offset(dst).is_some()) => Some(i32::MAX),
        (Some(lowest), Op::Call { target: CallTarget::Helper(_) | CallTarget::Kfunc { .. }, .. }) => {
            (!has_callbacks).then_some(lowest)
        }
        _ => None,
    }
}
