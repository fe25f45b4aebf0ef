//! Eight threads of sets, deletes and evictions beside answers of the program: no value is torn, none is another key's, none is
//! older than what was there when it was asked for, memory stays under its limit and comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_arena::PacketRun;
use kvcache::fast::XDP_TX;
use kvcache::store::{Expiry, Mode, Options, Store};
use libtest_mimic::Failed;

use crate::packets::Packet;
use crate::sealed::{seal, unseal};
use crate::{Bench, setting};

const WRITERS: usize = 8;
const KEYS: usize = 6000;

/// What the writer of a key says of it.
#[derive(Default)]
struct Promise {
    /// Values up to this number are no longer there once this is read.
    done: AtomicU64,
    /// No value beyond this one was ever stored.
    begun: AtomicU64,
}

fn key_of(n: usize) -> Vec<u8> {
    format!("key:{n}:{}", "x".repeat(n % 37)).into_bytes()
}

pub(crate) fn run(make: impl Fn(Options) -> Bench) -> Result<(), Failed> {
    let bench = make(Options::default().memory(3 << 20).item_max(16 << 10));
    let bench = &bench;
    let store = &bench.store;
    let empty = (store.stats().memory, store.arena().pages_in_use());
    let promises: Vec<Promise> = (0..KEYS).map(|_| Promise::default()).collect();
    let (promises, stop) = (&promises, &AtomicBool::new(false));
    let hits = thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || write(store, promises, writer, stop));
        }
        let readers: Vec<_> =
            (0..2).map(|seed| scope.spawn(move || read(bench, promises, seed, stop))).collect();
        let end = Instant::now() + Duration::from_secs(setting("KVCACHE_SECONDS", 3));
        while Instant::now() < end && !readers.iter().any(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(50));
            store.maintain();
            assert!(store.stats().memory <= store.stats().limit);
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<Result<u64, String>>()
    })?;
    let stats = store.stats();
    let counters = store.program_counters()[0];
    println!("{hits} hits; {stats:?}; {counters:?}");
    assert!(hits > 0 && stats.evictions > 0 && counters.hits >= hits, "{hits} {stats:?} {counters:?}");
    store.flush_all(None);
    (0..4).for_each(|_| store.maintain());
    assert_eq!((store.stats().memory, store.arena().pages_in_use()), empty);
    Ok(())
}

/// Each key has one writer, who knows what is there.
fn write(store: &Store, promises: &[Promise], writer: usize, stop: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(writer as u64);
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let n = random.usize(..KEYS / WRITERS) * WRITERS + writer;
        let (key, promise) = (key_of(n), &promises[n]);
        let number = promise.begun.load(Ordering::Relaxed) + 1;
        if random.u8(..8) == 0 {
            store.delete(&key, None);
            promise.done.store(number - 1, Ordering::SeqCst);
            continue;
        }
        // Memory goes from class to class all the time.
        let most = [100, 900, 9000][start.elapsed().as_millis() as usize / 20 % 3];
        let filler = if random.u8(..60) == 0 { random.usize(..9000) } else { random.usize(..most) };
        promise.begun.store(number, Ordering::SeqCst);
        store.put(Mode::Set, &key, 0, Expiry::Never, &seal(&key, number, filler)).unwrap();
        promise.done.store(number - 1, Ordering::SeqCst);
    }
}

/// Asks the program, and every now and then the store.
fn read(bench: &Bench, promises: &[Promise], seed: u64, stop: &AtomicBool) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(100 + seed);
    let (mut hits, mut out) = (0, vec![0; 2048]);
    while !stop.load(Ordering::Relaxed) {
        let n = random.usize(..KEYS);
        let key = key_of(n);
        let done = promises[n].done.load(Ordering::SeqCst);
        let by_store = random.u8(..4) == 0;
        let mut value = Vec::new();
        if by_store {
            if bench.store.get(&key, &mut value).is_none() {
                continue;
            }
        } else {
            let packet = Packet::new(&[b"get ", &key[..], b"\r\n"].concat());
            let bytes = packet.bytes();
            let mut run = PacketRun { data: &bytes, data_out: &mut out, ..PacketRun::default() };
            let outcome =
                bench.fast.xdp().unwrap().run_packet(&mut run).map_err(|error| error.to_string())?;
            if outcome.return_value != XDP_TX {
                continue;
            }
            hits += 1;
            value = value_in(&out[50..outcome.data_len], &key).ok_or("an answer to something else")?;
        }
        let begun = promises[n].begun.load(Ordering::SeqCst);
        let number = unseal(&key, &value).ok_or_else(|| format!("{n}: torn: {value:?}"))?;
        if number <= done || number > begun {
            return Err(format!("{n}: {number} is none of {done}..={begun}, by the store: {by_store}"));
        }
    }
    Ok(hits)
}

/// The value in the text of an answer.
fn value_in(text: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(b"VALUE ")?.strip_prefix(key)?.strip_prefix(b" 0 ")?;
    let line = rest.windows(2).position(|end| end == b"\r\n")?;
    let size: usize = std::str::from_utf8(&rest[..line]).ok()?.parse().ok()?;
    let value = rest.get(line + 2..line + 2 + size)?;
    (rest[line + 2 + size..] == *b"\r\nEND\r\n").then(|| value.to_vec())
}
