//! The special fields of map values: locks, timers, work, owned pointers, lists and trees.
//!
//! Every map goes through [`ValueFields`] wherever it copies a value or ends one:
//!
//! | what happens | what to call |
//! | --- | --- |
//! | a value is stored, by a program or the host | [`copy`](ValueFields::copy), [`write`](ValueFields::write): the fields stay as they are |
//! | the host gets a value | [`read`](ValueFields::read): the fields are zeroes |
//! | the host reads or writes bytes of a data section where they lie | [`hide`](ValueFields::hide), [`write_at`](ValueFields::write_at) |
//! | either of them with `BPF_F_LOCK` | the same inside of [`locked`](ValueFields::locked) |
//! | memory becomes a new element | [`init`](ValueFields::init), unless it is zeroed |
//! | an element is deleted or evicted, a value replaced, the map dropped | [`free`](ValueFields::free) for each value (of each CPU) |
//!
//! What a field owns is given back by `free` alone: it may take its time and must not be called with a lock of the map
//! held that a timer's callback could want.

use std::ops::Range;

use bpf_object::{Btf, MapSpec};
use verifier::fields::{Fields, Tag};

use crate::access::Place;
use crate::runtime::objects;

/// The special fields of the values of one map.
#[derive(Clone, Debug, Default)]
pub(crate) struct ValueFields {
    fields: Box<[(u32, Tag)]>,
    /// The bytes between the fields.
    plain: Box<[Range<usize>]>,
}

impl ValueFields {
    /// Of the values of this map, whose types the BTF has.
    pub(crate) fn of(spec: &MapSpec, btf: Option<&Btf>) -> Self {
        // Which kernel a pointer's type belongs to does not matter here, so no kernel's types are needed.
        let found = btf.filter(|_| spec.value_btf.is_some());
        let found = found.map(|btf| Fields::new(Some(btf), Some(&Btf::default()), &[spec]));
        let fields = found.iter().flat_map(|found| found.of_map(0)).map(|field| (field.offset, field.tag));
        Self::new(usize::try_from(spec.value_size).unwrap_or(usize::MAX), fields.collect())
    }

    fn new(size: usize, fields: Box<[(u32, Tag)]>) -> Self {
        let mut plain = Vec::new();
        let mut begin = 0;
        for (offset, tag) in &fields {
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            if begin < offset {
                plain.push(begin..offset);
            }
            begin = offset.saturating_add(usize::try_from(tag.size()).unwrap_or(usize::MAX));
        }
        if begin < size {
            plain.push(begin..size);
        }
        Self { fields, plain: plain.into() }
    }

    /// Whether there are none: values are plain bytes then, and only [`ValueFields::copy`] and the like do anything.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Where one of this kind lies.
    pub(crate) fn offset_of(&self, tag: Tag) -> Option<u32> {
        self.fields.iter().find(|(_, known)| *known == tag).map(|(offset, _)| *offset)
    }

    /// Whether there is one of this kind.
    pub(crate) fn has(&self, tag: Tag) -> bool {
        self.fields.iter().any(|(_, known)| *known == tag)
    }

    /// Whether a value has a lock that `BPF_F_LOCK` takes.
    pub(crate) fn has_lock(&self) -> bool {
        self.has(Tag::SpinLock)
    }

    /// Stores a value over another, whose fields stay.
    #[inline]
    pub(crate) fn copy(&self, to: Place<'_>, from: Place<'_>) {
        if self.is_empty() {
            return to.copy_from(from);
        }
        for range in &self.plain {
            if let (Some(to), Some(from)) = (part(to, range), part(from, range)) {
                to.copy_from(from);
            }
        }
    }

    /// Stores a value that the host gives over another, whose fields stay.
    pub(crate) fn write(&self, to: Place<'_>, from: &[u8]) {
        for range in &self.plain {
            if let (Some(to), Some(from)) = (part(to, range), from.get(range.clone())) {
                to.write(from);
            }
        }
    }

    /// Writes bytes of the host into a value, from an offset on. Those that belong to fields are left out.
    pub(crate) fn write_at(&self, value: Place<'_>, offset: usize, bytes: &[u8]) {
        for range in &self.plain {
            let (start, end) = (range.start.max(offset), range.end.min(offset.saturating_add(bytes.len())));
            if start < end
                && let (Some(to), Some(from)) =
                    (part(value, &(start..end)), bytes.get(start - offset..end - offset))
            {
                to.write(from);
            }
        }
    }

    /// Zeroes what belongs to fields in a copy of a value's bytes from an offset on.
    pub(crate) fn hide(&self, offset: usize, bytes: &mut [u8]) {
        for (start, tag) in &self.fields {
            let start = usize::try_from(*start).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(tag.size()).unwrap_or(0));
            let begin = start.saturating_sub(offset).min(bytes.len());
            let end = end.saturating_sub(offset).min(bytes.len());
            bytes.get_mut(begin..end).into_iter().for_each(|part| part.fill(0));
        }
    }

    /// Copies a value for the host, its fields as zeroes. As many bytes as both sides have.
    pub(crate) fn read(&self, from: Place<'_>, to: &mut [u8]) {
        if !self.is_empty() {
            to.fill(0);
        }
        for range in &self.plain {
            let end = range.end.min(to.len());
            if let (Some(from), Some(to)) = (part(from, range), to.get_mut(range.start.min(end)..end)) {
                from.read(to);
            }
        }
    }

    /// Zeroes a value, whose fields stay.
    pub(crate) fn clear(&self, value: Place<'_>) {
        for range in &self.plain {
            if let Some(part) = part(value, range) {
                part.clear();
            }
        }
    }

    /// Zeroes the fields of memory that becomes a value.
    pub(crate) fn init(&self, value: Place<'_>) {
        for (offset, tag) in &self.fields {
            let start = usize::try_from(*offset).unwrap_or(usize::MAX);
            let size = usize::try_from(tag.size()).unwrap_or(0);
            if let Some(field) = part(value, &(start..start.saturating_add(size))) {
                field.clear();
            }
        }
    }

    /// Ends what the fields of a value are or own: timers and work are cancelled, objects dropped.
    pub(crate) fn free(&self, value: Place<'_>) {
        if !self.is_empty() {
            objects::release_fields(&value, &self.fields);
        }
    }

    /// Does something to a value while holding its lock, as `BPF_F_LOCK` asks.
    pub(crate) fn locked<R>(&self, value: Place<'_>, act: impl FnOnce() -> R) -> R {
        let lock = self.offset_of(Tag::SpinLock);
        let lock = lock.and_then(|offset| value.at(usize::try_from(offset).ok()?));
        objects::with_lock(lock, act)
    }
}

/// A range of a place; `None` if it is not inside.
fn part<'m>(place: Place<'m>, range: &Range<usize>) -> Option<Place<'m>> {
    place.sub(range.start, range.end.checked_sub(range.start)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Block;

    fn fields() -> ValueFields {
        ValueFields::new(40, [(4, Tag::SpinLock), (8, Tag::Timer), (32, Tag::KptrUntrusted)].into())
    }

    #[test]
    fn values_are_stored_around_their_fields() {
        let fields = fields();
        let blocks = [0x11u8, 0x22].map(|byte| {
            let block = Block::new(40).unwrap();
            block.place(0, 40).unwrap().write(&[byte; 40]);
            block
        });
        let [to, from] = blocks.each_ref().map(|block| block.place(0, 40).unwrap());
        let stored = |plain: u8, special: u8| {
            let byte = |at| if matches!(at, 0..4 | 24..32) { plain } else { special };
            (0..40).map(byte).collect::<Vec<u8>>()
        };
        fields.copy(to, from);
        assert_eq!(to.to_vec(), stored(0x22, 0x11));
        fields.write(to, &[0x33; 40]);
        assert_eq!(to.to_vec(), stored(0x33, 0x11));
        let mut part = [0xff; 8];
        fields.hide(28, &mut part);
        assert_eq!(part, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        fields.hide(2, &mut part);
        assert_eq!(part, [0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        let mut seen = [0xff; 40];
        fields.read(to, &mut seen);
        assert_eq!(seen.to_vec(), stored(0x33, 0));
        fields.write_at(to, 2, &[0x44; 30]);
        assert_eq!(to.to_vec()[..26], [&[0x33; 2][..], &[0x44; 2], &[0x11; 20], &[0x44; 2]].concat());
        fields.write(to, &[0x33; 40]);
        fields.init(to);
        assert_eq!(to.to_vec(), stored(0x33, 0));
        to.write(&[0x44; 40]);
        fields.clear(to);
        assert_eq!(to.to_vec(), stored(0, 0x44));
    }

    #[test]
    fn values_without_fields_are_bytes() {
        let plain = ValueFields::new(3, Box::default());
        let block = Block::new(3).unwrap();
        let value = block.place(0, 3).unwrap();
        plain.write(value, &[1, 2, 3]);
        let mut seen = [9; 3];
        plain.read(value, &mut seen);
        assert!(plain.is_empty() && seen == [1, 2, 3]);
    }

    #[test]
    fn a_lock_is_held_meanwhile() {
        let fields = fields();
        let block = Block::new(40).unwrap();
        let value = block.place(0, 40).unwrap();
        fields.locked(value, || assert_eq!(value.to_vec()[4..8], [1, 0, 0, 0]));
        assert_eq!(value.to_vec(), [0; 40]);
    }
}
