//! Values of a map: copied in and out without the fields in them that belong to programs alone (locks, timers, owned
//! pointers, ...), which are never copied.

use std::ops::Range;
use std::sync::atomic::Ordering;

use bpf_object::{Btf, MapSpec};
use isa::{AtomicOp, Size};

use crate::access::Place;

/// Attempts to take a value's lock before the thread gives up its time slice.
const SPINS: u32 = 64;

/// What the values of one map are.
#[derive(Debug)]
pub(super) struct Values {
    size: u32,
    /// The fields, in ascending order.
    fields: Vec<Range<usize>>,
    /// Offset of the lock.
    lock: Option<usize>,
}

impl Values {
    /// Those of a map; the BTF has their type.
    pub(super) fn new(spec: &MapSpec, btf: Option<&Btf>) -> Self {
        let lock = btf.and_then(|btf| lock_of(spec, btf));
        Self {
            size: spec.value_size,
            lock: lock.as_ref().map(|lock| lock.start),
            fields: lock.into_iter().collect(),
        }
    }

    /// Bytes of a value.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Bytes from one value to the next where they lie side by side.
    pub(super) fn stride(&self) -> u64 {
        codegen::abi::value_stride(self.size)
    }

    /// Whether they have a lock.
    pub(super) fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether they have any fields.
    pub(super) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Copies to a value of the map, as many bytes as both have.
    #[inline]
    pub(super) fn store(&self, to: Place<'_>, from: Place<'_>) {
        if self.fields.is_empty() {
            return to.copy_from(from);
        }
        for gap in self.gaps(to.len().min(from.len())) {
            if let (Some(to), Some(from)) = (to.sub(gap.start, gap.len()), from.sub(gap.start, gap.len())) {
                to.copy_from(from);
            }
        }
    }

    /// The same while holding the lock of the value.
    pub(super) fn store_locked(&self, to: Place<'_>, from: Place<'_>) {
        let _held = self.lock(to);
        self.store(to, from);
    }

    /// Copies from a value of the map; the fields are zeroes in the copy.
    pub(super) fn load(&self, to: Place<'_>, from: Place<'_>) {
        self.store(to, from);
        for field in &self.fields {
            if let Some(field) = to.sub(field.start, field.len()) {
                field.clear();
            }
        }
    }

    /// The same while holding the lock of the value.
    pub(super) fn load_locked(&self, to: Place<'_>, from: Place<'_>) {
        let _held = self.lock(from);
        self.load(to, from);
    }

    /// Zeroes a value of the map.
    pub(super) fn clear(&self, value: Place<'_>) {
        for gap in self.gaps(value.len()) {
            if let Some(part) = value.sub(gap.start, gap.len()) {
                part.clear();
            }
        }
    }

    /// Gives back what the fields of a value own, because it is replaced or deleted.
    pub(super) fn release(&self, _value: Place<'_>) {}

    /// What lies between the fields.
    fn gaps(&self, len: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let ends = std::iter::once(0).chain(self.fields.iter().map(|field| field.end));
        let starts = self.fields.iter().map(|field| field.start).chain([len]);
        ends.zip(starts).filter(|(end, start)| end < start).map(|(end, start)| end..start)
    }

    /// Takes the lock of a value.
    fn lock<'m>(&self, value: Place<'m>) -> Option<Held<'m>> {
        let place = value.sub(self.lock?, usize::from(Size::W.bytes()))?;
        let mut spins = 0u32;
        while place.fetch(Size::W, AtomicOp::CmpXchg, 1, 0)? != 0 {
            spins += 1;
            if spins.is_multiple_of(SPINS) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        Some(Held { place })
    }
}

/// A value's lock, until dropped.
struct Held<'m> {
    place: Place<'m>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.place.store(Size::W, 0, Ordering::Release);
    }
}

/// Where the lock lies in a map's values: a member of type `struct bpf_spin_lock`.
fn lock_of(spec: &MapSpec, btf: &Btf) -> Option<Range<usize>> {
    let value = btf.composite(spec.value_btf?)?;
    let is_lock = |member: &&bpf_object::Member| btf.name(btf.resolve(member.ty)) == "bpf_spin_lock";
    let lock = value.members.iter().find(is_lock)?;
    let start = usize::try_from(lock.bit_offset).ok()? / 8;
    Some(start..start + usize::try_from(btf.size_of(lock.ty)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Block;

    #[test]
    fn fields_are_neither_copied_in_nor_out() {
        let values = Values { size: 16, fields: vec![0..4, 8..12], lock: Some(8) };
        let (map, host) = (Block::new(16).unwrap(), Block::new(16).unwrap());
        let (map, host) = (map.place(0, 16).unwrap(), host.place(0, 16).unwrap());
        map.write(&[1; 16]);
        host.write(&[2; 16]);
        values.store(map, host);
        assert_eq!(map.to_vec(), [1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
        values.load(host, map);
        assert_eq!(host.to_vec(), [0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 2, 2]);
        values.clear(map);
        assert_eq!(map.to_vec(), [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn copies_under_the_lock_are_whole() {
        let fields = std::iter::once(0..4).collect();
        let values = Values { size: 24, fields, lock: Some(0) };
        let map = Block::new(24).unwrap();
        std::thread::scope(|scope| {
            for mark in [1u8, 2] {
                let (map, values) = (&map, &values);
                scope.spawn(move || {
                    let (mut from, mut to) = ([mark; 24], [0; 24]);
                    for _ in 0..5000 {
                        let map = map.place(0, 24).unwrap();
                        values.store_locked(map, Place::over(&mut from));
                        values.load_locked(Place::over(&mut to), map);
                        assert_eq!(to[..4], [0; 4]);
                        assert!(to[4..].iter().all(|byte| *byte == to[4]), "{to:?}");
                    }
                });
            }
        });
    }
}
