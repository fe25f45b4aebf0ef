//! Owned pointers to a kernel's objects: here, to those that the host makes up.
//!
//! The heap knows nothing of them. What is known of an object when a program puts its pointer into a field is where to give the
//! reference back, should the field be the last that has it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::heap::Object;
use crate::host::World;

/// Notes a pointer that a program puts into a field.
pub(super) fn keep(pointer: u64, world: &Arc<World>) {
    if pointer == 0 || Object::find(pointer).is_some() || world.find(pointer).is_none() {
        return;
    }
    let mut kept = kept();
    kept.retain(|_, world| world.strong_count() > 0);
    kept.insert(pointer, Arc::downgrade(world));
}

/// Gives the reference back that a field had.
pub(super) fn release(pointer: u64) {
    let world = kept().get(&pointer).and_then(Weak::upgrade);
    if let Some(world) = world
        && let Some(image) = world.find(pointer)
    {
        world.release(&image);
    }
}

fn kept() -> MutexGuard<'static, HashMap<u64, Weak<World>>> {
    static KEPT: LazyLock<Mutex<HashMap<u64, Weak<World>>>> = LazyLock::new(Mutex::default);
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}
