//! Who calls whom, and who is not called any more.

use std::collections::HashSet;

use isa::{CallTarget, Imm64};

use crate::flow::{Body, Op, Step};
use crate::source::Source;

/// The calls between bodies, which are known by their places in the list.
pub(super) struct Graph {
    /// Per subprogram: the place of its body.
    places: Vec<Option<usize>>,
    /// Per body: those it calls, once for each call.
    calls: Vec<Vec<usize>>,
    /// Per body: whether one call is all that ever enters it.
    sole_call: Vec<bool>,
    bottom_up: Vec<usize>,
}

impl Graph {
    /// Of a program.
    pub(super) fn of(bodies: &[Body], source: Source<'_>) -> Self {
        let mut places = vec![None; source.frames().len()];
        for (index, body) in bodies.iter().enumerate() {
            if let Some(place) = places.get_mut(body.subprogram) {
                *place = Some(index);
            }
        }
        let mut graph = Self { places, calls: Vec::new(), sole_call: Vec::new(), bottom_up: Vec::new() };
        let steps = |body: &Body| body.blocks.iter().flat_map(|b| &b.steps).copied().collect::<Vec<_>>();
        graph.calls = bodies
            .iter()
            .map(|body| steps(body).iter().filter_map(|step| graph.callee(source, step)).collect())
            .collect();
        let mut counts = vec![0usize; bodies.len()];
        for &callee in graph.calls.iter().flatten() {
            if let Some(count) = counts.get_mut(callee) {
                *count += 1;
            }
        }
        let addresses = bodies.iter().flat_map(|b| &b.blocks).flat_map(|b| &b.steps).filter_map(|step| {
            let Op::Address { of: Imm64::Func(to), .. } = step.op else { return None };
            source.subprogram_at(step.at.insn, to)
        });
        let taken: HashSet<_> = addresses.collect();
        let entered = |b: &Body| taken.contains(&b.subprogram) || is_entered(source, b.subprogram);
        graph.sole_call = bodies.iter().zip(counts).map(|(b, count)| count == 1 && !entered(b)).collect();
        graph.bottom_up = graph.post_order();
        graph
    }

    /// The place of the body that an operation calls.
    pub(super) fn callee(&self, source: Source<'_>, step: &Step) -> Option<usize> {
        let Op::Call { target: CallTarget::Local(offset), .. } = step.op else { return None };
        let subprogram = source.subprogram_at(step.at.insn, offset)?;
        self.places.get(subprogram).copied().flatten()
    }

    /// Whether a body calls others.
    pub(super) fn calls_any(&self, index: usize) -> bool {
        self.calls.get(index).is_some_and(|calls| !calls.is_empty())
    }

    /// Whether one call is all that ever enters a body.
    pub(super) fn is_sole_call_of(&self, index: usize) -> bool {
        self.sole_call.get(index) == Some(&true)
    }

    /// All bodies, each behind those that it calls, but for what calls itself, which verification refuses.
    pub(super) fn bottom_up(&self) -> &[usize] {
        &self.bottom_up
    }

    fn post_order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.calls.len());
        let mut seen = vec![false; self.calls.len()];
        for root in 0..self.calls.len() {
            let mut stack = vec![(root, false)];
            while let Some((index, done)) = stack.pop() {
                if done {
                    order.push(index);
                    continue;
                }
                let Some(seen) = seen.get_mut(index) else { continue };
                if !std::mem::replace(seen, true) {
                    stack.push((index, true));
                    stack.extend(self.calls.get(index).into_iter().flatten().map(|&callee| (callee, false)));
                }
            }
        }
        order
    }
}

/// Whether the runtime enters a subprogram without being given its address: the entry, what is called later. (The callback for
/// exceptions is another, but nothing is inlined into programs that throw.)
fn is_entered(source: Source<'_>, subprogram: usize) -> bool {
    subprogram == 0 || source.frames().get(subprogram).is_none_or(|frame| frame.later)
}

/// Drops the bodies that nothing enters: neither calls nor addresses lead there from what the runtime enters.
pub(super) fn drop_unused(bodies: &mut Vec<Body>, source: Source<'_>) {
    let mut used: Vec<_> = bodies.iter().map(|body| is_entered(source, body.subprogram)).collect();
    let mut work: Vec<_> = (0..bodies.len()).filter(|index| used.get(*index) == Some(&true)).collect();
    while let Some(body) = work.pop().and_then(|index| bodies.get(index)) {
        for step in body.blocks.iter().flat_map(|block| &block.steps) {
            let (Op::Call { target: CallTarget::Local(to), .. } | Op::Address { of: Imm64::Func(to), .. }) =
                step.op
            else {
                continue;
            };
            let target = source.subprogram_at(step.at.insn, to);
            let place = target.and_then(|target| bodies.binary_search_by_key(&target, |b| b.subprogram).ok());
            if let Some(place) = place
                && let Some(used) = used.get_mut(place)
                && !std::mem::replace(used, true)
            {
                work.push(place);
            }
        }
    }
    let mut used = used.into_iter();
    bodies.retain(|_| used.next() == Some(true));
}
