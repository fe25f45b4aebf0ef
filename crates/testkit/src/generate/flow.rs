//! Branches, loops and calls, and how functions become one program.

use isa::{AluOp, CallTarget, Code, Cond, Imm64, Insn, InsnIdx, JumpForm, Operand, Reg, Size, Width};

use super::{COUNTER, CTX, Generator, load, mov, store};

/// How deep branches nest.
const DEPTH: usize = 3;
/// Statements inside a branch or loop.
const INNER: usize = 4;
const GET_PRANDOM_U32: u32 = 7;

/// Instructions of a function or a part of one. Jumps inside are complete; calls hold the number of the function.
#[derive(Default)]
pub(super) struct Body {
    insns: Vec<Insn>,
}

impl Body {
    pub(super) fn push(&mut self, insn: Insn) {
        self.insns.push(insn);
    }

    pub(super) fn slots(&self) -> i16 {
        let slots: u32 = self.insns.iter().map(Insn::slots).sum();
        i16::try_from(slots).unwrap_or(i16::MAX)
    }

    /// Where the next instruction will be: its number and its slot.
    pub(super) fn place(&self) -> (usize, i16) {
        (self.insns.len(), self.slots())
    }

    /// Changes the instruction of this number.
    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(Insn) -> Insn) {
        if let Some(insn) = self.insns.get_mut(index) {
            *insn = change(*insn);
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.insns.extend(other.insns);
    }
}

/// Joins functions into one program and turns their numbers in calls into distances.
pub(super) fn join(bodies: Vec<Body>) -> (Code, Vec<InsnIdx>) {
    let mut starts = Vec::new();
    let mut end = 0;
    for body in &bodies {
        starts.push(InsnIdx(end));
        end += body.insns.iter().map(Insn::slots).sum::<u32>();
    }
    let mut code = Code::new();
    for insn in bodies.into_iter().flat_map(|body| body.insns) {
        let here = i64::try_from(code.len()).unwrap_or(i64::MAX);
        let distance = |number: i32| {
            let start = usize::try_from(number).ok().and_then(|n| starts.get(n)).map_or(0, |s| s.0);
            i32::try_from(i64::from(start) - here - 1).unwrap_or_default()
        };
        let insn = match insn {
            Insn::Call { target: CallTarget::Local(number) } => {
                Insn::Call { target: CallTarget::Local(distance(number)) }
            }
            Insn::LoadImm64 { dst, value: Imm64::Func(number) } => {
                Insn::LoadImm64 { dst, value: Imm64::Func(distance(number)) }
            }
            other => other,
        };
        code.push(insn);
    }
    (code, starts)
}

impl Generator {
    /// So many statements of function `number`, nested `depth` deep.
    pub(super) fn statements(&mut self, body: &mut Body, number: usize, count: usize, depth: usize) {
        for _ in 0..count {
            // In loops that only their budget ends, a shape would do what is explained below.
            let kinds = if self.features.shapes && !self.endless { 48 } else { 32 };
            match self.rng.u8(..kinds) {
                32.. => self.shape(body),
                // What counts up without a bound would be walked for ever: the verifiers only forget values that no
                // condition needs.
                0..=9 if self.endless => self.ctx_statement(body),
                0..=9 => self.scalar_statement(body),
                10..=13 => self.stack_statement(body),
                14..=16 => self.ctx_statement(body),
                17..=23 => self.arena_statement(body),
                24 | 25 => self.pointer_statement(body),
                26 => self.spill_statement(body),
                27..=29 if depth < DEPTH => self.branch(body, number, depth),
                30 if !self.loops && self.features.shapes && self.rng.bool() => match self.rng.bool() {
                    true => self.counted_loop(body),
                    false => self.stream(body),
                },
                30 if !self.loops => self.bounded_loop(body, number, depth),
                31 => self.call(body, number),
                _ if self.endless => self.stack_statement(body),
                _ => self.scalar_statement(body),
            }
        }
    }

    /// `if` with or without `else`.
    fn branch(&mut self, body: &mut Body, number: usize, depth: usize) {
        let (mut then, mut otherwise) = (Body::default(), Body::default());
        let count = 1 + self.rng.usize(..INNER);
        self.statements(&mut then, number, count, depth + 1);
        if self.rng.bool() {
            let count = 1 + self.rng.usize(..INNER);
            self.statements(&mut otherwise, number, count, depth + 1);
            let distance = otherwise.slots();
            let form = self.choose(&[JumpForm::Short, JumpForm::Long]);
            then.push(Insn::Jump { form, offset: distance.into() });
        }
        let (width, cond, dst, src) =
            (self.width(), self.choose(&Cond::ALL), self.scalar_reg(), self.operand());
        body.push(Insn::Branch { width, cond, dst, src, offset: then.slots() });
        body.append(then);
        body.append(otherwise);
    }

    /// A loop of a few rounds, or one that only its budget ends.
    fn bounded_loop(&mut self, body: &mut Body, number: usize, depth: usize) {
        let endless = self.features.beyond_kernel && self.rng.u8(..4) == 0;
        let mut inner = Body::default();
        (self.loops, self.endless) = (true, endless);
        let count = 1 + self.rng.usize(..INNER);
        // No branches inside: each would double what a verifier has to look at in each round.
        self.statements(&mut inner, number, count, DEPTH.max(depth));
        (self.loops, self.endless) = (false, false);
        if endless {
            let back = -(inner.slots() + 2);
            inner.push(Insn::Jump { form: JumpForm::Short, offset: back.into() });
            body.push(Insn::MayGoto { offset: inner.slots() });
            body.append(inner);
            return;
        }
        body.push(store(Size::DW, Reg::R10, COUNTER, Operand::Imm(0)));
        inner.push(load(Size::DW, false, Reg::R0, Reg::R10, COUNTER));
        inner.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R0, src: Operand::Imm(1) });
        inner.push(store(Size::DW, Reg::R10, COUNTER, Operand::Reg(Reg::R0)));
        let rounds = Operand::Imm(self.rng.i32(2..6));
        let back = -(inner.slots() + 2);
        inner.push(Insn::Branch {
            width: Width::W64,
            cond: Cond::Lt,
            dst: Reg::R0,
            src: rounds,
            offset: back,
        });
        body.push(Insn::MayGoto { offset: inner.slots() });
        body.append(inner);
    }

    /// A call of a later function or of a helper.
    fn call(&mut self, body: &mut Body, number: usize) {
        // Calls in loops would make verification long.
        if number < self.functions && !self.loops {
            let callee = self.rng.usize(number + 1..=self.functions);
            self.call_function(body, callee);
        } else if self.features.beyond_kernel {
            body.push(Insn::Call { target: CallTarget::Helper(GET_PRANDOM_U32) });
            self.replace_arguments(body);
        } else {
            self.scalar_statement(body);
        }
    }

    /// Calls function `number` with the context and four scalars.
    pub(super) fn call_function(&mut self, body: &mut Body, number: usize) {
        body.push(mov(Reg::R1, Operand::Reg(CTX)));
        let number = i32::try_from(number).unwrap_or_default();
        body.push(Insn::Call { target: CallTarget::Local(number) });
        self.replace_arguments(body);
    }

    /// Gives new values to the registers that a call takes away.
    pub(super) fn replace_arguments(&mut self, body: &mut Body) {
        for reg in Reg::ARGS {
            self.fresh_scalar(body, reg);
        }
    }
}
