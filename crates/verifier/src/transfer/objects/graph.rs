//! Lists and trees of allocated objects: their roots, protected by a lock in the same place, and the nodes that link
//! objects into them.

use bpf_object::TypeId;
use isa::{CallTarget, Insn, Reg};

use super::super::Step;
use crate::plan::fields::{Field, Refers, Set, Tag};
use crate::report::reason::{ObjectFault, Reason};
use crate::state::held::LockIn;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

/// What a list or tree contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) struct Graph {
    root: Tag,
    value: TypeId,
    node_offset: u32,
}

/// What is done with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) enum NodeUse {
    /// It is put in, and owned by the list or tree from then on.
    Add,
    /// It is in the tree and is looked at or taken out, by this function.
    Find { function: &'static str },
}

/// The only kernel function that calls back with a lock held.
const ADDS_TO_TREE: &str = "bpf_rbtree_add_impl";

impl Step<'_> {
    /// Checks an argument that must be the head of a list or the root of a tree (`root`), locked.
    pub(in crate::transfer) fn graph_root(&mut self, reg: Reg, root: Tag) -> Result<Graph, Reason> {
        let pointer = self.read(reg)?;
        let argument = usize::from(reg.number()).saturating_sub(1);
        let place = match pointer.kind {
            RegType::PtrToMapValue { map } if pointer.flags == Flags::NONE => LockIn::Map(map),
            RegType::PtrToBtfId { .. } if pointer.flags == Flags::ALLOC => LockIn::Object,
            _ => return Err(ObjectFault::RootPlace { argument, reg, found: pointer.type_name() }.into()),
        };
        if place == LockIn::Object && pointer.ref_id == 0 {
            return Err(ObjectFault::Unowned { reg }.into());
        }
        let (field, offset) = self.graph_field(reg, &pointer, root)?;
        let Some(Field { refers: Refers::Graph { value, node_offset }, .. }) = field else {
            return Err(ObjectFault::FieldMissing { field: root.name(), offset }.into());
        };
        self.check_locked(&pointer, place, root)?;
        Ok(Graph { root, value, node_offset })
    }

    /// Checks an argument that must be a node of what the list or tree contains.
    pub(in crate::transfer) fn graph_node(
        &mut self,
        reg: Reg,
        graph: Graph,
        how: NodeUse,
    ) -> Result<(), Reason> {
        let pointer = self.read(reg)?;
        let argument = usize::from(reg.number()).saturating_sub(1);
        match how {
            NodeUse::Add => {
                let allocated = matches!(pointer.kind, RegType::PtrToBtfId { .. });
                if !allocated || pointer.flags != Flags::ALLOC {
                    return Err(ObjectFault::NodePlace { argument, reg, found: pointer.type_name() }.into());
                }
                if pointer.ref_id == 0 {
                    return Err(ObjectFault::Unowned { reg }.into());
                }
            }
            NodeUse::Find { function } => {
                if !pointer.flags.has(Flags::NON_OWN_REF) && pointer.ref_id == 0 {
                    return Err(ObjectFault::NodeUnowned { function, reg }.into());
                }
                if self.in_tree_callback() {
                    return Err(ObjectFault::InTreeCallback { function }.into());
                }
            }
        }
        let node = if graph.root == Tag::ListHead { Tag::ListNode } else { Tag::RbNode };
        let (field, offset) = self.graph_field(reg, &pointer, node)?;
        if field.is_none() {
            return Err(ObjectFault::FieldMissing { field: node.name(), offset }.into());
        }
        let expected = i64::from(graph.node_offset);
        let same = pointer.kind == RegType::PtrToBtfId { of: BtfOwner::Object, ty: graph.value };
        if !same {
            let found = match pointer.kind {
                RegType::PtrToBtfId { ty, .. } => self.object_name(ty),
                _ => String::new(),
            };
            let (root, node, wanted) = (graph.root.name(), node.name(), self.object_name(graph.value));
            return Err(ObjectFault::NodeType { root, node, expected, wanted, offset, found }.into());
        }
        if offset != expected {
            let (node, wanted) = (node.name(), self.object_name(graph.value));
            return Err(ObjectFault::NodeOffset { node, offset, expected, wanted }.into());
        }
        Ok(())
    }

    /// The object that `reg` points to belongs to a list or tree from now on: its pointers are good as long as the lock is
    /// held.
    pub(in crate::transfer) fn give_to_graph(&mut self, reg: Reg) -> Result<(), Reason> {
        let id = self.read(reg)?.ref_id;
        if !self.state.held.holds_object(id) {
            return Err(Reason::Internal { what: "a node without a reference" });
        }
        let plan = self.plan;
        self.state.update_all(
            |r| r.ref_id == id,
            |r| {
                let counted = plan.record(r).is_some_and(|r| r.has(Set::of(Tag::Refcount)));
                *r = not_owned(RegState { ref_id: 0, ..*r }, counted);
            },
        );
        self.state.held.give_back_object(id);
        Ok(())
    }

    /// A node of what the list or tree contains, as functions give it: to own if `owned`.
    pub(in crate::transfer) fn node_of(&mut self, graph: Graph, owned: bool) -> RegState {
        let kind = RegType::PtrToBtfId { of: BtfOwner::Object, ty: graph.value };
        let mut node = self.pointer(kind).with(Flags::ALLOC);
        node.offset = i32::try_from(graph.node_offset).unwrap_or(i32::MAX);
        if owned {
            return node;
        }
        let counted = self.plan.record(&node).is_some_and(|r| r.has(Set::of(Tag::Refcount)));
        not_owned(node, counted)
    }

    /// A node of the tree whose root a register points to, which a callback may look at.
    pub(in crate::transfer) fn node_of_argument(&mut self, reg: Reg) -> Result<RegState, Reason> {
        let pointer = self.read(reg)?;
        let (field, _) = self.graph_field(reg, &pointer, Tag::RbRoot)?;
        let Some(Field { refers: Refers::Graph { value, node_offset }, .. }) = field else {
            return Err(Reason::Internal { what: "nodes of no tree" });
        };
        Ok(self.node_of(Graph { root: Tag::RbRoot, value, node_offset }, false))
    }

    /// Whether this is, or is called from, a callback that orders the nodes of a tree: its lock is held all the while.
    pub(in crate::transfer) fn in_tree_callback(&self) -> bool {
        self.state.frames().iter().skip(1).filter(|f| f.callback.is_some()).any(|frame| {
            match self.plan.program.code.get(frame.callsite) {
                Some(Insn::Call { target: CallTarget::Kfunc { btf_id, .. } }) => {
                    self.plan.kfunc_name(btf_id) == ADDS_TO_TREE
                }
                _ => false,
            }
        })
    }

    fn graph_field(&self, reg: Reg, pointer: &RegState, tag: Tag) -> Result<(Option<Field>, i64), Reason> {
        let Some(known) = pointer.scalar.as_constant() else {
            return Err(ObjectFault::FieldVariable { field: tag.name(), reg }.into());
        };
        let offset = known.cast_signed().saturating_add(i64::from(pointer.offset));
        let field = self.plan.record(pointer).and_then(|r| r.at(offset, Set::of(tag)));
        Ok((field.copied(), offset))
    }

    /// Checks that the lock in the same value or object is held.
    fn check_locked(&self, pointer: &RegState, place: LockIn, root: Tag) -> Result<(), Reason> {
        if self.state.held.has_lock(place, pointer.id) {
            return Ok(());
        }
        let lock = self.plan.record(pointer).and_then(|r| r.offset_of(Tag::SpinLock));
        let lock = lock.map_or(-22, i64::from);
        Err(ObjectFault::RootUnlocked { root: root.name(), lock }.into())
    }

    /// The name of one of the program's types.
    pub(super) fn object_name(&self, ty: TypeId) -> String {
        self.plan.program.btf.as_ref().map_or_else(String::new, |btf| btf.name(ty).to_owned())
    }
}

/// The same pointer without ownership; `counted`: the object has a count of references and stays while RCU readers may
/// look.
fn not_owned(pointer: RegState, counted: bool) -> RegState {
    let pointer = pointer.with(Flags::NON_OWN_REF);
    if counted { pointer.with(Flags::RCU) } else { pointer }
}
