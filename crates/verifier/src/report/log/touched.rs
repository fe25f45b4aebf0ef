//! Which registers and stack slots an instruction works on: those are what the log shows behind it.

use isa::{AtomicOp, Insn, Operand, PacketBase, Reg};

use crate::report::view::{Snapshot, StateView, ValueKind};
use crate::state::stack::{SLOT, Slot};

/// Registers and stack slots (of whichever frame), with the state they were taken in.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    registers: u16,
    slots: u64,
    before: Option<Snapshot>,
}

impl Touched {
    /// Everything: a path begins.
    pub(super) fn all() -> Self {
        Self { registers: u16::MAX, slots: u64::MAX, before: None }
    }

    pub(super) fn any(&self) -> bool {
        self.registers != 0 || self.slots != 0
    }

    pub(super) fn clear(&mut self) {
        (self.registers, self.slots) = (0, 0);
    }

    pub(super) fn register(&self, reg: Reg) -> bool {
        self.registers & 1 << reg.number() != 0
    }

    /// The slot whose lowest byte is at `offset`.
    pub(super) fn slot(&self, offset: i32) -> bool {
        slot_index(i64::from(offset)).is_some_and(|i| self.slots & 1 << i != 0)
    }

    fn add(&mut self, regs: &[Reg]) {
        self.registers = regs.iter().fold(self.registers, |set, r| set | 1 << r.number());
    }

    fn operand(&mut self, src: Operand) {
        if let Operand::Reg(reg) = src {
            self.add(&[reg]);
        }
    }

    /// Adds what an instruction works on in `state`.
    pub(super) fn by(&mut self, insn: &Insn, state: StateView<'_>) {
        self.before = Some(state.snapshot());
        match *insn {
            Insn::Alu { dst, src, .. } | Insn::Branch { dst, src, .. } | Insn::Mov { dst, src, .. } => {
                self.add(&[dst]);
                self.operand(src);
            }
            Insn::Neg { dst, .. } | Insn::ByteSwap { dst, .. } | Insn::LoadImm64 { dst, .. } => {
                self.add(&[dst])
            }
            Insn::MovSx { dst, src, .. } | Insn::AddrSpaceCast { dst, src, .. } => self.add(&[dst, src]),
            Insn::Load { dst, base, offset, size, .. }
            | Insn::LoadAcquire { dst, base, offset, size, .. } => {
                self.add(&[dst, base]);
                self.memory(state, base, offset, size.bytes());
            }
            Insn::Store { base, src, offset, size, .. } => {
                self.add(&[base]);
                self.operand(src);
                self.memory(state, base, offset, size.bytes());
            }
            Insn::StoreRelease { base, src, offset, size, .. } => {
                self.add(&[base, src]);
                self.memory(state, base, offset, size.bytes());
            }
            Insn::Atomic { op, base, src, offset, size, .. } => {
                self.add(&[base, src]);
                if op == AtomicOp::CmpXchg {
                    self.add(&[Reg::R0]);
                }
                self.memory(state, base, offset, size.bytes());
            }
            Insn::LoadPacket { from, .. } => {
                self.add(&[Reg::R6, Reg::R0]);
                self.add(&Reg::ARGS);
                if let PacketBase::Ind(reg) = from {
                    self.add(&[reg]);
                }
            }
            Insn::Call { .. } => {
                self.add(&[Reg::R0]);
                self.add(&Reg::ARGS);
                Reg::ARGS.into_iter().for_each(|reg| self.object(state, reg));
            }
            _ => {}
        }
    }

    /// The slots of an access through a pointer into a stack.
    fn memory(&mut self, state: StateView<'_>, base: Reg, offset: i16, size: u8) {
        let Some(value) = state.frame().map(|f| f.register(base)) else { return };
        if !matches!(value.kind(), ValueKind::Stack { .. }) {
            return;
        }
        let (min, max) = value.signed();
        let fixed = value.offset() + i64::from(offset);
        let (Some(first), Some(last)) =
            (min.checked_add(fixed), max.checked_add(fixed + i64::from(size) - 1))
        else {
            return;
        };
        // Offsets outside the stack are refused.
        for offset in first.max(-512)..=last.min(-1) {
            if let Some(index) = slot_index(offset) {
                self.slots |= 1 << index;
            }
        }
    }

    /// The slots of the dynptr or iterator that a register points to.
    fn object(&mut self, state: StateView<'_>, argument: Reg) {
        let Some(value) = state.frame().map(|f| f.register(argument)) else { return };
        let ValueKind::Stack { frame } = value.kind() else { return };
        let (min, max) = value.signed();
        let Some(frame) = state.frame_at(frame).filter(|_| min == max) else { return };
        let start = min.saturating_add(value.offset());
        let owner = |slot: &Slot| {
            let dynptr = slot.dynptr.map(|d| d.first);
            dynptr.or_else(|| slot.iter.map(|i| i.id != 0))
        };
        // From the lowest address up: the first slot, then those that belong to it.
        let slots: Vec<_> = frame.slots().map(|(at, slot)| (i64::from(at), owner(slot.slot()))).collect();
        let mut object = slots.iter().rev().skip_while(|(at, _)| *at != start);
        let Some((at, _)) = object.next().filter(|(_, owner)| *owner == Some(true)) else { return };
        let rest = object.take_while(|(_, owner)| *owner == Some(false)).map(|(at, _)| *at);
        for index in rest.chain([*at]).filter_map(slot_index) {
            self.slots |= 1 << index;
        }
    }

    /// Adds the slots that differ from the state in front of the instruction: helpers write through their arguments.
    pub(super) fn compare_stacks(&mut self, now: StateView<'_>) {
        let Some(before) = self.before.take() else { return };
        let before = before.view();
        for number in 0..=now.depth().min(before.depth()) {
            let (Some(old), Some(new)) = (before.frame_at(number), now.frame_at(number)) else { return };
            let mut old = old.slots();
            for (offset, slot) in new.slots() {
                let same = old.next().is_some_and(|(_, old)| {
                    old.bytes() == slot.bytes() && old.slot().iter == slot.slot().iter
                });
                if let Some(index) = slot_index(i64::from(offset)).filter(|_| !same) {
                    self.slots |= 1 << index;
                }
            }
        }
    }
}

/// Slots are counted from the frame pointer down.
fn slot_index(offset: i64) -> Option<u32> {
    let index = offset.checked_neg()?.checked_sub(1)?.div_euclid(i64::from(SLOT));
    u32::try_from(index).ok().filter(|i| *i < u64::BITS)
}
