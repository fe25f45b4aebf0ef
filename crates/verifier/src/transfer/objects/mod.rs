//! Objects with a life: what may be done with fields of maps and allocated objects, references, locks, dynptrs, kernel
//! pointers, lists and trees, timers and work.

mod fields;
mod locks;

pub(super) use locks::{EXIT, LockKind};
