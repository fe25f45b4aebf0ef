//! Arithmetic, moves and casts.

use isa::{AluOp, ByteOrder, Imm64, Operand, Reg, Size, SwapBits, Width};

use super::Step;
use crate::domain::scalar::Scalar;
use crate::limits::MAX_OFFSET;
use crate::plan::cfg::callee;
use crate::report::reason::{LoadFault, Reason};
use crate::state::reg::{Flags, RegState, RegType};
use crate::walk::explore::Stop;

impl Step<'_> {
    pub(super) fn alu(&mut self, width: Width, op: AluOp, dst: Reg, src: Operand) -> Result<(), Stop> {
        let b = self.operand(src)?;
        let a = self.read(dst)?;
        if let Operand::Imm(imm) = src {
            check_immediate(width, op, imm)?;
        }
        if dst == Reg::R10 {
            return Err(Reason::FramePointerWrite.into());
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
                let a = self.split_flag(op, dst, a, &b);
                let scalar = self.agreeing(a.scalar.alu(width, op, b.scalar))?;
                let mut sum = self.number(scalar, &from);
                if src != Operand::Reg(dst)
                    && let Some((flag, offset)) = displacement(width, op, &a, &b)
                {
                    sum = RegState { id: a.id, offset, ..sum.with(flag) };
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

    /// `x &= k` and `x |= k` where `x` is 0 or -1, a condition made a mask: each value gets a path of its own.
    fn split_flag(&mut self, op: AluOp, dst: Reg, a: RegState, b: &RegState) -> RegState {
        if !matches!(op, AluOp::And | AluOp::Or) || b.scalar.as_constant().is_none() {
            return a;
        }
        let Some((zero, ones)) = a.scalar.split_flag() else { return a };
        let mut other = self.state.clone();
        other.set_reg(dst, RegState { scalar: zero, ..a });
        self.forks.push((self.at, other));
        RegState { scalar: ones, ..a }
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
        if offset.scalar.wide.is_empty() {
            // The path cannot be taken.
            return Ok(self.unknown(&from));
        }
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
        if matches!(pointer.kind, RegType::PtrToMem { .. }) && pointer.flags.has(Flags::UNTRUSTED) {
            // Loads through it are guarded wherever it points.
            return Ok(if swapped { *offset } else { *pointer });
        }
        let known = offset.scalar.as_constant().map(u64::cast_signed);
        if !may_move(pointer.kind, op, known) {
            return Err(Reason::PointerArithmetic { reg, found });
        }
        check_sane(offset, found)?;
        check_sane(pointer, found)?;
        check_operator(op, reg, pointer, swapped)?;
        let mut result = *pointer;
        result.origin = self.origins.derive(Some(self.at), &from);
        let sign = if op == AluOp::Sub { -1 } else { 1 };
        let fixed = known
            .and_then(|k| k.checked_mul(sign))
            .and_then(|k| i64::from(pointer.offset).checked_add(k))
            .and_then(|o| i32::try_from(o).ok());
        match fixed {
            Some(offset) => result.offset = offset,
            None => {
                let (from, by) = (pointer.scalar, offset.scalar);
                result.scalar = if op == AluOp::Sub { from.moved_back_by(by) } else { from.moved_by(by) };
                if pointer.kind.is_packet() {
                    // A base of its own. What was proven of the old one holds only if it moved towards the start.
                    result.id = self.fresh_id();
                    if op == AluOp::Add || by.wide.smin < 0 {
                        result.range = 0;
                    }
                }
            }
        }
        check_sane(&result, found)?;
        result.scalar = self.agreeing(result.scalar.whole().sync())?;
        Ok(result)
    }

    /// The number, with its bounds forgotten if they contradict each other: the path cannot be taken, which is not known.
    pub(super) fn agreeing(&self, scalar: Scalar) -> Result<Scalar, Reason> {
        if self.plan.env.flags.test_reg_invariants && !scalar.is_consistent() {
            return Err(Reason::Invariants);
        }
        Ok(scalar.or_unbounded())
    }

    pub(super) fn neg(&mut self, width: Width, dst: Reg) -> Result<(), Stop> {
        let a = self.read(dst)?;
        let result = if a.is_scalar() { a.scalar.neg(width) } else { Scalar::UNKNOWN };
        let result = self.number(result, &[a.origin]);
        Ok(self.write(dst, result)?)
    }

    pub(super) fn byte_swap(&mut self, order: ByteOrder, bits: SwapBits, dst: Reg) -> Result<(), Stop> {
        let a = self.read(dst)?;
        if a.is_scalar() && (order, bits) == (ByteOrder::ToLe, SwapBits::B64) {
            // It has this order already.
            return Ok(self.write(dst, a)?);
        }
        let result = if a.is_scalar() { a.scalar.byte_swap(order, bits) } else { Scalar::UNKNOWN };
        let result = self.number(result, &[a.origin]);
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
            Width::W32 => self.number(value.scalar, &[value.origin]),
        };
        let copy = match width {
            Width::W32 => RegState { scalar: copy.scalar.low_half(), ..copy },
            Width::W64 => copy,
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
            let copy = self.linked(src, value);
            RegState { scalar: copy.scalar.mov_sx(width, from), ..copy }
        } else {
            self.number(value.scalar.mov_sx(width, from), &[value.origin])
        };
        Ok(self.write(dst, result)?)
    }

    /// A copy of the register that will learn whatever the original learns.
    pub(super) fn linked(&mut self, reg: Reg, mut value: RegState) -> RegState {
        if !value.is_scalar() {
            return value;
        }
        if value.is_displaced() {
            // It starts a family of its own, or loops would never find the same state again.
            value = value.unlinked();
        }
        if value.id == 0 && value.scalar.as_constant().is_none() {
            value.id = self.fresh_id();
        }
        if reg != Reg::R10 {
            self.state.set_reg(reg, value);
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
                    .map_err(|_| LoadFault::ValueOffset { map: self.plan.map_name(map), offset })?;
                value
            }
            Imm64::Func(offset) => {
                let subprog = callee(self.plan.program, self.at, offset)?;
                self.check_callback(subprog)?;
                self.pointer(RegType::PtrToFunc { subprog })
            }
            Imm64::BtfVar { btf_id, .. } => self.kernel_address(btf_id)?,
            Imm64::MapFd(fd) | Imm64::MapValue { fd, .. } => return Err(LoadFault::NotAMap { fd }.into()),
        };
        Ok(self.write(dst, loaded)?)
    }
}

/// `a + constant` stays linked with what `a` is linked with: how, and its offset from them. A number that is displaced
/// already does not, nor one that loses its high half.
fn displacement(width: Width, op: AluOp, a: &RegState, b: &RegState) -> Option<(Flags, i32)> {
    let (flag, constant) = match width {
        Width::W64 => (Flags::DISPLACED, i32::try_from(b.scalar.as_constant()?.cast_signed()).ok()?),
        Width::W32 if a.scalar.bit_width() <= 32 => {
            (Flags::DISPLACED32, b.scalar.as_constant32()?.cast_signed())
        }
        Width::W32 => return None,
    };
    let offset = match op {
        AluOp::Add => constant,
        AluOp::Sub => constant.checked_neg()?,
        _ => return None,
    };
    (a.id != 0 && !a.is_displaced()).then_some((flag, offset))
}

/// Whether an offset may be added to such a pointer at all.
fn may_move(kind: RegType, op: AluOp, known: Option<i64>) -> bool {
    match kind {
        RegType::PtrToFlowKeys => known.is_some(),
        RegType::ConstPtrToMap { .. } => known == Some(0) && op == AluOp::Add,
        RegType::PtrToCtx
        | RegType::PtrToMapValue { .. }
        | RegType::PtrToMapKey { .. }
        | RegType::PtrToStack { .. }
        | RegType::PtrToPacket
        | RegType::PtrToPacketMeta
        | RegType::PtrToTpBuffer
        | RegType::PtrToBtfId { .. }
        | RegType::PtrToMem { .. }
        | RegType::PtrToBuf
        | RegType::PtrToFunc { .. }
        | RegType::ConstPtrToDynptr => true,
        _ => false,
    }
}

/// Only sums and differences of pointers make sense.
fn check_operator(op: AluOp, reg: Reg, pointer: &RegState, swapped: bool) -> Result<(), Reason> {
    match op {
        AluOp::Add => Ok(()),
        AluOp::Sub if swapped => Err(Reason::ScalarMinusPointer { reg }),
        AluOp::Sub if matches!(pointer.kind, RegType::PtrToStack { .. }) => {
            Err(Reason::StackSubtraction { reg })
        }
        AluOp::Sub => Ok(()),
        AluOp::And | AluOp::Or | AluOp::Xor => Err(Reason::PointerBits { reg, op: symbol(op) }),
        _ => Err(Reason::PointerOperator { reg, op: symbol(op) }),
    }
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
fn check_sane(reg: &RegState, found: crate::report::reason::TypeName) -> Result<(), Reason> {
    if let Some(value) = reg.scalar.as_constant().map(u64::cast_signed)
        && (value >= MAX_OFFSET || value <= -MAX_OFFSET)
    {
        return Err(Reason::OffsetTooLarge { found, value });
    }
    let fixed = i64::from(reg.offset);
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
