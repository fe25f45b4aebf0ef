//! Slots of the stack that nothing but the function's own loads and stores reaches any more.
//!
//! Verification says of a slot that something else reaches it if a kernel function does, or a subprogram that is given a pointer. Once
//! those are operations of the function, accesses through copies of `r10` become accesses through `r10` itself; a slot that no
//! other pointer to the stack can reach then is a private one.
//!
//! What a pointer can reach that is passed to a helper or kernel function: what lies above it, and of keys and values of known maps as
//! many bytes as those have. One that goes anywhere else (memory, a subprogram or callback, arithmetic with numbers that are not
//! constants) may reach all of the stack.

use std::ops::Range;

use bpf_object::Program;
use isa::CallTarget;
use verifier::Memory;

use crate::analysis::{Edges, FrameAddresses, FrameState, Liveness, followed};
use crate::flow::{BlockId, Body, End, Op, Place, Src, Var};
use crate::lower::inline::{MAP_DELETE_ELEM, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM};

/// Bytes of a slot.
const BYTES: i32 = 8;

/// Has slots be private that are; the result is how many were not before.
pub(super) fn mark(body: &mut Body, program: &Program, has_callbacks: bool) -> u32 {
    if body.slots.addressed().is_empty() {
        return 0;
    }
    let edges = Edges::of(body);
    let addresses = FrameAddresses::of(body, &edges);
    let Some(reached) = reached(body, &edges, &addresses, Callees { program, has_callbacks }) else {
        return 0;
    };
    let is_private = |slot: &i32| {
        // What lies above `r10` is not the function's.
        let bytes = *slot..slot.saturating_add(BYTES);
        bytes.end <= 0 && reached.iter().all(|range| range.end <= bytes.start || bytes.end <= range.start)
    };
    let private: Vec<_> = body.slots.addressed().iter().copied().filter(is_private).collect();
    if !private.is_empty() {
        address_by_frame(body, &addresses);
    }
    private.iter().for_each(|slot| body.slots.make_private(*slot));
    u32::try_from(private.len()).unwrap_or(u32::MAX)
}

/// What is known of those who are given pointers.
#[derive(Clone, Copy)]
struct Callees<'a> {
    program: &'a Program,
    /// Whether a helper or kernel function may enter a callback of the program.
    has_callbacks: bool,
}

impl Callees<'_> {
    /// The arguments of a call that are read as pointers, with the bytes each reaches; `None` if that is not known.
    fn pointers(self, op: &Op) -> Option<Vec<(Var, u32)>> {
        let Op::Call { target: CallTarget::Helper(helper), map: Some(map), args, .. } = *op else {
            return None;
        };
        let spec = self.program.maps.get(map as usize)?;
        let [_, key, value, ..] = args;
        match helper {
            MAP_LOOKUP_ELEM | MAP_DELETE_ELEM => Some(vec![(key, spec.key_size)]),
            MAP_UPDATE_ELEM => Some(vec![(key, spec.key_size), (value, spec.value_size)]),
            _ => None,
        }
    }
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

/// The bytes of the stack that pointers reach; `None` if they may reach all of it.
fn reached(
    body: &Body,
    edges: &Edges,
    addresses: &FrameAddresses,
    callees: Callees<'_>,
) -> Option<Vec<Range<i32>>> {
    let mut reached = Vec::new();
    if !addresses.mixed().is_empty() {
        let live = Liveness::of(body, edges);
        if addresses.mixed().iter().any(|(block, var)| live.at(*block).contains(*var)) {
            return None;
        }
    }
    for &id in edges.order() {
        let Some(block) = body.block(id) else { continue };
        let mut state = addresses.at(id);
        for step in &block.steps {
            reach(&step.op, &mut state, callees, &mut reached)?;
        }
        if let End::Exit(value) = block.end
            && state.offset(value).is_some()
        {
            return None;
        }
    }
    Some(reached)
}

/// Notes the bytes that an operation makes reachable; `None` if that may be all of the stack.
fn reach(
    op: &Op,
    state: &mut FrameState<'_>,
    callees: Callees<'_>,
    reached: &mut Vec<Range<i32>>,
) -> Option<()> {
    let mut lowest: Option<i32> = None;
    op.reads(|var| {
        if let Some(offset) = state.offset(var) {
            lowest = Some(lowest.map_or(offset, |lowest| lowest.min(offset)));
        }
    });
    let Some(lowest) = lowest else {
        state.step(op);
        return Some(());
    };
    if let Some(pointers) = callees.pointers(op) {
        let bytes = |(var, bytes): (Var, u32)| {
            let from = state.offset(var)?;
            Some(from..from.saturating_add_unsigned(bytes))
        };
        reached.extend(pointers.into_iter().filter_map(bytes));
        state.step(op);
        return Some(());
    }
    // A store's value, a selection's sides, whatever is computed with an address: not followed.
    let is_address = |src: Src| matches!(src, Src::Var(var) if state.offset(var).is_some());
    let goes_nowhere = match op {
        Op::Load { place, .. } => on_stack(place, state).is_some(),
        Op::Store { place, src, .. } => !is_address(*src) && on_stack(place, state).is_some(),
        Op::Atomic { place, src, expected, .. } => {
            let operands = [Some(*src), *expected];
            !operands.into_iter().flatten().any(|var| is_address(Src::Var(var)))
                && on_stack(place, state).is_some()
        }
        Op::Compare { .. } => true,
        _ => false,
    };
    state.step(op);
    let is_followed = followed(op).is_some_and(|(dst, ..)| state.offset(dst).is_some());
    if goes_nowhere || is_followed {
        return Some(());
    }
    match op {
        Op::Call { target: CallTarget::Helper(_) | CallTarget::Kfunc { .. }, .. }
            if !callees.has_callbacks =>
        {
            reached.push(lowest..i32::MAX);
            Some(())
        }
        _ => None,
    }
}
