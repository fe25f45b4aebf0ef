//! The data set, and what is asked of it: keys of 16 to 40 bytes, values of 32 to 1024, Zipf's distribution.
//!
//! A value says of which key and which store it is, and every byte of it follows from that: an answer that is torn, old beyond
//! belief or another key's is told from a right one without a copy of what was stored.

use std::ops::Range;

use anyhow::ensure;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Zipf};

const KEY_BYTES: Range<usize> = 16..41;
const VALUE_BYTES: Range<usize> = 32..1025;

/// How unequally keys are asked for.
const SKEW: f64 = 0.99;

/// In front of every value: key, version, a sum over both and the length, and the key's complement.
const HEAD: usize = 16;

/// Bytes that values are cut from: as many as the fastest cache holds beside what else is in use.
const POOL: usize = 16 << 10;

/// Requests that are drawn ahead; then they come again.
const DRAWN: usize = 1 << 20;

/// In front of every datagram: the request's number, and which of how many datagrams this is.
pub(super) const FRAME: usize = 8;

/// How an answer begins that has a value.
const VALUE: &[u8] = b"VALUE ";

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Hit,
    Miss,
    /// Neither the key's value nor the word that there is none.
    Wrong,
    /// There must be more to come.
    Incomplete,
}

/// Keys, values, and the order in which they are asked for.
#[derive(Debug)]
pub(super) struct DataSet {
    /// `get KEY\r\n`, one behind the other, and where they begin.
    requests: Vec<u8>,
    starts: Vec<u32>,
    lengths: Vec<u16>,
    pool: Vec<u8>,
    /// Keys to ask for.
    gets: Vec<u32>,
    /// Keys to store.
    sets: Vec<u32>,
}

impl DataSet {
    /// A set of so many keys; the same for the same seed.
    pub(super) fn new(keys: usize, seed: u64) -> anyhow::Result<Self> {
        ensure!((1..1 << 24).contains(&keys), "between 1 and {} keys", (1 << 24) - 1);
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut requests, mut starts, mut lengths) = (Vec::new(), vec![0], Vec::new());
        for key in 0..keys {
            requests.extend_from_slice(b"get ");
            requests.extend_from_slice(&key_text(key, &mut rng));
            requests.extend_from_slice(b"\r\n");
            starts.push(u32::try_from(requests.len())?);
            lengths.push(u16::try_from(rng.random_range(VALUE_BYTES))?);
        }
        let pool = (0..POOL + VALUE_BYTES.end).map(|_| rng.random_range(b' '..b'~')).collect();
        // Those that are asked for most do not lie side by side.
        let mut ranks: Vec<u32> = (0..u32::try_from(keys)?).collect();
        ranks.shuffle(&mut rng);
        let zipf = Zipf::new(keys as f64, SKEW)?;
        let mut draw = || -> Vec<u32> {
            #[allow(clippy::cast_possible_truncation, reason = "a whole number from 1 to that of the keys")]
            let rank = |rank: f64| ranks.get(rank as usize - 1).copied().unwrap_or_default();
            (0..DRAWN).map(|_| rank(zipf.sample(&mut rng))).collect()
        };
        let (gets, sets) = (draw(), draw());
        Ok(Self { requests, starts, lengths, pool, gets, sets })
    }

    pub(super) fn keys(&self) -> u32 {
        u32::try_from(self.lengths.len()).unwrap_or(u32::MAX)
    }

    /// Bytes of all keys and values.
    pub(super) fn bytes(&self) -> u64 {
        let values: u64 = self.lengths.iter().map(|length| u64::from(*length)).sum();
        values + self.requests.len() as u64 - 6 * self.lengths.len() as u64
    }

    /// `get KEY\r\n`.
    pub(super) fn request(&self, key: u32) -> &[u8] {
        let start = |key: u32| self.starts.get(key as usize).map_or(0, |start| *start as usize);
        self.requests.get(start(key)..start(key + 1)).unwrap_or_default()
    }

    fn key(&self, key: u32) -> &[u8] {
        let request = self.request(key);
        request.get(4..request.len().saturating_sub(2)).unwrap_or_default()
    }

    /// The `n`th key that is asked for.
    pub(super) fn get(&self, n: u64) -> u32 {
        drawn(&self.gets, n)
    }

    /// The `n`th key that is stored.
    pub(super) fn set(&self, n: u64) -> u32 {
        drawn(&self.sets, n)
    }

    /// Appends the command that stores this version of a key's value.
    pub(super) fn push_set(&self, key: u32, version: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(self.key(key));
        let length = self.length(key);
        out.extend_from_slice(format!(" 0 0 {length}\r\n").as_bytes());
        out.extend_from_slice(&head(key, version, length));
        out.extend_from_slice(self.filler(key, version, length));
        out.extend_from_slice(b"\r\n");
    }

    /// What the beginning of `text` is as the answer to a request for `key`, and how many bytes of it belong to that.
    /// `newest`: no value may be of a later version.
    pub(super) fn check(&self, key: u32, text: &[u8], newest: u32) -> (Verdict, usize) {
        const MISS: &[u8] = b"END\r\n";
        if text.starts_with(MISS) {
            return (Verdict::Miss, MISS.len());
        }
        let (name, length) = (self.key(key), self.length(key));
        let mut digits = itoa::Buffer::new();
        let parts = [VALUE, name, b" 0 ", digits.format(length).as_bytes(), b"\r\n"];
        let line: usize = parts.iter().map(|part| part.len()).sum();
        let whole = line + usize::from(length) + 2 + MISS.len();
        let (Some(answer), true) = (text.get(..whole), text.starts_with(VALUE)) else {
            let begins = |word: &[u8]| word.starts_with(text);
            let may_become = text.len() < whole && (text.starts_with(VALUE) || begins(VALUE) || begins(MISS));
            return (if may_become { Verdict::Incomplete } else { Verdict::Wrong }, 0);
        };
        let rest = parts.iter().try_fold(answer, |rest, part| rest.strip_prefix(*part));
        let value = rest.and_then(|rest| rest.strip_suffix(b"\r\nEND\r\n"));
        let is_right = value.is_some_and(|value| self.is_value(key, value, newest));
        (if is_right { Verdict::Hit } else { Verdict::Wrong }, whole)
    }

    fn is_value(&self, key: u32, value: &[u8], newest: u32) -> bool {
        let Some((start, rest)) = value.split_first_chunk::<HEAD>() else { return false };
        let [_, _, _, _, a, b, c, d, ..] = *start;
        let version = u32::from_le_bytes([a, b, c, d]);
        let length = self.length(key);
        version <= newest && *start == head(key, version, length) && rest == self.filler(key, version, length)
    }

    /// How the answer begins that has the key's value.
    pub(super) fn line(&self, key: u32) -> Vec<u8> {
        let length = self.length(key).to_string();
        [VALUE, self.key(key), b" 0 ", length.as_bytes(), b"\r\n"].concat()
    }

    /// All keys that are asked for, in order; a power of two.
    pub(super) fn gets(&self) -> &[u32] {
        &self.gets
    }

    /// What values are cut from: at places below a power of two, and how many there are.
    pub(super) fn pool(&self) -> (&[u8], usize) {
        (&self.pool, POOL)
    }

    pub(super) fn length(&self, key: u32) -> u16 {
        self.lengths.get(key as usize).copied().unwrap_or_default()
    }

    fn filler(&self, key: u32, version: u32, length: u16) -> &[u8] {
        let start = mixed(key, version) as usize % POOL;
        self.pool.get(start..start + usize::from(length) - HEAD).unwrap_or_default()
    }
}

/// A key's text: its number first, so that no two are equal, and as long as chance will have it.
fn key_text(key: usize, rng: &mut SmallRng) -> Vec<u8> {
    let length = rng.random_range(KEY_BYTES);
    let mut text = format!("{key:08x}:").into_bytes();
    text.extend((text.len()..length).map(|_| rng.random_range(b'a'..=b'z')));
    text
}

fn drawn(from: &[u32], n: u64) -> u32 {
    let at = n % DRAWN as u64;
    usize::try_from(at).ok().and_then(|at| from.get(at)).copied().unwrap_or_default()
}

fn mixed(key: u32, version: u32) -> u32 {
    let both = u64::from(key) << 32 | u64::from(version);
    let product = both.wrapping_add(0x9e37_79b9).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (product >> 32) as u32
}

fn head(key: u32, version: u32, length: u16) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let words = [key, version, mixed(key, version) ^ u32::from(length), !key];
    let (places, _) = head.as_chunks_mut();
    places.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(data: &DataSet, key: u32, version: u32) -> Vec<u8> {
        let mut set = Vec::new();
        data.push_set(key, version, &mut set);
        let line = set.iter().position(|byte| *byte == b'\n').unwrap();
        [&data.line(key)[..], &set[line + 1..], b"END\r\n"].concat()
    }

    #[test]
    fn keys_and_values_are_as_long_as_they_should_be_and_requests_ask_for_them() {
        let data = DataSet::new(5000, 1).unwrap();
        let keys: std::collections::HashSet<_> = (0..data.keys()).map(|key| data.key(key).to_vec()).collect();
        assert_eq!(keys.len(), 5000, "no two are equal");
        let lengths = |of: &dyn Fn(u32) -> usize| {
            let all = (0..5000).map(of);
            (all.clone().min().unwrap(), all.max().unwrap())
        };
        assert_eq!(lengths(&|key| data.key(key).len()), (16, 40));
        assert_eq!(lengths(&|key| data.length(key).into()), (32, 1024));
        let request = data.request(7);
        assert_eq!(request, [b"get ", data.key(7), b"\r\n"].concat());
    }

    #[test]
    fn keys_are_asked_for_as_zipf_says() {
        let data = DataSet::new(1000, 2).unwrap();
        let mut counts = vec![0_u32; 1000];
        (0..DRAWN as u64).for_each(|n| counts[data.get(n) as usize] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let sum: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-SKEW)).sum();
        for rank in [1, 2, 10, 100] {
            let expected = DRAWN as f64 * f64::from(rank).powf(-SKEW) / sum;
            let found = f64::from(counts[rank as usize - 1]);
            assert!((found / expected - 1.0).abs() < 0.1, "rank {rank}: {found} of {expected}");
        }
    }

    #[test]
    fn answers_are_right_only_byte_by_byte() {
        let data = DataSet::new(100, 4).unwrap();
        for key in 0..100 {
            let right = answer(&data, key, 5);
            assert_eq!(data.check(key, &right, 5), (Verdict::Hit, right.len()));
            assert_eq!(data.check(key, &[&right[..], b"VALUE"].concat(), 9).0, Verdict::Hit);
            assert_eq!(data.check(key, &right, 4).0, Verdict::Wrong, "nobody stored that version yet");
            for at in 0..right.len() {
                assert_eq!(data.check(key, &right[..at], 5).0, Verdict::Incomplete, "{at} bytes");
                let mut wrong = right.clone();
                wrong[at] ^= 1;
                assert_eq!(data.check(key, &wrong, u32::MAX).0, Verdict::Wrong, "byte {at}");
            }
            let others = answer(&data, (key + 1) % 100, 5);
            assert_ne!(data.check(key, &others, 5).0, Verdict::Hit, "another key's");
        }
        assert_eq!(data.check(3, b"END\r\n", 0), (Verdict::Miss, 5));
        assert_eq!(data.check(3, b"SERVER_ERROR\r\n", 0).0, Verdict::Wrong);
    }
}
