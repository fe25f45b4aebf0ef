//! How many bits of a variable may be set.

use isa::{AluOp, Cond, Size, SwapBits, Width};

use super::{Edges, Worklist};
use crate::flow::{BlockId, Body, End, Op, Src, Test, Var};

/// Of each variable at one place: how many of its low bits may be set. All above are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u8>);

/// Of all of them.
const ALL: u8 = 64;

impl Bits {
    fn new(vars: u16, bits: u8) -> Self {
        Self(vec![bits; usize::from(vars)])
    }

    /// What is known at the beginning of each block: what all ways into the block agree on.
    pub(crate) fn of(body: &Body, edges: &Edges) -> Vec<Self> {
        /// How often what is known of a block may grow bit by bit.
        const PATIENCE: u8 = 4;
        let mut entries = vec![Self::new(body.vars, 0); body.blocks.len()];
        let mut visits = vec![0u8; body.blocks.len()];
        if let Some(entry) = entries.first_mut() {
            *entry = Self::new(body.vars, ALL);
        }
        // What was not come by yet is not known to have any bits, so that the first visit must hand on even that.
        let mut work = Worklist::forwards(body, edges);
        while let Some(id) = work.next() {
            let (Some(block), Some(mut known)) = (body.block(id), entries.get(id.index()).cloned()) else {
                continue;
            };
            block.steps.iter().for_each(|step| known.step(&step.op));
            for to in block.end.successors() {
                let on_edge = known.on_edge(block.end, to);
                let known = on_edge.as_ref().unwrap_or(&known);
                let (Some(entry), Some(visits)) = (entries.get_mut(to.index()), visits.get_mut(to.index()))
                else {
                    continue;
                };
                if entry.join(known, *visits >= PATIENCE) {
                    *visits = visits.saturating_add(1);
                    work.add(to);
                }
            }
        }
        entries
    }

    /// Adds what another way brings; whether that is more.
    fn join(&mut self, other: &Self, in_leaps: bool) -> bool {
        let mut more = false;
        for (bits, other) in self.0.iter_mut().zip(&other.0) {
            if other > bits {
                more = true;
                *bits = match *other {
                    other if !in_leaps => other,
                    ..=32 => 32,
                    _ => ALL,
                };
            }
        }
        more
    }

    /// Of a variable.
    pub(crate) fn get(&self, var: Var) -> u8 {
        self.0.get(var.index()).copied().unwrap_or(ALL)
    }

    fn set(&mut self, var: Var, bits: u8) {
        if let Some(entry) = self.0.get_mut(var.index()) {
            *entry = bits;
        }
    }

    /// Of an operand of an operation of this width.
    pub(crate) fn operand(&self, width: Width, src: Src) -> u8 {
        let bits = match src {
            Src::Var(var) => self.get(var),
            Src::Imm(imm) => match width {
                Width::W64 => bits_of(imm),
                Width::W32 => bits_of(imm & 0xffff_ffff),
            },
        };
        bits.min(all(width))
    }

    /// Follows an operation.
    pub(crate) fn step(&mut self, op: &Op) {
        let bits = self.result(op);
        op.writes(|var| self.set(var, ALL));
        if let Some(var) = op.result() {
            self.set(var, bits);
        }
    }

    /// Of an operation's result.
    fn result(&self, op: &Op) -> u8 {
        match *op {
            Op::Alu { width, op, a, b, .. } => self.alu(width, op, a, b).min(all(width)),
            Op::Neg { width, .. } => all(width),
            Op::Mov { width, src, .. } => self.operand(width, src),
            Op::SignExtend { width, from, src, .. } => match self.get(src) {
                bits if bits < from.bits() => bits,
                _ => all(width),
            },
            Op::ZeroExtend { from, src, .. } => self.get(src).min(from.bits()),
            Op::Compare { .. } => 1,
            Op::Select { yes, no, .. } => self.operand(Width::W64, yes).max(self.operand(Width::W64, no)),
            Op::Load { size: loaded, sign_extend: false, .. } => loaded.bits(),
            Op::Atomic { size: Size::W, .. } => 32,
            Op::SwapBytes { bits: SwapBits::B16, .. } => 16,
            Op::SwapBytes { bits: SwapBits::B32, .. } => 32,
            _ => ALL,
        }
    }

    fn alu(&self, width: Width, op: AluOp, a: Var, b: Src) -> u8 {
        let all = all(width);
        let (first, second) = (self.get(a).min(all), self.operand(width, b));
        let amount = |imm: i64| u8::try_from(imm & i64::from(all - 1)).unwrap_or(0);
        match (op, b) {
            (AluOp::Add, _) => first.max(second) + 1,
            (AluOp::Mul, _) => first + second,
            (AluOp::And, _) => first.min(second),
            (AluOp::Or | AluOp::Xor, _) => first.max(second),
            (AluOp::Lsh, Src::Imm(by)) => first + amount(by),
            (AluOp::Rsh, Src::Imm(by)) => first.saturating_sub(amount(by)),
            (AluOp::Arsh, Src::Imm(by)) if first < all => first.saturating_sub(amount(by)),
            // A remainder is less than what was divided by. Division by 0 is none: it leaves the dividend.
            (AluOp::Mod, Src::Imm(by)) if second > 0 => first.min(bits_of(by.wrapping_sub(1))),
            // The quotient is no more than the dividend, or 0.
            (AluOp::Rsh | AluOp::Div | AluOp::Mod, _) => first,
            (AluOp::Arsh, _) if first < all => first,
            _ => all,
        }
    }

    /// What is known behind an end on the way to a block, if that is more than before.
    fn on_edge(&self, end: End, to: BlockId) -> Option<Self> {
        let End::Branch { test: Test { width, cond, a, b }, taken, next } = end else { return None };
        if taken == next || self.get(a) > all(width) || self.whole(b) > all(width) {
            return None;
        }
        let is_taken = to == taken;
        let (left, right) = (self.get(a), self.operand(width, b));
        let (a_is_less, b_is_less) = match cond {
            Cond::Lt | Cond::Le => (is_taken, !is_taken),
            Cond::Gt | Cond::Ge => (!is_taken, is_taken),
            Cond::Eq => (is_taken, is_taken),
            Cond::Ne => (!is_taken, !is_taken),
            _ => (false, false),
        };
        let mut known = None;
        if a_is_less && right < left {
            known.get_or_insert_with(|| self.clone()).set(a, right);
        }
        if let Src::Var(b) = b
            && b_is_less
            && left < right
        {
            known.get_or_insert_with(|| self.clone()).set(b, left);
        }
        known
    }

    /// Of all of an operand, which may be wider than the operation. Of numbers only the low part counts.
    fn whole(&self, src: Src) -> u8 {
        match src {
            Src::Var(var) => self.get(var),
            Src::Imm(_) => 0,
        }
    }
}

/// Of a number.
fn bits_of(number: i64) -> u8 {
    u8::try_from(i64::BITS - number.leading_zeros()).unwrap_or(ALL)
}

/// Of a width.
fn all(width: Width) -> u8 {
    match width {
        Width::W32 => 32,
        Width::W64 => ALL,
    }
}
