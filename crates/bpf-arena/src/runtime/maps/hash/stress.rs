//! Many threads on one hash map.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bpf_object::{MapSpec, MapType};

use super::*;
use crate::backend::LoadedMap;

/// Enough for elements to be recycled under readers many times, and short enough for a test.
const DURATION: Duration = Duration::from_millis(300);
const THREADS: u64 = 4;

fn create(map_type: MapType, max_entries: u32, flags: u32) -> HashMap {
    let spec = MapSpec { key_size: 8, value_size: 16, max_entries, flags, ..MapSpec::new("map", map_type) };
    HashMap::create(&spec, None).unwrap()
}

/// A value by which its key can be told.
fn value_of(key: u64, copies: usize) -> Vec<u8> {
    [key, !key].map(u64::to_le_bytes).concat().repeat(copies)
}

/// Threads insert, replace and delete keys of their own, and look up everybody's.
fn churn(map: &HashMap, keys: u64, entries_are_kept: bool) {
    let end = Instant::now() + DURATION;
    let copies = map.value_bytes() / 16;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                let mut mine = vec![false; usize::try_from(keys).unwrap()];
                while Instant::now() < end {
                    for _ in 0..64 {
                        let index = random.u64(..keys);
                        let present = &mut mine[usize::try_from(index).unwrap()];
                        let key = index * THREADS + thread;
                        match random.u8(..4) {
                            0 | 1 => match map.update(&key.to_le_bytes(), &value_of(key, copies), 0) {
                                Ok(()) => *present = true,
                                // An LRU map may have nothing to evict while others insert.
                                Err(error) => assert!(!entries_are_kept, "{error}"),
                            },
                            2 => {
                                let deleted = map.delete(&key.to_le_bytes()).is_ok();
                                assert!(deleted == *present || (*present && !entries_are_kept));
                                *present = false;
                            }
                            _ => {
                                let any = random.u64(..keys * THREADS);
                                let mut value = vec![0; map.value_bytes()];
                                let found = map.lookup(&any.to_le_bytes(), &mut value, 0).is_ok();
                                if any % THREADS == thread {
                                    let present = mine[usize::try_from(any / THREADS).unwrap()];
                                    assert!(found == present || (present && !entries_are_kept));
                                }
                            }
                        }
                    }
                }
                for (index, present) in (0..).zip(mine) {
                    let key: u64 = index * THREADS + thread;
                    let mut value = vec![0; map.value_bytes()];
                    let found = map.lookup(&key.to_le_bytes(), &mut value, 0).is_ok();
                    assert!(found == present || (present && !entries_are_kept));
                    assert!(!found || value == value_of(key, copies));
                }
            });
        }
    });
}

/// Every element is free or in a chain: as many can be inserted as there are.
fn refill(map: &HashMap, max_entries: u64) {
    let mut next = [0; 8];
    while map.next_key(None, &mut next).is_ok() {
        map.delete(&next).unwrap();
    }
    let copies = map.value_bytes() / 16;
    for key in 0..max_entries {
        map.update(&key.to_le_bytes(), &value_of(key, copies), 1).unwrap();
    }
    let one_more = map.update(&max_entries.to_le_bytes(), &value_of(0, copies), 1);
    assert_eq!(one_more, Err(MapError::TooBig));
}

#[test]
fn hash() {
    let map = create(MapType::Hash, 64, 0);
    churn(&map, 16, true);
    refill(&map, 64);
}

#[test]
fn per_cpu_hash() {
    let map = create(MapType::PercpuHash, 64, 0);
    churn(&map, 16, true);
    refill(&map, 64);
}

#[test]
fn lru_hash() {
    for flags in [0, BPF_F_NO_COMMON_LRU] {
        churn(&create(MapType::LruHash, 64, flags), 64, false);
        churn(&create(MapType::LruPercpuHash, 64, flags), 64, false);
    }
}

#[test]
fn readers_find_what_is_there_while_its_neighbours_are_recycled() {
    // One bucket's chain is walked while elements move between all of them.
    let map = &create(MapType::Hash, 32, 0);
    let done = &AtomicBool::new(false);
    let found = &AtomicU64::new(0);
    (0..4u64).for_each(|key| map.update(&key.to_le_bytes(), &value_of(key, 1), 0).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    for key in 0..4u64 {
                        let mut bytes = key.to_le_bytes();
                        assert!(map.find_and_use(Place::over(&mut bytes)).is_some(), "{key} on {thread}");
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let end = Instant::now() + DURATION;
        let mut random = fastrand::Rng::with_seed(1);
        while Instant::now() < end {
            for _ in 0..64 {
                // Replaces the stable keys too: there is one of the two elements at any moment.
                let key = random.u64(..40);
                if key < 4 || random.bool() {
                    let _ = map.update(&key.to_le_bytes(), &value_of(key, 1), 0);
                } else {
                    let _ = map.delete(&key.to_le_bytes());
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(found.load(Ordering::Relaxed) > 0);
}

#[test]
fn readers_find_entries_of_one_chain_that_are_replaced_in_turns() {
    // The same few elements go around, so that the chain soon begins again as it began when a reader came.
    let map = &create(MapType::Hash, 2, 0);
    let bucket = |key: u64| map.table.hash(&Key::new(Place::over(&mut key.to_le_bytes()))) & 1;
    let keys: Vec<u64> = (0..).filter(|key| bucket(*key) == 0).take(2).collect();
    let store = |key: &u64| map.update(&key.to_le_bytes(), &value_of(*key, 1), 0).unwrap();
    keys.iter().for_each(store);
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for key in &keys {
                        let found = map.find_and_use(Place::over(&mut key.to_le_bytes()));
                        assert!(found.is_some(), "{key}");
                    }
                }
            });
        }
        let end = Instant::now() + DURATION;
        while Instant::now() < end {
            (0..64).for_each(|_| keys.iter().for_each(store));
        }
        done.store(true, Ordering::Relaxed);
    });
}
