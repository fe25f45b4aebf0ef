//! Interrupts disabled by the program: their state is kept in a slot of the stack, and restored in order.

use isa::{Reg, Size};

use super::super::Step;
use super::super::mem::Place;
use super::dynptr::object_offset;
use crate::report::reason::{Access, ObjectFault, Reason};
use crate::state::held::{GiveBack, RefKind};
use crate::state::reg::{RegState, RegType};
use crate::state::stack::{IrqFlag, Slot, SlotByte};

impl Step<'_> {
    /// Keeps the state of interrupts where `reg` points to; `by_lock`: taking a lock disables them.
    pub(in crate::transfer) fn save_irq(&mut self, reg: Reg, by_lock: bool) -> Result<(), Reason> {
        let (pointer, frame, argument) = self.irq_argument(reg)?;
        let free = object_offset(&pointer, 1).filter(|&at| self.irq_slot(frame, at).is_none());
        let Some(at) = free else { return Err(ObjectFault::IrqInUse { argument, reg }.into()) };
        let place = Place::new(reg, 0, Size::DW, Access::Write);
        self.stack_write(frame, place, &pointer, None)?;
        let id = self.fresh_id();
        self.state.held.take(RefKind::Irq, id, self.at);
        if let Some(slot) = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(at)) {
            *slot = Slot::of(SlotByte::IrqFlag);
            slot.irq = Some(IrqFlag { id, by_lock });
        }
        Ok(())
    }

    /// Restores the state of interrupts that is kept where `reg` points to.
    pub(in crate::transfer) fn restore_irq(&mut self, reg: Reg, by_lock: bool) -> Result<(), Reason> {
        let (pointer, frame, argument) = self.irq_argument(reg)?;
        let found = object_offset(&pointer, 1).and_then(|at| Some((at, self.irq_slot(frame, at)?)));
        let Some((at, flag)) = found else { return Err(ObjectFault::IrqMissing { argument, reg }.into()) };
        if flag.by_lock != by_lock {
            let name = |by_lock| if by_lock { "lock" } else { "native" };
            return Err(ObjectFault::IrqKind { saved: name(flag.by_lock), restored: name(by_lock) }.into());
        }
        self.state.held.restore_irq(flag.id).map_err(|fault| match fault {
            GiveBack::OutOfOrder(last) => ObjectFault::IrqOrder { expected: last.id, at: last.at }.into(),
            _ => Reason::Internal { what: "interrupts without a reference" },
        })?;
        if let Some(slot) = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(at)) {
            *slot = Slot::EMPTY;
        }
        Ok(())
    }

    fn irq_argument(&self, reg: Reg) -> Result<(RegState, u8, usize), Reason> {
        let pointer = self.read(reg)?;
        let argument = usize::from(reg.number()).saturating_sub(1);
        match pointer.kind {
            RegType::PtrToStack { frame } => Ok((pointer, frame, argument)),
            _ => Err(ObjectFault::IrqPlace { argument, reg, found: pointer.type_name() }.into()),
        }
    }

    fn irq_slot(&self, frame: u8, at: i64) -> Option<IrqFlag> {
        self.state.frame_at(frame)?.stack.at(at).irq
    }
}
