//! Bits that are known to be 0.
//!
//! An access to the arena takes the low half of its pointer. Where the upper half is 0 anyway (after 32-bit arithmetic, a cast,
//! a narrow load), nothing needs to be cleared; the same holds for an explicit zero-extension, or a mask that keeps all
//! there is. Arithmetic and comparisons of 64 bits whose operands and result fit into 32 are done in 32: a shift can then be part
//! of an address, and a division is quicker.
//!
//! What is known of a variable at the beginning of a block is what all ways into the block agree on, tests on these ways
//! included. Nothing is assumed.

use isa::{AluOp, Cond, Width};
use verifier::Memory;

use crate::analysis::{Bits, Edges};
use crate::flow::{Body, End, Op, Place, Src, Test, Var};

/// Marks places, and makes operations narrower; the result is how many.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let entries = Bits::of(body, &edges);
    let mut changes = 0;
    for (block, mut known) in body.blocks.iter_mut().zip(entries) {
        for step in &mut block.steps {
            changes += u32::from(improve(&mut step.op, &known));
            known.step(&step.op);
        }
        if let End::Branch { test, .. } = &mut block.end {
            changes += u32::from(narrow_test(test, &known));
        }
    }
    changes
}

/// Whether something could be left out, or be done in 32 bits.
fn improve(op: &mut Op, known: &Bits) -> bool {
    let test_narrowed = match op {
        Op::Select { test, .. } | Op::Compare { test, .. } => narrow_test(test, known),
        _ => false,
    };
    let better = match *op {
        Op::ZeroExtend { from, dst, src } if known.get(src) <= from.bits() => Some(copy(dst, src)),
        Op::SignExtend { from, dst, src, .. } if known.get(src) < from.bits() => Some(copy(dst, src)),
        Op::Mov { width: Width::W32, dst, src: Src::Var(src) } if known.get(src) <= 32 => {
            Some(copy(dst, src))
        }
        Op::Alu { op: AluOp::And, dst, a, b: Src::Imm(mask), .. } if keeps_all(mask, known.get(a)) => {
            Some(copy(dst, a))
        }
        Op::Alu { width: Width::W64, op, dst, a, b } if fits(op, a, b, known) => {
            Some(Op::Alu { width: Width::W32, op, dst, a, b })
        }
        _ => None,
    };
    let marked = op.place_mut().is_some_and(|place| mark(place, known));
    if let Some(better) = better {
        *op = better;
        return true;
    }
    test_narrowed || marked
}

fn copy(dst: Var, src: Var) -> Op {
    Op::Mov { width: Width::W64, dst, src: Src::Var(src) }
}

/// Whether a mask has all of so many low bits.
fn keeps_all(mask: i64, bits: u8) -> bool {
    // A mask of 32 bits keeps nothing above: there must be nothing.
    bits <= 32 && mask.trailing_ones() >= bits.into()
}

/// Whether an operation of 64 bits gives the same in 32.
fn fits(op: AluOp, a: Var, b: Src, known: &Bits) -> bool {
    let (first, second) = (known.get(a), known.operand(Width::W64, b));
    if first > 32 || second > 32 {
        return false;
    }
    match (op, b) {
        (AluOp::Add, _) => first.max(second) < 32,
        (AluOp::Mul, _) => first + second <= 32,
        (AluOp::And | AluOp::Or | AluOp::Xor | AluOp::Div | AluOp::Mod, _) => true,
        (AluOp::Lsh, Src::Imm(by @ 0..32)) => i64::from(first) + by <= 32,
        (AluOp::Rsh, Src::Imm(0..32)) => true,
        (AluOp::Arsh, Src::Imm(0..32)) => first < 32,
        _ => false,
    }
}

/// Compares the low halves where there is nothing else.
fn narrow_test(test: &mut Test, known: &Bits) -> bool {
    let Test { width: Width::W64, cond, a, b } = *test else { return false };
    let (first, second) = (known.get(a), known.operand(Width::W64, b));
    let most = match cond {
        Cond::SGt | Cond::SGe | Cond::SLt | Cond::SLe => 31,
        _ => 32,
    };
    let fits = first <= most && second <= most;
    if fits {
        test.width = Width::W32;
    }
    fits
}

/// Whether a pointer is now known to need no clearing.
fn mark(place: &mut Place, known: &Bits) -> bool {
    let clear = place.memory == Memory::Arena && place.index.is_none() && known.get(place.base) <= 32;
    let new = clear && !place.clear;
    place.clear |= clear;
    new
}
