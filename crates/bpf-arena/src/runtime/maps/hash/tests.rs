//! What one thread sees of a hash map.

use bpf_object::{MapSpec, MapType};

use super::*;
use crate::backend::{BatchRead, LoadedMap};
use crate::map::{BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};

const TYPES: [MapType; 4] = [MapType::Hash, MapType::PercpuHash, MapType::LruHash, MapType::LruPercpuHash];

fn spec(map_type: MapType, max_entries: u32) -> MapSpec {
    MapSpec { key_size: 4, value_size: 8, max_entries, ..MapSpec::new("map", map_type) }
}

fn create(map_type: MapType, max_entries: u32, flags: u32) -> HashMap {
    HashMap::create(&MapSpec { flags, ..spec(map_type, max_entries) }, None).unwrap()
}

fn key(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

/// The same value for every CPU.
fn value(map: &HashMap, number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(map.value_bytes() / 8)
}

fn put(map: &HashMap, number: u32, flags: u64) -> Result<(), MapError> {
    map.update(&key(number), &value(map, u64::from(number) * 3), flags)
}

fn get(map: &HashMap, number: u32) -> Option<Vec<u8>> {
    let mut value = vec![0; map.value_bytes()];
    map.lookup(&key(number), &mut value, 0).is_ok().then_some(value)
}

fn keys(map: &HashMap) -> Vec<u32> {
    let mut next = [0; 4];
    let mut last = None;
    std::iter::from_fn(|| {
        map.next_key(last.as_ref().map(|key: &[u8; 4]| key.as_slice()), &mut next).ok()?;
        last = Some(next);
        Some(u32::from_le_bytes(next))
    })
    .collect()
}

fn sorted(mut keys: Vec<u32>) -> Vec<u32> {
    keys.sort_unstable();
    keys
}

#[test]
fn entries_come_and_go() {
    for map_type in TYPES {
        let map = create(map_type, 8, 0);
        assert_eq!(map.delete(&key(1)), Err(MapError::NotFound));
        assert_eq!(put(&map, 1, BPF_EXIST), Err(MapError::NotFound));
        assert_eq!(put(&map, 1, BPF_NOEXIST), Ok(()));
        assert_eq!(put(&map, 1, BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(put(&map, 1, 3), Err(MapError::Invalid));
        assert_eq!(put(&map, 1, BPF_EXIST), Ok(()));
        assert_eq!(put(&map, 2, BPF_ANY), Ok(()));
        assert_eq!(get(&map, 1), Some(value(&map, 3)));
        assert_eq!(sorted(keys(&map)), [1, 2]);
        assert_eq!(map.delete(&key(1)), Ok(()));
        assert_eq!(get(&map, 1), None);
        let mut taken = vec![0; map.value_bytes()];
        assert_eq!(map.lookup_and_delete(&key(2), &mut taken, 0), Ok(()));
        assert_eq!(taken, value(&map, 6));
        assert_eq!(map.lookup_and_delete(&key(2), &mut taken, 0), Err(MapError::NotFound));
        assert_eq!(keys(&map), []);
    }
}

#[test]
fn a_full_map_takes_no_more_but_replaces() {
    for (map_type, flags) in
        [(MapType::Hash, 0), (MapType::Hash, 1), (MapType::PercpuHash, 0), (MapType::PercpuHash, 1)]
    {
        let map = create(map_type, 7, flags);
        for round in 0..3 {
            (0..7).for_each(|number| assert_eq!(put(&map, number, BPF_ANY), Ok(())));
            assert_eq!(put(&map, 7, BPF_ANY), Err(MapError::TooBig), "{map_type:?} {round}");
            assert_eq!(put(&map, 3, BPF_ANY), Ok(()));
            assert_eq!(sorted(keys(&map)), [0, 1, 2, 3, 4, 5, 6]);
            assert_eq!(map.delete(&key(round)), Ok(()));
            assert_eq!(put(&map, 7, BPF_ANY), Ok(()));
            assert_eq!(map.delete(&key(7)), Ok(()));
        }
    }
}

#[test]
fn a_full_lru_map_forgets() {
    for (map_type, flags) in
        [MapType::LruHash, MapType::LruPercpuHash].map(|t| [(t, 0), (t, BPF_F_NO_COMMON_LRU)]).concat()
    {
        let map = create(map_type, 64, flags);
        for number in 0..1000 {
            assert_eq!(put(&map, number, BPF_ANY), Ok(()));
            assert_eq!(get(&map, number), Some(value(&map, u64::from(number) * 3)));
        }
        let left = keys(&map);
        assert!(!left.is_empty() && left.len() <= 64, "{} left", left.len());
        assert!(left.iter().all(|number| *number >= 800), "{left:?}");
    }
}

#[test]
fn what_is_used_is_remembered() {
    let map = create(MapType::LruHash, 64, 0);
    let slot = CpuSlot::default();
    (0..8).for_each(|number| put(&map, number, BPF_ANY).unwrap());
    for number in 100..1000 {
        put(&map, number, BPF_ANY).unwrap();
        for used in 0..8 {
            assert!(map.lookup_elem(&slot, Place::over(&mut key(used))).is_some(), "{used} after {number}");
        }
    }
}

#[test]
fn without_a_seed_the_order_is_the_kernels() {
    let map = create(MapType::Hash, 8, BPF_F_ZERO_SEED);
    (0..8).for_each(|number| put(&map, number, BPF_ANY).unwrap());
    let bucket = |number: &u32| {
        let mut key = key(*number);
        map.table.hash(&Key::new(Place::over(&mut key))) & 7
    };
    // By bucket, and the newest first.
    let mut expected: Vec<u32> = (0..8).rev().collect();
    expected.sort_by_key(bucket);
    assert_eq!(keys(&map), expected);
}

#[test]
fn a_key_that_is_gone_starts_over() {
    let map = create(MapType::Hash, 8, 0);
    (0..5).for_each(|number| put(&map, number, BPF_ANY).unwrap());
    let all = keys(&map);
    let mut next = [0; 4];
    assert_eq!(map.next_key(Some(&key(77)), &mut next), Ok(()));
    assert_eq!(next, key(all[0]));
    assert_eq!(map.next_key(Some(&key(all[4])), &mut next), Err(MapError::NotFound));
}

#[test]
fn addresses_of_values() {
    let map = create(MapType::Hash, 4, 0);
    let slot = CpuSlot::default();
    put(&map, 1, BPF_ANY).unwrap();
    let address = |number| map.lookup_elem(&slot, Place::over(&mut key(number)));
    let first = address(1).unwrap();
    let memory = map.table.memory();
    assert_eq!(memory.place(first - memory.address(), 8).unwrap().to_vec(), value(&map, 3));
    // The old value stays as it was for who has its address.
    put(&map, 1, BPF_ANY).unwrap();
    assert_ne!(address(1), Some(first));
    assert_eq!(memory.place(first - memory.address(), 8).unwrap().to_vec(), value(&map, 3));
    assert_eq!(map.lookup_percpu_elem(Place::over(&mut key(1)), 0), None);
    let map = create(MapType::PercpuHash, 4, 0);
    put(&map, 1, BPF_ANY).unwrap();
    let own = map.lookup_elem(&slot, Place::over(&mut key(1)));
    assert!(own.is_some());
    assert_eq!(map.lookup_percpu_elem(Place::over(&mut key(1)), slot.get()), own);
    let past = u32::try_from(cpu::possible()).unwrap();
    assert_eq!(map.lookup_percpu_elem(Place::over(&mut key(1)), past), None);
}

#[test]
fn a_program_inserts_for_its_own_cpu() {
    for map_type in [MapType::PercpuHash, MapType::LruPercpuHash] {
        let map = create(map_type, 4, 0);
        let slot = CpuSlot::default();
        // What was in the element before does not show.
        put(&map, 1, BPF_ANY).unwrap();
        map.delete(&key(1)).unwrap();
        let mut program = 7u64.to_le_bytes();
        let mut update =
            |flags| map.update_elem(&slot, Place::over(&mut key(1)), Place::over(&mut program), flags);
        assert_eq!(update(BPF_ANY), Ok(()));
        assert_eq!(update(BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(update(BPF_F_LOCK), Err(MapError::Invalid));
        let mut expected = vec![0; map.value_bytes()];
        expected[8 * slot.get() as usize] = 7;
        assert_eq!(get(&map, 1), Some(expected));
        assert_eq!(map.delete_elem(&slot, Place::over(&mut key(1))), Ok(()));
        assert_eq!(map.delete_elem(&slot, Place::over(&mut key(1))), Err(MapError::NotFound));
    }
}

#[test]
fn callbacks_may_delete_what_they_visit() {
    let map = create(MapType::Hash, 64, 0);
    let slot = CpuSlot::default();
    (0..64).for_each(|number| put(&map, number, BPF_ANY).unwrap());
    let memory = map.table.memory();
    let mut seen = Vec::new();
    let visited = map.for_each_elem(&slot, &mut |at, _| {
        let key = memory.place(at - memory.address(), 4).unwrap().to_vec();
        seen.push(u32::from_le_bytes(key.clone().try_into().unwrap()));
        assert_eq!(map.delete(&key), Ok(()));
        true
    });
    assert_eq!(visited, Ok(64));
    assert_eq!(sorted(seen), (0..64).collect::<Vec<_>>());
    assert_eq!(keys(&map), []);
}

#[test]
fn batches_read_whole_buckets() {
    for map_type in TYPES {
        let map = create(map_type, 64, 0);
        (0..50).for_each(|number| put(&map, number, BPF_ANY).unwrap());
        for delete in [false, true] {
            let mut all = Vec::new();
            let mut from: Option<Vec<u8>> = None;
            let mut room = 1;
            loop {
                let (mut keys, mut values) = (vec![0; 4 * room], vec![0; map.value_bytes() * room]);
                let mut next = vec![0; 4];
                let mut batch = BatchRead {
                    from: from.as_deref(),
                    next: &mut next,
                    keys: &mut keys,
                    values: &mut values,
                    flags: 0,
                    delete,
                };
                let (count, result) = map.lookup_batch(&mut batch);
                assert!(count <= room);
                for (found, bytes) in keys.chunks(4).zip(values.chunks(map.value_bytes())).take(count) {
                    let number = u32::from_le_bytes(found.try_into().unwrap());
                    assert_eq!(bytes, value(&map, u64::from(number) * 3));
                    all.push(number);
                }
                match result {
                    Ok(()) => from = Some(next),
                    Err(MapError::NoSpace) => {
                        assert_eq!(count, 0);
                        from = Some(next);
                        room += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, MapError::NotFound);
                        break;
                    }
                }
            }
            assert_eq!(sorted(all), (0..50).collect::<Vec<_>>());
        }
        assert_eq!(keys(&map), []);
        // Past the end.
        let (mut keys, mut values, mut next) = ([0; 4], vec![0; map.value_bytes()], [0; 4]);
        let mut batch = BatchRead {
            from: Some(&[64, 0, 0, 0]),
            next: &mut next,
            keys: &mut keys,
            values: &mut values,
            flags: 0,
            delete: false,
        };
        assert_eq!(map.lookup_batch(&mut batch), (0, Err(MapError::NotFound)));
    }
}

#[test]
fn keys_of_many_sizes() {
    for key_size in (1..=24).chain([63, 64, 65, 512]) {
        let map = MapSpec { key_size, ..spec(MapType::Hash, 300) };
        let map = HashMap::create(&map, None).unwrap();
        let key = |at: u32| {
            let mut key = vec![1; key_size as usize];
            key[at as usize] = 2;
            key
        };
        (0..key_size.min(300)).for_each(|at| map.update(&key(at), &u64::from(at).to_le_bytes(), 1).unwrap());
        for at in 0..key_size.min(300) {
            let mut value = [0; 8];
            assert_eq!(map.lookup(&key(at), &mut value, 0), Ok(()));
            assert_eq!(value, u64::from(at).to_le_bytes());
        }
    }
}
