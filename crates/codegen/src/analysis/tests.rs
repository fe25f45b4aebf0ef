//! The analyses against their definitions, over bodies drawn at random.

use isa::{AluOp, Cond, InsnIdx, Width};

use super::{Dominators, Edges, Liveness, Loops, VarSet};
use crate::flow::{Block, BlockId, Body, End, Op, Src, Step, Test, Var};

const VARS: u16 = 14;

fn random(rng: &mut fastrand::Rng) -> Body {
    let count = rng.usize(1..14);
    let var = |rng: &mut fastrand::Rng| Var(rng.u16(0..VARS));
    let blocks = (0..count).map(|index| {
        let at = InsnIdx(u32::try_from(index).unwrap()).into();
        let target = |rng: &mut fastrand::Rng| match rng.u8(0..3) {
            0 => BlockId::new((index + 1) % count),
            _ => BlockId::new(rng.usize(0..count)),
        };
        let steps = (0..rng.usize(0..4)).map(|_| {
            let (dst, a, b) = (var(rng), var(rng), Src::Var(var(rng)));
            Step { at, op: Op::Alu { width: Width::W64, op: AluOp::Add, dst, a, b } }
        });
        let steps = steps.collect();
        let test = Test { width: Width::W64, cond: Cond::Eq, a: var(rng), b: Src::Imm(0) };
        let end = match rng.u8(0..8) {
            0 => End::Exit(var(rng)),
            1 | 2 => End::Jump(target(rng)),
            _ => End::Branch { test, taken: target(rng), next: target(rng) },
        };
        Block { steps, at, end, cold: false }
    });
    let blocks = blocks.collect();
    Body { blocks, vars: VARS, ..Body::empty(0, InsnIdx(0)) }
}

fn each_random(mut check: impl FnMut(&Body, &Edges)) {
    for seed in 0..2000 {
        let body = random(&mut fastrand::Rng::with_seed(seed));
        check(&body, &Edges::of(&body));
    }
}

/// What can be reached from a block without going into `without`.
fn reach(body: &Body, from: BlockId, without: Option<BlockId>) -> Vec<bool> {
    let mut seen = vec![false; body.blocks.len()];
    let mut work = vec![from];
    while let Some(id) = work.pop() {
        if Some(id) != without && !std::mem::replace(&mut seen[id.index()], true) {
            work.extend(body.blocks[id.index()].end.successors());
        }
    }
    seen
}

fn ids(body: &Body) -> impl Iterator<Item = BlockId> + use<> {
    (0..body.blocks.len()).map(BlockId::new)
}

#[test]
fn edges_lead_both_ways() {
    each_random(|body, edges| {
        let reached = reach(body, BlockId::ENTRY, None);
        for id in ids(body) {
            assert_eq!(edges.place(id).is_some(), reached[id.index()]);
            let mut expected: Vec<_> = ids(body)
                .filter(|from| reached[from.index()])
                .flat_map(|from| body.blocks[from.index()].end.successors().map(move |to| (from, to)))
                .filter_map(|(from, to)| (to == id).then_some(from))
                .collect();
            let mut found = edges.predecessors(id).to_vec();
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
        }
        assert_eq!(edges.order().first(), Some(&BlockId::ENTRY));
    });
}

#[test]
fn the_order_goes_against_edges_only_in_loops() {
    each_random(|body, edges| {
        for &from in edges.order() {
            for to in body.blocks[from.index()].end.successors() {
                if edges.place(to) <= edges.place(from) {
                    assert!(reach(body, to, None)[from.index()], "{body}");
                }
            }
        }
    });
}

#[test]
fn a_dominator_cannot_be_avoided() {
    each_random(|body, edges| {
        let dominators = Dominators::of(edges);
        for &a in edges.order() {
            let avoided = reach(body, BlockId::ENTRY, Some(a));
            for &b in edges.order() {
                assert_eq!(dominators.dominates(edges, a, b), !avoided[b.index()], "{a} {b}\n{body}");
            }
        }
    });
}

#[test]
fn loops_are_what_leads_back_to_a_header() {
    each_random(|body, edges| {
        let dominators = Dominators::of(edges);
        let loops = Loops::of(body, edges, &dominators);
        for &header in edges.order() {
            let latches: Vec<_> = ids(body)
                .filter(|&from| body.blocks[from.index()].end.successors().any(|to| to == header))
                .filter(|&from| dominators.dominates(edges, header, from))
                .collect();
            let found = loops.iter().find(|(_, l)| l.header == header);
            assert_eq!(found.map(|(_, l)| l.latches.clone()).unwrap_or_default(), latches);
            let Some((id, of_it)) = found else { continue };
            let depth = of_it.parent.and_then(|parent| loops.get(parent)).map_or(0, |l| l.depth);
            assert_eq!(of_it.depth, depth + 1);
            for &block in edges.order() {
                let inside = block == header
                    || dominators.dominates(edges, header, block)
                        && latches.iter().any(|l| reach(body, block, Some(header))[l.index()]);
                assert_eq!(loops.contains(id, block), inside, "{block} in loop of {header}\n{body}");
                assert_eq!(of_it.own.contains(&block), loops.innermost(block) == Some(id));
            }
        }
    });
}

#[test]
fn what_is_live_is_read_on_some_way() {
    each_random(|body, edges| {
        let live = Liveness::of(body, edges);
        for &id in edges.order() {
            for var in (0..VARS).map(Var) {
                assert_eq!(live.at(id).contains(var), is_read(body, id, var), "{var} at {id}\n{body}");
            }
            let mut set = live.before_end(body, id);
            body.blocks[id.index()].steps.iter().rev().for_each(|step| set.step_back(&step.op));
            assert_eq!(&set, live.at(id));
        }
    });
}

/// Whether a walk from the beginning of a block meets a read of the variable before a write.
fn is_read(body: &Body, from: BlockId, var: Var) -> bool {
    let mut seen = vec![false; body.blocks.len()];
    let mut work = vec![from];
    while let Some(id) = work.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        let block = &body.blocks[id.index()];
        let (mut read, mut written) = (false, false);
        for step in &block.steps {
            step.op.reads(|v| read |= v == var && !written);
            step.op.writes(|v| written |= v == var);
        }
        block.end.reads(|v| read |= v == var && !written);
        if read {
            return true;
        }
        if !written {
            work.extend(block.end.successors());
        }
    }
    false
}

#[test]
fn sets_hold_what_is_put_in() {
    let mut set = VarSet::empty(130);
    assert!(set.insert(Var(0)) && set.insert(Var(64)) && set.insert(Var(129)) && !set.insert(Var(64)));
    assert!([0, 64, 129].into_iter().all(|var| set.contains(Var(var))) && !set.contains(Var(63)));
    let mut other = VarSet::empty(130);
    other.insert(Var(64));
    assert!(!set.extend(&other) && other.extend(&set));
    assert!(set.remove(Var(64)) && !set.remove(Var(64)) && !set.contains(Var(64)));
    set.subtract(&other);
    assert_eq!(set, VarSet::empty(130));
}
