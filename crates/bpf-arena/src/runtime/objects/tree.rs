//! Red-black trees of objects (`struct bpf_rb_root`, `struct bpf_rb_node`).
//!
//! Programs see the shape (`bpf_rbtree_root`, `left`, `right`), so the tree is balanced in the usual way, with the usual
//! cases: a node with two children is replaced by the next one in order.
//!
//! The caller holds the lock of the tree. Links that lead to nothing, or round in circles, end an operation with `None`.

use verifier::fields::Tag;

use super::graph::{Node, get, set};
use super::heap::Object;
use crate::access::Place;

/// Offsets in a node: the parent's address with the colour in its lowest bit, and the children.
const PARENT: usize = 0;
const RIGHT: usize = 8;
const LEFT: usize = 16;
const BLACK: u64 = 1;

/// Offsets in a root: the topmost node, and the first in order.
const TOP: usize = 0;
const FIRST: usize = 8;

/// No way from the top to a leaf of a balanced tree is longer: it has at most twice the logarithm of the nodes.
const MAX_DEPTH: u32 = 128;

/// A side of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    fn offset(self) -> usize {
        match self {
            Self::Left => LEFT,
            Self::Right => RIGHT,
        }
    }
}

/// A tree. Nodes are addresses, 0 is none.
pub(super) struct Tree<'m> {
    root: Place<'m>,
}

impl<'m> Tree<'m> {
    /// The tree with this root.
    pub(super) fn new(root: Place<'m>) -> Self {
        Self { root }
    }

    /// The topmost node.
    pub(super) fn top(&self) -> u64 {
        get(&self.root, TOP)
    }

    /// The first node in order.
    pub(super) fn first(&self) -> u64 {
        get(&self.root, FIRST)
    }

    /// The child of a node.
    pub(super) fn child(&self, node: u64, side: Side) -> Option<u64> {
        Some(find(node)?.get(side.offset()))
    }

    /// Whether the node is in this tree.
    pub(super) fn contains(&self, node: u64) -> bool {
        find(node).is_some_and(|node| node.owner() == self.root.address())
    }

    /// Links in a node that was reserved. `is_less` says whether it comes before another; `None` ends the search.
    pub(super) fn insert(&self, node: Node, mut is_less: impl FnMut(u64) -> Option<bool>) -> Option<()> {
        let (mut parent, mut side, mut first) = (0, Side::Left, true);
        let mut next = self.top();
        let mut depth = 0;
        while next != 0 {
            depth += 1;
            // A program looks at the node, so it must be one.
            (depth <= MAX_DEPTH && self.contains(next)).then_some(())?;
            parent = next;
            side = if is_less(parent)? { Side::Left } else { Side::Right };
            first &= side == Side::Left;
            next = self.child(parent, side)?;
        }
        node.set(LEFT, 0);
        node.set(RIGHT, 0);
        node.set(PARENT, parent);
        self.replace_child(parent, side, node.address())?;
        if first {
            set(&self.root, FIRST, node.address());
        }
        node.set_owner(self.root.address());
        self.balance_red(node.address())
    }

    /// Takes out a node of this tree.
    pub(super) fn remove(&self, node: Node) -> Option<()> {
        let address = node.address();
        if self.first() == address {
            let next = self.next_without_left(node)?;
            set(&self.root, FIRST, next);
        }
        let (left, right) = (node.get(LEFT), node.get(RIGHT));
        let parent = parent_of(node);
        let (hole, side, child, was_black) = if left == 0 || right == 0 {
            let side = self.side_of(address, parent)?;
            let child = if left == 0 { right } else { left };
            self.replace_child(parent, side, child)?;
            (parent, side, child, is_black(node))
        } else {
            self.replace_by_next(node)?
        };
        if child != 0 {
            find(child)?.set(PARENT, hole | (find(child)?.get(PARENT) & BLACK));
        }
        node.set_owner(0);
        if was_black { self.balance_black(hole, side, child) } else { Some(()) }
    }

    /// Empties the tree; what was in it.
    pub(super) fn take_all(&self, taken: &mut Vec<Object>) {
        let mut left = vec![self.top()];
        set(&self.root, TOP, 0);
        set(&self.root, FIRST, 0);
        // Each node is met once: it has no owner afterwards.
        while let Some(at) = left.pop() {
            let Some(node) = find(at).filter(|n| n.owner() == self.root.address()) else { continue };
            node.set_owner(0);
            taken.push(node.object);
            left.extend([node.get(LEFT), node.get(RIGHT)].into_iter().filter(|child| *child != 0));
        }
    }

    /// The node after one that has no left child, or whose left side does not matter.
    fn next_without_left(&self, node: Node) -> Option<u64> {
        match node.get(RIGHT) {
            0 => Some(parent_of(node)),
            right => self.leftmost(right),
        }
    }

    fn leftmost(&self, mut node: u64) -> Option<u64> {
        for _ in 0..MAX_DEPTH {
            match self.child(node, Side::Left)? {
                0 => return Some(node),
                left => node = left,
            }
        }
        None
    }

    /// Puts the next node in order in the place of one with two children. Where that one was missing then: its parent, the
    /// side, what is there now, and whether it was black.
    fn replace_by_next(&self, node: Node) -> Option<(u64, Side, u64, bool)> {
        let right = node.get(RIGHT);
        let next = find(self.leftmost(right)?)?;
        let (child, was_black) = (next.get(RIGHT), is_black(next));
        let hole = if next.address() == right {
            (right, Side::Right)
        } else {
            let parent = parent_of(next);
            self.replace_child(parent, Side::Left, child)?;
            next.set(RIGHT, right);
            set_parent(right, next.address())?;
            (parent, Side::Left)
        };
        let left = node.get(LEFT);
        next.set(LEFT, left);
        set_parent(left, next.address())?;
        let parent = parent_of(node);
        let side = self.side_of(node.address(), parent)?;
        self.replace_child(parent, side, next.address())?;
        next.set(PARENT, node.get(PARENT));
        Some((hole.0, hole.1, child, was_black))
    }

    /// A red node was put in: no red node may have a red parent.
    fn balance_red(&self, mut node: u64) -> Option<()> {
        for _ in 0..MAX_DEPTH {
            let parent = parent_of(find(node)?);
            if parent == 0 {
                return set_black(node, true);
            }
            if black(parent)? {
                return Some(());
            }
            // A red node is never on top.
            let above = parent_of(find(parent)?);
            let side = self.side_of(parent, above)?;
            let uncle = self.child(above, side.other())?;
            if !black(uncle)? {
                set_black(parent, true)?;
                set_black(uncle, true)?;
                set_black(above, false)?;
                node = above;
                continue;
            }
            let mut parent = parent;
            if self.child(parent, side.other())? == node {
                self.rotate(parent, side)?;
                parent = node;
            }
            set_black(parent, true)?;
            set_black(above, false)?;
            return self.rotate(above, side.other());
        }
        None
    }

    /// On `side` of `parent`, where `node` (perhaps none) is, the ways down have one black node too few.
    fn balance_black(&self, mut parent: u64, mut side: Side, mut node: u64) -> Option<()> {
        for _ in 0..MAX_DEPTH {
            if node != 0 && (parent == 0 || !black(node)?) {
                return set_black(node, true);
            }
            if parent == 0 {
                return Some(());
            }
            let mut sibling = self.child(parent, side.other())?;
            if !black(sibling)? {
                set_black(sibling, true)?;
                set_black(parent, false)?;
                self.rotate(parent, side)?;
                sibling = self.child(parent, side.other())?;
            }
            let (near, far) = (self.child(sibling, side)?, self.child(sibling, side.other())?);
            if black(near)? && black(far)? {
                set_black(sibling, false)?;
                node = parent;
                parent = parent_of(find(node)?);
                if parent != 0 {
                    side = self.side_of(node, parent)?;
                }
                continue;
            }
            if black(far)? {
                set_black(near, true)?;
                set_black(sibling, false)?;
                self.rotate(sibling, side.other())?;
                sibling = near;
            }
            set_black(sibling, black(parent)?)?;
            set_black(parent, true)?;
            set_black(self.child(sibling, side.other())?, true)?;
            return self.rotate(parent, side);
        }
        None
    }

    /// Moves a node down to `side`; its child on the other side takes its place.
    fn rotate(&self, node: u64, side: Side) -> Option<()> {
        let (down, up) = (find(node)?, self.child(node, side.other())?);
        let rising = find(up)?;
        let middle = rising.get(side.offset());
        let parent = parent_of(down);
        let parent_side = self.side_of(node, parent)?;
        down.set(side.other().offset(), middle);
        if middle != 0 {
            set_parent(middle, node)?;
        }
        rising.set(side.offset(), node);
        set_parent(node, up)?;
        set_parent(up, parent)?;
        self.replace_child(parent, parent_side, up)
    }

    /// On which side of its parent a node is. The topmost one is on the left.
    fn side_of(&self, node: u64, parent: u64) -> Option<Side> {
        let left = parent == 0 || self.child(parent, Side::Left)? == node;
        Some(if left { Side::Left } else { Side::Right })
    }

    /// Makes `child` the child of `parent`, or the topmost node.
    fn replace_child(&self, parent: u64, side: Side, child: u64) -> Option<()> {
        if parent == 0 {
            set(&self.root, TOP, child);
        } else {
            find(parent)?.set(side.offset(), child);
        }
        Some(())
    }
}

fn find(node: u64) -> Option<Node> {
    Node::find(node, Tag::RbNode)
}

fn parent_of(node: Node) -> u64 {
    node.get(PARENT) & !BLACK
}

fn set_parent(node: u64, parent: u64) -> Option<()> {
    let node = find(node)?;
    node.set(PARENT, parent | (node.get(PARENT) & BLACK));
    Some(())
}

fn is_black(node: Node) -> bool {
    node.get(PARENT) & BLACK != 0
}

/// Whether a node is black; where there is none, it is.
fn black(node: u64) -> Option<bool> {
    if node == 0 { Some(true) } else { find(node).map(is_black) }
}

fn set_black(node: u64, black: bool) -> Option<()> {
    let node = find(node)?;
    node.set(PARENT, parent_of(node) | u64::from(black));
    Some(())
}
