//! How long the program takes for a request, run by run: `cargo run --release -p kvcache --example rate [-- --json]`.
//!
//! Each run has a packet of its own, for an answer is no request. In the kernel the time is what the kernel measures around one run
//! (`BPF_PROG_TEST_RUN`), less what it measures for a packet that the program passes at first sight; in this process it is all that
//! a datagram costs the server.

use std::error::Error;
use std::time::{Duration, Instant};

use bpf_arena::PacketRun;
use kvcache::fast::{FastPath, XDP_TX};
use kvcache::restart::kernel_arena;
use kvcache::store::{Expiry, Mode, Options, Store};
use serde::Serialize;

const KEYS: usize = 100_000;
/// As many as caches of the processor hold.
const FEW: usize = 1_000;
const RUNS: usize = 300_000;

/// What runs in one place, over so many keys, take: nanoseconds, and answers that follow from the median.
#[derive(Serialize)]
struct Rate {
    place: &'static str,
    keys: usize,
    answers: usize,
    low_ns: u64,
    median_ns: u64,
    high_ns: u64,
    million_a_second: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rates = in_process()?;
    rates.extend(in_kernel()?);
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", serde_json::to_string_pretty(&rates)?);
        return Ok(());
    }
    for Rate { place, keys, answers, low_ns, median_ns, high_ns, million_a_second } in rates {
        println!(
            "in {place}, {keys} keys: {answers} answers, 10 % below {low_ns} ns, median {median_ns} ns, 90 % below {high_ns} ns: \
             {million_a_second:.2} million a second"
        );
    }
    Ok(())
}

fn options() -> Options {
    Options::default().memory(256 << 20)
}

/// From datagram to datagram, in this process.
fn in_process() -> Result<Vec<Rate>, Box<dyn Error>> {
    let store = Store::new(options())?;
    fill(&store)?;
    let fast = FastPath::user(&store)?;
    let mut reply = Vec::new();
    let mut answer = |n| {
        let datagram = datagram(n);
        let begin = Instant::now();
        fast.answer(&datagram, &mut reply).then(|| begin.elapsed())
    };
    Ok([FEW, KEYS].map(|keys| rate("process", keys, each(keys, &mut answer), Duration::ZERO)).into())
}

/// From packet to packet, in the kernel; what a packet takes that is passed at first sight is taken off.
fn in_kernel() -> Result<Vec<Rate>, Box<dyn Error>> {
    let (store, _) = Store::over(kernel_arena()?, options())?;
    fill(&store)?;
    let fast = FastPath::kernel_unattached(&store, 11211)?;
    let program = fast.xdp().ok_or("no program")?;
    let mut out = vec![0; 2048];
    let mut run = |packet: &[u8], verdict: u32| {
        let mut run = PacketRun { data: packet, data_out: &mut out, ..PacketRun::default() };
        let outcome = program.run_packet(&mut run).ok()?;
        (outcome.return_value == verdict).then_some(outcome.duration)
    };
    let mut nothing = each(FEW, |n| run(&packet(n, 9), 2));
    nothing.sort_unstable();
    let nothing = nothing.get(nothing.len() / 2).copied().unwrap_or_default();
    let mut answer = |n| run(&packet(n, 11211), XDP_TX);
    Ok([FEW, KEYS].map(|keys| rate("kernel", keys, each(keys, &mut answer), nothing)).into())
}

/// Values of 32 to 1024 bytes.
fn fill(store: &Store) -> Result<(), Box<dyn Error>> {
    for n in 0..KEYS {
        store.put(Mode::Set, key(n).as_bytes(), 0, Expiry::Never, &vec![b'v'; 32 + n * 7919 % 993])?;
    }
    Ok(())
}

fn key(n: usize) -> String {
    format!("key:{:016}:{n}", n * 31)
}

/// Times of runs with keys in no order that caches know.
fn each(keys: usize, mut run: impl FnMut(usize) -> Option<Duration>) -> Vec<Duration> {
    (0..RUNS).filter_map(|n| run(n.wrapping_mul(48_271) % keys)).collect()
}

fn rate(place: &'static str, keys: usize, mut times: Vec<Duration>, less: Duration) -> Rate {
    times.sort_unstable();
    let at = |percent: usize| {
        let time = times.get(times.len() * percent / 100).copied().unwrap_or_default().saturating_sub(less);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    };
    let million_a_second = 1e3 / at(50).max(1) as f64;
    Rate {
        place,
        keys,
        answers: times.len(),
        low_ns: at(10),
        median_ns: at(50),
        high_ns: at(90),
        million_a_second,
    }
}

fn datagram(n: usize) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 0];
    bytes.extend(format!("get {}\r\n", key(n)).as_bytes());
    bytes
}

/// Ethernet, IPv4 and UDP around it.
fn packet(n: usize, port: u16) -> Vec<u8> {
    let datagram = datagram(n);
    let udp = u16::try_from(datagram.len() + 8).unwrap_or(u16::MAX);
    let [total, length, port] = [udp + 20, udp, port].map(u16::to_be_bytes);
    let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    let words = header.chunks(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)));
    let sum: u32 = words.sum();
    let check = u16::try_from(!((sum & 0xffff) + (sum >> 16)) & 0xffff).unwrap_or(0).to_be_bytes();
    header.splice(10..12, check);
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    bytes.extend(header);
    bytes.extend([0x9c, 0x40, port[0], port[1], length[0], length[1], 0, 0]);
    bytes.extend(datagram);
    bytes
}
