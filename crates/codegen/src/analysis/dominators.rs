//! Which blocks are on every way to a block.

use super::Edges;
use crate::flow::BlockId;

/// Which block dominates which.
#[derive(Clone, Debug)]
pub(crate) struct Dominators {
    /// By place in the order of edges: the block's number in a walk down the tree of dominators, and the last number below it. Of two blocks the one
    /// whose span holds the other's dominates it.
    spans: Vec<(usize, usize)>,
}

impl Dominators {
    /// Of the blocks that can be reached.
    pub(crate) fn of(edges: &Edges) -> Self {
        Self { spans: spans(&parents(edges)) }
    }

    /// Whether every way to `b` goes through `a`; each block dominates itself. Of blocks that cannot be reached, nothing is
    /// said.
    pub(crate) fn dominates(&self, edges: &Edges, a: BlockId, b: BlockId) -> bool {
        let span = |id| edges.place(id).and_then(|place| self.spans.get(place));
        match (span(a), span(b)) {
            (Some(a), Some(b)) => a.0 <= b.0 && b.1 <= a.1,
            _ => false,
        }
    }
}

/// By place, the last other block that every way to a block goes through (Cooper, Harvey and Kennedy).
fn parents(edges: &Edges) -> Vec<usize> {
    const UNKNOWN: usize = usize::MAX;
    let mut parents = vec![UNKNOWN; edges.order().len()];
    if let Some(entry) = parents.first_mut() {
        *entry = 0;
    }
    let mut changed = true;
    while changed {
        changed = false;
        for (place, &id) in edges.order().iter().enumerate().skip(1) {
            let known = |place: &usize| parents.get(*place).is_some_and(|parent| *parent != UNKNOWN);
            let sources = edges.predecessors(id).iter().filter_map(|&from| edges.place(from)).filter(known);
            let Some(parent) = sources.reduce(|a, b| common(&parents, a, b)) else { continue };
            if let Some(entry) = parents.get_mut(place)
                && *entry != parent
            {
                *entry = parent;
                changed = true;
            }
        }
    }
    parents
}

/// The last block on every way to two blocks. A dominator comes earlier in the order.
fn common(parents: &[usize], mut a: usize, mut b: usize) -> usize {
    let up = |place: usize| parents.get(place).copied().unwrap_or(0);
    while a != b {
        if a > b { a = up(a) } else { b = up(b) }
    }
    a
}

fn spans(parents: &[usize]) -> Vec<(usize, usize)> {
    // Sizes of the subtrees: children come behind their parents in the order.
    let mut sizes = vec![1usize; parents.len()];
    for (place, &parent) in parents.iter().enumerate().skip(1).rev() {
        let size = sizes.get(place).copied().unwrap_or(0);
        if let Some(total) = sizes.get_mut(parent) {
            *total += size;
        }
    }
    let mut spans = vec![(0, 0); parents.len()];
    let mut next = vec![0; parents.len()];
    for (place, &parent) in parents.iter().enumerate() {
        let size = sizes.get(place).copied().unwrap_or(0);
        let start = match next.get_mut(parent) {
            Some(next) if place != 0 => std::mem::replace(next, *next + size),
            _ => 0,
        };
        if let (Some(span), Some(next)) = (spans.get_mut(place), next.get_mut(place)) {
            *span = (start, start + size - 1);
            *next = start + 1;
        }
    }
    spans
}
