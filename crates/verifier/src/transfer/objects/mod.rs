//! Objects with a life: what may be done with fields of maps and allocated objects, references, locks, dynptrs, kernel
//! pointers, lists and trees, timers and work.

mod alloc;
mod dynptr;
mod fields;
mod graph;
mod irq;
mod kfuncs;
mod kptr;
mod locks;

pub(super) use dynptr::object_offset;
pub(super) use graph::Graph;
pub(super) use locks::{EXIT, LockKind};

use super::Step;
use crate::state::held::RefKind;

impl Step<'_> {
    /// Takes a reference; gives its identity.
    pub(super) fn acquire(&mut self) -> u32 {
        let id = self.fresh_id();
        self.state.held.take(RefKind::Object, id, self.at);
        id
    }
}
