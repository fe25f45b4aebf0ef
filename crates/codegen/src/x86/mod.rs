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
mod tidy;
mod webs;

use crate::flow::{At, Body};
use crate::link::{self, Code};
use crate::lower::{Imports, Unit};
use crate::machine::{Effort, Machine};
use crate::reloc::Form;
use crate::{FrameStep, Options};
use assign::Assignment;
use emit::Target;
use order::Shape;
use spill::Spill;

/// Attempts to hand out machine registers; each moves more to memory.
const ATTEMPTS: usize = 32;

/// Functions of more operations are left to the other backend: the time for the graph of registers grows faster than they do.
const MOST_STEPS: usize = 12_288;

/// Machine code of one function.
pub(crate) struct Compiled {
    bytes: Vec<u8>,
    length: u32,
    locations: Vec<(u32, At)>,
    traps: Vec<(u32, bool)>,
    references: Vec<link::Reference>,
    frame: Vec<FrameStep>,
    /// Bytes of native stack that it takes.
    pub(crate) stack_bytes: u64,
}

impl Compiled {
    /// To be put behind the others.
    pub(crate) fn as_code(&self) -> Code<'_> {
        Code {
            bytes: &self.bytes,
            length: self.length,
            locations: self.locations.clone(),
            traps: self.traps.clone(),
            references: self.references.clone(),
            frame: self.frame.clone(),
        }
    }
}

/// Whether functions of a program may be compiled here at all: the machine has the instructions, and accesses to the arena are
/// instructions.
pub(crate) fn can_compile(machine: Machine, options: &Options, effort: Effort) -> bool {
    machine == Machine::X86_64
        && effort == Effort::Full
        && !options.baseline
        && !options.checked_arena
        && has_instructions()
}

#[cfg(target_arch = "x86_64")]
fn has_instructions() -> bool {
    std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("sse4.1")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_instructions() -> bool {
    false
}

/// Compiles a function; `None` if that is left to the other backend.
pub(crate) fn function(unit: &Unit<'_>, body: &Body, imports: &mut Imports) -> Option<Compiled> {
    if body.steps() > MOST_STEPS {
        return None;
    }
    let mut function = select::function(unit, body, imports)?;
    function.order = Shape::of(&function, &body.refills).order();
    webs::split(&mut function)?;
    let shape = Shape::of(&function, &body.refills);
    halves::run(&mut function, &shape);
    tidy::run(&mut function);
    let mut spill = Spill::default();
    for _ in 0..ATTEMPTS {
        let shape = Shape::of(&function, &body.refills);
        function.order = shape.order();
        let costs = spill.costs(&function, &shape);
        let done = assign::assign(&function, &shape, &costs);

        match done? {
            Assignment::Complete(assigned) => {
                let emitted = emit::emit(&function, &assigned, &mut |stub| imports.stub(stub)).ok()?;
                let to = |target| match target {
                    Target::Subprogram(index) => link::Target::Subprogram(index),
                    Target::Stub(number) => link::Target::Stub(number),
                };
                let references = emitted.references.iter().map(|reference| link::Reference {
                    form: Form::Distance,
                    at: reference.at,
                    to: to(reference.to),
                    addend: -4,
                });
                return Some(Compiled {
                    references: references.collect(),
                    bytes: emitted.bytes,
                    length: emitted.code_bytes,
                    locations: emitted.locations,
                    traps: emitted.traps,
                    frame: emitted.frame,
                    stack_bytes: emitted.stack,
                });
            }
            Assignment::Crowded(regs) => spill.spill(&mut function, &shape, &regs)?,
        }
    }
    None
}
