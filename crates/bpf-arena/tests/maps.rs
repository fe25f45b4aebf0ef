//! The host's side of maps: the same on both engines.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::Duration;

use bpf_arena::typed::MapTypeError;
use bpf_arena::{App, Engine, MapError, Object, RingError, UpdateMode};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test of an app made of `bpf/bench_maps.bpf.o`.
type Test = fn(&App);

/// Elements of its maps.
const ENTRIES: u32 = 4096;

fn main() {
    let arguments = Arguments::from_args();
    let tests: [(&str, Test); 6] = [
        ("typed_elements", typed_elements),
        ("types_that_do_not_fit", types_that_do_not_fit),
        ("values_of_cpus", values_of_cpus),
        ("batches", batches),
        ("frozen", frozen),
        ("records", records),
    ];
    let kernel = Engine::kernel();
    let missing = kernel.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let mut trials = Vec::new();
    for (name, test) in tests {
        trials.push(trial(format!("{name}/compiled"), move || test(&open().load(Engine::user()).unwrap())));
        let interpreted = move || test(&open().load(Engine::user().interpreter()).unwrap());
        trials.push(trial(format!("{name}/interpreted"), interpreted));
        let in_kernel = move || test(&open().load(Engine::kernel().unwrap()).unwrap());
        let trial = trial(format!("{name}/kernel"), in_kernel);
        trials.push(trial.with_ignored_flag(kernel.is_err()).with_kind(&missing));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok::<(), Failed>(())
    })
}

fn open() -> Object {
    Object::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf/bench_maps.bpf.o")).unwrap()
}

fn typed_elements(app: &App) {
    app.program("fill").unwrap().run(&mut ()).unwrap();
    let hash = app.typed_map::<u32, u64>("hash").unwrap();
    assert_eq!(hash.get(5), Ok(Some(0)));
    assert_eq!(hash.get(ENTRIES), Ok(None));
    assert_eq!(hash.update(5, 7, UpdateMode::NoExist), Err(MapError::Exists));
    assert_eq!(hash.update(5, 7, UpdateMode::Exist), Ok(()));
    assert_eq!(hash.update(ENTRIES, 1, UpdateMode::Any), Err(MapError::TooBig));
    assert_eq!(hash.take(5), Ok(Some(7)));
    assert_eq!(hash.take(5), Ok(None));
    assert_eq!(hash.remove(5), Ok(false));
    assert_eq!(hash.remove(6), Ok(true));
    assert_eq!(hash.get_per_cpu(7), Err(MapError::Unsupported));
    let mut keys: Vec<u32> = hash.iter().map(|element| element.unwrap().0).collect();
    keys.sort_unstable();
    let left: Vec<u32> = (0..ENTRIES).filter(|key| ![5, 6].contains(key)).collect();
    assert_eq!(keys, left);
}

fn types_that_do_not_fit(app: &App) {
    let keys = app.typed_map::<u64, u64>("hash").unwrap_err();
    assert!(matches!(keys, MapTypeError::Layout { what: "keys", .. }), "{keys}");
    let values = app.typed_map::<u32, [u32; 2]>("hash").unwrap_err();
    assert!(matches!(values, MapTypeError::Layout { what: "values", .. }), "{values}");
    assert!(matches!(app.typed_map::<u32, u64>("no such map"), Err(MapTypeError::Unknown(_))));
    // A ring buffer has neither, and no types.
    assert!(app.typed_map::<(), ()>("events").is_ok());
    let size = app.typed_map::<(), u8>("events").unwrap_err();
    assert!(matches!(size, MapTypeError::Size { expected: 0, given: 1, .. }), "{size}");
}

fn values_of_cpus(app: &App) {
    let map = app.typed_map::<u32, u64>("percpu_array").unwrap();
    let cpus = map.get_per_cpu(0).unwrap().unwrap().len();
    assert!(cpus >= 1);
    assert_eq!(map.map().value_bytes(), cpus * 8);
    assert_eq!(map.get(0), Err(MapError::Unsupported));
    // Eight increments a round, each of another element.
    app.program("percpu_array_lookup").unwrap().run(&mut [64_u64, 0, 0]).unwrap();
    let all = (0..ENTRIES).flat_map(|key| map.get_per_cpu(key).unwrap().unwrap());
    assert_eq!(all.sum::<u64>(), 64 * 8);
    let values: Vec<u64> = (1..=cpus as u64).collect();
    map.update_per_cpu(3, &values, UpdateMode::Any).unwrap();
    assert_eq!(map.get_per_cpu(3), Ok(Some(values.clone())));
    let one_more = [values, vec![0]].concat();
    assert!(matches!(map.update_per_cpu(3, &one_more, UpdateMode::Any), Err(MapError::ValueSize { .. })));
}

fn batches(app: &App) {
    let hash = app.map("hash").unwrap();
    let keys: Vec<u8> = (0..100_u32).flat_map(u32::to_le_bytes).collect();
    let values: Vec<u8> = (100..200_u64).flat_map(u64::to_le_bytes).collect();
    assert_eq!(hash.update_batch(&keys, &values, 0), Ok(100));
    let (mut cursor, mut found) = (None, Vec::new());
    loop {
        let batch = hash.lookup_batch(cursor.as_ref(), 64, 0).unwrap();
        assert_eq!((batch.keys.len(), batch.values.len()), (batch.count * 4, batch.count * 8));
        found.extend(batch.keys.chunks(4).zip(batch.values.chunks(8)).map(|(key, value)| {
            let key = u32::from_le_bytes(key.try_into().unwrap());
            (key, u64::from_le_bytes(value.try_into().unwrap()))
        }));
        cursor = batch.next;
        if cursor.is_none() {
            break;
        }
    }
    found.sort_unstable();
    assert_eq!(found, (0..100).map(|key| (key, u64::from(key) + 100)).collect::<Vec<_>>());
    let missing = [keys[..8].to_vec(), 5000_u32.to_le_bytes().to_vec()].concat();
    let error = hash.delete_batch(&missing, 0).unwrap_err();
    assert_eq!((error.done, error.error), (2, MapError::NotFound));
    assert_eq!(hash.lookup_and_delete_batch(None, 4096, 0).unwrap().count, 98);
    assert_eq!(hash.keys().count(), 0);
    let array = app.map("array").unwrap();
    assert_eq!(array.lookup_batch(None, 10, 0).unwrap().count, 10);
    assert_eq!(array.delete_batch(&keys, 0).unwrap_err().error, MapError::NoOperation);
}

fn frozen(app: &App) {
    let hash = app.map("hash").unwrap();
    hash.freeze().unwrap();
    assert_eq!(hash.freeze(), Err(MapError::ReadOnly));
    assert_eq!(hash.update(&[0; 4], &[0; 8], UpdateMode::Any), Err(MapError::ReadOnly));
    // Programs still write it.
    app.program("fill").unwrap().run(&mut ()).unwrap();
    assert_eq!(hash.lookup(&[0; 4]), Ok(Some(vec![0; 8])));
    assert_eq!(hash.delete(&[0; 4]), Err(MapError::ReadOnly));
}

fn records(app: &App) {
    let mut ring = app.map("events").unwrap().ring_buffer().unwrap();
    assert!(!ring.wait(Duration::ZERO));
    app.program("ringbuf_output").unwrap().run(&mut [2_u64, 0, 0]).unwrap();
    app.program("ringbuf_reserve_submit").unwrap().run(&mut [1_u64, 0, 0]).unwrap();
    assert!(ring.wait(Duration::ZERO));
    assert_eq!(ring.pending_bytes(), 24 * 72);
    let (mut record, mut count) = (Vec::new(), 0);
    while ring.take(&mut record).unwrap() {
        assert_eq!(record.len(), 64);
        count += 1;
    }
    assert_eq!((count, ring.pending_bytes()), (24, 0));
    assert!(app.map("hash").unwrap().ring_buffer().is_err());
    assert!(app.map("events").unwrap().user_ring_buffer().is_err());
    assert_ne!(RingError::Full { bytes: 1 }.to_string(), "");
}
