//! Which registers still matter, and sets of them.

use super::insn::{BlockId, Function, Insn, Reg, Use};

/// A set of registers of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set(Vec<u64>);

impl Set {
    /// No register, of so many.
    pub(super) fn empty(regs: usize) -> Self {
        Self(vec![0; regs.div_ceil(64)])
    }

    /// Whether a register is in it.
    pub(super) fn contains(&self, reg: Reg) -> bool {
        self.0.get(reg.index() / 64).is_some_and(|word| word >> (reg.index() % 64) & 1 != 0)
    }

    /// Puts a register in; whether it was not.
    pub(super) fn insert(&mut self, reg: Reg) -> bool {
        let Some(word) = self.0.get_mut(reg.index() / 64) else { return false };
        let before = *word;
        *word |= 1 << (reg.index() % 64);
        *word != before
    }

    /// Takes a register out.
    pub(super) fn remove(&mut self, reg: Reg) {
        if let Some(word) = self.0.get_mut(reg.index() / 64) {
            *word &= !(1 << (reg.index() % 64));
        }
    }

    /// Puts all of another set in that is not in a third one; whether that was any.
    fn extend_without(&mut self, other: &Self, without: &Self) -> bool {
        let mut more = 0;
        for ((word, other), without) in self.0.iter_mut().zip(&other.0).zip(&without.0) {
            let new = other & !without & !*word;
            more |= new;
            *word |= new;
        }
        more != 0
    }

    /// Puts all of another set in.
    pub(super) fn extend(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// Its registers, by ascending number.
    pub(super) fn iter(&self) -> impl Iterator<Item = Reg> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.checked_ilog2().map(|_| rest.trailing_zeros())?;
                rest &= rest - 1;
                u32::try_from(index * 64).ok().map(|first| Reg(first + bit))
            })
        })
    }
}

/// Per block, the registers whose values at its beginning may still be read.
pub(super) struct Liveness {
    entries: Vec<Set>,
}

impl Liveness {
    /// Of a function.
    pub(super) fn of(function: &Function) -> Self {
        let none = Set::empty(function.classes.len());
        let mut entries = vec![none.clone(); function.blocks.len()];
        let mut writes = vec![none; function.blocks.len()];
        for id in &function.order {
            let (Some(block), Some(reads), Some(writes)) =
                (function.block(*id), entries.get_mut(id.index()), writes.get_mut(id.index()))
            else {
                continue;
            };
            for (insn, _) in &block.insns {
                insn.each_reg(|reg, how| match how {
                    Use::Write => _ = writes.insert(reg),
                    _ if writes.contains(reg) => {}
                    _ => _ = reads.insert(reg),
                });
            }
            block.end.each_reg(|reg| {
                if !writes.contains(reg) {
                    reads.insert(reg);
                }
            });
        }
        let mut changed = true;
        while changed {
            changed = false;
            for id in function.order.iter().rev() {
                let Some(block) = function.block(*id) else { continue };
                for next in block.end.successors() {
                    let Some(behind) = entries.get(next.index()).cloned() else { continue };
                    if let (Some(entry), Some(writes)) = (entries.get_mut(id.index()), writes.get(id.index()))
                    {
                        changed |= entry.extend_without(&behind, writes);
                    }
                }
            }
        }
        Self { entries }
    }

    /// At the beginning of a block.
    pub(super) fn at(&self, id: BlockId) -> Option<&Set> {
        self.entries.get(id.index())
    }

    /// Behind the end of a block.
    pub(super) fn behind(&self, function: &Function, id: BlockId) -> Set {
        let mut set = Set::empty(function.classes.len());
        for next in function.block(id).into_iter().flat_map(|block| block.end.successors()) {
            if let Some(entry) = self.at(next) {
                set.extend(entry);
            }
        }
        set
    }
}

/// From the registers needed behind an instruction to those needed before it.
pub(super) fn step_back(live: &mut Set, insn: &Insn) {
    insn.each_reg(|reg, how| {
        if how == Use::Write {
            live.remove(reg);
        }
    });
    insn.each_reg(|reg, how| {
        if how != Use::Write {
            live.insert(reg);
        }
    });
}
