//! Numbers and copies.

use isa::{AluOp, Cond, Size, Width};

use crate::analysis::Edges;
use crate::flow::{BlockId, Body, End, Op, Src, Test, Use, Var};

/// The most variables of which something is known at a time: what is carried from block to block stays small.
const KNOWN: usize = 16;

/// What variables are known to be: a number, or what another variable is.
#[derive(Clone, Debug, Default)]
struct Known(Vec<(Var, Src)>);

/// Replaces what is read by what it is known to be, and decides branches; the result is how often.
pub(super) fn propagate(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let mut ends: Vec<Known> = vec![Known::default(); body.blocks.len()];
    let mut changes = 0;
    for &id in edges.order() {
        let before = edges.single_predecessor(id);
        let mut known = match before.and_then(|before| ends.get(before.index())) {
            Some(known) => known.clone(),
            None => Known::default(),
        };
        if let Some(end) = before.and_then(|before| body.block(before)).map(|block| block.end) {
            known.on_edge(end, id);
        }
        let Some(block) = body.block_mut(id) else { continue };
        for step in &mut block.steps {
            changes += known.improve(&mut step.op);
            known.step(&step.op);
        }
        changes += known.improve_end(&mut block.end);
        if let Some(end) = ends.get_mut(id.index()) {
            *end = known;
        }
    }
    changes
}

impl Known {
    fn get(&self, var: Var) -> Option<Src> {
        self.0.iter().find(|(known, _)| *known == var).map(|(_, value)| *value)
    }

    fn number(&self, src: Src) -> Option<i64> {
        match src {
            Src::Imm(imm) => Some(imm),
            Src::Var(var) => match self.get(var)? {
                Src::Imm(imm) => Some(imm),
                Src::Var(_) => None,
            },
        }
    }

    fn forget(&mut self, var: Var) {
        self.0.retain(|(known, value)| *known != var && *value != Src::Var(var));
    }

    fn learn(&mut self, var: Var, value: Src) {
        self.forget(var);
        // What is addressed by `r10` itself is memory that only this function knows.
        if value != Src::Var(var) && value != Src::Var(Var::FRAME) {
            if self.0.len() == KNOWN {
                self.0.remove(0);
            }
            self.0.push((var, value));
        }
    }

    /// What going from an end to a block tells.
    fn on_edge(&mut self, end: End, to: BlockId) {
        let End::Branch { test: Test { width: Width::W64, cond, a, b: Src::Imm(imm) }, taken, next } = end
        else {
            return;
        };
        let equal = if cond == Cond::Eq { taken } else { next };
        if matches!(cond, Cond::Eq | Cond::Ne) && taken != next && equal == to {
            // What was a copy of `a` stays one.
            self.0.retain(|(known, _)| *known != a);
            if self.0.len() < KNOWN {
                self.0.push((a, Src::Imm(imm)));
            }
        }
    }

    /// Follows an operation that was improved.
    fn step(&mut self, op: &Op) {
        let value = match *op {
            Op::Mov { width: Width::W64, src, .. } => Some(src),
            Op::Mov { width: Width::W32, src: Src::Imm(imm), .. } => Some(Src::Imm(imm & 0xffff_ffff)),
            _ => None,
        };
        op.writes(|var| self.forget(var));
        if let (Some(var), Some(value)) = (op.result(), value) {
            self.learn(var, value);
        }
    }

    /// Reads copied variables where they were copied from, and numbers where there may be one; computes with numbers.
    fn improve(&self, op: &mut Op) -> u32 {
        let mut changes = 0;
        op.each_var_mut(|var, how| {
            if how == Use::Read
                && let Some(Src::Var(original)) = self.get(*var)
            {
                *var = original;
                changes += 1;
            }
        });
        match op {
            Op::Alu { b, .. } | Op::Mov { src: b, .. } | Op::Store { src: b, .. } => {
                changes += self.improve_operand(b);
            }
            Op::Compare { test, .. } => changes += self.improve_operand(&mut test.b),
            Op::Select { test, yes, no, .. } => {
                for src in [&mut test.b, yes, no] {
                    changes += self.improve_operand(src);
                }
            }
            _ => {}
        }
        if let Some((dst, imm)) = self.compute(op) {
            let new = Op::Mov { width: Width::W64, dst, src: Src::Imm(imm) };
            changes += u32::from(*op != new);
            *op = new;
        }
        changes
    }

    fn improve_operand(&self, src: &mut Src) -> u32 {
        match (*src, self.number(*src)) {
            (Src::Var(_), Some(imm)) => {
                *src = Src::Imm(imm);
                1
            }
            _ => 0,
        }
    }

    fn improve_end(&self, end: &mut End) -> u32 {
        let mut changes = 0;
        end.each_var_mut(|var| {
            if let Some(Src::Var(original)) = self.get(*var) {
                *var = original;
                changes += 1;
            }
        });
        if let End::Branch { test, taken, next } = end {
            changes += self.improve_operand(&mut test.b);
            if let Some(holds) = self.decide(*test) {
                *end = End::Jump(if holds { *taken } else { *next });
                changes += 1;
            }
        }
        changes
    }

    /// The number that an operation gives, if it gives always the same.
    fn compute(&self, op: &Op) -> Option<(Var, i64)> {
        Some(match *op {
            Op::Alu { width, op, dst, a, b } => {
                (dst, calculate(width, op, self.number(Src::Var(a))?, self.number(b)?)?)
            }
            Op::Neg { width, dst, src } => {
                (dst, calculate(width, AluOp::Sub, 0, self.number(Src::Var(src))?)?)
            }
            Op::ZeroExtend { from, dst, src } => {
                let value = self.number(Src::Var(src))?;
                let kept = match from {
                    Size::B => value & 0xff,
                    Size::H => value & 0xffff,
                    Size::W => value & 0xffff_ffff,
                    Size::DW => value,
                };
                (dst, kept)
            }
            Op::SignExtend { width, from, dst, src } => {
                let above = i64::from(64 - from.bits());
                let value = calculate(Width::W64, AluOp::Lsh, self.number(Src::Var(src))?, above)?;
                let value = calculate(Width::W64, AluOp::Arsh, value, above)?;
                (dst, if width == Width::W32 { value & 0xffff_ffff } else { value })
            }
            Op::Mov { width: Width::W32, dst, src } => (dst, self.number(src)? & 0xffff_ffff),
            Op::Compare { dst, test } => (dst, self.decide(test)?.into()),
            Op::Select { dst, test, yes, no } => {
                let chosen = if self.decide(test)? { yes } else { no };
                (dst, self.number(chosen)?)
            }
            _ => return None,
        })
    }

    /// Whether a test holds, if that is known.
    fn decide(&self, test: Test) -> Option<bool> {
        let (a, b) = (self.number(Src::Var(test.a))?, self.number(test.b)?);
        // 32-bit operands keep their order when they are extended in the way the comparison sees them.
        let (a, b) = match test.width {
            Width::W64 => (a, b),
            Width::W32 => (low(a).into(), low(b).into()),
        };
        let (ua, ub) = (a.cast_unsigned(), b.cast_unsigned());
        Some(match test.cond {
            Cond::Eq => a == b,
            Cond::Ne => a != b,
            Cond::Gt => ua > ub,
            Cond::Ge => ua >= ub,
            Cond::Lt => ua < ub,
            Cond::Le => ua <= ub,
            Cond::SGt => a > b,
            Cond::SGe => a >= b,
            Cond::SLt => a < b,
            Cond::SLe => a <= b,
            Cond::Set => a & b != 0,
        })
    }
}

/// The low half, signed. Sign-extension keeps the order of unsigned numbers as well.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(value: i64) -> i32 {
    value as i32
}

/// Arithmetic as RFC 9669 has it, but for divisions.
fn calculate(width: Width, op: AluOp, a: i64, b: i64) -> Option<i64> {
    let amount = match width {
        Width::W64 => b & 63,
        Width::W32 => b & 31,
    };
    let unsigned = match width {
        Width::W64 => a.cast_unsigned(),
        Width::W32 => u64::from(low(a).cast_unsigned()),
    };
    let signed = match width {
        Width::W64 => a,
        Width::W32 => low(a).into(),
    };
    let value = match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::And => a & b,
        AluOp::Or => a | b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a << amount,
        AluOp::Rsh => (unsigned >> amount).cast_signed(),
        AluOp::Arsh => signed >> amount,
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => return None,
    };
    Some(match width {
        Width::W64 => value,
        Width::W32 => value & 0xffff_ffff,
    })
}
