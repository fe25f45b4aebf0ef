//! Reads and writes of the stack: spills, fills, zeroes and everything in between.

use isa::{Operand, Reg, Size};

use super::Step;
use super::mem::Place;
use crate::limits::{MAX_OFFSET, MAX_STACK};
use crate::reason::{Access, Reason};
use crate::reg::{RegState, RegType};
use crate::scalar::Scalar;
use crate::stack::{SLOT, SlotByte};

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
        let shown = u32::try_from(size).unwrap_or(u32::MAX);
        let (low, high, fixed) = match pointer.scalar.as_constant().map(u64::cast_signed) {
            Some(known) => (known, known, true),
            None => (pointer.scalar.wide.smin, pointer.scalar.wide.smax, false),
        };
        if low <= -MAX_OFFSET || high >= MAX_OFFSET {
            return Err(Reason::StackUnbounded { access, reg });
        }
        let start = offset + low;
        let end = (offset + high).saturating_add_unsigned(size);
        if start < -i64::from(MAX_STACK) || end > 0 || size > u64::from(MAX_STACK) {
            return Err(if fixed {
                Reason::StackBounds { access, reg, offset: start, size: shown }
            } else {
                Reason::StackVariableBounds { access, reg, offset, size: shown }
            });
        }
        if let Some(owner) = self.state.frame_at(frame).map(|f| f.subprog) {
            self.facts.stack(owner, -start);
        }
        if !fixed {
            self.depend_on(pointer);
        }
        Ok(Span { start, end, fixed })
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
            self.check_readable(frame, span, size)?;
            let zero = self.bytes(frame, span).all(|b| b == SlotByte::Zero);
            let value = if zero { Scalar::ZERO } else { Scalar::of_size(place.size) };
            return Ok(self.number(value, &[]));
        }
        let slot = self.state.frame_at(frame).map(|f| f.stack.at(span.start));
        let slot = slot.ok_or(Reason::Internal { what: "no such frame" })?;
        if slot.spilled_bytes() > 0 {
            if size == SLOT && slot.is_full_spill() {
                self.note();
                return Ok(slot.spill);
            }
            if !slot.spill.is_scalar() {
                return Err(Reason::SpillSize { fill: true });
            }
            let all_spilled = self.bytes(frame, span).all(|b| b == SlotByte::Spill);
            if all_spilled && span.start.rem_euclid(i64::from(SLOT)) == 0 {
                // The low bytes of the number that was spilled.
                self.note();
                let mut value = slot.spill;
                if value.scalar.bit_width() > u32::from(place.size.bits()) {
                    let cut = value.scalar.zero_extended(u32::from(place.size.bits()));
                    value = self.number(cut, &[value.origin]);
                }
                return Ok(value);
            }
            if all_spilled && slot.spill.scalar.is_zero() {
                self.note();
                return Ok(self.number(Scalar::ZERO, &[slot.spill.origin]));
            }
        }
        self.check_readable(frame, span, size)?;
        let zero = self.bytes(frame, span).all(|b| b == SlotByte::Zero);
        Ok(self.number(if zero { Scalar::ZERO } else { Scalar::of_size(place.size) }, &[]))
    }

    /// Refuses bytes that may not be read: those of iterators and other objects. Never-written ones may be, with `CAP_PERFMON`.
    pub(super) fn check_readable(&self, frame: u8, span: Span, size: u32) -> Result<(), Reason> {
        match self.bytes(frame, span).zip(0..).find(|(b, _)| is_object(*b)) {
            Some((_, byte)) => Err(Reason::StackRead { offset: span.start, byte, size }),
            None => Ok(()),
        }
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
        let zero = value.is_some_and(|(v, _)| v.is_null());
        if !span.fixed {
            if let (true, Some((value, _))) = (zero, value) {
                self.depend_on(value);
            }
            return self.stack_clobber(frame, span, zero);
        }
        let aligned = span.start.rem_euclid(i64::from(SLOT)) == 0;
        if aligned && size == SLOT {
            self.writes_slot(frame, span.start);
        }
        let depth = self.state.depth();
        if let Some((value, src)) = value {
            if value.is_pointer() {
                if size != SLOT {
                    return Err(Reason::SpillSize { fill: false });
                }
                if frame != depth && matches!(value.kind, RegType::PtrToStack { .. }) {
                    return Err(Reason::SpillToCaller);
                }
            }
            if aligned {
                self.note();
                let value = self.spilled(value, src, place.size);
                let slot = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(span.start));
                slot.ok_or(Reason::Internal { what: "no such frame" })?.set_spill(value, size);
                return Ok(());
            }
            if zero {
                self.depend_on(value);
            }
        }
        let stack = self.state.frame_at_mut(frame).map(|f| &mut f.stack);
        let stack = stack.ok_or(Reason::Internal { what: "no such frame" })?;
        if let Some(slot) = stack.at_mut(span.start) {
            slot.scrub();
        }
        for at in span.start..span.end {
            stack.set_byte(at, if zero { SlotByte::Zero } else { SlotByte::Misc });
        }
        Ok(())
    }

    /// The register as it will be filled again: cut to the size of the spill, linked to the original if it is the same number.
    fn spilled(&mut self, value: &RegState, src: Operand, size: Size) -> RegState {
        let bits = u32::from(size.bits());
        if !value.is_scalar() || size == Size::DW || value.scalar.bit_width() <= bits {
            return match src {
                Operand::Reg(reg) => self.linked(reg, *value),
                Operand::Imm(_) => *value,
            };
        }
        self.number(value.scalar.zero_extended(bits), &[value.origin])
    }

    /// Some of these bytes are written, no one knows which (`zero`: with zeroes).
    pub(super) fn stack_clobber(&mut self, frame: u8, span: Span, zero: bool) -> Result<(), Reason> {
        let stack = self.state.frame_at_mut(frame).map(|f| &mut f.stack);
        let stack = stack.ok_or(Reason::Internal { what: "no such frame" })?;
        for at in span.start..span.end {
            if let Some(slot) = stack.at_mut(at) {
                slot.scrub();
            }
            if !(zero && stack.byte(at) == SlotByte::Zero) {
                stack.set_byte(at, SlotByte::Misc);
            }
        }
        Ok(())
    }
}

/// Whether the byte belongs to something that only kernel functions may look into.
fn is_object(byte: SlotByte) -> bool {
    matches!(byte, SlotByte::Iter | SlotByte::Dynptr | SlotByte::IrqFlag)
}
