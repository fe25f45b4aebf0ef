//! The stack of one frame: slots of eight bytes.

use crate::limits::MAX_STACK;
use crate::state::reg::RegState;

/// Bytes of a slot.
pub(crate) const SLOT: u32 = 8;

/// What one byte of the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotByte {
    /// Never written. Programs with `CAP_PERFMON` may read it all the same.
    #[doc(alias = "STACK_INVALID")]
    Invalid,
    /// Anything.
    #[doc(alias = "STACK_MISC")]
    Misc,
    /// Zero.
    #[doc(alias = "STACK_ZERO")]
    Zero,
    /// A byte of the spilled register.
    #[doc(alias = "STACK_SPILL")]
    Spill,
    /// A byte of an open-coded iterator.
    #[doc(alias = "STACK_ITER")]
    Iter,
    /// A byte of a dynptr.
    #[doc(alias = "STACK_DYNPTR")]
    Dynptr,
    /// A byte of where the state of interrupts is kept.
    #[doc(alias = "STACK_IRQ_FLAG")]
    IrqFlag,
}

impl SlotByte {
    /// Whether the byte is on its own: not part of a register or an object.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Invalid | Self::Misc | Self::Zero)
    }
}

/// What a dynptr points into. The names are the kernel's (`enum bpf_dynptr_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DynptrKind {
    Local,
    Ringbuf,
    Skb,
    Xdp,
    SkbMeta,
}

impl DynptrKind {
    /// As messages and logs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ringbuf => "ringbuf",
            Self::Skb => "skb",
            Self::Xdp => "xdp",
            Self::SkbMeta => "skb_meta",
        }
    }

    /// Whether it must be given back.
    pub(crate) fn is_owned(self) -> bool {
        self == Self::Ringbuf
    }

    /// Whether it points into a packet, which moves.
    pub(crate) fn is_packet(self) -> bool {
        matches!(self, Self::Skb | Self::Xdp | Self::SkbMeta)
    }
}

/// A dynptr on the stack: two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dynptr {
    pub(crate) kind: DynptrKind,
    /// Whether this is the slot at the lower address.
    pub(crate) first: bool,
    /// Its identity: slices of it carry it.
    pub(crate) id: u32,
    /// The reference it stands for, or 0.
    pub(crate) ref_id: u32,
}

/// Where the state of interrupts is kept while they are disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IrqFlag {
    /// Its reference.
    pub(crate) id: u32,
    /// Whether taking a lock disabled them.
    pub(crate) by_lock: bool,
}

/// An open-coded iterator on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Iterator {
    /// Index in the table of iterator kinds.
    pub(crate) kind: u8,
    /// Which of its slots this is, the lowest first.
    pub(crate) part: u8,
    /// Its reference, in its first slot; 0 in others.
    pub(crate) id: u32,
    /// Whether `next` may still give something.
    pub(crate) active: bool,
    /// Times `next` has been taken as giving something.
    pub(crate) depth: u32,
    /// What it depends on.
    pub(crate) guard: IterGuard,
}

/// What an iterator is valid under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IterGuard {
    /// Nothing: it holds what it needs.
    None,
    /// The reading side of RCU, which has not been left since.
    Rcu,
    /// The reading side of RCU, which was left, or never entered.
    Over,
}

/// Eight bytes of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// From the lowest address up.
    pub(crate) bytes: [SlotByte; SLOT as usize],
    /// The spilled register, while any byte is [`SlotByte::Spill`]; it starts at the slot's lowest address.
    pub(crate) spill: RegState,
    /// The iterator, while the bytes are [`SlotByte::Iter`].
    pub(crate) iter: Option<Iterator>,
    /// The dynptr, while the bytes are [`SlotByte::Dynptr`].
    pub(crate) dynptr: Option<Dynptr>,
    /// The state of interrupts, while the bytes are [`SlotByte::IrqFlag`].
    pub(crate) irq: Option<IrqFlag>,
}

impl Slot {
    pub(crate) const EMPTY: Self = Self {
        bytes: [SlotByte::Invalid; SLOT as usize],
        spill: RegState::NOT_INIT,
        iter: None,
        dynptr: None,
        irq: None,
    };

    /// All bytes of one kind, and nothing else yet.
    pub(crate) fn of(byte: SlotByte) -> Self {
        Self { bytes: [byte; SLOT as usize], ..Self::EMPTY }
    }

    /// Number of bytes of a register spilled here, 0 if none is.
    pub(crate) fn spilled_bytes(&self) -> u32 {
        self.bytes.iter().fold(0, |n, b| n + u32::from(*b == SlotByte::Spill))
    }

    /// Whether all eight bytes are one spilled register.
    pub(crate) fn is_full_spill(&self) -> bool {
        self.spilled_bytes() == SLOT
    }

    /// Forgets the register or object kept here: all that was written is anything from now on.
    #[doc(alias = "scrub_spilled_slot")]
    pub(crate) fn scrub(&mut self) {
        let kept = self.bytes.first().is_some_and(|b| !b.is_plain());
        for byte in self.bytes.iter_mut().filter(|b| **b != SlotByte::Invalid && (kept || !b.is_plain())) {
            *byte = SlotByte::Misc;
        }
        let bytes = self.bytes;
        *self = Self { bytes, ..Self::EMPTY };
    }

    /// Spills the low `bytes` bytes of a register at the slot's lowest address. Plain bytes above it stay what they are.
    pub(crate) fn set_spill(&mut self, reg: RegState, bytes: u32) {
        let mut new = Self { bytes: self.bytes, spill: reg, ..Self::EMPTY };
        for (i, byte) in (0_u32..).zip(&mut new.bytes) {
            if i < bytes {
                *byte = SlotByte::Spill;
            } else if !byte.is_plain() {
                *byte = SlotByte::Misc;
            }
        }
        *self = new;
    }
}

/// The slots of a frame, the one just below the frame pointer first. Those never touched need no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    slots: Vec<Slot>,
}

impl Stack {
    /// The slot that holds the byte at `offset` below the frame pointer (`-512..0`).
    pub(crate) fn at(&self, offset: i64) -> Slot {
        slot_index(offset).and_then(|i| self.slots.get(i)).copied().unwrap_or(Slot::EMPTY)
    }

    /// The same, to change it; `None` outside the stack.
    pub(crate) fn at_mut(&mut self, offset: i64) -> Option<&mut Slot> {
        let index = slot_index(offset)?;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::EMPTY);
        }
        self.slots.get_mut(index)
    }

    /// Whether the byte at `offset`, or one further down, was accessed before.
    pub(crate) fn reaches(&self, offset: i64) -> bool {
        slot_index(offset).is_none_or(|index| index < self.slots.len())
    }

    /// What the byte at `offset` holds.
    pub(crate) fn byte(&self, offset: i64) -> SlotByte {
        self.at(offset).bytes.get(byte_index(offset)).copied().unwrap_or(SlotByte::Invalid)
    }

    /// Sets the byte at `offset`, and nothing else of its slot.
    pub(crate) fn set_byte(&mut self, offset: i64, to: SlotByte) {
        if let Some(byte) = self.at_mut(offset).and_then(|s| s.bytes.get_mut(byte_index(offset))) {
            *byte = to;
        }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }
}

/// Position in its slot of the byte at `offset` below the frame pointer.
fn byte_index(offset: i64) -> usize {
    usize::try_from(offset.rem_euclid(i64::from(SLOT))).unwrap_or(0)
}

fn slot_index(offset: i64) -> Option<usize> {
    if offset >= 0 || offset < -i64::from(MAX_STACK) {
        return None;
    }
    usize::try_from((-offset - 1) / i64::from(SLOT)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_find_their_slots() {
        let mut stack = Stack::default();
        stack.set_byte(-1, SlotByte::Zero);
        stack.set_byte(-8, SlotByte::Misc);
        stack.set_byte(-9, SlotByte::Misc);
        stack.set_byte(0, SlotByte::Misc);
        stack.set_byte(-513, SlotByte::Misc);
        assert_eq!(stack.slots().len(), 2);
        assert_eq!(stack.at(-3).bytes[7], SlotByte::Zero);
        assert_eq!(stack.at(-8).bytes[0], SlotByte::Misc);
        assert_eq!(stack.byte(-9), SlotByte::Misc);
        assert_eq!(stack.byte(-512), SlotByte::Invalid);
    }

    #[test]
    fn scrubbing_forgets_what_was_written_beside_a_spill() {
        let mut slot = Slot::EMPTY;
        slot.bytes[7] = SlotByte::Zero;
        slot.set_spill(RegState::NOT_INIT, 4);
        assert_eq!(slot.spilled_bytes(), 4);
        assert_eq!((slot.bytes[4], slot.bytes[7]), (SlotByte::Invalid, SlotByte::Zero));
        slot.scrub();
        assert_eq!(slot.bytes[..4], [SlotByte::Misc; 4]);
        assert_eq!((slot.bytes[4], slot.bytes[7]), (SlotByte::Invalid, SlotByte::Misc));
        let mut plain = Slot { bytes: [SlotByte::Zero; 8], ..Slot::EMPTY };
        plain.scrub();
        assert_eq!(plain.bytes, [SlotByte::Zero; 8]);
    }
}
