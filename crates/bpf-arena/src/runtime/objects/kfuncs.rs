//! The kfuncs and helpers on allocated objects, lists and trees.
//!
//! In the kernel the verifier hands some of these functions more than the program does: the size of a type instead of its
//! number, its special fields, where a node lies in its object. Here the heap knows all that of any object.

use isa::{AtomicOp, Size};
use verifier::fields::Tag;

use super::graph::Node;
use super::heap::{Object, heap};
use super::list::{End, List};
use super::release::{acquire, release};
use super::stand_in;
use super::tree::{Side, Tree};
use crate::access::Place;
use crate::error::TrapKind;
use crate::runtime::registry::{Row, rows};
use crate::runtime::{EINVAL, Invocation, errno32, low32};

pub(in crate::runtime) static ROWS: &[Row] = rows! {
    Some(153), "bpf_per_cpu_ptr" => per_cpu_ptr;
    Some(154), "bpf_this_cpu_ptr" => this_cpu_ptr;
    Some(194), "bpf_kptr_xchg" => kptr_xchg;
    None, "bpf_obj_new_impl" => obj_new;
    None, "bpf_obj_drop_impl" => obj_drop;
    None, "bpf_percpu_obj_new_impl" => percpu_obj_new;
    None, "bpf_percpu_obj_drop_impl" => obj_drop;
    None, "bpf_refcount_acquire_impl" => refcount_acquire;
    None, "bpf_list_push_front_impl" => list_push_front;
    None, "bpf_list_push_back_impl" => list_push_back;
    None, "bpf_list_pop_front" => list_pop_front;
    None, "bpf_list_pop_back" => list_pop_back;
    None, "bpf_list_front" => list_front;
    None, "bpf_list_back" => list_back;
    None, "bpf_rbtree_add_impl" => rbtree_add;
    None, "bpf_rbtree_remove" => rbtree_remove;
    None, "bpf_rbtree_first" => rbtree_first;
    None, "bpf_rbtree_root" => rbtree_root;
    None, "bpf_rbtree_left" => rbtree_left;
    None, "bpf_rbtree_right" => rbtree_right;
};

/// Names of those that make objects.
pub(super) const MAKERS: [&str; 3] = ["bpf_cpumask_create", "bpf_obj_new_impl", "bpf_percpu_obj_new_impl"];

/// `void *bpf_kptr_xchg(void *dst, void *ptr)`: the pointer that was there. Who owns what, verification has decided.
fn kptr_xchg(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [field, pointer, ..] = args;
    let place = run.memory(field, 8, true)?;
    stand_in::keep(pointer, &run.image.options.world);
    let old = place.fetch(Size::DW, AtomicOp::Xchg, pointer, 0);
    run.owned.lose(pointer);
    run.owned.gain(old.unwrap_or(0));
    old.ok_or(TrapKind::Misaligned { address: field, size: 8 })
}

/// `void *bpf_per_cpu_ptr(const void *percpu_ptr, u32 cpu)`: NULL if there is no such CPU.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn per_cpu_ptr(_: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [pointer, cpu, ..] = args;
    let cpu = low32(cpu);
    Ok(if (cpu as usize) < crate::cpu::possible() { of_cpu(pointer, cpu) } else { 0 })
}

/// `void *bpf_this_cpu_ptr(const void *percpu_ptr)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn this_cpu_ptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(of_cpu(args[0], run.cpu.get()))
}

/// A CPU's own of what there is for each. Variables of a kernel are images that all CPUs share.
fn of_cpu(pointer: u64, cpu: u32) -> u64 {
    let own = Object::find(pointer).and_then(|object| object.copy_of(cpu));
    own.map_or(pointer, |own| own.address())
}

/// `void *bpf_obj_new_impl(u64 local_type_id, void *meta)`: a zeroed object, with one reference if they are counted.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn obj_new(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(make(run, args[0], false))
}

/// `void *bpf_percpu_obj_new_impl(u64 local_type_id, void *meta)`: an object for each CPU.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn percpu_obj_new(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(make(run, args[0], true))
}

/// The address of a new object of this type, which the program owns; 0 if there is no memory.
fn make(run: &Invocation<'_>, ty: u64, per_cpu: bool) -> u64 {
    let allocate = || {
        let image = run.image;
        let layout = image.objects.layout(&image.verified, u32::try_from(ty).ok()?, per_cpu)?;
        heap()?.allocate(layout)
    };
    let Some(object) = allocate() else { return 0 };
    if let Some(count) = object.refcount() {
        count.store(Size::W, 1, std::sync::atomic::Ordering::Release);
    }
    run.owned.gain(object.address());
    object.address()
}

/// `void bpf_obj_drop_impl(void *p, void *meta)`, `bpf_percpu_obj_drop_impl`.
fn obj_drop(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [object, ..] = args;
    run.owned.lose(object);
    let bad = TrapKind::BadArgument { function: "bpf_obj_drop", argument: 1, value: object };
    if release(object) { Ok(0) } else { Err(bad) }
}

/// `void *bpf_refcount_acquire_impl(void *p, void *meta)`: the object, NULL if it is about to end.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn refcount_acquire(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [object, ..] = args;
    let acquired = Object::find(object).filter(acquire).map_or(0, |_| object);
    run.owned.gain(acquired);
    Ok(acquired)
}

/// `int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, u64 off)`.
fn list_push_front(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    push(run, "bpf_list_push_front", args, End::Front)
}

/// `int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, u64 off)`.
fn list_push_back(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    push(run, "bpf_list_push_back", args, End::Back)
}

/// `struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head)`.
fn list_pop_front(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    pop(run, "bpf_list_pop_front", args, End::Front)
}

/// `struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head)`.
fn list_pop_back(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    pop(run, "bpf_list_pop_back", args, End::Back)
}

/// `struct bpf_list_node *bpf_list_front(struct bpf_list_head *head)`.
fn list_front(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let list = List::new(root(run, args[0], Tag::ListHead)?);
    node_address(list.peek(End::Front), broken("bpf_list_front", args[0]))
}

/// `struct bpf_list_node *bpf_list_back(struct bpf_list_head *head)`.
fn list_back(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let list = List::new(root(run, args[0], Tag::ListHead)?);
    node_address(list.peek(End::Back), broken("bpf_list_back", args[0]))
}

/// Takes a node out, whose object the program owns then.
fn pop(run: &mut Invocation<'_>, function: &'static str, args: [u64; 5], end: End) -> Result<u64, TrapKind> {
    let list = List::new(root(run, args[0], Tag::ListHead)?);
    let found = list.pop(end);
    if let Some(Some(node)) = &found {
        run.owned.gain(node.object.address());
    }
    node_address(found, broken(function, args[0]))
}

/// Puts a node in, or drops its object and answers `-EINVAL` if the node is in a list.
fn push(run: &mut Invocation<'_>, function: &'static str, args: [u64; 5], end: End) -> Result<u64, TrapKind> {
    let [head, node, ..] = args;
    let list = List::new(root(run, head, Tag::ListHead)?);
    let node = node_argument(function, node, Tag::ListNode)?;
    run.owned.lose(node.object.address());
    if !node.reserve() {
        release(node.object.address());
        return Ok(errno32(EINVAL));
    }
    list.push(node, end).map(|()| 0).ok_or(broken(function, head))
}

/// `int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node, bool (*less)(a, b), void *meta, u64 off)`.
fn rbtree_add(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    const NAME: &str = "bpf_rbtree_add";
    let [root_address, node, less, ..] = args;
    let tree = Tree::new(root(run, root_address, Tag::RbRoot)?);
    let node = node_argument(NAME, node, Tag::RbNode)?;
    run.owned.lose(node.object.address());
    if !node.reserve() {
        release(node.object.address());
        return Ok(errno32(EINVAL));
    }
    let is_less = |other| run.call_back(less, [node.address(), other, 0, 0, 0]).map(|less| low32(less) != 0);
    if tree.insert(node, is_less).is_some() {
        return Ok(0);
    }
    if run.stopped() || run.leave.is_some() {
        // The tree was not touched yet; it would have owned the object.
        node.set_owner(0);
        release(node.object.address());
        return Ok(0);
    }
    Err(broken(NAME, root_address))
}

/// `struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node)`: NULL if it is not in the tree.
fn rbtree_remove(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    const NAME: &str = "bpf_rbtree_remove";
    let [root_address, address, ..] = args;
    let tree = Tree::new(root(run, root_address, Tag::RbRoot)?);
    // A program may still look at a node of an object that has ended.
    let node = Node::find(address, Tag::RbNode).filter(|_| tree.contains(address));
    let Some(node) = node else { return Ok(0) };
    let object = node.object.address();
    tree.remove(node).ok_or(broken(NAME, root_address))?;
    run.owned.gain(object);
    Ok(address)
}

/// `struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root)`.
fn rbtree_first(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let tree = Tree::new(root(run, args[0], Tag::RbRoot)?);
    known_node(&tree, tree.first(), broken("bpf_rbtree_first", args[0]))
}

/// `struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root)`.
fn rbtree_root(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let tree = Tree::new(root(run, args[0], Tag::RbRoot)?);
    known_node(&tree, tree.top(), broken("bpf_rbtree_root", args[0]))
}

/// `struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node)`.
fn rbtree_left(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    step(run, "bpf_rbtree_left", args, Side::Left)
}

/// `struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node)`.
fn rbtree_right(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    step(run, "bpf_rbtree_right", args, Side::Right)
}

fn step(
    run: &mut Invocation<'_>,
    function: &'static str,
    args: [u64; 5],
    side: Side,
) -> Result<u64, TrapKind> {
    let [root_address, node, ..] = args;
    let tree = Tree::new(root(run, root_address, Tag::RbRoot)?);
    if !tree.contains(node) {
        return Ok(0);
    }
    let child = tree.child(node, side).ok_or(broken(function, root_address))?;
    known_node(&tree, child, broken(function, root_address))
}

/// The head of a list or root of a tree.
fn root<'r>(run: &Invocation<'r>, address: u64, tag: Tag) -> Result<Place<'r>, TrapKind> {
    run.memory(address, u64::from(tag.size()), true)
}

/// The node that a program owns.
fn node_argument(function: &'static str, address: u64, tag: Tag) -> Result<Node, TrapKind> {
    Node::find(address, tag).ok_or(TrapKind::BadArgument { function, argument: 2, value: address })
}

/// A node's address as a program gets it: what it points to is a node of the tree.
fn known_node(tree: &Tree<'_>, node: u64, broken: TrapKind) -> Result<u64, TrapKind> {
    if node == 0 || tree.contains(node) { Ok(node) } else { Err(broken) }
}

fn node_address(found: Option<Option<Node>>, broken: TrapKind) -> Result<u64, TrapKind> {
    found.map(|node| node.map_or(0, |node| node.address())).ok_or(broken)
}

/// The links of this list or tree lead to nothing: someone has written over them.
fn broken(function: &'static str, root: u64) -> TrapKind {
    TrapKind::BadArgument { function, argument: 1, value: root }
}
