//! Loops over memory, 16 bytes at a time.
//!
//! A loop qualifies that goes through memory element by element, in one direction, without conditions inside: it copies, fills, changes
//! each element in the same way, sums up, or looks for the first element that is, or is not, equal to something. In front of it are put
//!
//! ```text
//!     once:   are there enough iterations? do what is read and what is written overlap?      no: rolled
//!     gate:   enough iterations left to go?                                                 no: fewer at a time, then rolled
//!             take them from the budget                                                     none left: rolled
//!     work:   wide loads of all elements of the group; did one miss a page?                 give them back, fewer at a time
//!             is an element among them that ends the loop?                                  give them back, fewer at a time
//!             wide stores; variables as after so many iterations                            back to gate
//!     rolled: the loop as it was
//! ```
//!
//! first for groups of 64 bytes, then for groups of 16. What a group does becomes visible only when nothing can come between any more:
//! until then it has loaded, and no more, and the rolled loop begins at the group's first element as if nothing had been.
//!
//! - **Missing pages.** A wide load of an arena is a probe: that it missed is told to the code and to nobody else. A place that is only
//!   stored to is probed as well, at both ends, which no more than touches what the program is about to write. The rolled loop then does
//!   the rest: it meets the page with the instruction, and as often as, the program does. A page that is taken away between probe and
//!   store is one that was taken away before all stores of the group.
//! - **Overlap.** Where a group would load what an earlier element of it stores, the rolled loop does it all: the distance of both
//!   places never changes, and is looked at once. There is at most one store.
//! - **Other threads.** Each element is loaded and stored once, whole, if it is aligned as its size wants (machines split a wide access
//!   nowhere else). The order in which elements of a group become visible is not said, as it is not of plain accesses in the kernel's
//!   memory model, where nothing depends on one another. What was loaded in vain is forgotten and loaded again.
//! - **Beyond the end.** Up to 60 bytes behind the element that ends the loop are loaded, of an arena, where that harms nobody.
//! - **The budget** is taken for a whole group, and given back for one that was not done: each iteration is counted once. A group has no more
//!   than 64 iterations, so that a run is asked whether it is to end as often as before.
//! - **Variables.** What counts gets what so many iterations add. All else that iterations compute must not be read by the next one, nor
//!   behind the loop where it ends at its top: an iteration of the rolled loop always comes last.
//!
//! Nothing is assumed of values; of memory, that what is proven to be there for each element is there for all of them.

mod emit;
mod follow;

use isa::{AluOp, Cond, Size, Width};

use crate::analysis::{Dominators, Edges, Liveness, Loops, Shape};
use crate::flow::{At, BlockId, Body, Place, Src, Step, Var};
use crate::limits;

/// Bytes of a vector.
const VECTOR: i64 = 16;
/// Vectors of the groups, the large ones first.
static GROUPS: [i64; 2] = [4, 1];
/// The fewest elements of a group.
const FEWEST: i64 = 4;
/// Blocks that a loop may become.
const MOST_BLOCKS: usize = 48;
/// Operations of the longest bodies that are looked at.
const LONGEST: usize = 24;
/// A function may become a quarter longer, and at least by so many operations.
const SMALL: usize = 320;

/// What an iteration does, with what it computes in variables of its own.
#[derive(Debug, Default)]
struct Pattern {
    /// Numbers that stay the same or grow with each iteration.
    scalars: Vec<Step>,
    /// What is done to elements.
    lanes: Vec<Lanes>,
    /// The size of all elements.
    element: Option<Size>,
    /// Whether each iteration goes to a lower address than the one before; not known before the first access.
    descending: Option<bool>,
    store: Option<Store>,
    /// Tests of which it is known how long they hold.
    counts: Vec<Count>,
    exits: Vec<Exit>,
    sums: Vec<Sum>,
    /// The variables that grow, by how much, and the width of the sum.
    growths: Vec<(Var, i64, Width)>,
    /// Variables that the next iteration, or what comes behind the loop, reads: what the first iteration leaves there, and what each
    /// other adds to that.
    left: Vec<(Var, Var, i64)>,
    /// Variables that stay the same and are compared with elements: above this number they are equal to none.
    most: Vec<(Var, u64)>,
}

/// One vector of elements, or one for each vector of a group; they refer to one another by index.
#[derive(Clone, Copy, Debug)]
struct Lanes {
    at: At,
    of: Make,
}

/// What makes lanes.
#[derive(Clone, Copy, Debug)]
enum Make {
    Load(Place),
    Spread(Src),
    Alu { op: AluOp, a: usize, b: usize },
}

#[derive(Clone, Copy, Debug)]
struct Store {
    at: At,
    place: Place,
    lanes: usize,
}

/// The loop goes on if `var cond bound`; each iteration adds `by` to `var`.
#[derive(Clone, Copy, Debug)]
struct Count {
    at: At,
    width: Width,
    cond: Cond,
    var: Var,
    bound: Src,
    by: i64,
}

/// A condition that ends the loop.
#[derive(Clone, Copy, Debug)]
struct Exit {
    at: At,
    a: usize,
    b: usize,
    /// Where they are equal, or where they are not.
    if_equal: bool,
}

/// `acc = acc op element`.
#[derive(Clone, Copy, Debug)]
struct Sum {
    at: At,
    acc: Var,
    op: AluOp,
    width: Width,
    lanes: usize,
}

/// Makes loops wide; the result is how many.
pub(super) fn run(body: &mut Body) -> u32 {
    let edges = Edges::of(body);
    let dominators = Dominators::of(&edges);
    let loops = Loops::of(body, &edges, &dominators);
    let mut live = None;
    let steps = body.steps();
    let mut room = (steps / 4).max(SMALL).min(limits::FULL_EFFORT_INSNS.saturating_sub(steps));
    let mut changes = 0;
    // What is deepest is executed most often; beside loops in loops, what is done once is not worth it, as in `unroll`.
    let mut chosen: Vec<_> = loops.iter().map(|(_, l)| l).filter(|l| l.inner.is_empty()).collect();
    chosen.sort_by_key(|l| core::cmp::Reverse(l.depth));
    if chosen.first().is_some_and(|l| l.depth > 1) {
        chosen.retain(|l| l.depth > 1);
    }
    for l in chosen {
        if body.blocks.len() + MOST_BLOCKS > limits::FULL_EFFORT_BLOCKS || room < LONGEST {
            break;
        }
        let Some(shape) = Shape::of(body, &edges, l).filter(|shape| shape.size <= LONGEST) else { continue };
        if !follow::is_straight(body, &shape) || !follow::accesses(body, &shape) {
            continue;
        }
        let live = live.get_or_insert_with(|| Liveness::of(body, &edges));
        let Some(pattern) = follow::pattern(body, &shape, live.at(l.header)) else { continue };
        let before = body.steps();
        if emit::widen(body, &shape, &pattern).is_some() {
            room = room.saturating_sub(body.steps() - before);
            changes += 1;
        }
    }
    changes
}

impl Pattern {
    /// Bytes of an element.
    fn bytes(&self) -> i64 {
        self.element.map_or(VECTOR, |size| size.bytes().into())
    }

    /// Vectors of the groups, the large ones first. A loop that an element may end is likely to do so before much is gained by more
    /// than one kind of them.
    fn groups(&self) -> &'static [i64] {
        let [largest, .., smallest] = &GROUPS;
        match (self.exits.is_empty(), self.counts.is_empty()) {
            (true, _) => &GROUPS,
            (false, true) if VECTOR / self.bytes() >= FEWEST => std::slice::from_ref(smallest),
            (false, _) => std::slice::from_ref(largest),
        }
    }

    /// All places that are loaded.
    fn loads(&self) -> impl Iterator<Item = Place> {
        self.lanes.iter().filter_map(|lanes| match lanes.of {
            Make::Load(place) => Some(place),
            _ => None,
        })
    }

    /// Whether pages may be missing.
    fn meets_arena(&self) -> bool {
        self.loads().chain(self.store.map(|store| store.place)).any(|place| place.is_in_arena())
    }
}

/// The block that a block of a straight loop leads to within it.
fn inside(shape: &Shape, index: usize) -> BlockId {
    shape.blocks.get(index + 1).copied().unwrap_or_else(|| shape.header())
}
