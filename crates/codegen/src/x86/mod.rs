//! Our own backend for x86-64: from a body to machine code.
//!
//! ```text
//! Body -> select (instructions over registers) -> webs, tidy -> assign, spill (machine registers) -> emit
//! ```
//!
//! It knows what the other backend, which is made for every program and machine, cannot: that what asks for more iterations keeps every
//! register, how often a block is executed, and that the program's own order of accesses is to be kept. What it does not do is
//! `None`; then the function is compiled by the other one, which calls and is called in the same way.

mod assign;
mod emit;
mod halves;
mod insn;
mod live;
mod order;
mod select;
mod spill;
#[cfg(test)]
mod tests;
mod tidy;
mod webs;

use crate::Options;
use crate::flow::Body;
use crate::lower::{Imports, Unit};
use crate::machine::{Effort, Machine};
use assign::Assignment;
use emit::Emitted;
use live::Liveness;
use order::Shape;
use spill::Spill;

/// Attempts to hand out machine registers; each moves more to memory.
const ATTEMPTS: usize = 32;

/// Whether functions of a program may be compiled here at all: the machine has the instructions, and accesses to the arena are
/// instructions.
pub(crate) fn can_compile(machine: Machine, options: &Options, effort: Effort) -> bool {
    machine == Machine::X86_64
        && effort == Effort::Full
        && !options.baseline
        && !options.checked_arena
        && has_instructions()
}

/// Whether this machine has the instructions that the code uses.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_instructions() -> bool {
    std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("sse4.1")
}

/// Whether this machine has the instructions that the code uses.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_instructions() -> bool {
    false
}

/// Compiles a function; `None` if that is left to the other backend.
pub(crate) fn function(unit: &Unit<'_>, body: &Body, imports: &mut Imports) -> Option<Emitted> {
    let mut function = select::function(unit, body, imports)?;
    function.order = Shape::of(&function).order();
    webs::split(&mut function)?;
    let shape = Shape::of(&function);
    halves::run(&mut function, &shape);
    tidy::run(&mut function);
    let mut spill = Spill::default();
    for _ in 0..ATTEMPTS {
        let shape = Shape::of(&function);
        function.order = shape.order();
        let costs = spill.costs(&function, &shape);
        let live = Liveness::of(&function);
        match assign::assign(&function, &shape, &live, &costs)? {
            Assignment::Complete(assigned) => {
                return emit::emit(&function, &assigned, &mut |stub| imports.stub(stub)).ok();
            }
            Assignment::Crowded(regs) => spill.spill(&mut function, &shape, live, &regs)?,
        }
    }
    None
}
