//! A key that a caller gives, as the table reads it: by words, the first of them at hand.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use crate::access::Place;

/// Bytes of a word.
const WORD: usize = 8;

/// A key where it lies, with its first eight bytes.
///
/// The caller's memory may be written at any moment (a key may lie in a map's value). Then any of the keys it has been may be found, and
/// nothing worse happens: bytes are read as numbers and only compared.
pub(super) struct Key<'m> {
    place: Place<'m>,
    first: u64,
}

impl<'m> Key<'m> {
    /// The key in this place, which is as long as the map's keys.
    #[inline]
    pub(super) fn new(place: Place<'m>) -> Self {
        Self { place, first: word_at(place, 0) }
    }

    /// Length in bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.place.len()
    }

    /// The first eight bytes, with zeroes behind a shorter key.
    #[inline]
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Goes through the words behind the first, the last one filled with zeroes.
    #[inline]
    pub(super) fn fold_rest(&self, mut state: u64, fold: impl Fn(u64, u64) -> u64) -> u64 {
        let mut at = WORD;
        while at < self.place.len() {
            state = fold(state, word_at(self.place, at));
            at += WORD;
        }
        state
    }

    /// Four bytes from `at` on, those past the end as zeroes.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub(super) fn word32(&self, at: usize) -> u32 {
        word_at(self.place, at) as u32
    }

    /// Whether an element's key, which begins with the first of these words and has zeroes up to the next one, is this one.
    #[inline]
    pub(super) fn is(&self, element: &[AtomicU64]) -> bool {
        let Some((first, rest)) = element.split_first() else { return false };
        first.load(Relaxed) == self.first && (self.place.len() <= WORD || self.rest_is(rest))
    }

    fn rest_is(&self, element: &[AtomicU64]) -> bool {
        let words = self.rest();
        words.len() <= element.len() && words.zip(element).all(|(word, own)| own.load(Relaxed) == word)
    }

    /// Copies it to an element, with zeroes up to the next word.
    #[inline]
    pub(super) fn store(&self, element: &[AtomicU64]) {
        let Some((first, rest)) = element.split_first() else { return };
        first.store(self.first, Relaxed);
        self.rest().zip(rest).for_each(|(word, to)| to.store(word, Relaxed));
    }

    /// The words behind the first, the last one filled with zeroes.
    #[inline]
    fn rest(&self) -> impl ExactSizeIterator<Item = u64> {
        let count = self.place.len().saturating_sub(WORD).div_ceil(WORD);
        (0..count).map(|number| word_at(self.place, (number + 1) * WORD))
    }
}

/// The eight bytes from `at` on, those past the end as zeroes.
#[inline]
fn word_at(place: Place<'_>, at: usize) -> u64 {
    let Some(place) = place.at(at) else { return 0 };
    if place.len() >= WORD {
        // Structures of 32-bit numbers are as aligned as their members.
        if !place.is_aligned(Size::DW) && place.is_aligned(Size::W) {
            let high = place.at(4).map_or(0, |high| high.load(Size::W, Relaxed));
            return place.load(Size::W, Relaxed) | high << 32;
        }
        return place.load(Size::DW, Relaxed);
    }
    if place.len() == 4 {
        return place.load(Size::W, Relaxed);
    }
    let mut bytes = [0; WORD];
    place.read(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Block;

    #[test]
    fn keys_of_every_length_and_alignment() {
        let pattern: Vec<u8> = (1..=64).collect();
        let source = Block::new(80).unwrap();
        let element = Block::new(64).unwrap();
        for (start, len) in (0usize..9).flat_map(|start| (1usize..=40).map(move |len| (start, len))) {
            let place = source.place(start as u64, len as u64).unwrap();
            place.write(&pattern);
            let key = Key::new(place);
            let slot = element.place(0, (len as u64).next_multiple_of(8)).unwrap();
            let words = &element.words()[..len.div_ceil(8)];
            slot.write(&[0xff; 64]);
            assert!(!key.is(words));
            key.store(words);
            assert!(key.is(words));
            let mut expected = pattern[..len].to_vec();
            expected.resize(len.next_multiple_of(8), 0);
            assert_eq!(slot.to_vec(), expected);
            for at in 0..len {
                place.at(at).unwrap().write(&[0]);
                assert!(!Key::new(place).is(words), "{at} of {len}");
                place.write(&pattern);
            }
            let words: Vec<u8> = (0..len).step_by(4).flat_map(|at| key.word32(at).to_le_bytes()).collect();
            assert_eq!(words[..len], pattern[..len]);
        }
    }
}
