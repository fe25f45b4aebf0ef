//! From a key to the number that chooses its bucket.
//!
//! With `BPF_F_ZERO_SEED` the order of a map's elements is a promise, so the number is the kernel's: Jenkins' `lookup3`
//! ("jhash") with the seed 0. Without it nobody can tell, and a multiplication with a secret does the same in a fraction of
//! the time.

use super::key::Key;

/// What `lookup3` begins with, besides length and seed.
const JHASH_INITIAL: u32 = 0xdead_beef;

/// How keys are turned into numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seed {
    /// As the kernel does with a seed of 0.
    Zero,
    /// In a way that changes from map to map.
    Secret([u64; 2]),
}

impl Seed {
    /// A secret of its own.
    pub(super) fn random() -> Self {
        Self::Secret([fastrand::u64(..), fastrand::u64(..) | 1])
    }

    /// The number of a key.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a hash has 32 bits")]
    pub(super) fn hash(self, key: &Key<'_>) -> u32 {
        match self {
            Self::Zero => jhash(key, 0),
            Self::Secret([mask, factor]) => {
                let first = fold(key.first() ^ mask, factor);
                let state = key.fold_rest(first, |state, word| fold(state ^ word, factor));
                (state ^ state >> 32) as u32
            }
        }
    }
}

/// Both halves of a 128-bit product, mixed.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the halves are taken one by one")]
fn fold(value: u64, factor: u64) -> u64 {
    let product = u128::from(value) * u128::from(factor);
    // The value itself stays in: a product with 0 would forget all that came before.
    (product as u64) ^ ((product >> 64) as u64) ^ value.rotate_left(32)
}

/// `jhash(key, length, seed)`, which for lengths divisible by four is `jhash2` too.
pub(super) fn jhash(key: &Key<'_>, seed: u32) -> u32 {
    let length = key.len();
    let initial = JHASH_INITIAL.wrapping_add(u32::try_from(length).unwrap_or(u32::MAX)).wrapping_add(seed);
    let (mut a, mut b, mut c) = (initial, initial, initial);
    let add = |a: &mut u32, b: &mut u32, c: &mut u32, at: usize| {
        *a = a.wrapping_add(key.word32(at));
        *b = b.wrapping_add(key.word32(at + 4));
        *c = c.wrapping_add(key.word32(at + 8));
    };
    let mut at = 0;
    while length - at > 12 {
        add(&mut a, &mut b, &mut c, at);
        for by in [4, 6, 8, 16, 19, 4] {
            a = a.wrapping_sub(c) ^ c.rotate_left(by);
            c = c.wrapping_add(b);
            (a, b, c) = (b, c, a);
        }
        at += 12;
    }
    // Bytes past the end count as 0.
    add(&mut a, &mut b, &mut c, at);
    for by in [14, 11, 25, 16, 4, 14, 24] {
        c = (c ^ b).wrapping_sub(b.rotate_left(by));
        (a, b, c) = (b, c, a);
    }
    // The last round has put it there.
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Block;

    fn hash(seed: Seed, bytes: &[u8]) -> u32 {
        let block = Block::new(bytes.len()).unwrap();
        let place = block.place(0, bytes.len() as u64).unwrap();
        place.write(bytes);
        seed.hash(&Key::new(place))
    }

    #[test]
    fn the_published_values_of_lookup3() {
        // The examples of Jenkins' own driver, whose `hashlittle` begins with the same numbers.
        assert_eq!(hash(Seed::Zero, b"Four score and seven years ago"), 0x1777_0551);
    }

    #[test]
    fn a_secret_hash_depends_on_every_byte() {
        let seed = Seed::random();
        for length in 1..40 {
            let mut bytes = vec![7; length];
            let before = hash(seed, &bytes);
            assert_eq!(hash(seed, &bytes), before);
            for at in 0..length {
                bytes[at] ^= 1;
                assert_ne!(hash(seed, &bytes), before, "byte {at} of {length}");
                bytes[at] ^= 1;
            }
        }
    }

    #[test]
    fn a_secret_hash_spreads_small_numbers() {
        let seed = Seed::random();
        let mut used = vec![false; 1024];
        (0u32..1024).for_each(|n| used[(hash(seed, &n.to_le_bytes()) & 1023) as usize] = true);
        // A random function reaches 63% of them.
        let reached = used.iter().filter(|used| **used).count();
        assert!(reached > 500, "{reached} of 1024");
    }
}
