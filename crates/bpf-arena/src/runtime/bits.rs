//! `bpf_iter_bits_*`: the iterator behind `bpf_for_each(bits, ...)`, over the set bits of a copy of some words.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::memory::{self, Space};
use super::registry::{Row, rows};
use super::{E2BIG, EFAULT, EINVAL, Invocation, errno32, low32};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    None, "bpf_iter_bits_new" => new;
    None, "bpf_iter_bits_next" => next;
    None, "bpf_iter_bits_destroy" => destroy;
};

/// Most words (`BITS_ITER_NR_WORDS_MAX`).
const MAX_WORDS: u32 = 511;

/// The copies that iterators of a run walk through, by number: the program's structure has room for one word only.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    words: Vec<Option<Box<[u64]>>>,
}

impl Copies {
    fn add(&mut self, words: Box<[u64]>) -> u64 {
        let free = self.words.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.words.push(None);
            self.words.len() - 1
        });
        if let Some(slot) = self.words.get_mut(at) {
            *slot = Some(words);
        }
        at as u64
    }

    fn get(&self, number: u64) -> Option<&[u64]> {
        self.words.get(usize::try_from(number).ok()?)?.as_deref()
    }

    fn remove(&mut self, number: u64) {
        if let Some(slot) = usize::try_from(number).ok().and_then(|at| self.words.get_mut(at)) {
            *slot = None;
        }
    }
}

/// The kernel's `struct bpf_iter_bits_kern` on the program's stack: one word of bits, or which copy has them; how many there are;
/// and the current one.
struct Bits<'m> {
    word: Place<'m>,
    count: Place<'m>,
    current: Place<'m>,
}

impl<'m> Bits<'m> {
    fn at(run: &Invocation<'m>, address: u64) -> Result<Self, TrapKind> {
        run.memory(address, 16, true)?;
        Ok(Self {
            word: run.memory(address, 8, true)?,
            count: run.memory(address.wrapping_add(8), 4, true)?,
            current: run.memory(address.wrapping_add(12), 4, true)?,
        })
    }

    fn set(&self, word: u64, count: u32) {
        self.word.store(Size::DW, word, Relaxed);
        self.count.store(Size::W, count.into(), Relaxed);
        self.set_current(u32::MAX);
    }

    fn set_current(&self, bit: u32) {
        self.current.store(Size::W, bit.into(), Relaxed);
    }
}

/// `int bpf_iter_bits_new(struct bpf_iter_bits *it, const u64 *unsafe_ptr__ign, u32 nr_words)`.
fn new(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, address, count, _, _] = args;
    let (it, count) = (Bits::at(run, it)?, low32(count));
    it.set(0, 0);
    if address == 0 || count == 0 {
        return Ok(errno32(EINVAL));
    }
    if count > MAX_WORDS {
        return Ok(errno32(E2BIG));
    }
    let mut bytes = vec![0; count as usize * 8];
    if let Err(error) = memory::read(run, Space::Kernel, address, &mut bytes) {
        return Ok(errno32(if count == 1 { EFAULT } else { error }));
    }
    let (words, _) = bytes.as_chunks();
    let words: Box<[u64]> = words.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let word = match *words {
        [word] => word,
        _ => run.bits.add(words),
    };
    it.set(word, count * 64);
    Ok(0)
}

/// `int *bpf_iter_bits_next(struct bpf_iter_bits *it)`: the address of the next bit's number, NULL at the end.
fn next(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, ..] = args;
    let bits = Bits::at(run, it)?;
    let (word, count) = (bits.word.load(Size::DW, Relaxed), low32(bits.count.load(Size::W, Relaxed)));
    let from = low32(bits.current.load(Size::W, Relaxed)).wrapping_add(1);
    if from >= count || run.must_end() {
        return Ok(0);
    }
    let found = match count {
        64 => find(&[word], from),
        _ => run.bits.get(word).and_then(|words| find(words, from)),
    };
    bits.set_current(found.unwrap_or(count));
    Ok(if found.is_some() { it.wrapping_add(12) } else { 0 })
}

/// `void bpf_iter_bits_destroy(struct bpf_iter_bits *it)`.
fn destroy(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, ..] = args;
    let it = Bits::at(run, it)?;
    if low32(it.count.load(Size::W, Relaxed)) > 64 {
        run.bits.remove(it.word.load(Size::DW, Relaxed));
    }
    it.set(0, 0);
    Ok(0)
}

/// The first set bit from `from` on.
fn find(words: &[u64], from: u32) -> Option<u32> {
    let first = from / 64;
    let mask = u64::MAX << (from % 64);
    let mut rest = (first..).zip(words.iter().skip(first as usize));
    rest.find_map(|(at, word)| {
        let word = if at == first { word & mask } else { *word };
        (word != 0).then(|| at * 64 + word.trailing_zeros())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_in_order() {
        let words = [1 << 63, 0, 0b101, 0];
        let (mut at, mut found) = (0, Vec::new());
        while let Some(bit) = find(&words, at) {
            found.push(bit);
            at = bit + 1;
        }
        assert_eq!(found, [63, 128, 130]);
        assert_eq!(find(&words, 4 * 64), None);
        assert_eq!(find(&[], 0), None);
    }

    #[test]
    fn copies_are_forgotten() {
        let mut copies = Copies::default();
        let (a, b) = (copies.add(Box::new([1, 2])), copies.add(Box::new([3, 4])));
        copies.remove(a);
        assert_eq!((copies.get(a), copies.get(b)), (None, Some(&[3, 4][..])));
        assert_eq!(copies.add(Box::new([5, 6])), a, "its number is used again");
        copies.remove(u64::MAX);
    }
}
