//! Where values come from: a graph with one node per value the walk has made.
//!
//! Two questions are answered by following its edges from a value to what it was computed from:
//! - **Precision.** A state may be pruned against an earlier one although a number differs, as long as nothing that
//!   was decided after the earlier state depended on that number. When something does depend on a number (it moves a
//!   pointer, it decides a branch, it is a size) the number is marked precise here, and with it everything it was
//!   computed from. A saved state's numbers get fresh nodes, so that only paths through the state mark them.
//! - **Blame.** The instructions that made a value are the slice to show when that value breaks a rule.
//!
//! Nodes are never removed; the walk is bounded, and so is the graph.

use isa::InsnIdx;

/// A node of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(u32);

impl Origin {
    /// Of values that no one computed and that are always precise.
    pub(crate) const NONE: Self = Self(0);
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Instruction that made the value; `None` for copies made by saving a state.
    at: Option<InsnIdx>,
    precise: bool,
    /// First of a list in `edges`; 0 ends it.
    first: u32,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    to: Origin,
    next: u32,
}

/// The graph.
#[derive(Debug)]
pub(crate) struct Origins {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

impl Origins {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node { at: None, precise: true, first: 0 }],
            edges: vec![Edge { to: Origin::NONE, next: 0 }],
        }
    }

    /// A value made at `at` out of others.
    pub(crate) fn derive(&mut self, at: Option<InsnIdx>, from: &[Origin]) -> Origin {
        let Ok(index) = u32::try_from(self.nodes.len()) else { return Origin::NONE };
        self.nodes.push(Node { at, precise: false, first: 0 });
        let origin = Origin(index);
        for &source in from {
            self.depend(origin, source);
        }
        origin
    }

    /// From now on `value` depends on `source`, too.
    pub(crate) fn depend(&mut self, value: Origin, source: Origin) {
        if value == Origin::NONE || source == Origin::NONE || value == source {
            return;
        }
        let Ok(edge) = u32::try_from(self.edges.len()) else { return };
        let Some(node) = self.nodes.get_mut(value.0 as usize) else { return };
        self.edges.push(Edge { to: source, next: node.first });
        node.first = edge;
        if node.precise {
            self.mark_precise(source);
        }
    }

    /// Something depends on this value: it and all it was made of must be compared from now on.
    pub(crate) fn mark_precise(&mut self, value: Origin) {
        let mut waiting = vec![value];
        while let Some(origin) = waiting.pop() {
            let Some(node) = self.nodes.get_mut(origin.0 as usize) else { continue };
            if node.precise {
                continue;
            }
            node.precise = true;
            let mut next = node.first;
            while let Some(edge) = self.edges.get(next as usize).filter(|_| next != 0) {
                waiting.push(edge.to);
                next = edge.next;
            }
        }
    }

    pub(crate) fn is_precise(&self, value: Origin) -> bool {
        self.nodes.get(value.0 as usize).is_none_or(|n| n.precise)
    }

    /// Bytes of the graph.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice()) + size_of_val(self.edges.as_slice())
    }

    /// The instructions that contributed to a value, nearest first, at most `limit`.
    pub(crate) fn slice(&self, value: Origin, limit: usize) -> Vec<InsnIdx> {
        let mut found: Vec<InsnIdx> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut waiting = std::collections::VecDeque::from([value]);
        while let Some(origin) = waiting.pop_front() {
            if found.len() >= limit || seen.len() > 4096 {
                break;
            }
            if origin == Origin::NONE || !seen.insert(origin) {
                continue;
            }
            let Some(node) = self.nodes.get(origin.0 as usize) else { continue };
            if let Some(at) = node.at
                && !found.contains(&at)
            {
                found.push(at);
            }
            let mut next = node.first;
            while let Some(edge) = self.edges.get(next as usize).filter(|_| next != 0) {
                waiting.push_back(edge.to);
                next = edge.next;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_reach_what_a_value_was_made_of() {
        let mut origins = Origins::new();
        let a = origins.derive(Some(InsnIdx(0)), &[]);
        let b = origins.derive(Some(InsnIdx(1)), &[]);
        let sum = origins.derive(Some(InsnIdx(2)), &[a]);
        let other = origins.derive(Some(InsnIdx(3)), &[b]);
        origins.mark_precise(sum);
        assert!(origins.is_precise(a) && origins.is_precise(sum));
        assert!(!origins.is_precise(b) && !origins.is_precise(other));
        assert_eq!(origins.slice(sum, 10), [InsnIdx(2), InsnIdx(0)]);
    }

    #[test]
    fn a_dependency_added_later_is_marked_either_way() {
        let mut origins = Origins::new();
        let [a, b, c] = [0, 1, 2].map(|i| origins.derive(Some(InsnIdx(i)), &[]));
        origins.mark_precise(a);
        origins.depend(a, b);
        assert!(origins.is_precise(b));
        origins.depend(c, b);
        origins.depend(b, c);
        assert!(origins.is_precise(c), "cycles end");
    }

    #[test]
    fn no_origin_is_always_precise() {
        let mut origins = Origins::new();
        let a = origins.derive(None, &[Origin::NONE]);
        origins.mark_precise(a);
        assert!(origins.is_precise(Origin::NONE));
        assert!(origins.slice(a, 4).is_empty());
    }
}
