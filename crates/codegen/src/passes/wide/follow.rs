//! Finds out what an iteration does to each element.

use std::collections::{HashMap, HashSet};

use isa::{AluOp, Cond, Size, Width};
use verifier::Memory;

use super::{Count, Exit, Lanes, Make, Pattern, Store, Sum, inside};
use crate::analysis::{Inductions, Shape, VarSet, swapped};
use crate::flow::{At, BlockId, Body, End, Op, Order, Place, Src, Step, Test, Use, Var};

/// Whether each block of an iteration leads to the next one, or out of the loop.
pub(super) fn is_straight(body: &Body, shape: &Shape) -> bool {
    shape.blocks.iter().enumerate().all(|(index, &id)| {
        let next = inside(shape, index);
        body.block(id).is_some_and(|block| {
            let stays = |to: BlockId| shape.contains(to);
            !block.cold
                && match block.end {
                    End::Jump(to) => to == next,
                    End::MayGoto { next: to, .. } => to == next,
                    End::Branch { taken, next: to, .. } => {
                        (taken == next && !stays(to)) || (to == next && !stays(taken))
                    }
                    _ => false,
                }
        })
    })
}

/// Whether there is memory to access, and nothing else that could not be done at once.
pub(super) fn accesses(body: &Body, shape: &Shape) -> bool {
    let mut count = 0;
    let blocks = shape.blocks.iter().filter_map(|id| body.block(*id));
    let alright = blocks.flat_map(|block| &block.steps).all(|step| {
        count += usize::from(step.op.place().is_some());
        step.op.is_pure() || matches!(step.op, Op::Load { .. } | Op::Store { .. })
    });
    alright && count > 0
}

/// What an iteration does; `None` if it is not known how to do it for several elements at once. `live` is what is read behind the
/// beginning of the header.
pub(super) fn pattern(body: &mut Body, shape: &Shape, live: &VarSet) -> Option<Pattern> {
    let (growths, written) = growths(body, shape);
    let (known, names, pattern) = (HashMap::new(), HashMap::new(), Pattern::default());
    let mut follow = Follow { growths, written, known, names, pattern };
    for (index, &id) in shape.blocks.iter().enumerate() {
        let block = body.block(id)?.clone();
        for step in &block.steps {
            follow.step(body, step)?;
        }
        if let End::Branch { test, taken, .. } = block.end {
            let (leave, stay) = (test, test.negated()?);
            let (leave, stay) = if taken == inside(shape, index) { (stay, leave) } else { (leave, stay) };
            follow.end(block.at, leave, stay)?;
        }
    }
    let mut carried: Vec<_> = follow.known.keys().copied().filter(|var| live.contains(*var)).collect();
    carried.sort_unstable();
    for var in carried {
        match follow.growths.get(&var) {
            Some(&(by, width)) => follow.pattern.growths.push((var, by, width)),
            None => match follow.known.get(&var) {
                Some(&Known::Sum { .. }) => follow.sum(var)?,
                Some(&Known::Same) => follow.pattern.left.push((var, follow.name(var), 0)),
                Some(&Known::Grows { by, whole: true }) => {
                    follow.pattern.left.push((var, follow.name(var), by));
                }
                _ => return None,
            },
        }
    }
    let pattern = follow.pattern;
    // More than the elements themselves may be loaded where one of them ends the loop.
    let reads_on = !pattern.exits.is_empty() && pattern.loads().any(|place| !place.is_in_arena());
    let ends = shape.iterations > 0 || !pattern.counts.is_empty();
    (pattern.element.is_some() && ends && !reads_on).then_some(pattern)
}

/// What each iteration adds to variables, with the width of the sum, and all variables that are written.
fn growths(body: &Body, shape: &Shape) -> (HashMap<Var, (i64, Width)>, HashSet<Var>) {
    /// The variable that a value is made of by adding a number.
    type Sum = Option<(Var, i64, Width)>;
    let mut sums: HashMap<Var, Sum> = HashMap::new();
    let steps = shape.blocks.iter().filter_map(|id| body.block(*id)).flat_map(|block| &block.steps);
    for Step { op, .. } in steps {
        let of = |var: Var| sums.get(&var).copied().unwrap_or(Some((var, 0, Width::W64)));
        let plus = |a: Var, width: Width, by: Option<i64>| {
            let (root, sum, before) = of(a)?;
            let narrowed = (before, width) == (Width::W32, Width::W64);
            (!narrowed).then_some((root, sum.checked_add(by?)?, width))
        };
        let sum = match *op {
            Op::Mov { width: Width::W64, src: Src::Var(src), .. } => of(src),
            Op::Alu { width, op: AluOp::Add, a, b: Src::Imm(by), .. } => plus(a, width, number(width, by)),
            Op::Alu { width, op: AluOp::Sub, a, b: Src::Imm(by), .. } => {
                plus(a, width, number(width, by).and_then(i64::checked_neg))
            }
            _ => None,
        };
        op.writes(|var| _ = sums.insert(var, None));
        if let Some(dst) = op.result() {
            sums.insert(dst, sum);
        }
    }
    let written = sums.keys().copied().collect();
    let grows = |(var, sum): (Var, Sum)| {
        let (root, by, width) = sum?;
        (root == var && by != 0 && by.abs() <= Inductions::LONGEST).then_some((var, (by, width)))
    };
    (sums.into_iter().filter_map(grows).collect(), written)
}

/// An operand of an operation of this width as a signed number.
fn number(width: Width, imm: i64) -> Option<i64> {
    match width {
        Width::W64 => Some(imm),
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        Width::W32 => Some((imm as i32).into()),
    }
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// It is the same in each iteration.
    Same,
    /// Each iteration adds so much to its low 32 bits, or to all of it.
    Grows { by: i64, whole: bool },
    /// Elements. `exact`: the value is the element, extended with zeros.
    Lanes { lanes: usize, exact: bool },
    /// What the iteration before left in a variable.
    Old(Var),
    /// That, and the element.
    Sum { acc: Var, op: AluOp, width: Width, lanes: usize, at: At },
}

struct Follow {
    /// What each iteration adds to variables.
    growths: HashMap<Var, (i64, Width)>,
    /// All variables that are written somewhere in the loop.
    written: HashSet<Var>,
    /// What was written.
    known: HashMap<Var, Known>,
    /// The variables that have it now.
    names: HashMap<Var, Var>,
    pattern: Pattern,
}

impl Follow {
    fn var(&self, var: Var) -> Known {
        if let Some(known) = self.known.get(&var) {
            return *known;
        }
        match self.growths.get(&var) {
            _ if !self.written.contains(&var) => Known::Same,
            Some(&(by, width)) => Known::Grows { by, whole: width == Width::W64 },
            None => Known::Old(var),
        }
    }

    fn src(&self, src: Src) -> Known {
        match src {
            Src::Var(var) => self.var(var),
            Src::Imm(_) => Known::Same,
        }
    }

    fn name(&self, var: Var) -> Var {
        self.names.get(&var).copied().unwrap_or(var)
    }

    fn named(&self, src: Src) -> Src {
        match src {
            Src::Var(var) => Src::Var(self.name(var)),
            imm => imm,
        }
    }

    fn step(&mut self, body: &mut Body, step: &Step) -> Option<()> {
        let is_number = |known| matches!(known, Known::Same | Known::Grows { .. });
        match step.op {
            Op::Load { size, sign_extend, dst, place, order: Order::Plain } => {
                let place = self.place(size, place)?;
                // What is loaded behind a store may be what was stored.
                let exact = !sign_extend;
                let of = self.pattern.store.is_none().then_some(Make::Load(place))?;
                let lanes = self.lanes(step.at, of);
                self.known.insert(dst, Known::Lanes { lanes, exact });
                Some(())
            }
            Op::Store { size, place, src, order: Order::Plain } => {
                let place = self.place(size, place)?;
                let lanes = match self.src(src) {
                    Known::Lanes { lanes, .. } => lanes,
                    Known::Same => self.lanes(step.at, Make::Spread(self.named(src))),
                    _ => return None,
                };
                let store = Store { at: step.at, place, lanes };
                self.pattern.store.replace(store).is_none().then_some(())
            }
            Op::Alu { width, op, dst, a, b } if !is_number(self.var(a)) || !is_number(self.src(b)) => {
                let known = self.element_alu(step.at, width, op, a, b)?;
                self.known.insert(dst, known);
                Some(())
            }
            Op::Mov { width, dst, src } if !is_number(self.src(src)) => {
                let known = self.copy(width, self.src(src))?;
                self.known.insert(dst, known);
                Some(())
            }
            Op::ZeroExtend { from, dst, src } if !is_number(self.var(src)) => {
                let Known::Lanes { lanes, exact } = self.var(src) else { return None };
                let element = self.pattern.element?;
                let known = (exact && from >= element || from == element)
                    .then_some(Known::Lanes { lanes, exact: true })?;
                self.known.insert(dst, known);
                Some(())
            }
            op if op.is_pure() => self.number(body, step.at, op),
            _ => None,
        }
    }

    /// A number that stays the same or grows.
    fn number(&mut self, body: &mut Body, at: At, mut op: Op) -> Option<()> {
        let known = self.growth(&op)?;
        let dst = op.result()?;
        let fresh = body.new_var()?;
        op.each_var_mut(|var, how| match how {
            Use::Read => *var = self.name(*var),
            Use::Write | Use::Clobber => *var = fresh,
        });
        self.pattern.scalars.push(Step { at, op });
        self.known.insert(dst, known);
        self.names.insert(dst, fresh);
        Some(())
    }

    fn growth(&self, op: &Op) -> Option<Known> {
        let mut all_same = true;
        op.reads(|var| all_same &= self.var(var) == Known::Same);
        if all_same {
            return Some(Known::Same);
        }
        let by = |known| match known {
            Known::Same => Some((0, true)),
            Known::Grows { by, whole } => Some((by, whole)),
            _ => None,
        };
        let (by, whole) = match *op {
            Op::Mov { width, src, .. } => {
                let (by, whole) = by(self.src(src))?;
                (by, whole && width == Width::W64)
            }
            Op::ZeroExtend { from, src, .. } if from >= Size::W => {
                let (by, whole) = by(self.var(src))?;
                (by, whole && from == Size::DW)
            }
            Op::Alu { width, op, a, b, .. } => {
                let ((a, a_whole), (more, b_whole)) = (by(self.var(a))?, by(self.src(b))?);
                let sum = match (op, b) {
                    (AluOp::Add, _) => a.checked_add(more)?,
                    (AluOp::Sub, _) => a.checked_sub(more)?,
                    (AluOp::Lsh, Src::Imm(by @ 0..8)) => a << by,
                    (AluOp::Mul, Src::Imm(by)) => a.checked_mul(by)?,
                    _ => return None,
                };
                (sum, a_whole && b_whole && width == Width::W64)
            }
            _ => return None,
        };
        // Small enough for all that is computed with it.
        (by.abs() <= Inductions::LONGEST << 8).then_some(Known::Grows { by, whole })
    }

    /// The place, if each iteration accesses the next element.
    fn place(&mut self, size: Size, mut place: Place) -> Option<Place> {
        if !matches!(place.memory, Memory::Arena | Memory::Proven) || place.is_own_stack() {
            return None;
        }
        let grown = |var: Var, shift: u8| match self.var(var) {
            Known::Same => Some(0),
            Known::Grows { by, whole } if whole || place.is_in_arena() => Some(by << shift.min(8)),
            _ => None,
        };
        let stride = grown(place.base, 0)? + place.index.map_or(Some(0), |(var, shift)| grown(var, shift))?;
        let descending = stride < 0;
        if stride.abs() != i64::from(size.bytes())
            || *self.pattern.element.get_or_insert(size) != size
            || *self.pattern.descending.get_or_insert(descending) != descending
        {
            return None;
        }
        place.each_var_mut(|var| *var = self.name(*var));
        Some(place)
    }

    fn lanes(&mut self, at: At, of: Make) -> usize {
        self.pattern.lanes.push(Lanes { at, of });
        self.pattern.lanes.len() - 1
    }

    /// A copy of something else than a number.
    fn copy(&self, width: Width, known: Known) -> Option<Known> {
        match (width, known) {
            (Width::W64, known) => Some(known),
            (Width::W32, Known::Lanes { lanes, exact }) => match self.pattern.element? {
                Size::DW => None,
                Size::W => Some(Known::Lanes { lanes, exact: true }),
                _ => exact.then_some(known),
            },
            (Width::W32, Known::Sum { width: Width::W32, .. }) => Some(known),
            _ => None,
        }
    }

    /// An operation on elements, or one that sums them up.
    fn element_alu(&mut self, at: At, width: Width, op: AluOp, a: Var, b: Src) -> Option<Known> {
        let element = self.pattern.element?;
        let (left, right) = (self.var(a), self.src(b));
        if let (Known::Old(acc), Known::Lanes { lanes, exact })
        | (Known::Lanes { lanes, exact }, Known::Old(acc)) = (left, right)
        {
            let sums = matches!(op, AluOp::Add | AluOp::And | AluOp::Or | AluOp::Xor);
            let fits = match width {
                Width::W64 => exact,
                Width::W32 => element != Size::DW && (exact || element == Size::W),
            };
            return (sums && fits).then_some(Known::Sum { acc, op, width, lanes, at });
        }
        if !matches!(op, AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor)
            || (width == Width::W32 && element == Size::DW)
        {
            return None;
        }
        let (a, a_exact) = self.operand(at, Src::Var(a))?;
        let (b, b_exact) = self.operand(at, b)?;
        let whole = matches!((width, element), (Width::W64, Size::DW) | (Width::W32, Size::W));
        let exact = match op {
            _ if whole => true,
            AluOp::And => a_exact || b_exact,
            AluOp::Or | AluOp::Xor => a_exact && b_exact,
            _ => false,
        };
        let lanes = self.lanes(at, Make::Alu { op, a, b });
        Some(Known::Lanes { lanes, exact })
    }

    /// An operand as elements, and whether it is them exactly.
    fn operand(&mut self, at: At, src: Src) -> Option<(usize, bool)> {
        match self.src(src) {
            Known::Lanes { lanes, exact } => Some((lanes, exact)),
            Known::Same => {
                let most = most(self.pattern.element?);
                let exact = match src {
                    Src::Imm(imm) => imm.cast_unsigned() <= most,
                    Src::Var(_) => most == u64::MAX,
                };
                Some((self.lanes(at, Make::Spread(self.named(src))), exact))
            }
            _ => None,
        }
    }

    /// The end of a block that may leave the loop.
    fn end(&mut self, at: At, leave: Test, stay: Test) -> Option<()> {
        let is_bound = |src: Src| match src {
            Src::Var(var) => !self.written.contains(&var),
            Src::Imm(_) => true,
        };
        let (var, cond, bound) = match (self.var(stay.a), self.src(stay.b)) {
            (Known::Grows { .. }, Known::Same) if is_bound(stay.b) => (stay.a, stay.cond, stay.b),
            (Known::Same, Known::Grows { .. }) if is_bound(Src::Var(stay.a)) => match stay.b {
                Src::Var(var) => (var, swapped(stay.cond), Src::Var(stay.a)),
                Src::Imm(_) => return None,
            },
            _ => return self.exit(at, leave),
        };
        let Known::Grows { by, whole } = self.var(var) else { return None };
        // The comparison sees the sums as they are: the low half of a wide sum, but not all of a narrow one.
        if !whole && stay.width == Width::W64 {
            return None;
        }
        let var = self.name(var);
        self.pattern.counts.push(Count { at, width: stay.width, cond, var, bound, by });
        Some(())
    }

    /// A condition that ends the loop.
    fn exit(&mut self, at: At, leave: Test) -> Option<()> {
        let if_equal = match leave.cond {
            Cond::Eq => true,
            Cond::Ne => false,
            _ => return None,
        };
        let element = self.pattern.element?;
        if leave.width == Width::W32 && element == Size::DW {
            return None;
        }
        let whole = leave.width == Width::W32 && element == Size::W;
        let mut side = |src: Src| {
            let known = self.src(src);
            let (lanes, exact) = self.operand(at, src)?;
            match src {
                _ if exact || whole => {}
                Src::Var(var) if known == Known::Same && !self.written.contains(&var) => {
                    self.pattern.most.push((var, most(element)));
                }
                _ => return None,
            }
            Some(lanes)
        };
        let (a, b) = (side(Src::Var(leave.a))?, side(leave.b)?);
        self.pattern.exits.push(Exit { at, a, b, if_equal });
        Some(())
    }

    /// A variable that the next iteration reads.
    fn sum(&mut self, var: Var) -> Option<()> {
        let Some(&Known::Sum { acc, op, width, lanes, at }) = self.known.get(&var) else { return None };
        self.pattern.sums.push(Sum { at, acc, op, width, lanes });
        (acc == var).then_some(())
    }
}

/// The greatest element.
fn most(size: Size) -> u64 {
    u64::MAX >> (64 - u32::from(size.bits()))
}
