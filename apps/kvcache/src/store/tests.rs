//! The store as its callers see it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::layout::ARENA_PAGES;

fn small() -> Store {
    Store::new(Options::default().memory(4 << 20).item_max(64 << 10)).unwrap()
}

fn value_of(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    store.get(key, &mut value).map(|_| value)
}

/// Bytes that say which key they belong to and whether they are whole.
fn sealed(key: &[u8], number: u64, len: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + len, (number % 251) as u8);
    let sum = hash::key_hash(number, &[key, &value[8..]].concat()[..]);
    value.extend(sum.to_le_bytes());
    value
}

fn is_whole(key: &[u8], value: &[u8]) -> bool {
    let number = u64::from_le_bytes(value[..8].try_into().unwrap());
    value == sealed(key, number, value.len() - 16)
}

#[test]
fn modes_do_what_they_say() {
    let store = small();
    let put = |mode, key: &[u8], value: &[u8]| store.put(mode, key, 7, Expiry::Never, value).unwrap();
    assert_eq!(put(Mode::Replace, b"k", b"x").0, Outcome::NotStored);
    assert_eq!(put(Mode::Append, b"k", b"x").0, Outcome::NotStored);
    assert_eq!(put(Mode::Cas(1), b"k", b"x").0, Outcome::NotFound);
    let (outcome, cas) = put(Mode::Add, b"k", b"one");
    assert_eq!(outcome, Outcome::Stored);
    assert_eq!(put(Mode::Add, b"k", b"two").0, Outcome::NotStored);
    assert_eq!(put(Mode::Cas(cas + 1), b"k", b"two").0, Outcome::Exists);
    let (outcome, next) = put(Mode::Cas(cas), b"k", b"two");
    assert!(outcome == Outcome::Stored && next != cas);
    put(Mode::Append, b"k", b" three");
    put(Mode::Prepend, b"k", b"one ");
    let mut value = b"before ".to_vec();
    let meta = store.get(b"k", &mut value).unwrap();
    assert_eq!(value, b"before one two three");
    assert_eq!((meta.flags, meta.size, meta.fetched), (7, 13, false));
    assert!(store.get(b"k", &mut value).unwrap().fetched);
    assert_eq!(store.delete(b"k", Some(1)), Removal::Exists);
    assert_eq!(store.delete(b"k", None), Removal::Deleted);
    assert_eq!(store.delete(b"k", None), Removal::NotFound);
    assert_eq!(value_of(&store, b"k"), None);
}

#[test]
fn limits_are_errors() {
    let store = small();
    let put = |key: &[u8], len| store.put(Mode::Set, key, 0, Expiry::Never, &vec![1; len]);
    assert_eq!(put(b"", 1), Err(StoreError::Key { len: 0 }));
    assert_eq!(put(&[b'k'; 251], 1), Err(StoreError::Key { len: 251 }));
    assert_eq!(put(b"k", 65537), Err(StoreError::TooLarge { len: 65537, limit: 65536 }));
    assert!(put(&[b'k'; 250], 65536).is_ok());
    assert_eq!(value_of(&store, &[b'k'; 250]), Some(vec![1; 65536]));
    assert_eq!(
        store.put(Mode::Append, &[b'k'; 250], 0, Expiry::Never, b"x"),
        Err(StoreError::TooLarge { len: 65537, limit: 65536 })
    );
    let options = |memory, item_max| Store::new(Options::default().memory(memory).item_max(item_max));
    assert!(matches!(options(1 << 10, 1024), Err(OpenError::Memory { .. })));
    assert!(matches!(options(1 << 20, 1 << 20), Err(OpenError::ItemMax { .. })));
}

#[test]
fn decisions_are_done_in_one_step() {
    let store = small();
    let fresh = |value: &[u8], cas| Decision::Store {
        value: value.to_vec(),
        flags: 1,
        expires: Expiry::Never,
        cas,
        stale: false,
        won: true,
    };
    let meta = store.update_with(b"k", |found| {
        assert!(found.is_none());
        fresh(b"v", Some(77))
    });
    let meta = meta.unwrap().unwrap();
    assert_eq!((meta.cas, meta.won, meta.stale, meta.fetched), (77, true, false, false));
    let end = Expiry::At(store.now() + 100);
    store.update_with(b"k", |_| Decision::Mark { expires: end, stale: true, won: false }).unwrap();
    let meta = store.peek(b"k").unwrap();
    assert_eq!((meta.cas, meta.won, meta.stale, meta.expires), (77, false, true, end));
    let count = thread::scope(|scope| {
        let add = || {
            for _ in 0..500 {
                store.update_with(b"k", |found| fresh(&[found.unwrap().1, b"+"].concat(), None)).unwrap();
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(add)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        value_of(&store, b"k").unwrap().len()
    });
    assert_eq!(count, 2001, "no update was lost");
    assert_eq!(store.update_with(b"k", |_| Decision::Delete), Ok(None));
    assert_eq!(store.peek(b"k"), None);
}

#[test]
fn items_end_and_are_flushed() {
    let store = small();
    let now = store.now();
    store.put(Mode::Set, b"past", 0, Expiry::At(now), b"1").unwrap();
    store.put(Mode::Set, b"future", 0, Expiry::At(now + 1000), b"2").unwrap();
    store.put(Mode::Set, b"ever", 0, Expiry::Never, b"3").unwrap();
    assert_eq!(value_of(&store, b"past"), None);
    assert_eq!(store.put(Mode::Add, b"past", 0, Expiry::At(now), b"4").unwrap().0, Outcome::Stored);
    assert!(store.touch(b"future", Expiry::At(now)).is_some());
    assert_eq!(value_of(&store, b"future"), None);
    store.maintain();
    assert_eq!(store.stats().items, 1);
    assert_eq!(store.stats().reclaimed, 2);
    store.flush_all(Some(now + 1000));
    assert!(value_of(&store, b"ever").is_some());
    store.flush_all(None);
    assert_eq!(value_of(&store, b"ever"), None);
    store.put(Mode::Set, b"after", 0, Expiry::Never, b"5").unwrap();
    assert!(value_of(&store, b"after").is_some());
}

#[test]
fn the_table_grows_and_memory_comes_back() {
    let store = Store::new(Options::default()).unwrap();
    let before = (store.stats().memory, store.arena().pages_in_use());
    for n in 0..100_000_u32 {
        let key = format!("key:{n}");
        store.put(Mode::Set, key.as_bytes(), n, Expiry::Never, &sealed(key.as_bytes(), n.into(), 8)).unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.items, stats.evictions), (100_000, 0));
    assert!(stats.buckets >= 25_000 && stats.memory <= stats.limit, "{stats:?}");
    for n in 0..100_000_u32 {
        let key = format!("key:{n}");
        assert!(is_whole(key.as_bytes(), &value_of(&store, key.as_bytes()).unwrap()));
    }
    store.flush_all(None);
    (0..10).for_each(|_| store.maintain());
    let stats = store.stats();
    assert_eq!((stats.items, stats.slabs, stats.bytes), (0, 0, 0));
    assert_eq!((stats.memory, store.arena().pages_in_use()), before);
    assert_eq!(store.put(Mode::Set, b"k", 0, Expiry::Never, b"v").unwrap().0, Outcome::Stored);
    assert!(value_of(&store, b"k").is_some());
}

#[test]
fn what_was_used_stays() {
    let store = Store::new(Options::default().memory(2 << 20).item_max(4096)).unwrap();
    let put = |n: u32| store.put(Mode::Set, format!("{n}").as_bytes(), 0, Expiry::Never, &[0; 900]).unwrap();
    // The clock lets it stay; a slab that is emptied because the table grows takes everything along.
    let mut lost = 0;
    for n in 0..20_000 {
        put(n);
        if n >= 7 && value_of(&store, b"7").is_none() {
            put(7);
            lost += 1;
        }
        assert!(store.stats().memory <= store.stats().limit);
    }
    let stats = store.stats();
    assert!(lost <= 3, "{lost}");
    assert!(stats.evictions > 15_000 && stats.items + stats.evictions == 20_000 + lost, "{stats:?}");
    // Another size of items takes memory from the first.
    for n in 0..30_000 {
        store.put(Mode::Set, format!("other{n}").as_bytes(), 0, Expiry::Never, &[0; 10]).unwrap();
        assert!(store.stats().memory <= store.stats().limit);
    }
    let others = (0..30_000).filter(|n| value_of(&store, format!("other{n}").as_bytes()).is_some()).count();
    assert!(others > 4000, "{others}");
    assert!(store.stats().buckets > 1024, "the table takes memory from items, too");
    let full = Store::new(Options::default().memory(1 << 20).item_max(4096).evict(false)).unwrap();
    let stored =
        (0_u32..).take_while(|n| full.put(Mode::Set, &n.to_le_bytes(), 0, Expiry::Never, &[0; 4000]).is_ok());
    let stored = stored.count();
    assert!((100..260).contains(&stored), "{stored}");
    assert_eq!(full.stats().evictions, 0);
}

#[test]
fn a_slot_whose_slab_has_another_class_by_now_is_not_handed_out() {
    let store = small();
    store.put(Mode::Set, b"small", 0, Expiry::Never, &[1; 100]).unwrap();
    let found = store.read(b"small", None).unwrap();
    let (class, unit, _) = store.heap.locate(found.place()).unwrap();
    // A thread looked at this slot when its memory was a slab of larger ones.
    assert!(store.take_away(found.place(), found.head.version));
    assert!(!store.keeps(class + 3, found.place()));
    assert!(store.heap.release(class, unit), "it was given back to its own slab");
}

#[test]
fn pages_that_late_readers_made_are_given_back() {
    let store = small();
    store.put(Mode::Set, b"key", 0, Expiry::Never, &[1; 100]).unwrap();
    let found = store.read(b"key", None).unwrap();
    let before = store.arena().pages_in_use().get();
    let nowhere = found.place() + 5 * crate::layout::UNIT;
    store.mem.set_u32(crate::layout::touch_place(nowhere), 1);
    assert_eq!(store.mem.u8(nowhere), 0);
    assert_eq!(store.arena().pages_in_use().get(), before + 2);
    store.maintain();
    assert_eq!(store.arena().pages_in_use().get(), before);
    assert_eq!(value_of(&store, b"key").unwrap(), [1; 100]);
}

#[test]
fn a_server_that_ends_leaves_all_to_the_next() {
    let options = Options::default().memory(8 << 20).item_max(64 << 10);
    let store = Store::new(options).unwrap();
    let mut expected = HashMap::new();
    for n in 0..30_000_u64 {
        let key = format!("key:{n}").into_bytes();
        let value = sealed(&key, n, (n % 100) as usize);
        store.put(Mode::Set, &key, 5, Expiry::Never, &value).unwrap();
        if n % 7 == 0 {
            store.delete(&key, None);
        } else {
            expected.insert(key, value);
        }
    }
    store.put(Mode::Set, b"large", 0, Expiry::Never, &[7; 60_000]).unwrap();
    let (arena, stats) = (store.arena().clone(), store.stats());
    drop(store);
    let (store, recovered) = Store::over(arena, options).unwrap();
    let recovered = recovered.unwrap();
    assert_eq!((recovered.items, recovered.dropped, recovered.moved), (stats.items, 0, 0));
    assert_eq!((store.stats().items, store.stats().bytes), (stats.items, stats.bytes));
    assert_eq!(store.stats().memory, stats.memory);
    let found = expected.iter().filter(|(key, value)| match value_of(&store, key) {
        Some(found) => found == **value,
        None => false,
    });
    assert_eq!(found.count() as u64 + 1 + stats.evictions, expected.len() as u64 + 1 + stats.evictions);
    assert_eq!(value_of(&store, b"large").unwrap(), vec![7; 60_000]);
    for n in 0..30_000_u64 {
        let key = format!("key:{n}").into_bytes();
        store.put(Mode::Set, &key, 5, Expiry::Never, &sealed(&key, n + 1, 40)).unwrap();
        assert!(is_whole(&key, &value_of(&store, &key).unwrap()));
    }
}

#[test]
fn other_stores_are_refused() {
    let options = Options::default().memory(8 << 20).item_max(64 << 10);
    let store = Store::new(options).unwrap();
    let arena = store.arena().clone();
    let refused = |options| Store::over(arena.clone(), options).map(drop).unwrap_err();
    assert!(matches!(refused(options.item_max(4096)), OpenError::OtherItemMax { found: 65536, asked: 4096 }));
    let table = store.mem.u64(header(Header::table));
    store.mem.set_u64(header(Header::table), table + 1);
    assert!(matches!(refused(options), OpenError::Damaged { what: "an extent of", .. }));
    store.mem.set_u64(header(Header::table), table);
    store.mem.set_u32(header(Header::segments), 4096);
    assert!(matches!(refused(options), OpenError::Damaged { what: "a segment at", .. }));
    store.mem.set_u32(header(Header::version), 99);
    assert!(matches!(refused(options), OpenError::Version { found: 99 }));
    store.mem.set_u64(header(Header::magic), 5);
    assert!(matches!(refused(options), OpenError::Foreign { magic: 5 }));
}

/// Damage anywhere in the table and in items ends in entries that are dropped, or in a reason.
#[test]
fn damaged_stores_are_repaired_or_refused() {
    let options = Options::default().memory(8 << 20).item_max(64 << 10);
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..40 {
        let store = Store::new(options).unwrap();
        for n in 0..3000_u64 {
            let key = format!("key:{n}").into_bytes();
            store.put(Mode::Set, &key, 5, Expiry::Never, &sealed(&key, n, (n % 100) as usize)).unwrap();
        }
        let slabs: Vec<u32> = (0..store.heap.classes().len()).flat_map(|c| store.heap.units_of(c)).collect();
        let segment = store.mem.u32(header(Header::segments));
        for _ in 0..40 {
            let unit = slabs[random.usize(..slabs.len())];
            let at = match round % 4 {
                0 => segment + random.u32(..0x1_0000),
                1 => unit * crate::layout::UNIT + random.u32(..0x4000) / 64 * 64 + random.u32(..40),
                2 => unit_byte(random.u32(4090..4400)),
                _ => random.u32(..3000),
            };
            store.mem.set_u8(at, random.u8(..));
        }
        let arena = store.arena().clone();
        drop(store);
        let Ok((store, _)) = Store::over(arena, options) else { continue };
        for n in 0..3000_u64 {
            let key = format!("key:{n}").into_bytes();
            value_of(&store, &key);
            store.put(Mode::Set, &key, 5, Expiry::Never, &sealed(&key, n, 40)).unwrap();
            // Where a server's memory was overwritten, what it has is what was stored since.
            assert!(is_whole(&key, &value_of(&store, &key).unwrap()), "{round}");
        }
    }
}

#[test]
fn readers_and_writers_at_the_same_time() {
    let store = Store::new(Options::default().memory(3 << 20).item_max(64 << 10)).unwrap();
    let stop = AtomicBool::new(false);
    let (store, stop) = (&store, &stop);
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("key:{}", random.u32(..4000)).into_bytes();
                    match random.u32(..16) {
                        0 => drop(store.delete(&key, None)),
                        1 if random.u32(..2000) == 0 => store.flush_all(None),
                        _ => {
                            let len = if random.u32(..50) == 0 { 5000 } else { random.usize(..600) };
                            let value = sealed(&key, random.u64(..), len);
                            store.put(Mode::Set, &key, 0, Expiry::Never, &value).unwrap();
                        }
                    }
                }
            });
        }
        let readers = (4..6).map(|seed| {
            scope.spawn(move || {
                let (mut random, mut hits) = (fastrand::Rng::with_seed(seed), 0);
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("key:{}", random.u32(..4000)).into_bytes();
                    if let Some(value) = value_of(store, &key) {
                        assert!(is_whole(&key, &value));
                        hits += 1;
                    }
                    assert!(store.stats().memory <= store.stats().limit);
                }
                hits
            })
        });
        let readers: Vec<_> = readers.collect();
        for _ in 0..30 {
            thread::sleep(std::time::Duration::from_millis(100));
            store.maintain();
        }
        stop.store(true, Ordering::Relaxed);
        let hits: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(hits > 0);
    });
    assert_eq!(u64::from(ARENA_PAGES) * 4096, 1 << 32);
}
