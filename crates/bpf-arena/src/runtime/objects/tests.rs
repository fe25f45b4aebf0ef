//! Lists and trees against models, with links that someone has written over, and what is left when maps go.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isa::Size;
use verifier::fields::Tag;

use super::graph::Node;
use super::heap::{self, Layout, Object, heap};
use super::list::{End, List};
use super::tree::{Side, Tree};
use crate::access::{Block, Place};
use crate::{Cancel, LoopLimit, RunLimits};

/// A number, a node of a tree, a node of a list.
fn layout() -> &'static Layout {
    Layout::with(64, &[(8, Tag::RbNode), (40, Tag::ListNode)])
}

fn object(number: u64) -> Object {
    let object = heap().unwrap().allocate(layout()).unwrap();
    object.place(0, 8).unwrap().store(Size::DW, number, Relaxed);
    object
}

fn number(node: u64) -> u64 {
    Object::find(node).unwrap().place(0, 8).unwrap().load(Size::DW, Relaxed)
}

fn branch(object: &Object) -> Node {
    Node::find(object.address() + 8, Tag::RbNode).unwrap()
}

fn link(object: &Object) -> Node {
    Node::find(object.address() + 40, Tag::ListNode).unwrap()
}

fn root(block: &Block) -> Place<'_> {
    block.place(0, 16).unwrap()
}

/// Numbers in order and black nodes on every way down; `None` if the rules are broken.
fn check(tree: &Tree<'_>, at: u64, numbers: &mut Vec<u64>, red_parent: bool) -> Option<u32> {
    if at == 0 {
        return Some(1);
    }
    let black = Node::find(at, Tag::RbNode)?.get(0) & 1 != 0;
    let left = check(tree, tree.child(at, Side::Left)?, numbers, !black)?;
    numbers.push(number(at));
    let right = check(tree, tree.child(at, Side::Right)?, numbers, !black)?;
    (left == right && (black || !red_parent)).then_some(left + u32::from(black))
}

#[test]
fn trees_stay_in_order_and_balanced() {
    let block = Block::new(16).unwrap();
    let tree = Tree::new(root(&block));
    let mut random = fastrand::Rng::with_seed(7);
    let mut model: BTreeMap<u64, Object> = BTreeMap::new();
    for step in 0..3000 {
        let wanted = random.u64(..200);
        match model.remove(&wanted) {
            Some(known) => {
                tree.remove(branch(&known)).unwrap();
                assert!(!tree.contains(known.address() + 8) && known.end());
            }
            None => {
                let new = object(wanted);
                assert!(branch(&new).reserve() && !branch(&new).reserve());
                tree.insert(branch(&new), |other| Some(wanted < number(other))).unwrap();
                assert!(!branch(&new).reserve());
                model.insert(wanted, new);
            }
        }
        let mut numbers = Vec::new();
        assert!(check(&tree, tree.top(), &mut numbers, true).is_some(), "step {step}");
        assert!(numbers.iter().eq(model.keys()));
        let first = model.values().next().map_or(0, |first| first.address() + 8);
        assert_eq!(tree.first(), first);
    }
    let mut taken = Vec::new();
    tree.take_all(&mut taken);
    assert_eq!((taken.len(), tree.top(), tree.first()), (model.len(), 0, 0));
    assert!(taken.iter().all(Object::end));
}

#[test]
fn written_over_links_end_operations() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..300 {
        let (tree_block, list_block) = (Block::new(16).unwrap(), Block::new(16).unwrap());
        let (tree, list) = (Tree::new(root(&tree_block)), List::new(root(&list_block)));
        let mut objects: Vec<Object> = (0..20).map(object).collect();
        for known in &objects {
            assert!(branch(known).reserve() && link(known).reserve());
            let own = number(known.address());
            tree.insert(branch(known), |other| Some(own < number(other))).unwrap();
            list.push(link(known), End::Back).unwrap();
        }
        for _ in 0..60 {
            let mut any = || objects[random.usize(..objects.len())];
            let (one, other) = (any(), any());
            let value = match random.u32(..6) {
                0 => 0,
                1 => random.u64(..),
                2 => tree_block.address(),
                3 => other.address() + 8 + random.u64(..2),
                4 => other.address() + 40,
                _ => list_block.address(),
            };
            let place = match random.u32(..8) {
                0 => root(&tree_block),
                1 => root(&list_block),
                _ => one.place(8, 56).unwrap(),
            };
            let at = random.usize(..place.len() / 8) * 8;
            place.at(at).unwrap().store(Size::DW, value, Relaxed);
            match random.u32(..7) {
                0 => _ = tree.remove(branch(&one)),
                1 => _ = list.pop(if random.bool() { End::Front } else { End::Back }),
                2 => _ = list.peek(End::Back),
                3 => _ = tree.contains(value) && tree.child(value, Side::Left).is_some(),
                4 => {
                    let new = object(random.u64(..30));
                    branch(&new).reserve();
                    let own = number(new.address());
                    let _ = tree.insert(branch(&new), |node| Some(own < number(node)));
                    objects.push(new);
                }
                5 => {
                    let new = object(0);
                    link(&new).reserve();
                    let _ = list.push(link(&new), End::Front);
                    objects.push(new);
                }
                _ => _ = one.place(8, 56).map(|place| place.clear()),
            }
        }
        let mut taken = Vec::new();
        tree.take_all(&mut taken);
        list.take_all(&mut taken);
        assert!(taken.len() <= 2 * objects.len());
        objects.iter().for_each(|object| assert!(object.end()));
    }
}

/// Tests that count the objects of the process do so one after the other.
fn counting() -> MutexGuard<'static, ()> {
    static COUNTING: Mutex<()> = Mutex::new(());
    COUNTING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_is_left_of_what_a_run_owned_that_leaves_its_program() {
    let _alone = counting();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/endless.bpf.o");
    let patience = LoopLimit::Time(Duration::from_secs(120));
    for engine in [crate::Engine::user(), crate::Engine::user().interpreter()] {
        let object = crate::Object::open(file).unwrap();
        let app = object.load(engine.loop_limit(patience).only(&["hold", "wait"])).unwrap();
        let before = heap::live_with(Tag::Refcount);
        let started = |times: u64| {
            while app.global::<u64>("started").unwrap() < times {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let [mut holder, mut waiter] = ["hold", "wait"].map(|name| {
                let cancel = Cancel::new();
                let program = app.program(name).unwrap().limited(RunLimits::new().cancel(&cancel)).unwrap();
                (cancel, Some(program))
            });
            let begin = |program: &mut Option<crate::Program>, times: u64| {
                let program = program.take().unwrap();
                let run = scope.spawn(move || program.run(&mut ()));
                started(times);
                run
            };
            let holds = begin(&mut holder.1, 1);
            let waits = begin(&mut waiter.1, 2);
            assert_eq!(heap::live_with(Tag::Refcount), before + 1, "it owns an object while it waits");
            waiter.0.cancel();
            assert!(waits.join().unwrap().is_err());
            assert_eq!(heap::live_with(Tag::Refcount), before);
            holder.0.cancel();
            assert!(holds.join().unwrap().is_err());
        });
    }
}

#[test]
fn nothing_is_left_of_an_app() {
    let _alone = counting();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/objects.bpf.o");
    let object = crate::Object::open(file).unwrap();
    let before = heap::live_with(Tag::Refcount);
    let app = object.load(crate::Engine::user()).unwrap();
    let run = |program: &str, key: u64| {
        let mut ctx = [key, 0];
        app.program(program).unwrap().run(&mut ctx).unwrap().return_value
    };
    for key in 0..10 {
        assert_eq!(run("insert", key), 0);
    }
    assert_eq!(heap::live_with(Tag::Refcount), before + 10);
    assert_eq!(run("remove", 3), 1);
    assert_eq!(heap::live_with(Tag::Refcount), before + 10, "the list has it");
    assert_eq!(run("insert_twice", 20), (-22_i32).cast_unsigned());
    let bunches = heap::live_with(Tag::ListHead);
    for key in [1, 2, 101] {
        assert_eq!(run("give_bunch", key), 0);
        assert_eq!(run("give_bunch", key), 1, "the first one is dropped with its leaves");
    }
    assert_eq!(heap::live_with(Tag::ListHead), bunches + 3);
    app.map("owners").unwrap().delete(&1_u32.to_ne_bytes()).unwrap();
    assert_eq!(heap::live_with(Tag::ListHead), bunches + 2);
    drop(app);
    assert_eq!(heap::live_with(Tag::ListHead), bunches);
    assert_eq!(heap::live_with(Tag::Refcount), before);
}
