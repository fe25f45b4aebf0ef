//! How blocks are connected.

use crate::flow::{BlockId, Body};

/// Predecessors, and an order in which blocks come behind those that lead to them.
#[derive(Clone, Debug)]
pub(crate) struct Edges {
    /// Per block: where its predecessors begin in `sources`; one more at the end.
    starts: Vec<usize>,
    sources: Vec<BlockId>,
    order: Vec<BlockId>,
    /// Per block: its place in `order`, `usize::MAX` if execution never comes there.
    places: Vec<usize>,
}

impl Edges {
    /// Of a body. What cannot be reached has no place in the order and is no predecessor.
    pub(crate) fn of(body: &Body) -> Self {
        let order = order(body);
        let mut places = vec![usize::MAX; body.blocks.len()];
        for (place, id) in order.iter().enumerate() {
            if let Some(entry) = places.get_mut(id.index()) {
                *entry = place;
            }
        }
        let edges = || {
            order.iter().flat_map(|&from| {
                body.block(from).into_iter().flat_map(move |b| b.end.successors().map(move |to| (from, to)))
            })
        };
        // `starts` counts, then says where each block's predecessors end, then where they begin.
        let mut starts = vec![0usize; body.blocks.len() + 1];
        let mut total = 0;
        for (_, to) in edges() {
            if let Some(count) = starts.get_mut(to.index()) {
                *count += 1;
                total += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut sources = vec![BlockId::ENTRY; total];
        for (from, to) in edges() {
            let Some(start) = starts.get_mut(to.index()) else { continue };
            *start = start.saturating_sub(1);
            if let Some(source) = sources.get_mut(*start) {
                *source = from;
            }
        }
        Self { starts, sources, order, places }
    }

    /// The blocks that lead to a block; one whose both ways lead there comes twice.
    pub(crate) fn predecessors(&self, id: BlockId) -> &[BlockId] {
        let start = self.starts.get(id.index()).copied().unwrap_or(0);
        let end = self.starts.get(id.index() + 1).copied().unwrap_or(start);
        self.sources.get(start..end).unwrap_or_default()
    }

    /// The only way into a block, if there is one.
    pub(crate) fn single_predecessor(&self, id: BlockId) -> Option<BlockId> {
        match self.predecessors(id) {
            [only] if id != BlockId::ENTRY => Some(*only),
            _ => None,
        }
    }

    /// What can be reached, in reverse post-order: but for loops, a block comes behind all that lead to it.
    pub(crate) fn order(&self) -> &[BlockId] {
        &self.order
    }

    /// The place of a block in the order; `None` if execution never comes there.
    pub(crate) fn place(&self, id: BlockId) -> Option<usize> {
        self.places.get(id.index()).copied().filter(|place| *place != usize::MAX)
    }
}

/// Reverse post-order. Of two ways the second is walked first, so that the first comes directly behind.
fn order(body: &Body) -> Vec<BlockId> {
    let mut order = Vec::with_capacity(body.blocks.len());
    let mut seen = vec![false; body.blocks.len()];
    let mut stack = vec![(BlockId::ENTRY, false)];
    while let Some((id, done)) = stack.pop() {
        if done {
            order.push(id);
            continue;
        }
        let (Some(block), Some(seen)) = (body.block(id), seen.get_mut(id.index())) else { continue };
        if std::mem::replace(seen, true) {
            continue;
        }
        stack.push((id, true));
        // The last one pushed is walked first.
        stack.extend(block.end.successors().map(|to| (to, false)));
    }
    order.reverse();
    order
}

/// Removes the blocks that nothing leads to; the others get new numbers, in the same order.
pub(crate) fn drop_unreached(body: &mut Body) {
    let edges = Edges::of(body);
    if edges.order().len() == body.blocks.len() {
        return;
    }
    let mut kept = 0;
    let numbers: Vec<_> = (0..body.blocks.len())
        .map(|index| {
            let number = BlockId::new(kept);
            kept += usize::from(edges.place(BlockId::new(index)).is_some());
            number
        })
        .collect();
    let mut index = 0;
    body.blocks.retain(|_| {
        index += 1;
        edges.place(BlockId::new(index - 1)).is_some()
    });
    for block in &mut body.blocks {
        block.end.each_successor_mut(|to| {
            if let Some(number) = numbers.get(to.index()) {
                *to = *number;
            }
        });
    }
}
