//! The trie beside a plain list, and under readers and writers at once.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::BTreeMap;

use bpf_object::MapType;

use super::*;

fn trie(data: u32, max_entries: u32) -> LpmTrie {
    let sizes =
        MapSpec { key_size: 4 + data, value_size: 4, max_entries, ..MapSpec::new("t", MapType::LpmTrie) };
    LpmTrie::create(sizes).unwrap()
}

fn key(prefix: u32, data: &[u8]) -> Vec<u8> {
    [&prefix.to_le_bytes(), data].concat()
}

fn look(trie: &LpmTrie, key: &[u8]) -> Option<u32> {
    let mut value = [0; 4];
    trie.lookup(key, &mut value, 0).ok().map(|()| u32::from_le_bytes(value))
}

fn put(trie: &LpmTrie, key: &[u8], value: u32, flags: u64) -> Result<(), MapError> {
    trie.update(key, &value.to_le_bytes(), flags)
}

fn keys(trie: &LpmTrie) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let mut next = vec![0; trie.core.spec.key_size as usize];
    while trie.next_key(keys.last().map(Vec::as_slice), &mut next).is_ok() {
        keys.push(next.clone());
    }
    keys
}

#[test]
fn the_longest_prefix_wins() {
    let trie = trie(4, 8);
    put(&trie, &key(16, &[192, 168, 0, 0]), 1, 0).unwrap();
    put(&trie, &key(24, &[192, 168, 0, 0]), 2, 0).unwrap();
    put(&trie, &key(24, &[192, 168, 128, 0]), 3, 0).unwrap();
    put(&trie, &key(24, &[192, 168, 1, 0]), 4, 0).unwrap();
    assert_eq!(look(&trie, &key(32, &[192, 168, 1, 7])), Some(4));
    assert_eq!(look(&trie, &key(32, &[192, 168, 0, 7])), Some(2));
    assert_eq!(look(&trie, &key(32, &[192, 168, 3, 7])), Some(1));
    assert_eq!(look(&trie, &key(32, &[192, 169, 3, 7])), None);
    assert_eq!(look(&trie, &key(33, &[192, 168, 3, 7])), None);
    let expected =
        [(24, [192, 168, 0, 0]), (24, [192, 168, 1, 0]), (24, [192, 168, 128, 0]), (16, [192, 168, 0, 0])];
    assert_eq!(keys(&trie), expected.map(|(prefix, data)| key(prefix, &data)));
}

#[test]
fn flags_sizes_and_a_full_trie() {
    let trie = trie(1, 2);
    assert_eq!(put(&trie, &key(9, &[0]), 0, 0), Err(MapError::Invalid));
    assert_eq!(put(&trie, &key(8, &[0]), 0, 3), Err(MapError::Invalid));
    assert_eq!(put(&trie, &key(8, &[0]), 0, BPF_EXIST), Err(MapError::NotFound));
    assert_eq!(put(&trie, &key(8, &[0]), 0, BPF_NOEXIST), Ok(()));
    assert_eq!(put(&trie, &key(8, &[0]), 5, BPF_NOEXIST), Err(MapError::Exists));
    assert_eq!(put(&trie, &key(8, &[0]), 6, BPF_EXIST), Ok(()));
    assert_eq!(put(&trie, &key(8, &[1]), 7, 0), Ok(()));
    assert_eq!(put(&trie, &key(8, &[2]), 8, 0), Err(MapError::NoSpace));
    // What joins the two is no entry, so that it cannot be replaced either.
    assert_eq!(put(&trie, &key(7, &[0]), 8, 0), Err(MapError::NoSpace));
    assert_eq!(put(&trie, &key(8, &[0]), 9, 0), Ok(()));
    assert_eq!(trie.delete(&key(7, &[0])), Err(MapError::NotFound));
    assert_eq!(trie.delete(&key(9, &[0])), Err(MapError::Invalid));
    assert_eq!(trie.delete(&key(8, &[0])), Ok(()));
    assert_eq!(trie.delete(&key(8, &[0])), Err(MapError::NotFound));
    assert_eq!(look(&trie, &key(8, &[1])), Some(7));
}

/// Random operations beside a list of prefixes that is searched from end to end.
#[test]
fn random_operations_beside_a_plain_list() {
    let mut random = fastrand::Rng::with_seed(7);
    for size in [1usize, 2, 4, 9, 16] {
        let trie = trie(size as u32, 40);
        let mut list: BTreeMap<(u32, Vec<u8>), (Vec<u8>, u32)> = BTreeMap::new();
        for round in 0..4000 {
            let prefix = random.u32(0..=size as u32 * 8);
            let data: Vec<u8> = (0..size).map(|_| random.choice([0, 1, 0x80, 0xff]).unwrap()).collect();
            let masked = mask(prefix, &data);
            match random.u8(0..3) {
                0 => {
                    let full = list.len() == 40 && !list.contains_key(&(prefix, masked.clone()));
                    let expected = if full { Err(MapError::NoSpace) } else { Ok(()) };
                    assert_eq!(put(&trie, &key(prefix, &data), round, 0), expected);
                    if !full {
                        list.insert((prefix, masked), (data, round));
                    }
                }
                1 => {
                    let removed = list.remove(&(prefix, masked)).map(drop);
                    assert_eq!(trie.delete(&key(prefix, &data)), removed.ok_or(MapError::NotFound));
                }
                _ => {
                    let longest = (0..=prefix).rev().find_map(|p| list.get(&(p, mask(p, &data))));
                    assert_eq!(look(&trie, &key(prefix, &data)), longest.map(|(_, value)| *value));
                }
            }
            if round % 100 == 0 {
                let mut found = keys(&trie);
                found.sort();
                let mut all: Vec<_> = list.iter().map(|((p, _), (data, _))| key(*p, data)).collect();
                all.sort();
                assert_eq!(found, all);
            }
        }
    }
}

fn mask(prefix: u32, data: &[u8]) -> Vec<u8> {
    let keep = |(at, byte): (usize, &u8)| {
        let bits = (prefix as usize).saturating_sub(at * 8).min(8) as u32;
        byte & !(0xffu32 >> bits) as u8
    };
    data.iter().enumerate().map(keep).collect()
}

#[test]
fn readers_are_right_while_writers_work() {
    let trie = trie(4, 64);
    put(&trie, &key(8, &[10, 0, 0, 0]), 1, 0).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Whatever else comes and goes, some prefix of it is always there, with its own value.
                    let found = look(&trie, &key(32, &[10, 1, 2, 3])).unwrap();
                    assert!([1, 2, 3].contains(&found), "{found}");
                }
            });
        }
        for round in 0..20_000u32 {
            let value = 2 + round % 2;
            put(&trie, &key(8 + 8 * (round % 4), &[10, 1, 2, 3]), if round % 4 == 0 { 1 } else { value }, 0)
                .unwrap();
            put(&trie, &key(16, &[10, (round % 7) as u8 + 2, 0, 0]), 9, 0).unwrap();
            if round % 3 == 0 {
                let _ = trie.delete(&key(24, &[10, 1, 2, 3]));
                let _ = trie.delete(&key(16, &[10, (round % 5) as u8 + 2, 0, 0]));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
