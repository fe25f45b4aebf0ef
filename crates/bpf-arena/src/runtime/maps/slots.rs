//! A table of things by index, most of which may be missing: what maps of maps and of programs consist of.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use crate::error::MapError;

/// Slots that come into being together.
const CHUNK: u32 = 512;

/// A row of slots.
type Chunk<T> = Box<[ArcSwapOption<T>]>;

/// `len` slots. Readers take no lock, and keep what they found whatever becomes of the slot.
pub(super) struct Slots<T> {
    len: u32,
    /// Made when the first of their slots is filled.
    chunks: Box<[OnceLock<Chunk<T>>]>,
}

impl<T> Slots<T> {
    /// Empty slots.
    pub(super) fn new(len: u32) -> Result<Self, MapError> {
        let count = len.div_ceil(CHUNK) as usize;
        let mut chunks = Vec::new();
        let bytes = u64::from(len) * size_of::<ArcSwapOption<T>>() as u64;
        chunks.try_reserve_exact(count).map_err(|_| MapError::NoMemory { bytes })?;
        chunks.resize_with(count, OnceLock::new);
        Ok(Self { len, chunks: chunks.into_boxed_slice() })
    }

    /// Whether there is a slot with this index.
    pub(super) fn has(&self, index: u32) -> bool {
        index < self.len
    }

    /// What is in a slot.
    pub(super) fn get(&self, index: u32) -> Option<Arc<T>> {
        let chunk = self.chunks.get((index / CHUNK) as usize)?.get()?;
        chunk.get((index % CHUNK) as usize)?.load_full()
    }

    /// Puts something into a slot, or nothing; what was there.
    pub(super) fn replace(&self, index: u32, content: Option<Arc<T>>) -> Option<Arc<T>> {
        if index >= self.len {
            return None;
        }
        let chunk = self.chunks.get((index / CHUNK) as usize)?;
        let chunk = match content {
            None => chunk.get()?,
            Some(_) => chunk.get_or_init(|| (0..CHUNK).map(|_| ArcSwapOption::empty()).collect()),
        };
        chunk.get((index % CHUNK) as usize)?.swap(content)
    }

    /// The indices of the filled slots, from this one on.
    pub(super) fn filled_from(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let chunks = (first / CHUNK..).zip(self.chunks.iter().skip((first / CHUNK) as usize));
        let made = chunks.filter_map(|(number, chunk)| Some((number, chunk.get()?)));
        let slots = made.flat_map(|(number, chunk)| (number * CHUNK..).zip(chunk.iter()));
        slots.filter(move |(index, slot)| *index >= first && slot.load().is_some()).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_filled_and_emptied() {
        let slots = Slots::new(1000).unwrap();
        assert!(slots.has(999) && !slots.has(1000));
        assert_eq!(slots.get(999), None);
        assert_eq!(slots.replace(999, None), None);
        assert_eq!(slots.replace(999, Some(Arc::new(1))), None);
        assert_eq!(slots.replace(999, Some(Arc::new(2))), Some(Arc::new(1)));
        assert_eq!(slots.replace(1000, Some(Arc::new(3))), None);
        assert_eq!(slots.get(1000), None);
        assert_eq!(slots.replace(999, None), Some(Arc::new(2)));
        assert_eq!(slots.get(999), None);
        for index in [3, 513, 998] {
            slots.replace(index, Some(Arc::new(0)));
        }
        assert_eq!(slots.filled_from(0).collect::<Vec<_>>(), [3, 513, 998]);
        assert_eq!(slots.filled_from(4).collect::<Vec<_>>(), [513, 998]);
        assert_eq!(slots.filled_from(999).count(), 0);
    }
}
