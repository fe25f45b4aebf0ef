//! Small damage to byte buffers, for what must survive any input.

use fastrand::Rng;

/// Values at the edges of what sizes, counts and offsets can be.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Applies one to eight random changes. Bytes near the start, where headers are, change more often.
pub fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.u8(..8) {
        if bytes.is_empty() {
            bytes.push(rng.u8(..));
        }
        let at = position(bytes.len(), rng);
        match rng.u8(..16) {
            0..=4 => change(bytes, at, |byte| byte ^ (1 << rng.u8(..8))),
            5..=7 => change(bytes, at, |_| rng.u8(..)),
            8..=11 => {
                let edge = EDGES.get(rng.usize(..EDGES.len())).copied().unwrap_or_default();
                let size = 1 << rng.u8(..4);
                for (i, byte) in edge.to_le_bytes().into_iter().take(size).enumerate() {
                    change(bytes, at + i, |_| byte);
                }
            }
            // Small differences hit offsets and indices that are still plausible.
            12 => change(bytes, at, |byte| byte.wrapping_add_signed(rng.i8(-4..5))),
            13 => copy_within(bytes, at, rng),
            14 => bytes.truncate(at),
            _ => {
                let length = rng.usize(..=(bytes.len() - at).min(64));
                bytes.drain(at..at + length);
            }
        }
    }
}

fn position(length: usize, rng: &mut Rng) -> usize {
    match rng.u8(..8) {
        0 => rng.usize(..length.min(64)),
        // Section headers are at the end of what clang writes.
        1 | 2 => length - 1 - rng.usize(..length.min(2048)),
        _ => rng.usize(..length),
    }
}

fn change(bytes: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = to(*byte);
    }
}

/// Overwrites a piece with another piece of the same buffer.
fn copy_within(bytes: &mut [u8], at: usize, rng: &mut Rng) {
    let from = rng.usize(..bytes.len());
    let length = rng.usize(..64).min(bytes.len() - at.max(from));
    bytes.copy_within(from..from + length, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_mutation() {
        let original: Vec<u8> = (0..200).collect();
        let mutated = |seed| {
            let mut bytes = original.clone();
            mutate(&mut bytes, &mut Rng::with_seed(seed));
            bytes
        };
        let mut changed = 0;
        for seed in 0..1000 {
            assert_eq!(mutated(seed), mutated(seed));
            changed += u32::from(mutated(seed) != original);
        }
        assert!(changed > 900, "{changed}");
    }

    #[test]
    fn even_nothing_can_be_mutated() {
        for seed in 0..1000 {
            let mut bytes = Vec::new();
            mutate(&mut bytes, &mut Rng::with_seed(seed));
            assert!(bytes.len() < 16);
        }
    }
}
