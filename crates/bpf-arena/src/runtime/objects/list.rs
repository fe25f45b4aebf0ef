//! Doubly linked lists of objects (`struct bpf_list_head`, `struct bpf_list_node`): a ring through the head. A head of
//! zeroes is an empty list.
//!
//! The caller holds the lock of the list. Links that lead to nothing end an operation with `None`.

use verifier::fields::Tag;

use super::graph::{Node, get, set};
use super::heap::Object;
use crate::access::Place;

/// Offsets of the links, in heads and in nodes.
const NEXT: usize = 0;
const PREV: usize = 8;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// A list.
pub(super) struct List<'m> {
    head: Place<'m>,
}

impl<'m> List<'m> {
    /// The list with this head.
    pub(super) fn new(head: Place<'m>) -> Self {
        Self { head }
    }

    /// Links in a node that was reserved.
    pub(super) fn push(&self, node: Node, end: End) -> Option<()> {
        let (before, after) = match end {
            End::Front => (self.address(), self.first()),
            End::Back => (self.last(), self.address()),
        };
        self.check(before)?;
        self.check(after)?;
        node.set(NEXT, after);
        node.set(PREV, before);
        self.set(before, NEXT, node.address())?;
        self.set(after, PREV, node.address())?;
        node.set_owner(self.address());
        Some(())
    }

    /// The node at this end; `Some(None)` if the list is empty.
    pub(super) fn peek(&self, end: End) -> Option<Option<Node>> {
        let address = match end {
            End::Front => self.first(),
            End::Back => self.last(),
        };
        if address == self.address() {
            return Some(None);
        }
        let node = Node::find(address, Tag::ListNode)?;
        (node.owner() == self.address()).then_some(Some(node))
    }

    /// Takes out the node at this end; `Some(None)` if the list is empty.
    pub(super) fn pop(&self, end: End) -> Option<Option<Node>> {
        let Some(node) = self.peek(end)? else { return Some(None) };
        let (before, after) = (node.get(PREV), node.get(NEXT));
        self.check(before)?;
        self.set(after, PREV, before)?;
        self.set(before, NEXT, after)?;
        node.set_owner(0);
        Some(Some(node))
    }

    /// Empties the list; what was in it.
    pub(super) fn take_all(&self, taken: &mut Vec<Object>) {
        let mut at = self.first();
        set(&self.head, NEXT, 0);
        set(&self.head, PREV, 0);
        // Each node is met once: it has no owner afterwards.
        while let Some(node) = Node::find(at, Tag::ListNode).filter(|n| n.owner() == self.address()) {
            at = node.get(NEXT);
            node.set_owner(0);
            taken.push(node.object);
        }
    }

    fn address(&self) -> u64 {
        self.head.address()
    }

    fn first(&self) -> u64 {
        self.or_self(get(&self.head, NEXT))
    }

    fn last(&self) -> u64 {
        self.or_self(get(&self.head, PREV))
    }

    fn or_self(&self, link: u64) -> u64 {
        if link == 0 { self.address() } else { link }
    }

    /// Whether the head or a node is at this address.
    fn check(&self, at: u64) -> Option<()> {
        (at == self.address() || Node::find(at, Tag::ListNode).is_some()).then_some(())
    }

    fn set(&self, at: u64, link: usize, value: u64) -> Option<()> {
        if at == self.address() {
            set(&self.head, link, value);
        } else {
            Node::find(at, Tag::ListNode)?.set(link, value);
        }
        Some(())
    }
}
