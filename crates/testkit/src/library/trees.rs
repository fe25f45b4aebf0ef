//! The invariants of the trees.

use std::collections::BTreeSet;

use bpf_arena::typed::ArenaPtr;

use super::allocators::{slab_holds, stack_holds};
use super::check::{Broken, Invariant, MAX_LIST, View};
use super::types::{BTREE_LEAST, Btree, BtreeNode, Domain, RbNode, RbTree, Topology};

/// Deepest tree that is followed.
const MAX_DEPTH: u32 = 64;

pub(super) fn rb_tree(view: &View<'_>) -> Result<(), Broken> {
    let tree = view.app.global::<RbTree>("rb_tree")?;
    view.expect(Invariant::LockFree, 0, tree.lock.held.into())?;
    view.expect(Invariant::BlackRoot, 0, view.read(tree.nil)?.red)?;
    let mut walk = RbWalk { view, tree: &tree, nodes: BTreeSet::new(), last: None };
    walk.below(tree.root, tree.nil, false, 0)?;
    let mut nodes = walk.nodes;
    view.expect(Invariant::BlackRoot, 0, view.read(tree.root)?.red)?;
    view.expect(Invariant::Count, tree.count, nodes.len() as u64)?;
    let inserted = view.sum(|t| t.rb_inserted.wrapping_sub(t.rb_removed));
    view.expect(Invariant::Balance, inserted, tree.count)?;
    nodes.insert(tree.nil.raw());
    slab_holds(view, &tree.nodes, &nodes)
}

struct RbWalk<'a> {
    view: &'a View<'a>,
    tree: &'a RbTree,
    nodes: BTreeSet<u64>,
    /// The key before.
    last: Option<u64>,
}

impl RbWalk<'_> {
    /// Checks the nodes from `at` down and gives how many black ones every way has.
    fn below(
        &mut self,
        at: ArenaPtr<RbNode>,
        parent: ArenaPtr<RbNode>,
        red_above: bool,
        depth: u32,
    ) -> Result<u64, Broken> {
        if at == self.tree.nil {
            return Ok(0);
        }
        let view = self.view;
        view.ensure(Invariant::Ends, depth < MAX_DEPTH && self.nodes.insert(at.raw()))?;
        let node = view.read(at)?;
        view.expect(Invariant::LinkedBack, parent.raw(), node.parent.raw())?;
        let red = node.red != 0;
        view.ensure(Invariant::RedHasBlack, !(red && red_above))?;
        let [left, right] = node.child;
        let blacks = self.below(left, at, red, depth + 1)?;
        view.ensure(Invariant::Ordered, self.last.is_none_or(|last| last < node.key))?;
        view.expect(Invariant::Values, !node.key, node.value)?;
        self.last = Some(node.key);
        let others = self.below(right, at, red, depth + 1)?;
        view.expect(Invariant::BlackHeight, blacks, others)?;
        Ok(blacks + u64::from(!red))
    }
}

pub(super) fn btree(view: &View<'_>) -> Result<(), Broken> {
    let tree = view.app.global::<Btree>("btree")?;
    view.expect(Invariant::LockFree, 0, tree.lock.held.into())?;
    let mut walk = BtreeWalk { view, nodes: BTreeSet::new(), keys: 0, last: None, leaf_depth: None };
    walk.below(tree.root, 0)?;
    view.expect(Invariant::Count, tree.count, walk.keys)?;
    let inserted = view.sum(|t| t.btree_inserted.wrapping_sub(t.btree_removed));
    view.expect(Invariant::Balance, inserted, tree.count)?;
    stack_holds(view, &tree.nodes, &walk.nodes)
}

struct BtreeWalk<'a> {
    view: &'a View<'a>,
    nodes: BTreeSet<u64>,
    keys: u64,
    last: Option<u64>,
    leaf_depth: Option<u32>,
}

impl BtreeWalk<'_> {
    fn below(&mut self, at: ArenaPtr<BtreeNode>, depth: u32) -> Result<(), Broken> {
        let view = self.view;
        view.ensure(Invariant::Ends, depth < MAX_DEPTH && self.nodes.insert(at.raw()))?;
        let node = view.read(at)?;
        let keys = usize::try_from(node.count).ok().and_then(|count| node.keys.get(..count));
        let least = if depth == 0 { node.leaf ^ 1 } else { BTREE_LEAST - 1 };
        view.ensure(Invariant::Fill, keys.is_some() && node.count >= least)?;
        let keys = keys.unwrap_or_default();
        self.keys += node.count;
        if node.leaf != 0 {
            let others = *self.leaf_depth.get_or_insert(depth);
            view.expect(Invariant::LeafDepth, others.into(), depth.into())?;
        }
        for ((&key, value), &child) in keys.iter().zip(node.values).zip(&node.children) {
            if node.leaf == 0 {
                self.below(child, depth + 1)?;
            }
            view.ensure(Invariant::Ordered, self.last.is_none_or(|last| last < key))?;
            view.expect(Invariant::Values, !key, value)?;
            self.last = Some(key);
        }
        match node.children.get(keys.len()) {
            Some(&last) if node.leaf == 0 => self.below(last, depth + 1),
            _ => Ok(()),
        }
    }
}

pub(super) fn topology(view: &View<'_>) -> Result<(), Broken> {
    let topology = view.app.global::<Topology>("topology")?;
    let mut walk = TopologyWalk { view, domains: 0, claimed: BTreeSet::new() };
    let idle = walk.below(topology.root, ArenaPtr::NULL, 0)?;
    view.expect(Invariant::Count, topology.domains, walk.domains)?;
    view.expect(Invariant::Count, topology.cpus, idle + walk.claimed.len() as u64)?;
    view.same_set(Invariant::HeldCpus, &view.held(|t| &t.cpus)?, &walk.claimed)
}

struct TopologyWalk<'a> {
    view: &'a View<'a>,
    domains: u64,
    /// Numbers of CPUs that are not idle, plus one, as threads store them.
    claimed: BTreeSet<u64>,
}

impl TopologyWalk<'_> {
    /// Checks a domain and those in it, and gives its idle CPUs.
    fn below(&mut self, at: ArenaPtr<Domain>, parent: ArenaPtr<Domain>, level: u64) -> Result<u64, Broken> {
        let view = self.view;
        let domain = view.read(at)?;
        self.domains += 1;
        view.ensure(Invariant::Ends, self.domains < MAX_LIST as u64)?;
        view.expect(Invariant::LinkedBack, parent.raw(), domain.parent.raw())?;
        view.expect(Invariant::LinkedBack, level, domain.level)?;
        let children = usize::try_from(domain.child_count).ok().and_then(|c| domain.children.get(..c));
        let children = children.unwrap_or_default();
        if children.is_empty() {
            view.ensure(Invariant::IdleSum, domain.idle <= 1 && domain.cpus == 1)?;
            if domain.idle == 0 {
                self.claimed.insert(domain.first_cpu + 1);
            }
            return Ok(domain.idle);
        }
        let mut idle = 0;
        for &child in children {
            idle += self.below(child, at, level + 1)?;
        }
        view.expect(Invariant::IdleSum, domain.idle, idle)?;
        Ok(idle)
    }
}
