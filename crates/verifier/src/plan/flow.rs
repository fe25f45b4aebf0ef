//! Control flow backwards, for analyses that go from uses to definitions.

use bpf_object::Program;
use isa::InsnIdx;

use crate::plan::cfg::successors;

/// For every slot, the instructions that lead to it within its function.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Where the list of each slot begins in `edges`; it ends where the next begins.
    first: Vec<u32>,
    edges: Vec<InsnIdx>,
}

impl Flow {
    pub(crate) fn new(program: &Program) -> Self {
        let code = &program.code;
        let mut first = vec![0_u32; code.len() + 1];
        let edges = || {
            let from =
                |(at, insn)| successors(program, at, &insn).into_iter().flatten().map(move |to| (at, to));
            code.iter().flat_map(from).filter(|(_, to)| to.index() < code.len())
        };
        // Count, add up, fill in: each list ends where it began once it is full.
        for (_, to) in edges() {
            if let Some(count) = first.get_mut(to.index()) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for entry in &mut first {
            sum += *entry;
            *entry = sum;
        }
        let mut list = vec![InsnIdx(0); sum as usize];
        for (at, to) in edges() {
            let Some(entry) = first.get_mut(to.index()) else { continue };
            *entry -= 1;
            if let Some(edge) = list.get_mut(*entry as usize) {
                *edge = at;
            }
        }
        Self { first, edges: list }
    }

    /// The instructions after which `at` may be next.
    pub(crate) fn before(&self, at: InsnIdx) -> &[InsnIdx] {
        let range = self.first.get(at.index()).zip(self.first.get(at.index() + 1));
        range.and_then(|(from, to)| self.edges.get(*from as usize..*to as usize)).unwrap_or_default()
    }
}

/// Instructions that wait for another look, the last first: where control flows forward, one look at each is enough.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// One bit per slot.
    words: Vec<u64>,
    /// No bit is set above this word, but for ..
    cursor: usize,
    /// .. those up to this one, which were set behind the cursor.
    behind: usize,
    /// Whether anything was taken since it was empty.
    started: bool,
}

impl Pending {
    /// Room for so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self { words: vec![0; slots.div_ceil(64)], ..Self::default() }
    }

    pub(crate) fn insert(&mut self, at: usize) {
        let word = at / 64;
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (at % 64);
            self.behind = self.behind.max(word);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<usize> {
        if !std::mem::replace(&mut self.started, true) {
            self.cursor = std::mem::take(&mut self.behind);
        }
        loop {
            let bits = self.words.get_mut(self.cursor)?;
            if let Some(bit) = bits.checked_ilog2() {
                *bits &= !(1 << bit);
                return Some(self.cursor * 64 + bit as usize);
            }
            match self.cursor.checked_sub(1) {
                Some(next) => self.cursor = next,
                None if self.behind > 0 => self.cursor = std::mem::take(&mut self.behind),
                None => {
                    self.started = false;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use isa::{Code, Cond, Insn, Operand, Reg, Width};

    use super::*;

    #[test]
    fn predecessors_are_found() {
        let branch = |offset| Insn::Branch {
            width: Width::W64,
            cond: Cond::Eq,
            dst: Reg::R0,
            src: Operand::Imm(0),
            offset,
        };
        let code: Code = [branch(1), branch(-2), branch(0), Insn::Exit].into_iter().collect();
        let flow = Flow::new(&Program::from_code("test", "syscall", code));
        let before = |at| {
            let mut list = flow.before(InsnIdx(at)).to_vec();
            list.sort();
            list
        };
        assert_eq!(before(0), [InsnIdx(1)]);
        assert_eq!(before(1), [InsnIdx(0)]);
        assert_eq!(before(2), [InsnIdx(0), InsnIdx(1)]);
        assert_eq!(before(3), [InsnIdx(2), InsnIdx(2)]);
        assert_eq!(before(4), []);
    }

    #[test]
    fn the_last_comes_first() {
        let mut pending = Pending::new(200);
        for at in [3, 70, 199, 5] {
            pending.insert(at);
        }
        assert_eq!(pending.pop(), Some(199));
        pending.insert(198);
        pending.insert(71);
        let mut rest = Vec::new();
        while let Some(at) = pending.pop() {
            if at == 3 {
                pending.insert(150);
            }
            rest.push(at);
        }
        assert_eq!(rest, [198, 71, 70, 5, 3, 150]);
        pending.insert(1000);
        assert_eq!(pending.pop(), None);
    }
}
