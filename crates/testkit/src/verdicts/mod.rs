//! Random programs on the edge of what a verifier accepts, and the running kernel's verdict on them.
//!
//! Three kinds: [`generate`]d ones in `SEC("syscall")` that can be run here too; [`compose`]d ones of every program type, with
//! packets, maps, helpers, references, callbacks; and [`Mutants`] of programs that others wrote. Most instructions are chosen
//! so that they may well be fine, or the first one would always be refused.

mod compare;
mod composed;
mod judge;
#[path = "../../../verifier/tests/common/maps.rs"]
mod maps; // those of the verifier's text cases, which what is found becomes
mod minimise;
mod mutants;
mod plain;
mod scenes;

pub use compare::{Hole, JudgeOf, Options, Report, compare};
pub use composed::compose;
pub use judge::{Judge, Refusal, is_limit, link};
pub use maps::{maps, types};
pub use minimise::minimise;
pub use mutants::{Mutants, Original};
pub use plain::{generate, listing, simple_maps};
