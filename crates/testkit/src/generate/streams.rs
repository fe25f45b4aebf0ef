//! Loops that go through memory element by element: copies, fills, changes in place, sums and searches, near the ends of pages and
//! over one another.

use isa::{AluOp, Cond, Insn, JumpForm, Operand, Reg, Size, Width};

use super::flow::Body;
use super::shapes::SIZES;
use super::{ARENA_PAGES, CTX, Generator, USER_VM_START, load, mov, store};

/// What is read and what is written.
const FROM: Reg = Reg::R1;
const TO: Reg = Reg::R2;
/// An element, and another one, or what elements are summed up in.
const ELEMENT: Reg = Reg::R3;
const OTHER: Reg = Reg::R0;
/// Addresses that are computed from the count.
const AT: Reg = Reg::R4;
const AT_TOO: Reg = Reg::R5;
/// What counts, and its bound.
const COUNT: Reg = Reg::R6;
const BOUND: Reg = Reg::R7;

/// How a loop goes through memory.
#[derive(Clone, Copy)]
struct Way {
    size: Size,
    /// Whether addresses are computed from the count, not counted themselves.
    indexed: bool,
    down: bool,
    offset: i16,
}

impl Generator {
    /// One or two such loops over the same memory.
    pub(super) fn stream(&mut self, body: &mut Body) {
        let way = Way {
            size: self.choose(&SIZES),
            indexed: self.rng.bool(),
            down: self.rng.u8(..4) == 0,
            offset: self.choose(&[0, 0, 0, 8, -8, 3]),
        };
        let [a, b, c, d, ..] = USER_VM_START.to_le_bytes();
        let low = i32::from_le_bytes([a, b, c, d]);
        let page = 4096 * self.rng.i32(0..ARENA_PAGES.cast_signed());
        let near = self.choose(&[0, 0, 4096]) + self.rng.i32(-300..300);
        let from = low.wrapping_add(page).wrapping_add(near);
        let to = match self.rng.u8(..4) {
            0 => low + 4096 * self.rng.i32(0..ARENA_PAGES.cast_signed()) + self.rng.i32(-200..200),
            1 => from.wrapping_add(i32::from(way.size.bytes()) * self.rng.i32(-20..20)),
            _ => from.wrapping_add(self.rng.i32(-80..80)),
        };
        let kind = self.rng.u8(..8);
        self.stream_loop(body, way, [from, to], kind);
        if self.rng.bool() {
            // What was copied is compared, or what was found changed.
            let kind = self.rng.u8(..8);
            self.stream_loop(body, way, [from, to], kind);
        }
    }

    fn stream_loop(&mut self, body: &mut Body, way: Way, places: [i32; 2], kind: u8) {
        let budgeted = self.rng.u8(..4) != 0;
        let bound = self.stream_count(body, way, budgeted);
        for (reg, place) in [FROM, TO].into_iter().zip(places) {
            body.push(mov(reg, Operand::Imm(place)));
            body.push(Insn::AddrSpaceCast { dst: reg, src: reg, dst_as: 0, src_as: 1 });
            if way.indexed {
                // The first element is where the count says.
                self.scaled_count(body, way);
                body.push(Insn::Alu { width: Width::W64, op: AluOp::Sub, dst: reg, src: Operand::Reg(AT) });
            }
        }
        (self.loops, self.endless, self.held) = (true, true, true);
        let mut inner = Body::default();
        let mut exits = Vec::new();
        let cond = match (way.down, self.rng.bool()) {
            (false, true) => Cond::Lt,
            (true, true) => Cond::Gt,
            _ => Cond::Ne,
        };
        let width = if budgeted { self.width() } else { Width::W64 };
        let top_tested = self.rng.u8(..3) == 0;
        let test = |cond| Insn::Branch { width, cond, dst: COUNT, src: bound, offset: 0 };
        if top_tested {
            let leave = match cond {
                Cond::Lt => Cond::Ge,
                Cond::Gt => Cond::Le,
                _ => Cond::Eq,
            };
            exits.push(inner.place());
            inner.push(test(leave));
        }
        if budgeted {
            exits.push(inner.place());
            inner.push(Insn::MayGoto { offset: 0 });
        }
        self.stream_element(&mut inner, way, kind, budgeted.then_some(&mut exits));
        let by = if way.down { -1 } else { 1 };
        let step = |dst, by| Insn::Alu { width: Width::W64, op: AluOp::Add, dst, src: Operand::Imm(by) };
        if !way.indexed {
            inner.push(step(FROM, by * i32::from(way.size.bytes())));
            inner.push(step(TO, by * i32::from(way.size.bytes())));
        }
        inner.push(step(COUNT, by));
        let back = -(inner.slots() + 1);
        inner.push(match top_tested {
            true => Insn::Jump { form: JumpForm::Short, offset: back.into() },
            false => Insn::Branch { width, cond, dst: COUNT, src: bound, offset: back },
        });
        (self.loops, self.endless, self.held) = (false, false, false);
        let end = inner.slots();
        for (index, slot) in exits {
            inner.change(index, |mut insn| {
                if let Insn::Branch { offset, .. } | Insn::MayGoto { offset } = &mut insn {
                    *offset = end - slot - 1;
                }
                insn
            });
        }
        body.append(inner);
        for reg in [FROM, TO, AT, AT_TOO] {
            body.push(mov(reg, Operand::Reg(COUNT)));
        }
    }

    /// Where the loop begins to count, and the bound.
    fn stream_count(&mut self, body: &mut Body, way: Way, budgeted: bool) -> Operand {
        let most = self.choose(&[8, 40, 150]);
        let rounds = self.rng.i32(1..=most);
        let distance = if way.down { -rounds } else { rounds };
        if !budgeted {
            // A verifier walks each round.
            let rounds = 1 + rounds % 70;
            let (first, last) = if way.down { (rounds, 0) } else { (0, rounds) };
            body.push(mov(COUNT, Operand::Imm(first)));
            return Operand::Imm(last);
        }
        body.push(load(Size::DW, false, COUNT, CTX, 8 * self.rng.i16(0..8)));
        body.push(mov(BOUND, Operand::Reg(COUNT)));
        let src = Operand::Imm(distance);
        body.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: BOUND, src });
        // Known to no verifier, or it would follow each sum.
        body.push(load(Size::DW, false, OTHER, CTX, 8 * self.rng.i16(0..8)));
        Operand::Reg(BOUND)
    }

    /// The distance of the element that the count says, in [`AT`].
    fn scaled_count(&self, body: &mut Body, way: Way) {
        let src = Operand::Imm(way.size.bytes().trailing_zeros().cast_signed());
        body.push(mov(AT, Operand::Reg(COUNT)));
        body.push(Insn::Alu { width: Width::W64, op: AluOp::Lsh, dst: AT, src });
    }

    /// What is done to one element.
    fn stream_element(&mut self, body: &mut Body, way: Way, kind: u8, exits: Option<&mut Vec<(usize, i16)>>) {
        let Way { size, indexed, offset, .. } = way;
        let (mut from, mut to) = (FROM, TO);
        if indexed {
            self.scaled_count(body, way);
            body.push(mov(AT_TOO, Operand::Reg(TO)));
            let add = |dst, src| Insn::Alu { width: Width::W64, op: AluOp::Add, dst, src: Operand::Reg(src) };
            body.push(add(AT_TOO, AT));
            body.push(mov(ELEMENT, Operand::Reg(AT)));
            body.push(mov(AT, Operand::Reg(FROM)));
            body.push(add(AT, ELEMENT));
            (from, to) = (AT, AT_TOO);
        }
        let (width, op) =
            (self.width(), self.choose(&[AluOp::Add, AluOp::Xor, AluOp::Or, AluOp::And, AluOp::Sub]));
        let operand = if self.rng.bool() { Operand::Reg(BOUND) } else { Operand::Imm(self.imm()) };
        let sign_extend = size != Size::DW && self.rng.u8(..8) == 0;
        let element = |dst, at| load(size, sign_extend, dst, at, offset);
        let leave = |body: &mut Body, exits: &mut Vec<(usize, i16)>, cond, src| {
            exits.push(body.place());
            body.push(Insn::Branch { width, cond, dst: ELEMENT, src, offset: 0 });
        };
        match (kind, exits) {
            // Fill, copy, change on the way or in place.
            (0, _) => {
                let value = if self.rng.bool() { operand } else { Operand::Imm(self.imm()) };
                body.push(store(size, to, offset, value));
            }
            (1 | 2, _) => {
                body.push(element(ELEMENT, from));
                body.push(store(size, to, offset, Operand::Reg(ELEMENT)));
            }
            (3, _) => {
                let place = if self.rng.bool() { from } else { to };
                body.push(element(ELEMENT, from));
                body.push(Insn::Alu { width, op, dst: ELEMENT, src: operand });
                body.push(store(size, place, offset, Operand::Reg(ELEMENT)));
            }
            // Where two differ or agree.
            (4, Some(exits)) => {
                body.push(element(ELEMENT, from));
                body.push(element(OTHER, to));
                let cond = self.choose(&[Cond::Ne, Cond::Ne, Cond::Eq]);
                leave(body, exits, cond, Operand::Reg(OTHER));
            }
            // The first element that is, or is not, a number; those before may be copied.
            (5 | 6, Some(exits)) => {
                let number = self.choose(&[0, 0, 1, 200, -1]);
                let src = if self.rng.u8(..4) == 0 { Operand::Reg(BOUND) } else { Operand::Imm(number) };
                let cond = self.choose(&[Cond::Ne, Cond::Eq, Cond::Eq]);
                let (before, behind) = (self.rng.u8(..3) == 0, self.rng.u8(..3) == 0);
                body.push(element(ELEMENT, from));
                if before {
                    body.push(store(size, to, offset, Operand::Reg(ELEMENT)));
                }
                leave(body, exits, cond, src);
                if behind {
                    body.push(store(size, to, offset, Operand::Reg(ELEMENT)));
                }
            }
            // Sums.
            _ => {
                body.push(element(ELEMENT, from));
                let op = self.choose(&[AluOp::Add, AluOp::Add, AluOp::Xor, AluOp::Or, AluOp::And]);
                body.push(Insn::Alu { width, op, dst: OTHER, src: Operand::Reg(ELEMENT) });
            }
        }
    }
}
