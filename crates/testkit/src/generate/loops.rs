//! Loops as compilers make them: a register counts, another is the bound, and the arena pointer goes along.

use isa::{AluOp, Cond, Insn, JumpForm, Operand, Reg, Size, Width};

use super::flow::Body;
use super::shapes::SIZES;
use super::{ARENA, CTX, Generator, load, mov};

/// No call takes these away.
const COUNTER: Reg = Reg::R6;
const BOUND: Reg = Reg::R7;
/// What loops sum up in.
const SUM: Reg = Reg::R0;

/// How a loop counts.
struct Count {
    width: Width,
    cond: Cond,
    step: i32,
    bound: Operand,
}

impl Generator {
    /// A loop that counts in a register. Its budget ends it if nothing else does.
    pub(super) fn counted_loop(&mut self, body: &mut Body) {
        let budgeted = self.rng.u8(..4) != 0;
        let count = if budgeted { self.unknown_count(body) } else { self.known_count(body) };
        // Known to no verifier, or it would follow each sum.
        body.push(load(Size::DW, false, SUM, CTX, 8 * self.rng.i16(0..8)));
        (self.loops, self.endless, self.held) = (true, true, true);
        let mut inner = Body::default();
        let mut exits = Vec::new();
        let top_tested = self.rng.bool();
        let test =
            |cond: Cond| Insn::Branch { width: count.width, cond, dst: COUNTER, src: count.bound, offset: 0 };
        if top_tested {
            exits.push(inner.place());
            inner.push(test(opposite(count.cond)));
        }
        if budgeted {
            exits.push(inner.place());
            inner.push(Insn::MayGoto { offset: 0 });
        }
        // Conditions that do not leave the loop would double what a verifier has to look at in each round.
        let mut may_leave = budgeted;
        for _ in 0..1 + self.rng.usize(..3) {
            match self.rng.u8(..8) {
                0..=2 => self.walk_statement(&mut inner),
                3 => self.indexed_statement(&mut inner),
                4 | 5 if may_leave => {
                    may_leave = false;
                    exits.push(inner.place());
                    let (width, cond) = (self.width(), self.choose(&Cond::ALL));
                    let (dst, src) = (self.scalar_reg(), self.operand());
                    inner.push(Insn::Branch { width, cond, dst, src, offset: 0 });
                }
                6 => self.ctx_statement(&mut inner),
                _ => self.arena_statement(&mut inner),
            }
        }
        if self.rng.bool() {
            let src = Operand::Imm(self.choose(&[1, 2, 4, 8, 8, 16, -8, 4096]));
            inner.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: ARENA, src });
        }
        let width = if count.width == Width::W32 && self.rng.bool() { Width::W64 } else { count.width };
        inner.push(Insn::Alu { width, op: AluOp::Add, dst: COUNTER, src: Operand::Imm(count.step) });
        let back = i32::from(-(inner.slots() + 1));
        inner.push(match top_tested {
            true => Insn::Jump { form: JumpForm::Short, offset: back },
            false => with_offset(test(count.cond), i16::try_from(back).unwrap_or_default()),
        });
        (self.loops, self.endless, self.held) = (false, false, false);
        let end = inner.slots();
        for (index, slot) in exits {
            inner.change(index, |insn| with_offset(insn, end - slot - 1));
        }
        body.append(inner);
    }

    /// A few rounds, or any number, from and to what only a run knows.
    fn unknown_count(&mut self, body: &mut Body) -> Count {
        let (width, down) = (self.width(), self.rng.bool());
        body.push(load(Size::DW, false, COUNTER, CTX, 8 * self.rng.i16(0..8)));
        body.push(mov(BOUND, Operand::Reg(COUNTER)));
        let by = self.rng.i32(-2..40);
        let src = Operand::Imm(if down { -by } else { by });
        body.push(Insn::Alu { width: self.width(), op: AluOp::Add, dst: BOUND, src });
        let step = self.choose(&[1, 1, 1, 2, 3, 8]);
        let conds = match down {
            false => [Cond::Lt, Cond::Le, Cond::Ne, Cond::SLt, Cond::SLe],
            true => [Cond::Gt, Cond::Ge, Cond::Ne, Cond::SGt, Cond::SGe],
        };
        let cond = if self.rng.u8(..16) == 0 { self.choose(&Cond::ALL) } else { self.choose(&conds) };
        Count { width, cond, step: if down { -step } else { step }, bound: Operand::Reg(BOUND) }
    }

    /// A few rounds that a verifier walks.
    fn known_count(&mut self, body: &mut Body) -> Count {
        let rounds = self.rng.i32(1..20);
        body.push(mov(COUNTER, Operand::Imm(0)));
        let cond = self.choose(&[Cond::Lt, Cond::Ne, Cond::SLt]);
        Count { width: self.width(), cond, step: 1, bound: Operand::Imm(rounds) }
    }

    /// An access where the arena pointer is, which may be summed up.
    fn walk_statement(&mut self, body: &mut Body) {
        let (size, offset) = (self.choose(&SIZES), 8 * self.rng.i16(-2..4));
        let (value, sum) = (self.choose(&Reg::ARGS), SUM);
        if self.rng.bool() {
            body.push(super::store(size, ARENA, offset, Operand::Reg(value)));
            return;
        }
        body.push(load(size, false, value, ARENA, offset));
        let op = self.choose(&[AluOp::Add, AluOp::Xor, AluOp::Or, AluOp::And, AluOp::Sub, AluOp::Mul]);
        body.push(Insn::Alu { width: self.width(), op, dst: sum, src: Operand::Reg(value) });
    }

    /// An access to the element that the counter numbers.
    fn indexed_statement(&mut self, body: &mut Body) {
        let (value, pointer, index) = (Reg::R3, Reg::R1, Reg::R2);
        let size = self.choose(&SIZES);
        let shift = Operand::Imm(size.bytes().trailing_zeros().cast_signed());
        body.push(mov(pointer, Operand::Reg(ARENA)));
        body.push(mov(index, Operand::Reg(COUNTER)));
        body.push(Insn::Alu { width: self.width(), op: AluOp::Lsh, dst: index, src: shift });
        body.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: pointer, src: Operand::Reg(index) });
        body.push(match self.rng.bool() {
            true => load(size, false, value, pointer, 0),
            false => super::store(size, pointer, 0, Operand::Reg(value)),
        });
        body.push(mov(pointer, Operand::Reg(index)));
    }
}

fn with_offset(insn: Insn, to: i16) -> Insn {
    let mut insn = insn;
    if let Insn::Branch { offset, .. } | Insn::MayGoto { offset } = &mut insn {
        *offset = to;
    }
    insn
}

fn opposite(cond: Cond) -> Cond {
    match cond {
        Cond::Lt => Cond::Ge,
        Cond::Le => Cond::Gt,
        Cond::Gt => Cond::Le,
        Cond::Ge => Cond::Lt,
        Cond::SLt => Cond::SGe,
        Cond::SLe => Cond::SGt,
        Cond::SGt => Cond::SLe,
        Cond::SGe => Cond::SLt,
        Cond::Eq | Cond::Set => Cond::Ne,
        Cond::Ne => Cond::Eq,
    }
}
