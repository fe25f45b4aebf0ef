//! Helpers and kernel functions on inputs of chance: interpreter, machine code and, where permitted, the running kernel must leave the
//! same bytes.
//!
//! Each program of `bpf/services` works on one global variable `io`, which the host fills and reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::os::linux::fs::MetadataExt;
use std::sync::Arc;

use bpf_arena::kernel::running_btf;
use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Engine, Object, OfferedBytes, PacketRun, UserEngine, UserMemory};
use fastrand::Rng;
use libtest_mimic::{Arguments, Failed, Trial};

/// Chooses one of some values, each of which may be of chance itself.
macro_rules! pick {
    ($rng:expr, $($value:expr),+ $(,)?) => {{
        let values = [$($value),+];
        values[$rng.usize(..values.len())]
    }};
}

/// Rounds of inputs for each program; fewer where a round is long.
const ROUNDS: u64 = 2000;
const LONG_ROUNDS: u64 = 8;

/// `io` of `strings.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Strings {
    a: [u8; 96],
    b: [u8; 32],
    len: u64,
    flags: u64,
    letter: u64,
    address: u64,
    results: [i64; 16],
    value: i64,
    magnitude: u64,
}

/// `struct step` of `dynptrs.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Step {
    operation: u32,
    which: u32,
    offset: u32,
    len: u32,
    other: u32,
    flags: u32,
}

/// `io` of `dynptrs.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Dynptrs {
    data: [u8; 256],
    buffer: [u8; 64],
    start: [u32; 2],
    size: [u32; 2],
    flags: [u32; 2],
    steps: u32,
    script: [Step; 16],
    made: [i64; 2],
    results: [i64; 16],
}

/// `io` of `reads.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Reads {
    data: [u8; 64],
    out: [[u8; 32]; 16],
    address: u64,
    size: u32,
    flags: u32,
    results: [i64; 16],
    words: [u64; 64],
    count: u32,
    found: u32,
    bits: [i32; 256],
}

/// `struct step` of `packet_dynptrs.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct PacketStep {
    operation: u32,
    offset: u32,
    len: u32,
    other: u32,
    flags: u64,
}

/// `io` of `packet_dynptrs.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct PacketDynptrs {
    data: [u8; 128],
    buffer: [u8; 64],
    flags: u64,
    steps: u32,
    pad: u32,
    script: [PacketStep; 16],
    made: i64,
    results: [i64; 16],
}

/// `io` of `checksum.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Checksums {
    from: [u32; 32],
    to: [u32; 32],
    from_size: u32,
    to_size: u32,
    seed: u32,
    pad: u32,
    results: [i64; 3],
}

/// `struct step` of `cpumasks.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct MaskStep {
    operation: u32,
    cpu: u32,
    bits: [u64; 4],
}

/// `io` of `cpumasks.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Masks {
    steps: u32,
    pad: u32,
    script: [MaskStep; 24],
    results: [i64; 24],
}

/// `io` of `environment.bpf.c`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Environment {
    device: u64,
    namespace_: u64,
    results: [i64; 8],
}

/// Memory that programs of every engine may read.
#[derive(Clone)]
struct Offered(Arc<OfferedBytes>);

impl UserMemory for Offered {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self.0.read(address, bytes)
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let offered = Offered(Arc::new(OfferedBytes::new(offered_bytes())));
    let memory = offered.0.address();

    add(&mut trials, &offered, "strings", "numbers", number_input, |_| {});
    add(&mut trials, &offered, "strings", "prefix", prefix_input, |_| {});
    add(&mut trials, &offered, "strings", "strings", string_input, |_| {});
    add(&mut trials, &offered, "strings", "nowhere", nowhere_input, |_| {});
    add(&mut trials, &offered, "strings", "too_long", too_long_input, |_| {});
    add(&mut trials, &offered, "dynptrs", "script", script_input, |_| {});
    add(
        &mut trials,
        &offered,
        "reads",
        "reads",
        move |rng, round| read_input(rng, round, memory),
        only_promised,
    );
    // Where the program's own memory lies is the engine's business.
    let no_address = |io: &mut Reads| {
        only_promised(io);
        io.address = 0;
    };
    add(&mut trials, &offered, "reads", "own_reads", |rng, round| read_input(rng, round, 0), no_address);
    add(&mut trials, &offered, "reads", "bits", bit_input, |_| {});
    add(&mut trials, &offered, "checksum", "checksum", checksum_input, |_| {});
    for program in ["skb", "read_only", "xdp"] {
        add(&mut trials, &offered, "packet_dynptrs", program, packet_input, |_| {});
    }
    add(&mut trials, &offered, "cpumasks", "masks", mask_input, |_| {});
    add(&mut trials, &offered, "environment", "environment", environment_input, kept_promises);
    trials.push(Trial::test("cookie/user", cookie));
    libtest_mimic::run(&arguments, trials).exit();
}

/// The two trials of a program: its executors in this process against each other, and against the kernel. `strip` takes away what
/// may differ.
fn add<T: ArenaType + PartialEq + std::fmt::Debug>(
    trials: &mut Vec<Trial>,
    offered: &Offered,
    object: &'static str,
    program: &'static str,
    input: impl Fn(&mut Rng, u64) -> T + Copy + Send + 'static,
    strip: impl Fn(&mut T) + Copy + Send + 'static,
) {
    // Masks are a kernel's structures.
    let types = if object == "cpumasks" { running_btf().map(Some) } else { Ok(None) };
    let no_types = types.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let load = |engine: UserEngine| {
        let engine = match types.as_ref().ok().cloned().flatten() {
            Some(types) => engine.kernel_types(types),
            None => engine,
        };
        let memory = offered.clone();
        move || open(object).load(engine.user_memory(memory)).unwrap_or_else(|error| panic!("{error}"))
    };
    let (compiled, interpreted) = (load(Engine::user()), load(Engine::user().interpreter()));
    let alike = Trial::test(format!("{program}/user"), move || {
        compare(&compiled(), &interpreted(), program, input, strip)
    });
    trials.push(alike.with_ignored_flag(!no_types.is_empty()).with_kind(no_types));
    let kernel = Engine::kernel();
    let missing = kernel.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let compiled = load(Engine::user());
    let judged = Trial::test(format!("{program}/kernel"), move || {
        let kernel = open(object).load(Engine::kernel()?).map_err(|error| error.to_string())?;
        compare(&compiled(), &kernel, program, input, strip)
    });
    trials.push(judged.with_ignored_flag(!missing.is_empty()).with_kind(missing));
}

fn compare<T: ArenaType + PartialEq + std::fmt::Debug>(
    ours: &App,
    other: &App,
    program: &str,
    input: impl Fn(&mut Rng, u64) -> T,
    strip: impl Fn(&mut T),
) -> Result<(), Failed> {
    let rounds = if program == "too_long" { LONG_ROUNDS } else { ROUNDS };
    for round in 0..rounds {
        let input = input(&mut Rng::with_seed(round), round);
        let [ours, other] = [ours, other].map(|app| {
            app.set_global("io", input).unwrap();
            let (result, packet) = run(app, program, round);
            let mut io: T = app.global("io").unwrap();
            strip(&mut io);
            ((result, io), packet)
        });
        if ours.1 != other.1 {
            return Err(format!("round {round}: packets {:?} and {:?} of {input:?}", ours.1, other.1).into());
        }
        let (ours, other) = (ours.0, other.0);
        if ours != other {
            return Err(format!("round {round}: {}", difference(&ours, &other, &input)).into());
        }
    }
    Ok(())
}

/// Runs a program: with no context, or on a packet of chance. What it returned, and the packet afterwards.
fn run(app: &App, program: &str, seed: u64) -> (u32, Vec<u8>) {
    let program = app.program(program).unwrap();
    if program.spec().section == "syscall" {
        return (program.run(&mut ()).unwrap().return_value, Vec::new());
    }
    let mut rng = Rng::with_seed(!seed);
    // Longer ones lie in several pages where the program's type has such.
    let len = pick!(rng, rng.usize(14..128), rng.usize(14..128), rng.usize(3400..9000));
    let len = if program.spec().section == "xdp.frags" { len } else { len.min(128) };
    let data: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    let mut packet = vec![0; len + 64];
    let mut run = PacketRun { data: &data, data_out: &mut packet, ..PacketRun::default() };
    let outcome = program.run_packet(&mut run).unwrap();
    packet.truncate(outcome.data_len);
    (outcome.return_value, packet)
}

/// The lines in which two results differ, with the member they belong to, and what the input was there.
fn difference<T: std::fmt::Debug>(ours: &(u32, T), other: &(u32, T), input: &T) -> String {
    let lines = |result: &dyn std::fmt::Debug| -> Vec<String> {
        format!("{result:#?}").lines().map(|line| line.trim().to_owned()).collect()
    };
    let (ours_lines, other_lines, input_lines) = (lines(&ours.1), lines(&other.1), lines(input));
    let mut text = format!("returned {} and {}", ours.0, other.0);
    let mut member = (String::new(), 0);
    for (at, (ours, other)) in ours_lines.iter().zip(&other_lines).enumerate() {
        if ours.ends_with('[') || ours.ends_with('{') {
            member = (ours.clone(), at + 1);
        }
        if ours != other {
            let place = format!("{}{}", member.0, at - member.1);
            text += &format!("\n{place}: {ours} and {other}, was {}", input_lines[at]);
        }
    }
    text + &format!("\ninput {input:?}")
}

fn open(object: &str) -> Object {
    Object::open(format!("{}/../../bpf/services/{object}.bpf.o", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// One of a slice.
fn element<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// Bytes of this alphabet; the last one is NUL if `ends`.
fn text<const N: usize>(rng: &mut Rng, alphabet: &[u8], len: usize, ends: bool) -> [u8; N] {
    let mut text = [0; N];
    text[..len.min(N)].fill_with(|| element(rng, alphabet));
    if ends {
        text[N - 1] = 0;
    }
    text
}

fn number_input(rng: &mut Rng, _: u64) -> Strings {
    let alphabet = pick!(rng, &b" \t\x0b-0x19afAFgz\0\xa0"[..], b"0123456789abcdefABCDEF", b"01789", b"0");
    let mut a: [u8; 96] = text(rng, alphabet, 96, false);
    let start = pick!(
        rng,
        &b""[..],
        b" ",
        b"-",
        b"0x",
        b"-0X",
        b"0",
        b"\n -0",
        b"9223372036854775808",
        b"-922337203685477580"
    );
    a[..start.len()].copy_from_slice(start);
    let flags = pick!(rng, 0, 8, 10, 16, 0, 10, 16, 1, 2, 32, 1 << 40);
    let len = pick!(rng, rng.u64(0..=97), rng.u64(1..24));
    Strings { a, len, flags, ..Strings::ZERO }
}

fn prefix_input(rng: &mut Rng, _: u64) -> Strings {
    let mut a: [u8; 96] = text(rng, b"words andmore\0\xff", 96, false);
    let start = pick!(rng, &b""[..], b"word", b"word\0", b"words and more", b"wor\xff");
    a[..start.len()].copy_from_slice(start);
    Strings { a, len: rng.u64(0..=30), ..Strings::ZERO }
}

fn string_input(rng: &mut Rng, _: u64) -> Strings {
    let alphabet = pick!(rng, &b"ab"[..], b"abcABC\0", b"a\xc4\xe4\xd7\xf7\x80", b"abcdefgh");
    let (long, short) = (rng.usize(..96), rng.usize(..31));
    let mut a: [u8; 96] = text(rng, alphabet, long, true);
    let b: [u8; 32] = text(rng, alphabet, short, true);
    if rng.u8(..4) == 0 {
        a[..32].copy_from_slice(&b);
    }
    let letter = pick!(rng, u64::from(element(rng, alphabet)), 0, 0x100 + 97, u64::MAX, 0xffff_ffe4);
    let len = pick!(rng, rng.u64(..100), rng.u64(..6), 0, u64::MAX, 65536, 65535);
    Strings { a, b, len, letter, ..Strings::ZERO }
}

/// Addresses where there is nothing, of either space and of none.
const NOWHERE: [u64; 12] = [
    0,
    1,
    0xfff,
    0x1_0000,
    0x7fff_ffff_f000,
    0x7fff_ffff_ffff,
    0x8000_0000_0000,
    0x1234_5678_9abc_def0,
    0xffff_7fff_ffff_ffff,
    0xffff_ffff_ff60_0000,
    0xffff_ffff_ff60_0fff,
    0xffff_ffff_ffff_f000,
];

fn nowhere_input(rng: &mut Rng, _: u64) -> Strings {
    Strings { address: element(rng, &NOWHERE), ..string_input(rng, 0) }
}

fn too_long_input(rng: &mut Rng, _: u64) -> Strings {
    let a = pick!(rng, &b"x"[..], b"y", b"", b"xy", b"xxxx");
    let mut io = Strings::ZERO;
    io.a[..a.len()].copy_from_slice(a);
    io
}

fn script_input(rng: &mut Rng, _: u64) -> Dynptrs {
    let mut io = Dynptrs::ZERO;
    io.data.fill_with(|| rng.u8(..));
    io.buffer.fill_with(|| rng.u8(..));
    for which in 0..2 {
        io.start[which] = rng.u32(..128);
        io.size[which] = rng.u32(..128);
        io.flags[which] = pick!(rng, 0, 0, 0, 0, 0, 0, 0, 1);
    }
    io.steps = rng.u32(..=16);
    for step in &mut io.script {
        let small = rng.u32(..40);
        let other = pick!(rng, rng.u32(..40), rng.u32(..130), small, u32::MAX);
        *step = Step {
            operation: rng.u32(..9),
            which: rng.u32(..2),
            offset: pick!(rng, 0, small, small, rng.u32(..130), u32::MAX, u32::MAX - 3),
            len: pick!(rng, rng.u32(..64), rng.u32(..20), rng.u32(..130), 0, u32::MAX),
            other,
            flags: pick!(rng, 0, 0, 0, 0, 1, 0x1ff),
        };
    }
    io
}

/// Text without NULs in the middle, and with many at its ends.
fn offered_bytes() -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[64..4096].fill(b'u');
    bytes[100] = 0;
    bytes
}

fn read_input(rng: &mut Rng, _: u64, memory: u64) -> Reads {
    let mut io = Reads::ZERO;
    let alphabet = pick!(rng, &b"ab"[..], b"abcdefghijkl\0");
    io.data = text(rng, alphabet, 64, true);
    io.out.iter_mut().for_each(|out| out.fill(0xee));
    io.address = pick!(rng, element(rng, &NOWHERE), memory + rng.u64(..200));
    io.size = pick!(rng, rng.u32(..32), rng.u32(..4));
    io.flags = pick!(rng, 0, 1, 0, 1, 2, 0x101);
    io
}

/// Takes away what the kernel leaves in buffers without promising it: words that were being copied when a read faulted, and zeroes
/// behind a string that was copied in words.
fn only_promised(io: &mut Reads) {
    let out = io.out.as_flattened_mut();
    if io.results[8] == -14 {
        out[8 * 32..][..8].fill(0);
        out[8 * 32 + 210..][..8].fill(0);
    }
    for (result, start) in [(3, 96), (5, 160), (7, 224), (11, 352), (13, 416), (15, 256 + 210)] {
        if let Ok(len) = usize::try_from(io.results[result]) {
            out[start..][..32][len..].fill(0);
        }
    }
}

fn bit_input(rng: &mut Rng, round: u64) -> Reads {
    let mut io = Reads::ZERO;
    io.count = pick!(rng, rng.u32(..65), rng.u32(..3), 511, 512, u32::MAX).min(match round % 8 {
        0 => u32::MAX,
        _ => 64,
    });
    // Behind the words lies what the other members hold: the count among them.
    io.words.fill_with(|| pick!(rng, 0, 0, 1 << 63, 1, rng.u64(..)));
    if io.count > 64 {
        io.count = pick!(rng, 512, 1000, u32::MAX);
    }
    io.address = element(rng, &NOWHERE);
    io.bits.fill(-7);
    io
}

fn packet_input(rng: &mut Rng, _: u64) -> PacketDynptrs {
    let mut io = PacketDynptrs::ZERO;
    io.data.fill_with(|| rng.u8(..));
    io.buffer.fill_with(|| rng.u8(..));
    io.flags = pick!(rng, 0, 0, 0, 0, 0, 0, 1);
    io.steps = rng.u32(..=16);
    for step in &mut io.script {
        let small = rng.u32(..40);
        *step = PacketStep {
            operation: rng.u32(..8),
            // Among them the ends of pages of long packets.
            offset: pick!(
                rng,
                0,
                small,
                small,
                rng.u32(..140),
                rng.u32(3300..3700),
                rng.u32(..9000),
                u32::MAX
            ),
            len: pick!(rng, rng.u32(..64), rng.u32(..20), rng.u32(..130), rng.u32(..5000), 0, u32::MAX),
            other: pick!(rng, rng.u32(..128), small, rng.u32(..9000), u32::MAX),
            flags: pick!(rng, 0, 0, 0, 1, 2, 3, 4, 0x1ff),
        };
    }
    io
}

fn checksum_input(rng: &mut Rng, _: u64) -> Checksums {
    let mut io = Checksums::ZERO;
    let words = [0, u32::MAX, 0xffff, 0x8000_0000, rng.u32(..), rng.u32(..)];
    io.from.fill_with(|| element(rng, &words));
    io.to.fill_with(|| element(rng, &words));
    if rng.bool() {
        io.to = io.from;
    }
    io.from_size = pick!(rng, rng.u32(..32) * 4, rng.u32(..128), 0, 4);
    io.to_size = pick!(rng, rng.u32(..32) * 4, rng.u32(..128), 0, io.from_size);
    io.seed = pick!(rng, 0, u32::MAX, rng.u32(..), 0xffff);
    io
}

fn mask_input(rng: &mut Rng, _: u64) -> Masks {
    let mut io = Masks::ZERO;
    io.steps = rng.u32(..=24);
    for step in &mut io.script {
        step.operation = rng.u32(..25);
        step.cpu = pick!(rng, 0, 1, 2, rng.u32(..70), u32::MAX);
        step.bits.fill_with(|| pick!(rng, 0, 1, 2, 3, u64::MAX, rng.u64(..)));
    }
    io
}

fn environment_input(_: &mut Rng, _: u64) -> Environment {
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
    let (device, namespace_) = (namespace.st_dev(), namespace.st_ino());
    Environment { device, namespace_, ..Environment::ZERO }
}

/// Both engines keep every promise, not just the same ones.
fn kept_promises(io: &mut Environment) {
    /// Inode of the namespace in which the kernel's own numbers of processes are those of this process.
    const FIRST_NAMESPACE: u64 = 0xefff_fffc;
    if io.namespace_ != FIRST_NAMESPACE {
        io.results[2] = 1;
    }
    assert_eq!(io.results, [0x3f, 0, 1, -22, 0, -22, 0, 0]);
}

fn cookie() -> Result<(), Failed> {
    for engine in [Engine::user(), Engine::user().interpreter()] {
        let app = open("environment").load(engine.attach_cookie(0xc00_c1e5).only(&["cookie"]))?;
        // The registers of a processor, which the program does not look at.
        app.program("cookie")?.run(&mut [0_u8; 168][..])?;
        assert_eq!(app.global::<Environment>("io")?.results[6], 0xc00_c1e5);
    }
    Ok(())
}
