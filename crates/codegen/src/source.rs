//! What the stages read: a program that passed verification, and what is known of it.

use bpf_object::Program;
use isa::InsnIdx;
use verifier::{FrameFacts, InsnFacts, Verified};

/// A view of a [`Verified`]. Tests of this crate make one from a table of facts, to show what becomes of them; the
/// public interface takes nothing but a `Verified`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    program: &'a Program,
    frames: &'a [FrameFacts],
    facts: Facts<'a>,
}

#[derive(Clone, Copy)]
enum Facts<'a> {
    Proved(&'a Verified),
    #[cfg(test)]
    Claimed(&'a [InsnFacts]),
}

impl<'a> From<&'a Verified> for Source<'a> {
    fn from(verified: &'a Verified) -> Self {
        Self { program: verified.program(), frames: verified.frames(), facts: Facts::Proved(verified) }
    }
}

impl<'a> Source<'a> {
    /// A program with the facts a test claims, one per slot.
    #[cfg(test)]
    pub(crate) fn claimed(program: &'a Program, frames: &'a [FrameFacts], facts: &'a [InsnFacts]) -> Self {
        Self { program, frames, facts: Facts::Claimed(facts) }
    }

    /// The program.
    pub(crate) fn program(self) -> &'a Program {
        self.program
    }

    /// What is known of each subprogram.
    pub(crate) fn frames(self) -> &'a [FrameFacts] {
        self.frames
    }

    /// Whether the program throws exceptions, which end all functions.
    pub(crate) fn throws(self) -> bool {
        self.program.externs.iter().any(|e| e.name == "bpf_throw")
    }

    /// The reached subprogram that begins `offset` slots after the instruction behind `at`.
    pub(crate) fn subprogram_at(self, at: InsnIdx, offset: i32) -> Option<usize> {
        let start = at.offset(1 + i64::from(offset))?;
        let found = self.program.subprograms.binary_search_by_key(&start, |s| s.start).ok()?;
        (found == 0 || self.frames.get(found).is_some_and(|f| f.reached)).then_some(found)
    }

    /// What is known of the instruction at `at`.
    pub(crate) fn facts(self, at: InsnIdx) -> InsnFacts {
        match self.facts {
            Facts::Proved(verified) => verified.facts(at),
            #[cfg(test)]
            Facts::Claimed(facts) => facts.get(at.index()).copied().unwrap_or_default(),
        }
    }
}
