//! Reads and writes of the stack: spills, fills, zeroes and everything in between.

use isa::{Operand, Reg, Size};

use super::Step;
use super::mem::Place;
use crate::domain::scalar::Scalar;
use crate::limits::{MAX_OFFSET, MAX_STACK};
use crate::report::reason::{Access, MemoryFault, Reason};
use crate::state::reg::{RegState, RegType};
use crate::state::stack::{SLOT, Slot, SlotByte, Stack};

/// Bytes of a frame that an access may touch, from its frame pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
    /// Whether it touches exactly these.
    pub(super) fixed: bool,
}

impl Step<'_> {
    /// Checks that an access stays in its frame, and gives what it may touch.
    pub(super) fn stack_bounds(
        &mut self,
        frame: u8,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u64,
        access: Access,
    ) -> Result<Span, Reason> {
        let offset = offset + i64::from(pointer.offset);
        let (low, high, fixed) = match pointer.scalar.as_constant().map(u64::cast_signed) {
            Some(known) => (known, known, true),
            None => (pointer.scalar.wide.smin, pointer.scalar.wide.smax, false),
        };
        if !fixed && (low <= -MAX_OFFSET || high >= MAX_OFFSET) {
            return Err(MemoryFault::StackUnbounded { access, reg }.into());
        }
        let start = offset.saturating_add(low);
        let end = offset.saturating_add(high).saturating_add_unsigned(size);
        let outside = start < -i64::from(MAX_STACK) || start >= 0;
        if outside || end > 0 {
            let (size, above) = (i64::try_from(size).unwrap_or(i64::MAX), !outside);
            let bits = pointer.scalar.bits.into();
            return Err(Reason::from(if fixed {
                MemoryFault::StackBounds { access, reg, offset, size, above }
            } else {
                MemoryFault::StackVariableBounds { access, reg, bits, offset, size, above }
            }));
        }
        if let Some((owner, reached)) =
            self.state.frame_at(frame).map(|f| (f.subprog, f.stack.reaches(start)))
        {
            self.facts.stack(owner, -start);
            if reg != Reg::R10 || frame != self.state.depth() {
                self.facts.address_stack(owner, start, end);
            }
            if !reached {
                // From now on the frame goes down to here, written or not: states are compared that far.
                self.stack_mut(frame)?.at_mut(start);
            }
        }
        if !fixed {
            self.depend_on(pointer);
        }
        Ok(Span { start, end, fixed })
    }

    /// A function is given a value that it may take for an address without anyone looking at what is there: all of a stack that it
    /// points into may be read.
    pub(super) fn passes_unchecked(&mut self, value: &RegState) {
        let RegType::PtrToStack { frame } = value.kind else { return };
        if let Some(owner) = self.state.frame_at(frame).map(|f| f.subprog) {
            self.facts.address_stack(owner, -i64::from(MAX_STACK), 0);
        }
    }

    fn span(&mut self, frame: u8, place: Place, pointer: &RegState) -> Result<Span, Reason> {
        let size = u64::from(place.size.bytes());
        self.stack_bounds(frame, place.reg, pointer, i64::from(place.offset), size, place.access)
    }

    /// What a read gives, before truncation or extension.
    pub(super) fn stack_read(
        &mut self,
        frame: u8,
        place: Place,
        pointer: &RegState,
    ) -> Result<RegState, Reason> {
        let span = self.span(frame, place, pointer)?;
        let size = u32::from(place.size.bytes());
        self.reads_stack(frame, span.start, span.end);
        if !span.fixed {
            self.check_anywhere_readable(frame, place.reg, pointer, span, size)?;
            return Ok(self.plain_bytes(frame, span));
        }
        let slot = self.slot(frame, span.start)?;
        let spilled = slot.spilled_bytes();
        if spilled == 0 {
            self.check_readable(frame, place.reg, span, size)?;
            return Ok(self.plain_bytes(frame, span));
        }
        if size == SLOT && spilled == SLOT {
            self.note();
            return Ok(slot.spill);
        }
        if !slot.spill.is_scalar() {
            return Err(MemoryFault::SpillSize { fill: true }.into());
        }
        if size <= spilled && span.start.rem_euclid(i64::from(SLOT)) == 0 {
            // The low bytes of the number that was spilled: the same number if it fits.
            self.note();
            let fits = slot.spill.scalar.bit_width() <= u32::from(place.size.bits());
            return Ok(if fits { slot.spill } else { slot.spill.unlinked() });
        }
        self.check_readable(frame, place.reg, span, size)?;
        if slot.spill.scalar.is_zero() && self.bytes(frame, span).all(|b| b == SlotByte::Spill) {
            self.note();
            return Ok(self.number(Scalar::ZERO, &[slot.spill.origin]));
        }
        Ok(self.plain_bytes(frame, span))
    }

    fn slot(&self, frame: u8, offset: i64) -> Result<Slot, Reason> {
        let slot = self.state.frame_at(frame).map(|f| f.stack.at(offset));
        slot.ok_or(Reason::Internal { what: "no such frame" })
    }

    fn stack_mut(&mut self, frame: u8) -> Result<&mut Stack, Reason> {
        let stack = self.state.frame_at_mut(frame).map(|f| &mut f.stack);
        stack.ok_or(Reason::Internal { what: "no such frame" })
    }

    /// What bytes give that hold no register: 0 if all of them are, else anything.
    fn plain_bytes(&mut self, frame: u8, span: Span) -> RegState {
        let zero = self.bytes(frame, span).all(|b| b == SlotByte::Zero);
        self.number(if zero { Scalar::ZERO } else { Scalar::UNKNOWN }, &[])
    }

    /// Refuses bytes that a load may not read: those of iterators and other objects. Never-written ones may be, with
    /// `CAP_PERFMON`.
    fn check_readable(&self, frame: u8, reg: Reg, span: Span, size: u32) -> Result<(), Reason> {
        match self.bytes(frame, span).zip(0..).find(|(b, _)| self.is_unreadable(*b)) {
            Some((_, byte)) => Err(MemoryFault::StackRead { reg, offset: span.start, byte, size }.into()),
            None => Ok(()),
        }
    }

    /// The same for a load of `size` bytes at an offset that is not known.
    fn check_anywhere_readable(
        &self,
        frame: u8,
        reg: Reg,
        pointer: &RegState,
        span: Span,
        size: u32,
    ) -> Result<(), Reason> {
        match self.bytes(frame, span).zip(0..).find(|(b, _)| self.is_unreadable(*b)) {
            Some((_, byte)) => {
                let bits = pointer.scalar.bits.into();
                Err(MemoryFault::StackVariableRead { reg, bits, byte, size }.into())
            }
            None => Ok(()),
        }
    }

    fn is_unreadable(&self, byte: SlotByte) -> bool {
        is_object(byte) || byte == SlotByte::Invalid && self.plan.env.refuse_uninit_stack
    }

    fn bytes(&self, frame: u8, span: Span) -> impl Iterator<Item = SlotByte> + '_ {
        let stack = self.state.frame_at(frame).map(|f| &f.stack);
        (span.start..span.end).map(move |at| stack.map_or(SlotByte::Invalid, |s| s.byte(at)))
    }

    /// Writes a register or immediate, or with `None` anything.
    pub(super) fn stack_write(
        &mut self,
        frame: u8,
        place: Place,
        pointer: &RegState,
        value: Option<(&RegState, Operand)>,
    ) -> Result<(), Reason> {
        let span = self.span(frame, place, pointer)?;
        self.destroy_dynptrs(frame, span)?;
        let size = u32::from(place.size.bytes());
        if !span.fixed {
            return self.stack_write_somewhere(frame, span, value.map(|(value, _)| value));
        }
        if size == SLOT {
            self.writes_slot(frame, span.start);
        }
        let spill = match value {
            Some((value, src)) if value.is_scalar() => {
                let aligned = span.start.rem_euclid(i64::from(SLOT)) == 0;
                aligned.then(|| self.spilled(value, src, place.size))
            }
            Some((value, _)) if value.kind.is_spillable() => {
                self.check_pointer_spill(frame, value, place)?;
                Some(*value)
            }
            _ => None,
        };
        if let Some(spill) = spill {
            self.note();
            if let Some(slot) = self.stack_mut(frame)?.at_mut(span.start) {
                slot.set_spill(spill, size);
            }
            return Ok(());
        }
        let zero = value.filter(|(value, _)| value.is_null());
        if let Some((value, _)) = zero {
            // The bytes stay zero only if the number does.
            self.depend_on(value);
        }
        let stack = self.stack_mut(frame)?;
        if let Some(slot) = stack.at_mut(span.start) {
            slot.scrub();
        }
        for at in span.start..span.end {
            stack.set_byte(at, if zero.is_some() { SlotByte::Zero } else { SlotByte::Misc });
        }
        Ok(())
    }

    /// A pointer is spilled whole, and not where it outlives what it points to.
    fn check_pointer_spill(&self, frame: u8, value: &RegState, place: Place) -> Result<(), Reason> {
        if place.size != Size::DW {
            return Err(MemoryFault::SpillSize { fill: false }.into());
        }
        if frame != self.state.depth() && matches!(value.kind, RegType::PtrToStack { .. }) {
            return Err(MemoryFault::SpillToCaller { reg: place.reg }.into());
        }
        Ok(())
    }

    /// The register as it is kept: linked to the original if it is the same number when it is filled again.
    fn spilled(&mut self, value: &RegState, src: Operand, size: Size) -> RegState {
        if value.scalar.bit_width() > u32::from(size.bits()) {
            return value.unlinked();
        }
        match src {
            Operand::Reg(reg) => self.linked(reg, *value),
            Operand::Imm(_) => *value,
        }
    }

    /// Writes a register, or anything, to some of these bytes: no one knows which. Zeroes stay zero if zero is written.
    fn stack_write_somewhere(
        &mut self,
        frame: u8,
        span: Span,
        value: Option<&RegState>,
    ) -> Result<(), Reason> {
        let zero = value.filter(|value| value.is_null());
        let stack = self.stack_mut(frame)?;
        let mut relied_on = false;
        for at in span.start..span.end {
            let (byte, slot) = (stack.byte(at), stack.at(at));
            let spilled_zero = byte == SlotByte::Spill && slot.spill.is_null();
            if zero.is_some() && spilled_zero {
                relied_on = true;
                continue;
            }
            if let Some(slot) = stack.at_mut(at) {
                slot.scrub();
            }
            if zero.is_some() && byte == SlotByte::Zero {
                relied_on = true;
            } else {
                stack.set_byte(at, SlotByte::Misc);
            }
        }
        if let Some(value) = zero.filter(|_| relied_on) {
            self.depend_on(value);
        }
        Ok(())
    }

    /// A function may write anything to these bytes. What was spilled there is gone, never-written bytes around it stay.
    pub(super) fn stack_clobber(&mut self, frame: u8, span: Span) -> Result<(), Reason> {
        let stack = self.stack_mut(frame)?;
        for at in span.start..span.end {
            if let Some(slot) = stack.at_mut(at) {
                slot.scrub();
            }
            stack.set_byte(at, SlotByte::Misc);
        }
        Ok(())
    }
}

/// Whether the byte belongs to something that only kernel functions may look into.
fn is_object(byte: SlotByte) -> bool {
    matches!(byte, SlotByte::Iter | SlotByte::Dynptr | SlotByte::IrqFlag)
}
