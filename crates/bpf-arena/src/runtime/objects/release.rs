//! The end of objects and of what they own.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use isa::{AtomicOp, Size};
use verifier::fields::Tag;

use super::heap::Object;
use super::list::List;
use super::stand_in;
use super::tree::Tree;
use crate::access::Place;
use crate::runtime::later;

/// How long to wait for a lock that a program holds. Programs hold locks for a few instructions; a lock word that others
/// have overwritten must not hold up the host for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts from which on an object is never freed, as the kernel's counts saturate.
const SATURATED: u64 = 1 << 31;

/// Gives back a reference to the object at this address; the last one ends it and what it owns (`bpf_obj_drop`).
/// `false` if there is no object.
pub(crate) fn release(address: u64) -> bool {
    let Some(object) = Object::find(address) else { return false };
    release_all(vec![object]);
    true
}

/// Gives back what the fields of a value own: the value of a map is deleted or replaced (`bpf_obj_free_fields`).
pub(crate) fn release_fields(value: &Place<'_>, fields: &[(u32, Tag)]) {
    let mut owned = Vec::new();
    take_owned(value, fields, &mut owned);
    release_all(owned);
}

/// Another reference to an object; `false` if it has ended or is not counted.
pub(super) fn acquire(object: &Object) -> bool {
    let Some(count) = object.refcount() else { return false };
    let mut known = count.load(Size::W, Ordering::Relaxed);
    while known != 0 {
        if known >= SATURATED {
            return true;
        }
        match count.fetch(Size::W, AtomicOp::CmpXchg, known + 1, known) {
            Some(found) if found == known => return true,
            Some(found) => known = found,
            None => return false,
        }
    }
    false
}

/// Chains of objects may be long, so there is no recursion.
fn release_all(mut objects: Vec<Object>) {
    while let Some(object) = objects.pop() {
        if !is_last(&object) {
            continue;
        }
        if let Some(value) = object.place(0, u64::from(object.layout().size())) {
            take_owned(&value, object.layout().fields(), &mut objects);
        }
        object.end();
    }
}

/// Takes a reference away; whether it was the last one.
fn is_last(object: &Object) -> bool {
    let Some(count) = object.refcount() else { return true };
    let mut known = count.load(Size::W, Ordering::Relaxed);
    loop {
        if known == 0 || known >= SATURATED {
            return false;
        }
        match count.fetch(Size::W, AtomicOp::CmpXchg, known - 1, known) {
            Some(found) if found == known => return known == 1,
            Some(found) => known = found,
            None => return false,
        }
    }
}

/// Takes out of a value what it owns.
fn take_owned(value: &Place<'_>, fields: &[(u32, Tag)], owned: &mut Vec<Object>) {
    let lock = fields.iter().find(|(_, tag)| *tag == Tag::SpinLock);
    let lock = lock.and_then(|(offset, tag)| sub(value, *offset, *tag));
    for (offset, tag) in fields {
        let Some(place) = sub(value, *offset, *tag) else { continue };
        match tag {
            Tag::ListHead => with_lock(lock, || List::new(place).take_all(owned)),
            Tag::RbRoot => with_lock(lock, || Tree::new(place).take_all(owned)),
            Tag::KptrRef | Tag::KptrPercpu => {
                let pointer = place.fetch(Size::DW, AtomicOp::Xchg, 0, 0).unwrap_or(0);
                match Object::find(pointer) {
                    None => stand_in::release(pointer),
                    found => owned.extend(found),
                }
            }
            Tag::Timer => later::TIMERS.forget(place.address()),
            Tag::Wq => later::WORK.forget(place.address()),
            Tag::KptrUntrusted => place.store(Size::DW, 0, Ordering::Relaxed),
            _ => {}
        }
    }
}

fn sub<'m>(value: &Place<'m>, offset: u32, tag: Tag) -> Option<Place<'m>> {
    let place = value.at(usize::try_from(offset).ok()?)?;
    (place.len() as u64 >= u64::from(tag.size())).then_some(place)
}

/// Does something while holding a lock that programs take.
pub(crate) fn with_lock<R>(lock: Option<Place<'_>>, act: impl FnOnce() -> R) -> R {
    let Some(lock) = lock else { return act() };
    let begin = Instant::now();
    let taken = loop {
        match lock.fetch(Size::W, AtomicOp::CmpXchg, 1, 0) {
            Some(0) => break true,
            None => break false,
            Some(_) if begin.elapsed() > PATIENCE => break false,
            Some(_) => std::thread::yield_now(),
        }
    };
    let result = act();
    if taken {
        lock.store(Size::W, 0, Ordering::Release);
    }
    result
}
