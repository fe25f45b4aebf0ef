//! Hashes of keys.
//!
//! Words of 8 bytes are mixed in one after the other by multiplication, the last filled up with zeroes; the program computes the
//! same (`take_key` in `bpf/kvcache.bpf.c`). The seed is the store's own secret, so that nobody outside can choose keys
//! that share a bucket.

/// Odd, with about as many ones as zeroes (the fractional part of the golden ratio).
pub const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of the last mixing.
pub const FINISHER: u64 = 0xd6e8_feb8_6659_fd93;

/// The hash of a key.
#[must_use]
pub fn key_hash(seed: u64, key: &[u8]) -> u64 {
    let mut hash = seed;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 32;
    }
    hash = (hash ^ key.len() as u64).wrapping_mul(FINISHER);
    hash ^ (hash >> 32)
}

/// The low half: which bucket.
#[must_use]
pub fn low(hash: u64) -> u32 {
    (hash & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_and_the_length_count() {
        let key: Vec<u8> = (0..40).collect();
        let whole = key_hash(1, &key);
        for at in 0..key.len() {
            let mut other = key.clone();
            other[at] ^= 1;
            assert_ne!(key_hash(1, &other), whole);
            assert_ne!(key_hash(1, &key[..at]), whole);
        }
        assert_ne!(key_hash(1, b"a"), key_hash(1, b"a\0"));
        assert_ne!(key_hash(1, b"a"), key_hash(2, b"a"));
    }

    #[test]
    fn buckets_fill_evenly() {
        // Keys as people make them, into 1024 buckets, 16 each: no bucket may have four times its share.
        for seed in [0, 0x1234_5678_9abc_def0] {
            let (mut buckets, mut tags) = (vec![0_u32; 1024], std::collections::HashSet::new());
            for n in 0..16384 {
                let hash = key_hash(seed, format!("user:{n}:name").as_bytes());
                buckets[(hash & 1023) as usize] += 1;
                tags.insert(hash >> 32);
            }
            assert!(buckets.iter().all(|n| (1..64).contains(n)), "{:?}", buckets.iter().max());
            assert!(tags.len() > 16380);
        }
    }
}
