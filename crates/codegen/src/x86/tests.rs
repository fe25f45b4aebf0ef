//! Functions made by hand: what becomes of their instructions, and where their values are.

use isa::{InsnIdx, Size, Width};

use super::assign::{Assignment, assign};
use super::insn::*;
use super::live::{Liveness, step_back};
use super::order::Shape;
use super::spill::Spill;
use super::{ATTEMPTS, halves, tidy, webs};
use crate::flow::At;

const SAVED: [u8; 5] = [3, 12, 13, 14, 15];

fn at() -> At {
    InsnIdx(0).into()
}

fn block(insns: Vec<Insn>, end: End) -> Block {
    Block { insns: insns.into_iter().map(|insn| (insn, at())).collect(), end, at: at(), cold: false }
}

/// With so many registers, all general-purpose; the argument is register 0.
fn function(regs: usize, blocks: Vec<Block>) -> Function {
    let params = vec![Some(Src::Reg(Reg(0)))];
    let classes = vec![Class::General; regs];
    let mut function = Function { blocks, order: Vec::new(), classes, slots: 1, context: Slot(0), params };
    function.order = Shape::of(&function).order();
    function
}

fn load(dst: u32, offset: i32) -> Insn {
    Insn::load(Reg(dst), Address { base: Reg(0), index: None, offset })
}

fn add(dst: u32, a: u32, b: Src) -> Insn {
    Insn::add(Reg(dst), Reg(a), b)
}

fn reg(number: u32) -> Src {
    Src::Reg(Reg(number))
}

/// Machine registers for a function; checks that values which live at the same time have different ones.
fn assigned(function: &mut Function) -> Vec<u8> {
    let mut spill = Spill::default();
    for _ in 0..ATTEMPTS {
        let shape = Shape::of(function);
        function.order = shape.order();
        let live = Liveness::of(function);
        let costs = spill.costs(function, &shape);
        match assign(function, &shape, &live, &costs).unwrap() {
            Assignment::Complete(assigned) => {
                check(function, &assigned);
                return assigned;
            }
            Assignment::Crowded(regs) => spill.spill(function, &shape, live, &regs).unwrap(),
        }
    }
    panic!("no registers after {ATTEMPTS} attempts");
}

fn check(function: &Function, assigned: &[u8]) {
    let live = Liveness::of(function);
    for id in &function.order {
        let block = function.block(*id).unwrap();
        let mut now = live.behind(function, *id);
        block.end.each_reg(|reg| _ = now.insert(reg));
        for (insn, _) in block.insns.iter().rev() {
            let copied = match insn {
                Insn::Mov { src: Src::Reg(src), .. } => Some(*src),
                _ => None,
            };
            insn.each_reg(|written, how| {
                if how != Use::Write {
                    return;
                }
                for other in now.iter().filter(|other| *other != written && Some(*other) != copied) {
                    let (a, b) = (assigned[written.index()], assigned[other.index()]);
                    assert_ne!(a, b, "{insn:?} overwrites {other:?}");
                    assert_eq!(insn.taken() >> b & 1, 0, "{insn:?} takes the register of {other:?}");
                }
            });
            step_back(&mut now, insn);
        }
    }
}

#[test]
fn values_that_live_across_a_call_are_in_registers_that_it_keeps() {
    let call = Insn::Call { callee: Callee::Import(0), args: vec![Src::Imm(0); 5], dst: Some(Reg(2)) };
    let insns = vec![load(1, 0), call, add(3, 1, reg(2))];
    let mut function = function(4, vec![block(insns, End::Exit(reg(3)))]);
    let assigned = assigned(&mut function);
    assert!(SAVED.contains(&assigned[1]), "{assigned:?}");
    assert_eq!(assigned[2], 0, "the result stays where it comes");
}

#[test]
fn more_values_than_registers_go_to_memory() {
    const VALUES: u32 = 40;
    let mut insns: Vec<_> = (1..=VALUES).map(|value| load(value, value.cast_signed() * 8)).collect();
    insns.extend((1..VALUES).map(|value| add(VALUES, VALUES, reg(value))));
    let mut function = function(VALUES as usize + 1, vec![block(insns, End::Exit(reg(VALUES)))]);
    assigned(&mut function);
    assert!(function.slots > 20, "{} slots", function.slots);
    let sums = function.blocks[0].insns.iter();
    let from_memory = sums.filter(|(insn, _)| matches!(insn, Insn::Alu { b: Src::Slot(_), .. })).count();
    assert!(from_memory > 20, "each is read where it is needed");
}

#[test]
fn numbers_are_written_again_and_not_kept() {
    const VALUES: u32 = 20;
    let number = |value: u32| Insn::Mov { width: Width::W64, dst: Reg(value), src: Src::Imm(value.into()) };
    let mut insns: Vec<_> = (1..=VALUES).map(number).collect();
    insns.extend((1..=VALUES).map(|value| add(0, 0, reg(value))));
    let mut function = function(VALUES as usize + 1, vec![block(insns, End::Exit(reg(0)))]);
    assigned(&mut function);
    assert_eq!(function.slots, 1, "none needs memory");
}

#[test]
fn what_a_loop_uses_is_in_a_register_there() {
    // Fifteen values live through a loop that needs most registers, and one of them is used in it.
    const VALUES: u32 = 15;
    let entry: Vec<_> = (1..=VALUES).map(|value| load(value, value.cast_signed() * 8)).collect();
    let inside = vec![add(0, 0, reg(1)), add(0, 0, reg(1)), add(0, 0, reg(1))];
    let test = Test { cc: Cc::Below, and: false, width: Width::W64, a: reg(0), b: Src::Imm(1000) };
    let behind: Vec<_> = (2..=VALUES).map(|value| add(0, 0, reg(value))).collect();
    let blocks = vec![
        block(entry, End::Jump(BlockId(1))),
        block(inside, End::Branch { test, yes: BlockId(1), no: BlockId(2) }),
        block(behind, End::Exit(reg(0))),
    ];
    let mut function = function(VALUES as usize + 1, blocks);
    assigned(&mut function);
    let in_loop = &function.blocks[1].insns;
    let reads_memory = |insn: &Insn| matches!(insn, Insn::Alu { b: Src::Slot(_), .. } | Insn::SlotAlu { .. });
    assert!(!in_loop.iter().any(|(insn, _)| reads_memory(insn)), "{in_loop:?}");
}

#[test]
fn copies_become_one_register() {
    let copy = Insn::Mov { width: Width::W64, dst: Reg(2), src: reg(1) };
    let insns = vec![load(1, 0), copy, add(3, 2, Src::Imm(1))];
    let mut function = function(4, vec![block(insns, End::Exit(reg(3)))]);
    let assigned = assigned(&mut function);
    assert_eq!(assigned[1], assigned[2]);
}

#[test]
fn values_of_one_variable_that_nothing_confuses_are_parted() {
    let store = |value| Insn::store(Address { base: Reg(0), index: None, offset: 8 }, reg(value));
    let insns = vec![load(1, 0), store(1), load(1, 16), store(1)];
    let mut function = function(2, vec![block(insns, End::Exit(Src::Imm(0)))]);
    webs::split(&mut function).unwrap();
    assert_eq!(function.classes.len(), 3);
}

#[test]
fn a_result_is_not_where_an_operand_is_that_is_read_late() {
    let address = Address { base: Reg(0), index: None, offset: 0 };
    let exchange = |dst, src| Insn::AtomicLoop {
        size: Size::DW,
        op: isa::AtomicOp::Xor,
        dst: Reg(dst),
        address,
        src: Reg(src),
    };
    // Register 1 is one web: both values reach the end.
    let test = Test { cc: Cc::Equal, and: false, width: Width::W64, a: reg(1), b: Src::Imm(0) };
    let blocks = vec![
        block(vec![load(1, 0)], End::Branch { test, yes: BlockId(1), no: BlockId(2) }),
        block(vec![exchange(1, 1)], End::Jump(BlockId(2))),
        block(vec![], End::Exit(reg(1))),
    ];
    let mut function = function(2, blocks);
    webs::split(&mut function).unwrap();
    let Some((Insn::AtomicLoop { dst, src, .. }, _)) = function.blocks[1].insns.first() else { panic!() };
    assert_ne!(dst, src);
}

/// What is left of some instructions whose last result is returned.
fn tidied(regs: usize, insns: Vec<Insn>) -> Vec<Insn> {
    let result = insns.last().and_then(Insn::result_only).unwrap();
    let mut function = function(regs, vec![block(insns, End::Exit(Src::Reg(result)))]);
    tidy::run(&mut function);
    function.blocks[0].insns.iter().map(|(insn, _)| insn.clone()).collect()
}

#[test]
fn sums_become_addresses() {
    let shift = |dst, a| Insn::Shift {
        op: Shift::Left,
        width: Width::W64,
        dst: Reg(dst),
        a: Reg(a),
        by: Src::Imm(3),
    };
    let lea = |index, offset| Insn::Lea {
        width: Width::W64,
        dst: Reg(3),
        address: Address { base: Reg(0), index, offset },
    };
    let scaled = tidied(4, vec![shift(2, 1), add(3, 0, reg(2))]);
    assert_eq!(scaled, [lea(Some((Reg(1), 3)), 0)]);
    let sum = tidied(4, vec![add(2, 0, reg(1)), add(3, 2, Src::Imm(5))]);
    assert_eq!(sum, [lea(Some((Reg(1), 0)), 5)]);
    assert_eq!(tidied(4, vec![add(2, 0, Src::Imm(3)), add(3, 2, Src::Imm(4))]), [add(3, 0, Src::Imm(7))]);
    // What was added to is something else by then.
    let changed =
        vec![add(2, 0, Src::Imm(3)), add(0, 0, Src::Imm(1)), add(1, 0, reg(2)), add(3, 2, Src::Imm(4))];
    assert!(tidied(4, changed).contains(&add(3, 2, Src::Imm(4))));
}

#[test]
fn two_shifts_are_a_rotation() {
    let shift =
        |op, dst, by| Insn::Shift { op, width: Width::W32, dst: Reg(dst), a: Reg(0), by: Src::Imm(by) };
    let or = Insn::Alu { op: Alu::Or, width: Width::W32, dst: Reg(3), a: Reg(1), b: reg(2) };
    let rotation = vec![shift(Shift::Left, 1, 13), shift(Shift::Right, 2, 19), or.clone()];
    assert_eq!(tidied(4, rotation), [shift(Shift::Rotate, 3, 19)]);
    let none = vec![shift(Shift::Left, 1, 13), shift(Shift::Right, 2, 18), or];
    assert_eq!(tidied(4, none.clone()), none);
}

#[test]
fn a_mask_that_is_inverted_is_one_instruction() {
    let not = Insn::alu(Alu::Xor, Reg(2), Reg(1), Src::Imm(-1));
    let and = Insn::alu(Alu::And, Reg(3), Reg(0), reg(2));
    let expected = Insn::AndNot { width: Width::W64, dst: Reg(3), a: Reg(1), b: Reg(0) };
    assert_eq!(tidied(4, vec![not, and]), [expected]);
}

#[test]
fn upper_halves_are_cleared_where_that_is_rare() {
    // A pointer that a loop counts up: only its low half is ever read.
    let low = |dst, src| Insn::Mov { width: Width::W32, dst: Reg(dst), src: reg(src) };
    let copy = Insn::Mov { width: Width::W64, dst: Reg(1), src: reg(0) };
    let place = |index| Address { base: Reg(0), index: Some((Reg(index), 0)), offset: 0 };
    let count = Insn::Alu { op: Alu::Add, width: Width::W32, dst: Reg(1), a: Reg(1), b: Src::Imm(8) };
    let test = Test { cc: Cc::NotEqual, and: false, width: Width::W32, a: reg(1), b: Src::Imm(0) };
    let blocks = vec![
        block(vec![copy], End::Jump(BlockId(1))),
        block(
            vec![low(2, 1), Insn::load(Reg(3), place(2)), count],
            End::Branch { test, yes: BlockId(1), no: BlockId(2) },
        ),
        block(vec![], End::Exit(reg(3))),
    ];
    let mut function = function(4, blocks);
    let shape = Shape::of(&function);
    halves::run(&mut function, &shape);
    assert_eq!(function.blocks[0].insns[0].0, low(1, 0));
    let copy = Insn::Mov { width: Width::W64, dst: Reg(2), src: reg(1) };
    assert_eq!(function.blocks[1].insns[0].0, copy);
}
