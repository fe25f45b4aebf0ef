//! What calling a function may do besides what its arguments and result say: the worst of it and of all it calls.

use bpf_object::Program;
use isa::{CallTarget, Imm64, Insn};

use crate::plan::cfg::callee;
use crate::plan::externs::{External, Externs};
use crate::rules::helpers::{self, Traits};
use crate::rules::kfuncs::KfuncFlags;

/// What calling a function may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// The packet may be another one afterwards: pointers into it are lost.
    pub(crate) changes_packet: bool,
    /// It may sleep.
    pub(crate) may_sleep: bool,
}

impl Effects {
    fn with(self, other: Self) -> Self {
        Self {
            changes_packet: self.changes_packet || other.changes_packet,
            may_sleep: self.may_sleep || other.may_sleep,
        }
    }
}

/// The effects of every function of the program.
pub(crate) fn compute(program: &Program, externs: &Externs) -> Vec<Effects> {
    let starts = &program.subprograms;
    let mut effects = vec![Effects::default(); starts.len()];
    let mut calls = Vec::new();
    for (at, insn) in program.code.iter() {
        let from = starts.partition_point(|s| s.start <= at).saturating_sub(1);
        let called = match insn {
            Insn::Call { target: CallTarget::Local(offset) }
            | Insn::LoadImm64 { value: Imm64::Func(offset), .. } => {
                // A call of nothing is refused elsewhere.
                calls.extend(callee(program, at, offset).ok().map(|to| (from, to as usize)));
                continue;
            }
            Insn::Call { target: CallTarget::Helper(number) } => of_helper(number),
            Insn::Call { target: CallTarget::Kfunc { btf_id, .. } } => of_kfunc(externs, btf_id),
            _ => continue,
        };
        if let Some(effects) = effects.get_mut(from) {
            *effects = effects.with(called);
        }
    }
    // Once around for every link of the longest chain of calls.
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for &(from, to) in &calls {
            let callee = effects.get(to).copied().unwrap_or_default();
            if let Some(effects) = effects.get_mut(from) {
                let joint = effects.with(callee);
                changed |= *effects != joint;
                *effects = joint;
            }
        }
    }
    effects
}

fn of_helper(number: u32) -> Effects {
    helpers::find(number).map_or(Effects::default(), |helper| Effects {
        changes_packet: helper.is(Traits::CHANGES_PACKET),
        may_sleep: helper.is(Traits::SLEEPS),
    })
}

fn of_kfunc(externs: &Externs, index: i32) -> Effects {
    let Some(External::Function(function)) = externs.get(index) else { return Effects::default() };
    Effects {
        changes_packet: function.row.name == "bpf_xdp_pull_data",
        may_sleep: function.row.has(KfuncFlags::SLEEPABLE),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use bpf_object::{Linkage, Subprogram};
    use isa::{InsnIdx, assemble};

    use super::*;

    #[test]
    fn effects_come_up_the_chain_of_calls() -> Result<(), Box<dyn Error>> {
        // Function 0 calls 1, which calls 2, which pulls data (helper 39); function 3 does nothing.
        let text = "call first\nexit\nfirst:\ncall second\nexit\nsecond:\ncall 39\nexit\nr0 = 0\nexit";
        let mut program = Program::from_code("test", "tc", assemble(text)?.code);
        let at = |start: u32| Subprogram {
            name: format!("f{start}"),
            start: InsnIdx(start),
            end: InsnIdx(start + 2),
            btf_func: None,
            linkage: Linkage::Global,
        };
        program.subprograms = [0, 2, 4, 6].map(at).to_vec();
        let changes: Vec<bool> =
            compute(&program, &Externs::default()).iter().map(|e| e.changes_packet).collect();
        assert_eq!(changes, [true, true, true, false]);
        Ok(())
    }
}
