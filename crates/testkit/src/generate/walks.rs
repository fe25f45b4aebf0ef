//! Loops over arrays in the arena, as compilers make them: counted up or down, by index or by pointer, one in the other, with and
//! without a budget.

use isa::{AluOp, Cond, Insn, JumpForm, Operand, Reg, Size, Width};

use super::flow::Body;
use super::shapes::{MIX, SIZES};
use super::{ARENA, CTX, Generator, load, mov, store};

/// What a loop counts in, and what it sums up in; calls keep both.
const INDEX: Reg = Reg::R6;
const SUM: Reg = Reg::R7;

impl Generator {
    /// One loop over an array.
    pub(super) fn walk(&mut self, body: &mut Body) {
        let rounds = self.rng.i32(1..12);
        let calls = self.rng.u8(..4) == 0;
        self.counted(body, INDEX, rounds, |generator, inner| {
            for _ in 0..generator.rng.usize(1..=2) {
                generator.element(inner, INDEX, (Reg::R1, Reg::R2), SUM);
            }
            if generator.rng.u8(..3) == 0 {
                generator.choice_in_loop(inner);
            }
            if calls && generator.leaves > 0 {
                generator.call_some_leaf(inner);
                let (width, op) = (generator.width(), generator.choose(&MIX));
                inner.push(Insn::Alu { width, op, dst: SUM, src: Operand::Reg(Reg::R0) });
            }
        });
    }

    /// A loop in a loop; the inner one begins anew each time.
    pub(super) fn nested_walks(&mut self, body: &mut Body) {
        let (outer, inner) = (self.rng.i32(1..5), self.rng.i32(1..6));
        self.counted(body, INDEX, outer, |generator, body| {
            if generator.rng.bool() {
                generator.element(body, INDEX, (Reg::R1, Reg::R2), SUM);
            }
            generator.counted(body, Reg::R5, inner, |generator, body| {
                generator.element(body, Reg::R5, (Reg::R1, Reg::R2), SUM);
            });
            if generator.rng.u8(..3) == 0 {
                generator.choice_in_loop(body);
            }
        });
    }

    /// A loop of `rounds` rounds, or fewer if what ends it depends on the context.
    fn counted(
        &mut self,
        body: &mut Body,
        index: Reg,
        rounds: i32,
        inside: impl FnOnce(&mut Self, &mut Body),
    ) {
        let before = std::mem::replace(&mut self.loops, true);
        let mut inner = Body::default();
        inside(self, &mut inner);
        self.loops = before;
        let step = if self.rng.u8(..4) == 0 { 2 } else { 1 };
        let width = self.width();
        let count = |inner: &mut Body, op, by| {
            inner.push(Insn::Alu { width, op, dst: index, src: Operand::Imm(by) });
        };
        let budget = self.rng.u8(..4) > 0;
        let (cond, bound) = match self.rng.u8(..4) {
            // Down to 0.
            0 => {
                body.push(mov(index, Operand::Imm(rounds)));
                count(&mut inner, AluOp::Sub, 1);
                (Cond::Ne, Operand::Imm(0))
            }
            // Down to 0 from what the program reads; only the budget shows the verifier an end.
            1 if budget => {
                body.push(load(Size::B, false, index, CTX, self.rng.i16(0..8)));
                let mask = Operand::Imm(15);
                body.push(Insn::Alu { width: Width::W32, op: AluOp::And, dst: index, src: mask });
                body.push(Insn::Alu { width: Width::W32, op: AluOp::Add, dst: index, src: Operand::Imm(1) });
                count(&mut inner, AluOp::Sub, 1);
                (Cond::Ne, Operand::Imm(0))
            }
            _ => {
                body.push(mov(index, Operand::Imm(self.rng.i32(0..2))));
                count(&mut inner, AluOp::Add, step);
                (self.choose(&[Cond::Lt, Cond::SLt, Cond::Le]), Operand::Imm(rounds))
            }
        };
        let back = -(inner.slots() + 1 + i16::from(budget));
        inner.push(Insn::Branch { width, cond, dst: index, src: bound, offset: back });
        if budget {
            body.push(Insn::MayGoto { offset: inner.slots() });
        }
        body.append(inner);
        self.forget(body, index);
        self.forget(body, SUM);
    }

    /// Something with element `index` of an array in the arena, and `sum`; the two scratch registers are scalars afterwards.
    pub(super) fn element(&mut self, body: &mut Body, index: Reg, scratch: (Reg, Reg), sum: Reg) {
        let (pointer, value) = scratch;
        let size = self.choose(&SIZES);
        let scale = Operand::Imm(size.bytes().trailing_zeros().cast_signed());
        let offset = self.choose(&[0, 0, 8, -8, 4, 4088]);
        body.push(Insn::Mov { width: self.width(), dst: value, src: Operand::Reg(index) });
        if self.rng.u8(..4) > 0 {
            body.push(Insn::Alu { width: self.width(), op: AluOp::Lsh, dst: value, src: scale });
        }
        let add = Insn::Alu { width: Width::W64, op: AluOp::Add, dst: pointer, src: Operand::Reg(value) };
        if self.rng.bool() {
            body.push(mov(pointer, Operand::Reg(ARENA)));
            body.push(add);
        } else {
            // A pointer as user space has it, made one of the arena each time.
            body.push(Insn::AddrSpaceCast { dst: pointer, src: ARENA, dst_as: 1, src_as: 0 });
            body.push(add);
            body.push(Insn::AddrSpaceCast { dst: pointer, src: pointer, dst_as: 0, src_as: 1 });
        }
        let (width, op) = (self.width(), self.choose(&MIX));
        match self.rng.u8(..4) {
            0 => body.push(store(size, pointer, offset, Operand::Reg(sum))),
            1 => {
                // Changed in place.
                body.push(load(size, false, value, pointer, offset));
                body.push(Insn::Alu { width, op, dst: value, src: Operand::Reg(sum) });
                body.push(store(size, pointer, offset, Operand::Reg(value)));
            }
            _ => {
                let sign_extend = size != Size::DW && self.rng.u8(..4) == 0;
                body.push(load(size, sign_extend, value, pointer, offset));
                body.push(Insn::Alu { width, op, dst: sum, src: Operand::Reg(value) });
            }
        }
        body.push(mov(pointer, Operand::Imm(self.imm())));
    }

    /// The smaller, the larger or the other of two numbers.
    fn choice_in_loop(&mut self, body: &mut Body) {
        let (width, cond) = (self.width(), self.choose(&Cond::ALL));
        let (src, value) = self.choose(&[
            (Operand::Reg(Reg::R2), Operand::Reg(Reg::R2)),
            (Operand::Imm(100), Operand::Imm(100)),
            (Operand::Imm(0), Operand::Reg(Reg::R2)),
        ]);
        if self.rng.bool() {
            body.push(Insn::Branch { width, cond, dst: SUM, src, offset: 1 });
            body.push(mov(SUM, value));
            return;
        }
        body.push(Insn::Branch { width, cond, dst: SUM, src, offset: 2 });
        body.push(Insn::Alu { width, op: AluOp::Add, dst: SUM, src: value });
        body.push(Insn::Jump { form: JumpForm::Short, offset: 1 });
        body.push(Insn::Alu { width, op: AluOp::Xor, dst: SUM, src: value });
    }

    /// Copies or fills behind a pointer, byte by byte or word by word, until a count is 0. The pages may be missing and the places
    /// may overlap.
    pub(super) fn copy_loop(&mut self, body: &mut Body) {
        let size = self.choose(&SIZES);
        let step = Operand::Imm(size.bytes().into());
        let (from, to, value) = (Reg::R1, Reg::R2, Reg::R3);
        let fill = self.rng.u8(..3) == 0;
        body.push(mov(from, Operand::Reg(ARENA)));
        if self.rng.bool() {
            self.arena_address(body, to);
        } else {
            body.push(mov(to, Operand::Reg(ARENA)));
            let distance = Operand::Imm(self.choose(&[1, 8, -8, 64, 100, -64]));
            body.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: to, src: distance });
        }
        let rounds = self.choose(&[3, 8, 17, 40]);
        let mask = self.rng.bool();
        if mask {
            body.push(load(Size::B, false, INDEX, CTX, self.rng.i16(0..8)));
            body.push(Insn::Alu { width: Width::W32, op: AluOp::And, dst: INDEX, src: Operand::Imm(63) });
            body.push(Insn::Alu { width: Width::W32, op: AluOp::Add, dst: INDEX, src: Operand::Imm(1) });
        } else {
            body.push(mov(INDEX, Operand::Imm(rounds)));
        }
        let mut inner = Body::default();
        let add = |dst| Insn::Alu { width: Width::W64, op: AluOp::Add, dst, src: step };
        if fill {
            inner.push(store(size, to, 0, Operand::Reg(SUM)));
        } else {
            inner.push(load(size, false, value, from, 0));
            inner.push(store(size, to, 0, Operand::Reg(value)));
            inner.push(add(from));
        }
        inner.push(add(to));
        inner.push(Insn::Alu { width: Width::W64, op: AluOp::Sub, dst: INDEX, src: Operand::Imm(1) });
        let back = -(inner.slots() + 2);
        let zero = Operand::Imm(0);
        inner.push(Insn::Branch { width: Width::W64, cond: Cond::Ne, dst: INDEX, src: zero, offset: back });
        body.push(Insn::MayGoto { offset: inner.slots() });
        body.append(inner);
        self.forget(body, INDEX);
        for reg in [from, to, value] {
            body.push(mov(reg, Operand::Imm(self.imm())));
        }
    }
}
