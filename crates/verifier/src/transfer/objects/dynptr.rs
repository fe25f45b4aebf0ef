//! Dynptrs: two slots of the stack that programs hand to helpers and kernel functions, or a pointer to one of the
//! kernel's own.

use isa::{Reg, Size};

use super::super::Step;
use super::super::mem::Place;
use super::super::stack::Span;
use crate::report::reason::{Access, ObjectFault, Reason};
use crate::state::reg::{Flags, RegState, RegType};
use crate::state::stack::{Dynptr, DynptrKind, SLOT, Slot, SlotByte};

/// Slots of a dynptr.
const SLOTS: i64 = 2;
const SLOT_BYTES: i64 = SLOT as i64;

impl Step<'_> {
    /// Checks an argument that must be a dynptr in use (`process_dynptr_func`), of a kind if one is `wanted`; `mutated`
    /// ones cannot be the kernel's own.
    pub(in crate::transfer) fn use_dynptr(
        &self,
        reg: Reg,
        wanted: Option<DynptrKind>,
        mutated: bool,
    ) -> Result<Dynptr, Reason> {
        let pointer = self.read(reg)?;
        let argument = usize::from(reg.number()).saturating_sub(1);
        check_place(&pointer, reg)?;
        let found = if pointer.kind == RegType::ConstPtrToDynptr {
            if mutated {
                return Err(ObjectFault::DynptrConst { reg }.into());
            }
            Some(Dynptr { kind: DynptrKind::Local, first: true, id: pointer.id, ref_id: pointer.ref_id })
        } else {
            self.dynptr_at(&pointer)
        };
        let Some(found) = found else { return Err(ObjectFault::DynptrMissing { argument, reg }.into()) };
        match wanted {
            Some(kind) if kind != found.kind => {
                Err(ObjectFault::DynptrKind { argument, reg, expected: kind.name() }.into())
            }
            _ => Ok(found),
        }
    }

    /// Makes a dynptr where `reg` points to; with `cloned`, one more on the same reference.
    pub(in crate::transfer) fn make_dynptr(
        &mut self,
        reg: Reg,
        kind: DynptrKind,
        cloned: Option<u32>,
    ) -> Result<(), Reason> {
        let pointer = self.read(reg)?;
        check_place(&pointer, reg)?;
        let in_use = ObjectFault::DynptrInUse { reg };
        let RegType::PtrToStack { frame } = pointer.kind else { return Err(in_use.into()) };
        let offset = object_offset(&pointer, SLOTS).ok_or(in_use)?;
        for i in 0..SLOTS {
            let offset = i16::try_from(i * SLOT_BYTES).unwrap_or(0);
            let place = Place::new(reg, offset, Size::DW, Access::Write);
            self.stack_write(frame, place, &pointer, None)?;
        }
        let id = self.fresh_id();
        let ref_id = match cloned {
            Some(id) => id,
            None if kind.is_owned() => self.acquire(),
            None => 0,
        };
        for first in [true, false] {
            let at = if first { offset } else { offset + SLOT_BYTES };
            if let Some(slot) = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(at)) {
                *slot = Slot::of(SlotByte::Dynptr);
                slot.dynptr = Some(Dynptr { kind, first, id, ref_id });
            }
        }
        Ok(())
    }

    /// Checks, before anything else is asked of it, a dynptr that a helper is to give back.
    pub(in crate::transfer) fn check_released_dynptr(&self, reg: Reg) -> Result<(), Reason> {
        let pointer = self.read(reg)?;
        if !matches!(pointer.kind, RegType::PtrToStack { .. }) {
            return Err(ObjectFault::DynptrReleaseConst { reg }.into());
        }
        match object_offset(&pointer, SLOTS).and_then(|offset| self.dynptr_slot(&pointer, offset)) {
            Some(dynptr) if dynptr.ref_id != 0 => Ok(()),
            _ => Err(ObjectFault::DynptrUnowned { reg }.into()),
        }
    }

    /// Ends the dynptr that `reg` points to, with its clones and slices if it is a reference.
    pub(in crate::transfer) fn release_dynptr(&mut self, reg: Reg) -> Result<(), Reason> {
        let pointer = self.read(reg)?;
        let (RegType::PtrToStack { frame }, Some(found)) = (pointer.kind, self.dynptr_at(&pointer)) else {
            return Err(Reason::Internal { what: "release of what is no dynptr" });
        };
        if found.kind.is_owned() && !self.state.release(found.ref_id) {
            return Err(Reason::Internal { what: "dynptr without a reference" });
        }
        let gone = |slot: &Slot| match slot.dynptr {
            Some(d) if found.kind.is_owned() => d.ref_id == found.ref_id,
            Some(d) => d.id == found.id,
            None => false,
        };
        if let Some(frame) = self.state.frame_at_mut(frame) {
            for slot in frame.stack.slots_mut().iter_mut().filter(|s| gone(s)) {
                *slot = Slot::EMPTY;
            }
        }
        Ok(())
    }

    /// A write destroys the dynptrs it touches, with their slices; owned ones may not be lost so.
    pub(in crate::transfer) fn destroy_dynptrs(&mut self, frame: u8, span: Span) -> Result<(), Reason> {
        let mut at = span.start - span.start.rem_euclid(SLOT_BYTES);
        while at < span.end {
            let slot = self.state.frame_at(frame).map(|f| f.stack.at(at));
            if let Some(dynptr) = slot.and_then(|s| s.dynptr) {
                let first = if dynptr.first { at } else { at - SLOT_BYTES };
                if dynptr.kind.is_owned() {
                    return Err(ObjectFault::DynptrOverwritten { frame, offset: first }.into());
                }
                self.destroy_dynptr(frame, first, dynptr.id);
            }
            at += SLOT_BYTES;
        }
        Ok(())
    }

    fn destroy_dynptr(&mut self, frame: u8, first: i64, id: u32) {
        for at in [first, first + SLOT_BYTES] {
            if let Some(slot) = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(at)) {
                *slot = Slot::EMPTY;
            }
        }
        // Slices that may only be read, and those of packets, live on.
        self.state.invalidate(|r| {
            matches!(r.kind, RegType::PtrToMem { .. })
                && r.flags.without(Flags::MAYBE_NULL) == Flags::NONE
                && r.dynptr_id == id
        });
    }

    /// Refuses memory that a helper fills if any of it is a dynptr, which might be another argument.
    pub(in crate::transfer) fn check_dynptr_overlap(&self, frame: u8, span: Span) -> Result<(), Reason> {
        let stack = self.state.frame_at(frame).map(|f| &f.stack);
        let is_dynptr = |at: &i64| stack.is_some_and(|s| s.byte(*at) == SlotByte::Dynptr);
        match (span.start..span.end).find(is_dynptr) {
            Some(offset) => Err(ObjectFault::DynptrOverlap { offset }.into()),
            None => Ok(()),
        }
    }

    /// What a dynptr is made of by `bpf_dynptr_from_mem`: values of maps only.
    pub(in crate::transfer) fn check_dynptr_memory(&self, reg: Reg) -> Result<(), Reason> {
        let pointer = self.read(reg)?;
        match pointer.kind {
            RegType::PtrToMapValue { .. } if pointer.flags == Flags::NONE => Ok(()),
            _ => Err(ObjectFault::DynptrMemory { reg, found: pointer.type_name() }.into()),
        }
    }

    /// A pointer to a part of a dynptr, not NULL yet: it lives as long as the dynptr and what that stands for.
    pub(in crate::transfer) fn slice_of(&mut self, dynptr: Dynptr, size: u32, owned: bool) -> RegState {
        let mut slice = self.pointer(RegType::PtrToMem { size });
        slice.dynptr_id = dynptr.id;
        if owned {
            slice.ref_id = dynptr.ref_id;
        }
        slice
    }

    /// The dynptr whose first slot a pointer to the stack is at.
    fn dynptr_at(&self, pointer: &RegState) -> Option<Dynptr> {
        let offset = object_offset(pointer, SLOTS)?;
        self.dynptr_slot(pointer, offset).filter(|d| d.first)
    }

    fn dynptr_slot(&self, pointer: &RegState, offset: i64) -> Option<Dynptr> {
        let RegType::PtrToStack { frame } = pointer.kind else { return None };
        self.state.frame_at(frame)?.stack.at(offset).dynptr
    }
}

fn check_place(pointer: &RegState, reg: Reg) -> Result<(), Reason> {
    let argument = usize::from(reg.number()).saturating_sub(1);
    if matches!(pointer.kind, RegType::PtrToStack { .. } | RegType::ConstPtrToDynptr) {
        Ok(())
    } else {
        Err(ObjectFault::DynptrPlace { argument, reg, found: pointer.type_name() }.into())
    }
}

/// Where on the stack an object of so many slots is that a pointer points to, if one can be there
/// (`stack_slot_obj_get_spi`): at a known offset, aligned, with room up to the frame pointer. One slot at the frame pointer
/// itself passes too: whoever writes it finds that it is outside.
pub(in crate::transfer) fn object_offset(pointer: &RegState, slots: i64) -> Option<i64> {
    let known = pointer.scalar.as_constant()?.cast_signed();
    let offset = known.checked_add(i64::from(pointer.offset))?;
    let fits = offset % SLOT_BYTES == 0 && (offset <= -slots * SLOT_BYTES || slots == 1 && offset == 0);
    fits.then_some(offset)
}
