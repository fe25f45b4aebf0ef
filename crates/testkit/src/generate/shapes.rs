//! Shapes: short runs of instructions as a compiler makes them of common source code, which passes of the code generator look
//! for. Between them nothing is as a compiler would have it, so that what a pass assumes about the surroundings is tried too.

use isa::{AluOp, ByteOrder, CallTarget, Cond, Imm64, Insn, JumpForm, Operand, Reg, Size, SwapBits, Width};

use super::flow::Body;
use super::{ARENA, CELL, CTX, Generator, INPUT_BYTES, ITER, KEY, SLOTS, load, mov, store};

pub(super) const SIZES: [Size; 4] = [Size::B, Size::H, Size::W, Size::DW];
/// What a value is combined with another by.
pub(super) const MIX: [AluOp; 5] = [AluOp::Add, AluOp::Sub, AluOp::Xor, AluOp::Or, AluOp::And];
const LOOKUP: u32 = 1;
const GET_SMP_PROCESSOR_ID: u32 = 8;
const LOOP: u32 = 181;

impl Generator {
    /// One shape, or several around each other.
    pub(super) fn shape(&mut self, body: &mut Body) {
        match self.rng.u8(..24) {
            0..=4 => self.selection(body, 2),
            5 | 6 => self.rotation(body),
            7 => self.reversal(body),
            8 => self.assembly_of_bytes(body),
            9 | 10 => self.variable(body),
            11 | 12 => self.run_of_moves(body),
            13 => self.run_of_fills(body),
            14 => self.call_some_leaf(body),
            // What follows has loops, or calls that a loop would make long to verify.
            _ if self.loops => self.selection(body, 2),
            15..=17 => self.walk(body),
            18 => self.nested_walks(body),
            19 => self.copy_loop(body),
            20 if self.callbacks > 0 => {
                let callback = self.rng.usize(..self.callbacks);
                self.call_back(body, callback);
            }
            21 => self.iterate(body),
            22 => self.look_up(body),
            _ => self.same_cpu(body),
        }
    }

    /// `if` around a few instructions that only compute, with or without `else`, nested so deep; or both sides of it storing in
    /// the same place.
    fn selection(&mut self, body: &mut Body, depth: usize) {
        let (mut then, mut otherwise) = (Body::default(), Body::default());
        self.side(&mut then, depth);
        if self.rng.bool() {
            self.side(&mut otherwise, depth);
        }
        if self.rng.u8(..4) == 0 {
            let size = self.choose(&SIZES);
            let slot = -8 * self.rng.i16(1..=SLOTS);
            let (base, offset) = self.choose(&[(Reg::R10, slot), (CTX, 8), (ARENA, slot)]);
            let one = Operand::Reg(self.scalar_reg());
            then.push(store(size, base, offset, one));
            let other = self.operand();
            // An arena's memory and other memory want different instructions, so the place is one and the same.
            otherwise.push(store(size, base, offset, other));
        }
        self.branch_over(body, then, otherwise);
    }

    /// Instructions that compute one or two registers.
    fn side(&mut self, side: &mut Body, depth: usize) {
        for _ in 0..self.rng.usize(1..=2) {
            if depth > 0 && self.rng.u8(..4) == 0 {
                self.selection(side, depth - 1);
            } else if self.rng.bool() {
                let (width, dst, src) = (self.width(), self.scalar_reg(), self.operand());
                side.push(Insn::Mov { width, dst, src });
            } else {
                self.scalar_statement(side);
            }
        }
    }

    /// `if` by a condition nobody knows.
    fn branch_over(&mut self, body: &mut Body, mut then: Body, otherwise: Body) {
        if otherwise.slots() > 0 {
            let offset = otherwise.slots().into();
            then.push(Insn::Jump { form: JumpForm::Short, offset });
        }
        let (width, cond, dst, src) =
            (self.width(), self.choose(&Cond::ALL), self.scalar_reg(), self.operand());
        if self.rng.u8(..4) > 0 {
            body.push(load(Size::DW, false, dst, CTX, 8 * self.rng.i16(0..8)));
        }
        body.push(Insn::Branch { width, cond, dst, src, offset: then.slots() });
        body.append(then);
        body.append(otherwise);
    }

    /// Has the verifier forget what it knows of a scalar: what differs after each round of a loop would have it look at all that
    /// follows once for each.
    pub(super) fn forget(&mut self, body: &mut Body, reg: Reg) {
        let offset = 8 * self.rng.i16(0..8);
        body.push(store(Size::DW, CTX, offset, Operand::Reg(reg)));
        body.push(load(Size::DW, false, reg, CTX, offset));
    }

    /// Two different scalars.
    fn two_scalars(&mut self) -> (Reg, Reg) {
        let first = self.scalar_reg();
        loop {
            let second = self.scalar_reg();
            if second != first {
                return (first, second);
            }
        }
    }

    /// `x << k | x >> (bits - k)`, by a constant or a register; at times with a distance that is none.
    fn rotation(&mut self, body: &mut Body) {
        let width = self.width();
        let bits = if width == Width::W32 { 32 } else { 64 };
        let (x, copy) = self.two_scalars();
        let (one, other) = self.choose(&[(AluOp::Lsh, AluOp::Rsh), (AluOp::Rsh, AluOp::Lsh)]);
        let k = self.rng.i32(1..bits);
        body.push(Insn::Mov { width: self.choose(&[width, Width::W64]), dst: copy, src: Operand::Reg(x) });
        let mut shift = |op, dst, src| body.push(Insn::Alu { width, op, dst, src });
        if self.rng.bool() {
            let off = i32::from(self.rng.u8(..8) == 0);
            shift(one, copy, Operand::Imm(k));
            shift(other, x, Operand::Imm((bits - k - off).max(0)));
        } else {
            let by =
                [Reg::R0, Reg::R3, Reg::R6].into_iter().find(|r| *r != x && *r != copy).unwrap_or(Reg::R7);
            shift(AluOp::And, by, Operand::Imm(bits - 1));
            shift(one, copy, Operand::Reg(by));
            body.push(Insn::Neg { width, dst: by });
            let mut shift = |op, dst, src| body.push(Insn::Alu { width, op, dst, src });
            if self.rng.bool() {
                shift(AluOp::And, by, Operand::Imm(bits - 1));
            } else {
                shift(AluOp::Add, by, Operand::Imm(bits));
                // At 0 it would be as wide as the value, which shifts by nothing.
            }
            shift(other, x, Operand::Reg(by));
        }
        let op = self.choose(&[AluOp::Or, AluOp::Or, AluOp::Xor, AluOp::Add]);
        body.push(Insn::Alu { width, op, dst: x, src: Operand::Reg(copy) });
    }

    /// The bytes of a half or a whole word in reverse, by shifts and masks or by the instruction, and shifts behind that.
    fn reversal(&mut self, body: &mut Body) {
        let (x, copy) = self.two_scalars();
        let width = Width::W32;
        if self.rng.bool() {
            body.push(Insn::Mov { width, dst: copy, src: Operand::Reg(x) });
            let mut step = |op, dst, imm| body.push(Insn::Alu { width, op, dst, src: Operand::Imm(imm) });
            step(AluOp::Rsh, copy, 8);
            step(AluOp::And, copy, 0xff);
            step(AluOp::And, x, 0xff);
            step(AluOp::Lsh, x, 8);
            body.push(Insn::Alu { width, op: AluOp::Or, dst: x, src: Operand::Reg(copy) });
            return;
        }
        let order = self.choose(&[ByteOrder::ToBe, ByteOrder::Swap]);
        body.push(Insn::ByteSwap { order, bits: self.choose(&[SwapBits::B32, SwapBits::B64]), dst: x });
        let (op, by) = (self.choose(&[AluOp::Rsh, AluOp::Arsh]), self.choose(&[16, 24, 8]));
        body.push(Insn::Alu { width: self.width(), op, dst: x, src: Operand::Imm(by) });
    }

    /// A number put together from bytes that lie behind each other, in either order.
    fn assembly_of_bytes(&mut self, body: &mut Body) {
        let (sum, part) = self.two_scalars();
        let bytes = self.choose(&[2_i16, 4, 8]);
        let room = i16::try_from(INPUT_BYTES).unwrap_or_default() - bytes;
        let (base, offset) = match self.rng.bool() {
            true => (CTX, self.rng.i16(0..=room)),
            false => (ARENA, self.rng.i16(-16..64)),
        };
        let reverse = self.rng.bool();
        body.push(load(Size::B, false, sum, base, offset + if reverse { bytes - 1 } else { 0 }));
        for byte in 1..bytes {
            let at = offset + if reverse { bytes - 1 - byte } else { byte };
            body.push(load(Size::B, false, part, base, at));
            let src = Operand::Imm(8 * i32::from(byte));
            body.push(Insn::Alu { width: Width::W64, op: AluOp::Lsh, dst: part, src });
            let op = self.choose(&[AluOp::Or, AluOp::Or, AluOp::Or, AluOp::Add]);
            body.push(Insn::Alu { width: Width::W64, op, dst: sum, src: Operand::Reg(part) });
        }
    }

    /// A slot of the stack as a variable: read, changed, written.
    fn variable(&mut self, body: &mut Body) {
        for _ in 0..self.rng.usize(1..=3) {
            let slot = -8 * self.rng.i16(1..=SLOTS);
            let size = self.choose(&[Size::DW, Size::DW, Size::W]);
            let reg = self.scalar_reg();
            body.push(load(size, false, reg, Reg::R10, slot));
            let (width, op, src) = (self.width(), self.choose(&MIX), self.operand());
            body.push(Insn::Alu { width, op, dst: reg, src });
            body.push(store(size, Reg::R10, slot, Operand::Reg(reg)));
        }
    }

    /// What a copied structure is: loads and stores in turn, of places behind each other, which may overlap.
    fn run_of_moves(&mut self, body: &mut Body) {
        let size = self.choose(&SIZES);
        let step = i16::from(size.bytes());
        let (from, to) = (self.rng.i16(-8..64), self.choose(&[-64_i16, -8, 0, 1, 8, 64, 128]));
        let (source, value) = self.two_scalars();
        let other_base = self.rng.bool();
        if other_base {
            self.arena_address(body, source);
        }
        let base = if other_base { source } else { ARENA };
        let (first, second) = self.choose(&[(base, ARENA), (ARENA, base)]);
        for n in 0..self.rng.i16(2..=12) {
            body.push(load(size, false, value, first, from + n * step));
            body.push(store(size, second, from + to + n * step, Operand::Reg(value)));
        }
        if other_base {
            body.push(mov(source, Operand::Imm(self.imm())));
        }
    }

    /// The same value stored in places behind each other.
    fn run_of_fills(&mut self, body: &mut Body) {
        let size = self.choose(&SIZES);
        let value = match self.rng.u8(..3) {
            0 => Operand::Imm(0),
            1 => Operand::Imm(self.imm()),
            _ => Operand::Reg(self.scalar_reg()),
        };
        let from = self.rng.i16(-8..64);
        for n in 0..self.rng.i16(2..=16) {
            body.push(store(size, ARENA, from + n * i16::from(size.bytes()), value));
        }
    }

    /// Calls one of the small functions, if there are any.
    pub(super) fn call_some_leaf(&mut self, body: &mut Body) {
        if self.leaves == 0 {
            return self.selection(body, 1);
        }
        let leaf = self.rng.usize(..self.leaves);
        self.call_leaf(body, leaf);
    }

    /// Calls small function `leaf` with an arena pointer and scalars.
    pub(super) fn call_leaf(&mut self, body: &mut Body, leaf: usize) {
        body.push(mov(Reg::R1, Operand::Reg(ARENA)));
        let number = i32::try_from(self.functions + 1 + leaf).unwrap_or_default();
        body.push(Insn::Call { target: CallTarget::Local(number) });
        self.replace_arguments(body);
    }

    /// A small function: `r1` is an arena pointer, `r2` to `r5` are scalars.
    pub(super) fn leaf(&mut self) -> Body {
        let mut body = Body::default();
        let scalars = [Reg::R0, Reg::R2, Reg::R3, Reg::R4, Reg::R5];
        body.push(Insn::Mov { width: self.width(), dst: Reg::R0, src: Operand::Reg(Reg::R2) });
        for _ in 0..self.rng.usize(0..=4) {
            let (dst, src) = (self.choose(&scalars), self.choose(&scalars));
            match self.rng.u8(..5) {
                0 => {
                    let (size, offset) = (self.choose(&SIZES), 8 * self.rng.i16(-2..16));
                    body.push(load(size, false, dst, Reg::R1, offset));
                }
                1 => {
                    let (size, offset) = (self.choose(&SIZES), 8 * self.rng.i16(-2..16));
                    body.push(store(size, Reg::R1, offset, Operand::Reg(src)));
                }
                2 => {
                    let (width, cond) = (self.width(), self.choose(&Cond::ALL));
                    let imm = Operand::Imm(self.imm());
                    body.push(Insn::Branch { width, cond, dst, src: imm, offset: 1 });
                    body.push(mov(Reg::R0, Operand::Reg(src)));
                }
                // A part of the stack of its own.
                3 => {
                    body.push(store(Size::DW, Reg::R10, -8, Operand::Reg(src)));
                    body.push(load(self.choose(&SIZES), false, dst, Reg::R10, -8));
                }
                _ => {
                    let (width, op) = (self.width(), self.choose(&MIX));
                    body.push(Insn::Alu { width, op, dst, src: Operand::Reg(src) });
                }
            }
            if self.rng.u8(..16) == 0 {
                // One more way out.
                let (cond, imm) = (self.choose(&Cond::ALL), Operand::Imm(self.imm()));
                body.push(Insn::Branch { width: Width::W64, cond, dst: Reg::R2, src: imm, offset: 1 });
                body.push(Insn::Exit);
            }
        }
        body.push(Insn::Exit);
        body
    }

    /// `bpf_loop` over callback `number`, with a cell of the stack as its context.
    pub(super) fn call_back(&mut self, body: &mut Body, number: usize) {
        let cell = self.operand();
        body.push(store(Size::DW, Reg::R10, CELL, cell));
        if self.rng.bool() {
            body.push(mov(Reg::R1, Operand::Imm(self.rng.i32(0..12))));
        } else {
            body.push(load(Size::B, false, Reg::R1, CTX, self.rng.i16(0..8)));
            body.push(Insn::Alu { width: Width::W32, op: AluOp::And, dst: Reg::R1, src: Operand::Imm(7) });
        }
        let function = i32::try_from(self.functions + self.leaves + 1 + number).unwrap_or_default();
        body.push(Insn::LoadImm64 { dst: Reg::R2, value: Imm64::Func(function) });
        stack_address(body, Reg::R3, CELL);
        body.push(mov(Reg::R4, Operand::Imm(0)));
        body.push(Insn::Call { target: CallTarget::Helper(LOOP) });
        self.replace_arguments(body);
        let reg = self.scalar_reg();
        body.push(load(Size::DW, false, reg, Reg::R10, CELL));
    }

    /// A callback of `bpf_loop`: `r1` is the round, `r2` points to the cell.
    pub(super) fn callback(&mut self) -> Body {
        let mut body = Body::default();
        // What an address may be made of.
        for reg in [Reg::R0, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7] {
            body.push(mov(reg, Operand::Reg(Reg::R1)));
        }
        body.push(load(Size::DW, false, Reg::R3, Reg::R2, 0));
        let (width, op) = (self.width(), self.choose(&MIX));
        body.push(Insn::Alu { width, op, dst: Reg::R3, src: Operand::Reg(Reg::R1) });
        if self.rng.bool() {
            // Of an array in the arena.
            let size = self.choose(&SIZES);
            self.arena_address(&mut body, Reg::R4);
            body.push(Insn::Mov { width: Width::W32, dst: Reg::R5, src: Operand::Reg(Reg::R1) });
            let scale = Operand::Imm(size.bytes().trailing_zeros().cast_signed());
            body.push(Insn::Alu { width: self.width(), op: AluOp::Lsh, dst: Reg::R5, src: scale });
            body.push(Insn::Alu {
                width: Width::W64,
                op: AluOp::Add,
                dst: Reg::R4,
                src: Operand::Reg(Reg::R5),
            });
            if self.rng.bool() {
                body.push(load(size, false, Reg::R5, Reg::R4, 0));
                body.push(Insn::Alu { width, op, dst: Reg::R3, src: Operand::Reg(Reg::R5) });
            } else {
                body.push(store(size, Reg::R4, 0, Operand::Reg(Reg::R3)));
            }
        }
        body.push(store(Size::DW, Reg::R2, 0, Operand::Reg(Reg::R3)));
        body.push(mov(Reg::R0, Operand::Imm(0)));
        if self.rng.bool() {
            let (cond, imm) = (self.choose(&Cond::ALL), Operand::Imm(self.imm()));
            body.push(Insn::Branch { width: Width::W64, cond, dst: Reg::R3, src: imm, offset: 1 });
            body.push(mov(Reg::R0, Operand::Imm(1)));
        }
        body.push(Insn::Exit);
        body
    }

    /// A loop over a `bpf_iter_num`.
    fn iterate(&mut self, body: &mut Body) {
        let call = |body: &mut Body, kfunc: i32| {
            stack_address(body, Reg::R1, ITER);
            body.push(Insn::Call { target: CallTarget::Kfunc { btf_id: kfunc, module: 0 } });
        };
        body.push(mov(Reg::R2, Operand::Imm(self.rng.i32(-1..3))));
        body.push(mov(Reg::R3, Operand::Imm(self.rng.i32(0..8))));
        call(body, 0);
        let mut inner = Body::default();
        inner.push(load(Size::W, false, Reg::R1, Reg::R0, 0));
        self.element(&mut inner, Reg::R1, (Reg::R2, Reg::R3), Reg::R7);
        let mut head = Body::default();
        call(&mut head, 1);
        let out = inner.slots() + 1;
        let imm = Operand::Imm(0);
        head.push(Insn::Branch { width: Width::W64, cond: Cond::Eq, dst: Reg::R0, src: imm, offset: out });
        let back = -(head.slots() + inner.slots() + 1);
        inner.push(Insn::Jump { form: JumpForm::Short, offset: back.into() });
        body.append(head);
        body.append(inner);
        call(body, 2);
        self.forget(body, Reg::R7);
        body.push(mov(Reg::R0, Operand::Imm(self.imm())));
        self.replace_arguments(body);
    }

    /// Looks a key up in the array, and uses the value if there is one.
    fn look_up(&mut self, body: &mut Body) {
        let key = match self.rng.bool() {
            true => Operand::Imm(self.rng.i32(-1..5)),
            false => Operand::Reg(self.scalar_reg()),
        };
        body.push(store(Size::W, Reg::R10, KEY, key));
        body.push(Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapIdx(1) });
        stack_address(body, Reg::R2, KEY);
        body.push(Insn::Call { target: CallTarget::Helper(LOOKUP) });
        let mut found = Body::default();
        for _ in 0..self.rng.usize(1..=2) {
            let size = self.choose(&SIZES);
            let bytes = i16::from(size.bytes());
            let offset = bytes * self.rng.i16(0..64 / bytes);
            let value = self.choose(&[Reg::R6, Reg::R7]);
            if self.rng.bool() {
                found.push(load(size, false, value, Reg::R0, offset));
            } else {
                found.push(store(size, Reg::R0, offset, Operand::Reg(value)));
            }
        }
        let (imm, offset) = (Operand::Imm(0), found.slots());
        body.push(Insn::Branch { width: Width::W64, cond: Cond::Eq, dst: Reg::R0, src: imm, offset });
        body.append(found);
        body.push(mov(Reg::R0, Operand::Imm(self.imm())));
        self.replace_arguments(body);
    }

    /// The processor's number twice, which is the same: what it is may differ between runs.
    fn same_cpu(&mut self, body: &mut Body) {
        let id = Insn::Call { target: CallTarget::Helper(GET_SMP_PROCESSOR_ID) };
        body.push(id);
        body.push(mov(Reg::R6, Operand::Reg(Reg::R0)));
        body.push(id);
        let (width, src) = (self.width(), Operand::Reg(Reg::R0));
        body.push(Insn::Alu { width, op: AluOp::Xor, dst: Reg::R6, src });
        body.push(mov(Reg::R0, Operand::Imm(self.imm())));
        self.replace_arguments(body);
    }
}

/// `reg = r10 + offset`.
fn stack_address(body: &mut Body, reg: Reg, offset: i16) {
    body.push(mov(reg, Operand::Reg(Reg::R10)));
    let src = Operand::Imm(offset.into());
    body.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: reg, src });
}
