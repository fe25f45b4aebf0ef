//! Sets of variables.

use crate::flow::{Op, Use, Var};

/// A set of variables of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VarSet(Vec<u64>);

impl VarSet {
    /// No variable, of a body with so many.
    pub(crate) fn empty(vars: u16) -> Self {
        Self(vec![0; usize::from(vars).div_ceil(64)])
    }

    /// Whether a variable is in it.
    pub(crate) fn contains(&self, var: Var) -> bool {
        self.0.get(var.index() / 64).is_some_and(|word| word >> (var.index() % 64) & 1 != 0)
    }

    /// Puts a variable in; whether it was not.
    pub(crate) fn insert(&mut self, var: Var) -> bool {
        let Some(word) = self.0.get_mut(var.index() / 64) else { return false };
        let before = *word;
        *word |= 1 << (var.index() % 64);
        *word != before
    }

    /// Takes a variable out; whether it was in.
    pub(crate) fn remove(&mut self, var: Var) -> bool {
        let Some(word) = self.0.get_mut(var.index() / 64) else { return false };
        let before = *word;
        *word &= !(1 << (var.index() % 64));
        *word != before
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Those that are in it, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Var> + '_ {
        let bits = |word: u64| std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)));
        self.0.iter().enumerate().flat_map(move |(index, &word)| {
            let set = bits(word).take_while(|word| *word != 0);
            set.filter_map(move |word| {
                u16::try_from(index * 64 + word.trailing_zeros() as usize).ok().map(Var)
            })
        })
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Puts all of another set in; whether that was any.
    pub(crate) fn extend(&mut self, other: &Self) -> bool {
        let mut more = false;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            more |= other & !*word != 0;
            *word |= other;
        }
        more
    }

    /// Takes all of another set out.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    /// From the variables needed behind an operation to those needed before it.
    pub(crate) fn step_back(&mut self, op: &Op) {
        op.each_var(|var, how| {
            if how != Use::Read {
                self.remove(var);
            }
        });
        op.reads(|var| _ = self.insert(var));
    }
}
