//! Passes: each makes the bodies of a program a little better and leaves what they do exactly as it is.
//!
//! A pass has a room of its own here, says what it assumes, and can be turned off ([`PassSet`]), so that it can be compared
//! with the interpreter, and measured, alone. Passes run in the order of [`ORDER`].
//!
//! What no pass may do to accesses of an arena, of map values and of whatever other threads see: merge, drop, repeat or invent
//! one, or let a load see what a store wrote without going to memory (a page may be missing, and then it gives 0).

mod callbacks;
mod calls;
mod demand;
mod hoist;
mod inline;
mod layout;
mod looks;
mod narrow;
mod selects;
mod slots;
mod spill;
mod tidy;
mod unroll;
mod wide;

use isa::Imm64;

use crate::flow::{Body, Op, Step};
use crate::limits;
use crate::machine::Effort;
use crate::source::Source;

/// A pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pass {
    /// Has the program call the callbacks of `bpf_loop` itself.
    Callbacks,
    /// Puts subprograms in the place of their calls.
    Inline,
    /// Puts operations in the place of calls of the runtime.
    Calls,
    /// Keeps in variables what the program keeps on its stack.
    Slots,
    /// Clears away what others made or left behind.
    Tidy,
    /// Computes both sides of small branches and selects the results.
    Selects,
    /// Computes in 32 bits what nobody reads the upper half of.
    Demand,
    /// Knows which bits of values are 0, and leaves out what would clear them.
    Narrow,
    /// Computes once what would give the same again, and in front of loops what each iteration would.
    Hoist,
    /// Several iterations of loops over memory at once.
    Wide,
    /// Several iterations of innermost loops in a row.
    Unroll,
    /// Puts blocks into an order in which loops have few jumps.
    Layout,
    /// Keeps in memory what the machine has no register for.
    Spill,
}

impl Pass {
    /// All of them, in the order they run (first).
    pub const ALL: [Self; 13] = [
        Self::Callbacks,
        Self::Inline,
        Self::Calls,
        Self::Slots,
        Self::Tidy,
        Self::Selects,
        Self::Demand,
        Self::Narrow,
        Self::Hoist,
        Self::Wide,
        Self::Unroll,
        Self::Layout,
        Self::Spill,
    ];

    /// Its name, for options and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Callbacks => "callbacks",
            Self::Inline => "inline",
            Self::Calls => "calls",
            Self::Slots => "slots",
            Self::Demand => "demand",
            Self::Narrow => "narrow",
            Self::Hoist => "hoist",
            Self::Tidy => "tidy",
            Self::Selects => "selects",
            Self::Wide => "wide",
            Self::Unroll => "unroll",
            Self::Layout => "layout",
            Self::Spill => "spill",
        }
    }

    /// The pass of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pass| pass.name() == name)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Runs it; the result is how often it changed something.
    fn run(self, bodies: &mut Vec<Body>, source: Source<'_>) -> u32 {
        let each = |pass: &dyn Fn(&mut Body) -> u32, bodies: &mut [Body]| {
            bodies.iter_mut().filter(|body| limits::effort(body) == Effort::Full).map(pass).sum()
        };
        match self {
            Self::Callbacks => each(&|body| callbacks::run(body, source), bodies),
            Self::Inline => inline::run(bodies, source),
            Self::Calls => {
                let has_callbacks = bodies.iter().any(takes_addresses);
                each(&|body| calls::run(body, source, has_callbacks), bodies)
            }
            Self::Slots => each(&slots::run, bodies),
            Self::Demand => each(&demand::run, bodies),
            Self::Narrow => each(&narrow::run, bodies),
            Self::Hoist => each(&hoist::run, bodies),
            Self::Tidy => each(&tidy::run, bodies),
            Self::Selects => each(&selects::run, bodies),
            Self::Wide => each(&wide::run, bodies),
            Self::Unroll => each(&unroll::run, bodies),
            Self::Layout => each(&layout::run, bodies),
            Self::Spill => each(&spill::run, bodies),
        }
    }
}

/// The order in which passes run. Functions that are put in the place of their calls share slots of the stack and may use them
/// differently, so slots become variables before, too.
const ORDER: [Pass; 15] = {
    use Pass::{
        Callbacks, Calls, Demand, Hoist, Inline, Layout, Narrow, Selects, Slots, Spill, Tidy, Unroll, Wide,
    };
    [
        Callbacks, Slots, Inline, Calls, Slots, Tidy, Selects, Tidy, Demand, Narrow, Hoist, Wide, Unroll,
        Layout, Spill,
    ]
};

/// Whether a body has the address of a function.
fn takes_addresses(body: &Body) -> bool {
    let is_function = |step: &Step| matches!(step.op, Op::Address { of: Imm64::Func(_), .. });
    body.blocks.iter().any(|block| block.steps.iter().any(is_function))
}

/// A choice of passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PassSet(u32);

impl PassSet {
    /// All passes.
    pub const ALL: Self = Self(u32::MAX);
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether a pass is chosen.
    #[must_use]
    pub fn contains(self, pass: Pass) -> bool {
        self.0 & pass.bit() != 0
    }

    /// The same with a pass.
    #[must_use]
    pub fn with(self, pass: Pass) -> Self {
        Self(self.0 | pass.bit())
    }

    /// The same without a pass.
    #[must_use]
    pub fn without(self, pass: Pass) -> Self {
        Self(self.0 & !pass.bit())
    }
}

impl Default for PassSet {
    fn default() -> Self {
        Self::ALL
    }
}

impl core::fmt::Debug for PassSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(Pass::ALL.into_iter().filter(|pass| self.contains(*pass))).finish()
    }
}

/// How often each pass found something to do in a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes([u32; Pass::ALL.len()]);

impl Changes {
    /// Of one pass.
    #[must_use]
    pub fn of(&self, pass: Pass) -> u32 {
        self.0.get(pass as usize).copied().unwrap_or(0)
    }
}

/// Runs the chosen passes over the functions of a program.
pub(crate) fn run(bodies: &mut Vec<Body>, source: Source<'_>, chosen: PassSet) -> Changes {
    let mut changes = Changes::default();
    for pass in ORDER.into_iter().filter(|pass| chosen.contains(*pass)) {
        let count = pass.run(bodies, source);
        if let Some(total) = changes.0.get_mut(pass as usize) {
            *total += count;
        }
    }
    changes
}
