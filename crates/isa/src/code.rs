//! A sequence of decoded instructions, indexed by slot.

use crate::{Insn, InsnIdx};

/// Instructions with one entry per slot, so that an [`InsnIdx`] means what it means to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    // Invariant: the entry after a two-slot instruction is `None`, every other entry is `Some`.
    slots: Vec<Option<Insn>>,
}

impl Code {
    /// An empty sequence.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an instruction and gives its index.
    pub fn push(&mut self, insn: Insn) -> InsnIdx {
        let at = InsnIdx(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.push(Some(insn));
        if insn.slots() == 2 {
            self.slots.push(None);
        }
        at
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no instruction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The instruction that starts at this slot: `None` past the end and for the second half of a `lddw`.
    #[must_use]
    pub fn get(&self, at: InsnIdx) -> Option<Insn> {
        self.slots.get(at.index()).copied().flatten()
    }

    /// Replaces the instruction at `at` by one of the same number of slots; `false` if there is none.
    pub fn replace(&mut self, at: InsnIdx, insn: Insn) -> bool {
        match self.slots.get_mut(at.index()) {
            Some(Some(old)) if old.slots() == insn.slots() => {
                *old = insn;
                true
            }
            _ => false,
        }
    }

    /// Index of the instruction after the one at `at`.
    #[must_use]
    pub fn next(&self, at: InsnIdx) -> InsnIdx {
        InsnIdx(at.0.saturating_add(self.get(at).map_or(1, |i| i.slots())))
    }

    /// Every instruction with its index, in order.
    pub fn iter(&self) -> impl Iterator<Item = (InsnIdx, Insn)> + '_ {
        self.slots.iter().enumerate().filter_map(|(i, s)| Some((InsnIdx(u32::try_from(i).ok()?), (*s)?)))
    }
}

impl FromIterator<Insn> for Code {
    fn from_iter<I: IntoIterator<Item = Insn>>(insns: I) -> Self {
        let mut code = Self::new();
        for insn in insns {
            code.push(insn);
        }
        code
    }
}
