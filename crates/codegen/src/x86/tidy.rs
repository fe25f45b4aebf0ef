//! Small improvements of instructions: what several do that the machine does with one, and what nobody reads.

use std::collections::HashMap;

use isa::Width;

use super::insn::{Alu, Cc, End, Function, Insn, Reg, Shift, Src, Test, Use};
use crate::flow::At;

/// Improves the instructions of a function whose registers are one [web](super::webs) each.
pub(super) fn run(function: &mut Function) {
    for id in function.order.clone() {
        let Some(block) = function.block_mut(id) else { continue };
        join(&mut block.insns);
    }
    let reads = drop_unread(function);
    for id in function.order.clone() {
        fold_test(function, id, &reads);
    }
}

/// What wrote a register in this block, and when.
#[derive(Clone)]
struct Known {
    insn: Insn,
    /// The instruction's number.
    at: usize,
}

/// Rotations, and complements of masks.
fn join(insns: &mut [(Insn, At)]) {
    let mut known: HashMap<Reg, Known> = HashMap::new();
    let mut written: HashMap<Reg, usize> = HashMap::new();
    for (at, (insn, _)) in insns.iter_mut().enumerate() {
        // Whether a register still is what it was when another one was written.
        let unchanged = |reg: Reg, since: usize| written.get(&reg).is_none_or(|last| *last <= since);
        if let Some(better) = rotation(insn, &known, &unchanged).or_else(|| complement(insn, &known, &unchanged)) {
            *insn = better;
        }
        insn.each_reg(|reg, how| {
            if how == Use::Write {
                written.insert(reg, at);
                known.insert(reg, Known { insn: insn.clone(), at });
            }
        });
    }
}

/// `(x << n) | (x >> (bits - n))`.
fn rotation(
    insn: &Insn,
    known: &HashMap<Reg, Known>,
    unchanged: &dyn Fn(Reg, usize) -> bool,
) -> Option<Insn> {
    let Insn::Alu { op: Alu::Or | Alu::Xor | Alu::Add, width, dst, a, b: Src::Reg(b) } = *insn else {
        return None;
    };
    let shift = |reg: Reg, wanted: Shift| {
        let known = known.get(&reg)?;
        match known.insn {
            // What is shifted must still be there, or be what the shift was written over.
            Insn::Shift { op, width: w, a, by: Src::Imm(by), .. } if op == wanted && w == width => {
                (a != reg && unchanged(a, known.at)).then_some((a, by, known.at))
            }
            _ => None,
        }
    };
    let bits = if width == Width::W32 { 32 } else { 64 };
    let (left, right) = match (shift(a, Shift::Left), shift(b, Shift::Right)) {
        (Some(left), Some(right)) => (left, right),
        _ => (shift(b, Shift::Left)?, shift(a, Shift::Right)?),
    };
    (left.0 == right.0 && left.1 + right.1 == bits).then_some(Insn::Shift {
        op: Shift::Rotate,
        width,
        dst,
        a: left.0,
        by: Src::Imm(right.1),
    })
}

/// `x & ~y`.
fn complement(
    insn: &Insn,
    known: &HashMap<Reg, Known>,
    unchanged: &dyn Fn(Reg, usize) -> bool,
) -> Option<Insn> {
    let Insn::Alu { op: Alu::And, width, dst, a, b: Src::Reg(b) } = *insn else { return None };
    let inverted = |reg: Reg| {
        let known = known.get(&reg)?;
        match known.insn {
            Insn::Alu { op: Alu::Xor, width: w, a, b: Src::Imm(-1), .. }
                if (w == Width::W64 || w == width) && a != reg && unchanged(a, known.at) =>
            {
                Some(a)
            }
            _ => None,
        }
    };
    let (inverted, other) = match (inverted(a), inverted(b)) {
        (Some(x), _) => (x, b),
        (None, x) => (x?, a),
    };
    Some(Insn::AndNot { width, dst, a: inverted, b: other })
}

/// Drops instructions whose results nobody reads; the result is how often each register is read.
fn drop_unread(function: &mut Function) -> Vec<u32> {
    let mut reads = vec![0_u32; function.classes.len()];
    let mut count = |reg: Reg, by: i32| -> u32 {
        reads.get_mut(reg.index()).map_or(1, |entry| {
            *entry = entry.saturating_add_signed(by);
            *entry
        })
    };
    for id in &function.order {
        let Some(block) = function.block(*id) else { continue };
        for (insn, _) in &block.insns {
            insn.each_reg(|reg, how| {
                if how != Use::Write {
                    count(reg, 1);
                }
            });
        }
        block.end.each_reg(|reg| _ = count(reg, 1));
    }
    let mut changed = true;
    while changed {
        changed = false;
        for id in function.order.iter().rev() {
            let Some(block) = function.blocks.get_mut(id.index()) else { continue };
            let before = block.insns.len();
            let mut kept = Vec::with_capacity(before);
            for (insn, at) in std::mem::take(&mut block.insns).into_iter().rev() {
                if insn.result_only().is_some_and(|dst| count(dst, 0) == 0) {
                    insn.each_reg(|reg, how| {
                        if how != Use::Write {
                            count(reg, -1);
                        }
                    });
                } else {
                    kept.push((insn, at));
                }
            }
            kept.reverse();
            changed |= kept.len() < before;
            block.insns = kept;
        }
    }
    reads
}

/// A test of `a & b`, which was computed for nothing else, against 0.
fn fold_test(function: &mut Function, id: super::insn::BlockId, reads: &[u32]) {
    let Some(block) = function.block(id) else { return };
    let End::Branch { test, yes, no } = block.end else { return };
    let Test { cc: Cc::Equal | Cc::NotEqual, and: false, a: Src::Reg(tested), b: Src::Imm(0), .. } = test else {
        return;
    };
    let Some((Insn::Alu { op: Alu::And, width, dst, a, b }, _)) = block.insns.last() else { return };
    // Of 64 bits tested as 32 the upper half would matter.
    let same = *width == test.width || *width == Width::W32;
    if *dst == tested && same && reads.get(tested.index()) == Some(&1) {
        let test = Test { cc: test.cc, and: true, width: *width, a: Src::Reg(*a), b: *b };
        if let Some(block) = function.block_mut(id) {
            block.insns.pop();
            block.end = End::Branch { test, yes, no };
        }
    }
}
