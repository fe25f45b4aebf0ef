//! How many variables want machine registers at once.

use super::VarSet;
use crate::flow::{Block, Body};

/// Registers for variables. x86-64 has sixteen: the stack's and the frame's pointer are taken, and two are left for addresses and
/// intermediate results. AArch64 has more, and the backend's difficulties there are smaller.
const REGISTERS: usize = 12;

/// How many variables of a body can be in registers at once.
pub(crate) fn registers(body: &Body) -> usize {
    // The address of the arena and a budget are in registers as well.
    REGISTERS - usize::from(body.uses_arena()) - usize::from(body.budgets > 0)
}

/// How many variables of a block live at once where most do, if those of `behind` do behind it. Those of `apart` need other registers.
pub(crate) fn most_live(block: &Block, behind: &VarSet, apart: &VarSet) -> usize {
    let mut live = behind.clone();
    block.end.reads(|var| _ = live.insert(var));
    let mut most = live.len();
    for step in block.steps.iter().rev() {
        live.step_back(&step.op);
        live.subtract(apart);
        most = most.max(live.len());
    }
    most
}
