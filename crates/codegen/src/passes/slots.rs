//! Slots of the stack that become variables.
//!
//! Clang has ten registers to work with and keeps the rest on the stack; the machine has more, and the backend decides better
//! what has to be in memory when. A slot is taken if nothing but loads and stores through `r10` itself reaches it (verification
//! found that out, see [`Slots::private`](crate::flow::Slots::private)), and if all of them access it in one of these ways:
//! - all of its 8 bytes; loads may also take some of them;
//! - one of its halves, each for itself.

use std::collections::HashMap;

use isa::{AluOp, Size, Width};

use crate::flow::{Body, Op, Src, Step, Var};

/// Replaces accesses; the result is how many slots are gone.
pub(super) fn run(body: &mut Body) -> u32 {
    let private = body.slots.private();
    if private.is_empty() {
        return 0;
    }
    let mut slots: HashMap<i32, Uses> = private.iter().map(|slot| (*slot, Uses::default())).collect();
    for step in body.blocks.iter().flat_map(|block| &block.steps) {
        note(&step.op, &mut slots);
    }
    let mut homes = HashMap::new();
    for slot in private {
        let kind = slots.get(&slot).and_then(Uses::kind);
        let (parts, bytes) = match kind {
            Some(Kind::Whole) => (1, 8),
            Some(Kind::Halves) => (2, 4),
            None => continue,
        };
        for part in 0..parts {
            let Some(var) = body.new_var() else { return 0 };
            homes.insert(slot + part * bytes, Home { var, bytes });
        }
    }
    for block in &mut body.blocks {
        let mut steps = Vec::with_capacity(block.steps.len());
        for step in block.steps.drain(..) {
            replace(step, &homes, &mut steps);
        }
        block.steps = steps;
    }
    let taken = slots.values().filter(|uses| uses.kind().is_some()).count();
    u32::try_from(taken).unwrap_or(u32::MAX)
}

/// How a slot is accessed.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    /// All 8 bytes are stored, or loaded.
    whole: bool,
    /// A half is stored.
    half_stores: bool,
    /// A half is loaded.
    half_loads: bool,
    /// One or two bytes are loaded.
    small_loads: bool,
    /// In any other way.
    other: bool,
}

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Halves,
}

impl Uses {
    fn kind(&self) -> Option<Kind> {
        let Self { whole, half_stores, half_loads, small_loads, other } = *self;
        match (whole, half_stores) {
            _ if other => None,
            (true, false) => Some(Kind::Whole),
            (false, _) if (half_stores || half_loads) && !small_loads => Some(Kind::Halves),
            _ => None,
        }
    }
}

/// The variable that is in a slot's place.
#[derive(Clone, Copy)]
struct Home {
    var: Var,
    bytes: i32,
}

/// Notes how an operation uses a slot.
fn note(op: &Op, slots: &mut HashMap<i32, Uses>) {
    let (place, size, store) = match op {
        Op::Load { place, size, .. } => (place, *size, false),
        Op::Store { place, size, .. } => (place, *size, true),
        Op::Atomic { place, size, .. } => {
            if place.is_own_stack() {
                mark_other(place.offset, *size, slots);
            }
            return;
        }
        _ => return,
    };
    if !place.is_own_stack() {
        return;
    }
    let bytes = i32::from(size.bytes());
    if place.offset.rem_euclid(bytes) != 0 {
        return mark_other(place.offset, size, slots);
    }
    let Some(uses) = slots.get_mut(&slot_of(place.offset)) else { return };
    match (size, store) {
        (Size::DW, _) => uses.whole = true,
        (Size::W, true) => uses.half_stores = true,
        (Size::W, false) => uses.half_loads = true,
        (_, false) => uses.small_loads = true,
        (_, true) => uses.other = true,
    }
}

/// Every slot that the bytes are in.
fn mark_other(offset: i32, size: Size, slots: &mut HashMap<i32, Uses>) {
    for slot in [slot_of(offset), slot_of(offset + i32::from(size.bytes()) - 1)] {
        if let Some(uses) = slots.get_mut(&slot) {
            uses.other = true;
        }
    }
}

fn slot_of(offset: i32) -> i32 {
    offset.div_euclid(8) * 8
}

/// Appends what stands for a step.
fn replace(step: Step, homes: &HashMap<i32, Home>, steps: &mut Vec<Step>) {
    let at = step.at;
    let home = |offset: i32| {
        let whole = homes.get(&slot_of(offset)).filter(|home| home.bytes == 8);
        let half = || homes.get(&(offset.div_euclid(4) * 4)).filter(|home| home.bytes == 4);
        whole.or_else(half).copied()
    };
    match step.op {
        Op::Store { place, src, size, .. } if place.is_own_stack() => match home(place.offset) {
            Some(home) => {
                let width = if size == Size::DW { Width::W64 } else { Width::W32 };
                steps.push(Step { at, op: Op::Mov { width, dst: home.var, src } });
            }
            None => steps.push(step),
        },
        Op::Load { place, dst, size, sign_extend, .. } if place.is_own_stack() => match home(place.offset) {
            Some(home) => {
                let skipped = place.offset.rem_euclid(home.bytes) * 8;
                let mut src = home.var;
                if skipped > 0 {
                    let (width, b) = (Width::W64, Src::Imm(skipped.into()));
                    steps.push(Step { at, op: Op::Alu { width, op: AluOp::Rsh, dst, a: src, b } });
                    src = dst;
                }
                let width = Width::W64;
                let op = match (size, sign_extend) {
                    (Size::DW, _) => Op::Mov { width, dst, src: Src::Var(src) },
                    (from, true) => Op::SignExtend { width, from, dst, src },
                    (from, false) => Op::ZeroExtend { from, dst, src },
                };
                steps.push(Step { at, op });
            }
            None => steps.push(step),
        },
        _ => steps.push(step),
    }
}
