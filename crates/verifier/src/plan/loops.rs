//! The loops of a program: strongly connected components of the control flow of each function.
//!
//! What is known of a state inside a loop is complete only when every path out of the loop has been walked, too. The walk
//! needs to know which instructions are in the same loop; calls are not followed.

use bpf_object::Program;
use isa::InsnIdx;

use crate::plan::cfg::successors;

/// For each slot the number of the component it is in, from 1; 0 for what is in no loop.
pub(crate) fn components(program: &Program) -> Vec<u32> {
    let count = program.code.len();
    let mut search = Search {
        program,
        order: vec![0; count],
        low: vec![0; count],
        open: Vec::new(),
        components: vec![0; count],
        visited: 0,
        found: 0,
    };
    for subprog in &program.subprograms {
        search.visit(subprog.start);
    }
    search.components
}

/// Tarjan's algorithm, without recursion.
struct Search<'a> {
    program: &'a Program,
    /// When each slot was first seen, from 1; `u32::MAX` once its component is known.
    order: Vec<u32>,
    /// The earliest slot that is known to be reachable from it and not yet in a component.
    low: Vec<u32>,
    /// Seen, component not yet known.
    open: Vec<InsnIdx>,
    components: Vec<u32>,
    visited: u32,
    found: u32,
}

impl Search<'_> {
    fn visit(&mut self, start: InsnIdx) {
        if self.order(start) != 0 {
            return;
        }
        self.enter(start);
        // Where the search stands, with the number of successors already looked at.
        let mut path = vec![(start, 0_usize)];
        while let Some((at, next)) = path.last_mut() {
            let (at, next) = (*at, std::mem::replace(next, *next + 1));
            let Some(insn) = self.program.code.get(at) else { return };
            match successors(self.program, at, &insn).get(next) {
                Some(Some(to)) if self.order(*to) == 0 => {
                    self.enter(*to);
                    path.push((*to, 0));
                }
                Some(Some(to)) => self.lower(at, self.order(*to)),
                Some(None) => {}
                None => {
                    path.pop();
                    if let Some((before, _)) = path.last() {
                        self.lower(*before, self.low.get(at.index()).copied().unwrap_or(u32::MAX));
                    }
                    self.leave(at);
                }
            }
        }
    }

    fn order(&self, at: InsnIdx) -> u32 {
        // What lies outside the program (it is refused elsewhere) counts as done.
        self.order.get(at.index()).copied().unwrap_or(u32::MAX)
    }

    fn enter(&mut self, at: InsnIdx) {
        self.visited += 1;
        if let (Some(order), Some(low)) = (self.order.get_mut(at.index()), self.low.get_mut(at.index())) {
            (*order, *low) = (self.visited, self.visited);
        }
        self.open.push(at);
    }

    fn lower(&mut self, at: InsnIdx, to: u32) {
        if let Some(low) = self.low.get_mut(at.index()) {
            *low = (*low).min(to);
        }
    }

    /// All that can be reached from `at` has been seen: if nothing of it is earlier, a component is complete.
    fn leave(&mut self, at: InsnIdx) {
        if self.low.get(at.index()).copied() != Some(self.order(at)) {
            return;
        }
        let from = self.open.iter().rposition(|o| *o == at).unwrap_or(0);
        let alone = self.open.len() - from == 1;
        let to_itself = || {
            let insn = self.program.code.get(at);
            insn.is_some_and(|insn| successors(self.program, at, &insn).contains(&Some(at)))
        };
        let number = if !alone || to_itself() {
            self.found += 1;
            self.found
        } else {
            0
        };
        for member in self.open.drain(from..) {
            if let (Some(order), Some(low), Some(component)) = (
                self.order.get_mut(member.index()),
                self.low.get_mut(member.index()),
                self.components.get_mut(member.index()),
            ) {
                (*order, *low, *component) = (u32::MAX, u32::MAX, number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use isa::{Code, Cond, Insn, JumpForm, Operand, Reg, Width};

    use super::*;

    fn branch(offset: i16) -> Insn {
        Insn::Branch { width: Width::W64, cond: Cond::Eq, dst: Reg::R0, src: Operand::Imm(0), offset }
    }

    fn found(insns: &[Insn]) -> Vec<u32> {
        let code: Code = insns.iter().copied().collect();
        components(&Program::from_code("test", "syscall", code))
    }

    #[test]
    fn straight_code_has_no_loops() {
        assert_eq!(found(&[branch(0), branch(1), branch(0), Insn::Exit]), [0, 0, 0, 0]);
    }

    #[test]
    fn loops_are_told_apart() {
        let jump = |offset| Insn::Jump { form: JumpForm::Short, offset };
        // A loop of two, one instruction that jumps to itself, the end.
        assert_eq!(found(&[branch(0), branch(-2), branch(-1), Insn::Exit]), [2, 2, 1, 0]);
        // An inner loop is part of the outer one.
        assert_eq!(
            found(&[branch(4), branch(0), branch(-2), branch(0), jump(-5), Insn::Exit]),
            [1, 1, 1, 1, 1, 0]
        );
    }
}
