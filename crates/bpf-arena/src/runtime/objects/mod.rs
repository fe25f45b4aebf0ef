//! Objects with a life of their own: allocated by programs, counted, linked into lists and trees, kept in pointers of map
//! values, and protected by locks.
//!
//! A program's view of them is memory it uses directly; what it may do there, verification has decided. The functions here
//! rely on the heap alone to know what an address is: pointers that lie in memory (links of nodes, owned pointers) are
//! looked up before they are followed, and walks along them end, whatever the memory says.

mod cpumask;
mod graph;
mod heap;
mod kfuncs;
mod list;
mod release;
mod stand_in;
#[cfg(test)]
mod tests;
mod tree;
mod types;

pub(super) use cpumask::ROWS as CPUMASK_ROWS;
pub(crate) use heap::{Guard, heap, pin};
pub(super) use kfuncs::ROWS;
pub(crate) use release::{release, release_fields, with_lock};
pub(crate) use types::ObjectTypes;
