//! Upper halves that nobody reads.
//!
//! BPF computes with 64 bits where C has no smaller type, also what becomes part of an address in the arena, of which only
//! the low half counts. Where the upper half of a sum, a product or a shift is read nowhere, it is computed in 32 bits: the same low half, and what
//! it is added to can become one address computation.
//!
//! Nothing is assumed: it follows the values. What a variable's upper half becomes is seen by nobody.

use isa::{AluOp, Size, Width};
use verifier::Memory;

use crate::analysis::{Edges, VarSet, Worklist, union_behind};
use crate::flow::{Block, Body, End, Op, PacketIndex, Place, Src, Test};

/// Computes in 32 bits; the result is how often.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let entries = entries(body, &edges);
    let mut changes = 0;
    for &id in edges.order() {
        let mut wide = union_behind(body, id, &entries);
        let Some(block) = body.block_mut(id) else { continue };
        step_over_end(&mut wide, block);
        for step in block.steps.iter_mut().rev() {
            let is_wide = step.op.result().is_none_or(|var| wide.contains(var));
            if let Some(narrow) = narrow(&step.op).filter(|_| !is_wide) {
                step.op = narrow;
                changes += 1;
            }
            step_back(&mut wide, &step.op);
        }
    }
    changes
}

/// Per block, the variables whose upper halves at its beginning may be read.
fn entries(body: &Body, edges: &Edges) -> Vec<VarSet> {
    let mut entries = vec![VarSet::empty(body.vars); body.blocks.len()];
    let mut work = Worklist::backwards(body, edges);
    while let Some(id) = work.next() {
        let mut wide = union_behind(body, id, &entries);
        let Some(block) = body.block(id) else { continue };
        step_over_end(&mut wide, block);
        block.steps.iter().rev().for_each(|step| step_back(&mut wide, &step.op));
        if entries.get_mut(id.index()).is_some_and(|entry| entry.extend(&wide)) {
            edges.predecessors(id).iter().for_each(|from| work.add(*from));
        }
    }
    entries
}

fn step_over_end(wide: &mut VarSet, block: &Block) {
    match block.end {
        End::Branch { test, .. } => read_test(wide, test),
        end => end.reads(|var| _ = wide.insert(var)),
    }
}

/// From behind an operation to before it.
fn step_back(wide: &mut VarSet, op: &Op) {
    let mut is_wide = false;
    op.writes(|var| is_wide |= wide.remove(var));
    let mut read = |src: Src, demanded: bool| {
        if let (Src::Var(var), true) = (src, demanded) {
            wide.insert(var);
        }
    };
    match *op {
        Op::Alu { width, op, a, b, .. } => {
            let is_wide = width == Width::W64 && is_wide;
            match op {
                AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor => {
                    // What a number masks out is not read.
                    let masked = op == AluOp::And && matches!(b, Src::Imm(0..=0xffff_ffff));
                    read(Src::Var(a), is_wide && !masked);
                    read(b, is_wide);
                }
                AluOp::Lsh => read(Src::Var(a), is_wide),
                AluOp::Rsh | AluOp::Arsh => read(Src::Var(a), width == Width::W64),
                AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => {
                    read(Src::Var(a), width == Width::W64);
                    read(b, width == Width::W64);
                }
            }
        }
        Op::Mov { width, src, .. } => read(src, width == Width::W64 && is_wide),
        Op::Neg { width, src, .. } => read(Src::Var(src), width == Width::W64 && is_wide),
        Op::SignExtend { from, src, .. } | Op::ZeroExtend { from, src, .. } => {
            read(Src::Var(src), from == Size::DW);
        }
        Op::Select { test, yes, no, .. } => {
            read(yes, is_wide);
            read(no, is_wide);
            read_test(wide, test);
        }
        Op::Compare { test, .. } => read_test(wide, test),
        Op::ToUser { .. } => {}
        Op::Load { place, .. } => read_place(wide, place),
        Op::Store { size, place, src, .. } => {
            read(src, size == Size::DW);
            read_place(wide, place);
        }
        Op::Atomic { size, place, src, expected, .. } => {
            read(Src::Var(src), size == Size::DW);
            expected.into_iter().for_each(|var| read(Src::Var(var), size == Size::DW));
            read_place(wide, place);
        }
        Op::LoadPacket { from: PacketIndex::Var(_), .. } => {}
        _ => op.reads(|var| _ = wide.insert(var)),
    }
}

fn read_test(wide: &mut VarSet, test: Test) {
    if test.width == Width::W64 {
        let mut test = test;
        test.each_var_mut(|var| _ = wide.insert(*var));
    }
}

/// Of an address in an arena the low half is read, unless the upper one is known to be 0 and part of it.
fn read_place(wide: &mut VarSet, place: Place) {
    let mut place = place;
    if place.memory != Memory::Arena || place.clear {
        place.each_var_mut(|var| _ = wide.insert(*var));
    }
}

/// The operation that gives the same low half, in 32 bits.
fn narrow(op: &Op) -> Option<Op> {
    let width = Width::W32;
    match *op {
        Op::Alu { width: Width::W64, op, dst, a, b } => {
            let narrows = match op {
                AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor => true,
                AluOp::Lsh => matches!(b, Src::Imm(0..32)),
                _ => false,
            };
            narrows.then_some(Op::Alu { width, op, dst, a, b })
        }
        Op::Neg { width: Width::W64, dst, src } => Some(Op::Neg { width, dst, src }),
        _ => None,
    }
}
