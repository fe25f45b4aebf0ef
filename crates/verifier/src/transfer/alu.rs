//! Arithmetic, moves and casts.

use isa::{AluOp, ByteOrder, Imm64, Operand, Reg, Size, SwapBits, Width};

use super::Step;
use crate::cfg::callee;
use crate::explore::Stop;
use crate::limits::MAX_OFFSET;
use crate::reason::{Reason, Unsupported};
use crate::reg::{RegState, RegType};
use crate::scalar::Scalar;

impl Step<'_> {
    pub(super) fn alu(&mut self, width: Width, op: AluOp, dst: Reg, src: Operand) -> Result<(), Stop> {
        let b = self.operand(src)?;
        let a = self.read(dst)?;
        if let Operand::Imm(imm) = src {
            check_immediate(width, op, imm)?;
        }
        let from = [a.origin, b.origin];
        if a.is_arena() || b.is_arena() {
            if width == Width::W64 {
                self.narrow(true)?;
            }
            let origin = self.origins.derive(Some(self.at), &from);
            return Ok(self.write(dst, RegState::arena(origin))?);
        }
        if width == Width::W64 {
            self.narrow(false)?;
            if self.facts.is_mixed(self.at) {
                if a.is_pointer() || b.is_pointer() {
                    return Err(Reason::MixedPointers.into());
                }
                let result = self.unknown(&from);
                return Ok(self.write(dst, result)?);
            }
        }
        let result = match (a.is_pointer(), b.is_pointer()) {
            (false, false) => {
                let mut sum = self.number(a.scalar.alu(width, op, b.scalar), &from);
                if let Some(offset) = linked_offset(width, op, &a, &b) {
                    (sum.id, sum.offset) = (a.id, offset);
                }
                sum
            }
            (true, true) if op == AluOp::Sub => self.unknown(&from),
            (true, true) => return Err(Reason::PointerPointer { reg: dst, op: symbol(op) }.into()),
            (true, false) => {
                self.depend_on(&b);
                self.pointer_alu(width, op, dst, &a, &b, false)?
            }
            (false, true) => {
                self.depend_on(&a);
                self.pointer_alu(width, op, dst, &b, &a, true)?
            }
        };
        Ok(self.write(dst, result)?)
    }

    fn narrow(&mut self, narrow: bool) -> Result<(), Stop> {
        self.facts.arithmetic(self.at, narrow).map_err(Stop::Restart)
    }

    /// `pointer op offset`, or with `swapped`: `offset op pointer`.
    fn pointer_alu(
        &mut self,
        width: Width,
        op: AluOp,
        reg: Reg,
        pointer: &RegState,
        offset: &RegState,
        swapped: bool,
    ) -> Result<RegState, Reason> {
        let found = pointer.type_name();
        let from = [pointer.origin, offset.origin];
        if width == Width::W32 {
            return if op == AluOp::Sub {
                Ok(self.unknown(&from))
            } else {
                Err(Reason::PointerArithmetic32 { reg })
            };
        }
        if pointer.maybe_null() {
            return Err(Reason::PointerArithmeticMaybeNull { reg, found });
        }
        let known = offset.scalar.as_constant().map(u64::cast_signed);
        if matches!(pointer.kind, RegType::ConstPtrToMap { .. }) && !(known == Some(0) && op == AluOp::Add) {
            return Err(Reason::PointerArithmetic { reg, found });
        }
        check_sane(offset, found)?;
        check_sane(pointer, found)?;
        let mut result = *pointer;
        result.origin = self.origins.derive(Some(self.at), &from);
        let sign = match op {
            AluOp::Add => 1,
            AluOp::Sub if swapped => return Err(Reason::ScalarMinusPointer { reg }),
            AluOp::Sub if matches!(pointer.kind, RegType::PtrToStack { .. }) => {
                return Err(Reason::StackSubtraction { reg });
            }
            AluOp::Sub => -1,
            _ => return Err(Reason::PointerOperator { reg, op: symbol(op) }),
        };
        let fixed = known
            .and_then(|k| k.checked_mul(sign))
            .and_then(|k| i64::from(pointer.offset).checked_add(k))
            .and_then(|o| i32::try_from(o).ok());
        match fixed {
            Some(offset) => result.offset = offset,
            None => result.scalar = pointer.scalar.alu(Width::W64, op, offset.scalar),
        }
        check_sane(&result, found)?;
        Ok(result)
    }

    pub(super) fn neg(&mut self, width: Width, dst: Reg) -> Result<(), Stop> {
        let a = self.read(dst)?;
        let result = if a.is_scalar() { a.scalar.neg(width) } else { Scalar::UNKNOWN };
        let result = self.number(result, &[a.origin]);
        Ok(self.write(dst, result)?)
    }

    pub(super) fn byte_swap(&mut self, order: ByteOrder, bits: SwapBits, dst: Reg) -> Result<(), Stop> {
        let a = self.read(dst)?;
        let result = self.number(a.scalar.byte_swap(order, bits), &[a.origin]);
        Ok(self.write(dst, result)?)
    }

    pub(super) fn mov(&mut self, width: Width, dst: Reg, src: Operand) -> Result<(), Stop> {
        let Operand::Reg(from) = src else {
            let mut value = self.operand(src)?;
            if width == Width::W32 {
                value.scalar = value.scalar.low_half();
            }
            return Ok(self.write(dst, value)?);
        };
        let value = self.read(from)?;
        let copy = match width {
            Width::W64 => self.linked(from, value),
            Width::W32 if !value.is_scalar() => self.number(Scalar::UNKNOWN.low_half(), &[value.origin]),
            // The same number if it fits; else a new one.
            Width::W32 if value.scalar.bit_width() <= 32 => self.linked(from, value),
            Width::W32 => self.number(value.scalar.low_half(), &[value.origin]),
        };
        Ok(self.write(dst, copy)?)
    }

    pub(super) fn mov_sx(&mut self, width: Width, from: Size, dst: Reg, src: Reg) -> Result<(), Stop> {
        let value = self.read(src)?;
        let result = if !value.is_scalar() {
            let unknown = Scalar::UNKNOWN;
            self.number(if width == Width::W32 { unknown.low_half() } else { unknown }, &[value.origin])
        } else if value.scalar.bit_width() < u32::from(from.bits()) {
            // The sign bit is 0: the same number.
            self.linked(src, value)
        } else {
            self.number(value.scalar.mov_sx(width, from), &[value.origin])
        };
        Ok(self.write(dst, result)?)
    }

    /// A copy of the register that will learn whatever the original learns.
    pub(super) fn linked(&mut self, reg: Reg, mut value: RegState) -> RegState {
        if value.is_scalar() && (value.id == 0 || value.offset != 0) && value.scalar.as_constant().is_none() {
            // A number with an offset starts a family of its own, or loops would never find the same state again.
            (value.id, value.offset) = (self.fresh_id(), 0);
            if reg != Reg::R10 {
                self.state.set_reg(reg, value);
            }
        }
        value
    }

    pub(super) fn cast(&mut self, dst: Reg, src: Reg, dst_as: u16, src_as: u16) -> Result<(), Stop> {
        if !matches!((dst_as, src_as), (0, 1) | (1, 0)) {
            return Err(Reason::CastSpaces { dst: dst_as, src: src_as }.into());
        }
        if self.plan.arena.is_none() {
            return Err(Reason::CastWithoutArena.into());
        }
        let value = self.read(src)?;
        let result = if src_as == 1 {
            RegState::arena(self.origins.derive(Some(self.at), &[value.origin]))
        } else {
            self.unknown(&[value.origin])
        };
        Ok(self.write(dst, result)?)
    }

    pub(super) fn load_imm64(&mut self, dst: Reg, value: Imm64) -> Result<(), Stop> {
        let loaded = match value {
            Imm64::Const(value) => self.number(Scalar::constant(value), &[]),
            Imm64::MapIdx(map) => self.pointer(RegType::ConstPtrToMap { map }),
            // An address inside the arena is a user address: a number.
            Imm64::MapIdxValue { map, .. } if self.plan.arena == Some(map) => self.unknown(&[]),
            Imm64::MapIdxValue { map, offset } => {
                let mut value = self.pointer(RegType::PtrToMapValue { map });
                value.offset = i32::try_from(offset)
                    .map_err(|_| Reason::MapValueOffset { map: self.plan.map_name(map), offset })?;
                value
            }
            Imm64::Func(offset) => {
                let subprog = callee(self.plan.program, self.at, offset)?;
                self.check_callback(subprog)?;
                self.pointer(RegType::PtrToFunc { subprog })
            }
            Imm64::BtfVar { .. } | Imm64::MapFd(_) | Imm64::MapValue { .. } => {
                return Err(Unsupported::Instruction { what: "lddw of a kernel object" }.into());
            }
        };
        Ok(self.write(dst, loaded)?)
    }
}

/// `a + constant` stays linked with what `a` is linked with: its offset from them, if it does.
fn linked_offset(width: Width, op: AluOp, a: &RegState, b: &RegState) -> Option<i32> {
    let constant = i32::try_from(b.scalar.as_constant()?.cast_signed()).ok()?;
    (a.id != 0 && width == Width::W64 && op == AluOp::Add).then(|| a.offset.checked_add(constant)).flatten()
}

fn check_immediate(width: Width, op: AluOp, imm: i32) -> Result<(), Reason> {
    match op {
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod if imm == 0 => Err(Reason::DivisionByZero),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
            let bits = if width == Width::W64 { 64 } else { 32 };
            if (0..bits).contains(&imm) { Ok(()) } else { Err(Reason::InvalidShift { count: imm }) }
        }
        _ => Ok(()),
    }
}

/// Offsets that could leave the range in which sums stay exact are refused.
fn check_sane(reg: &RegState, found: crate::reason::TypeName) -> Result<(), Reason> {
    if let Some(value) = reg.scalar.as_constant().map(u64::cast_signed)
        && (value >= MAX_OFFSET || value <= -MAX_OFFSET)
    {
        return Err(Reason::OffsetTooLarge { found, value });
    }
    let fixed = if reg.is_pointer() { i64::from(reg.offset) } else { 0 };
    if fixed >= MAX_OFFSET || fixed <= -MAX_OFFSET {
        return Err(Reason::FixedOffset { found, offset: fixed });
    }
    let smin = reg.scalar.wide.smin;
    if smin == i64::MIN {
        return Err(Reason::OffsetUnbounded { found });
    }
    if smin >= MAX_OFFSET || smin <= -MAX_OFFSET {
        return Err(Reason::OffsetOutOfBounds { found, value: smin });
    }
    Ok(())
}

fn symbol(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "+=",
        AluOp::Sub => "-=",
        AluOp::Mul => "*=",
        AluOp::Div | AluOp::SDiv => "/=",
        AluOp::Or => "|=",
        AluOp::And => "&=",
        AluOp::Lsh => "<<=",
        AluOp::Rsh => ">>=",
        AluOp::Mod | AluOp::SMod => "%=",
        AluOp::Xor => "^=",
        AluOp::Arsh => "s>>=",
    }
}
