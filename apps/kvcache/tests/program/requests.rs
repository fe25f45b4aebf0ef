//! Random requests and packets that are no requests: each is answered byte for byte as a plain reader answers it, or left as it was.

use bpf_arena::PacketRun;
use kvcache::fast::XDP_TX;
use kvcache::store::{Decision, Expiry, Mode, Store};
use libtest_mimic::Failed;

use crate::packets::{self, Packet, sum};
use crate::{Bench, setting};

/// Keys that requests are made of.
struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// Keys of every length and with every byte that they may have; most are stored, some ended, some are stale.
    fn fill(store: &Store, random: &mut fastrand::Rng) -> Self {
        let keys: Vec<Vec<u8>> = (0..300_usize)
            .map(|n| {
                let mut key = format!("{n}:").into_bytes();
                let more = if n < 250 { n } else { random.usize(..20) };
                let least = if n % 7 == 0 { 1 } else { b'!' };
                key.extend((0..more).map(|_| random.u8(least..)).filter(|byte| !b" \r\n".contains(byte)));
                key.truncate(250);
                key
            })
            .collect();
        for (n, key) in keys.iter().enumerate() {
            let expires = match n % 10 {
                0 => Expiry::At(store.now() - 10),
                1 => Expiry::At(store.now() + 10_000),
                _ => Expiry::Never,
            };
            let size = if n % 3 == 0 { random.usize(..1500) } else { random.usize(..80) };
            let value: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
            let flags = if n % 2 == 0 { 0 } else { random.u32(..) };
            match n % 13 {
                12 => {}
                11 => {
                    let decision = Decision::Store {
                        value,
                        flags,
                        expires,
                        cas: Some(random.u64(..)),
                        stale: true,
                        won: false,
                    };
                    store.update_with(key, |_| decision.clone()).unwrap();
                }
                _ => drop(store.put(Mode::Set, key, flags, expires, &value).unwrap()),
            }
        }
        Self(keys)
    }

    fn any(&self, random: &mut fastrand::Rng) -> &[u8] {
        &self.0[random.usize(..self.0.len())]
    }
}

/// Runs both on as many requests as are asked for.
pub(crate) fn compare(bench: &Bench, tc: bool) -> Result<(), Failed> {
    let mut random = fastrand::Rng::with_seed(0x6b76);
    let keys = Keys::fill(&bench.store, &mut random);
    let program = if tc { bench.fast.tc() } else { bench.fast.xdp() }.unwrap();
    let before = bench.store.program_counters()[usize::from(tc)];
    let (mut answered, mut hits, mut out) = (0, 0, vec![0; 4096]);
    for round in 0..setting("KVCACHE_REQUESTS", 20_000) {
        let packet = request(&keys, &mut random);
        let mut bytes = packet.bytes();
        if random.u8(..3) == 0 {
            damage(&mut bytes, &mut random);
        }
        // What the kernel does not run programs on.
        let is_cut =
            bytes.len() < 14 || tc && bytes.len() < 14 + if bytes[12..14] == [8, 0] { 20 } else { 40 };
        if is_cut || bytes.len() > 3000 {
            continue;
        }
        let mut run = PacketRun { data: &bytes, data_out: &mut out, ..PacketRun::default() };
        let outcome = program.run_packet(&mut run)?;
        if outcome.faults.total() > 0 {
            return Err(format!("request {round}: missing pages: {:?}", outcome.faults).into());
        }
        let expected = packets::read(&bytes).and_then(|packet| {
            let text = packets::rendered(&bench.store, &packet.text)?;
            hits += packet.text.split(|byte| *byte == b' ').count() as u64 - 1;
            Some(packet.answer(&text))
        });
        // The program's verdict: `XDP_TX` and `XDP_PASS`, or `TC_ACT_REDIRECT` and `TC_ACT_UNSPEC`.
        let verdicts = if tc { [7, u32::MAX] } else { [XDP_TX, 2] };
        let verdict = verdicts[usize::from(expected.is_none())];
        answered += u64::from(expected.is_some());
        let expected = expected.unwrap_or(bytes.clone());
        if outcome.return_value != verdict || out[..outcome.data_len] != expected {
            let found = String::from_utf8_lossy(&out[..outcome.data_len]).into_owned();
            let expected = String::from_utf8_lossy(&expected);
            let verdicts = (outcome.return_value, verdict);
            return Err(format!("request {round}: {verdicts:?}\n{bytes:?}\n{found:?}\n{expected:?}").into());
        }
    }
    let after = bench.store.program_counters()[usize::from(tc)];
    assert_eq!((after.answered - before.answered, after.hits - before.hits), (answered, hits));
    assert!(answered > 0 && after.misses > 0 && after.other > 0 && after.too_long > 0 && after.foreign > 0);
    assert_eq!(after.contended, 0);
    Ok(())
}

fn request(keys: &Keys, random: &mut fastrand::Rng) -> Packet {
    let mut text = if random.bool() { b"get".to_vec() } else { b"gets".to_vec() };
    let count = if random.u8(..4) == 0 { random.usize(1..9) } else { 1 };
    for _ in 0..count {
        text.push(b' ');
        text.extend(keys.any(random));
    }
    text.extend(b"\r\n");
    if random.u8(..8) == 0 {
        misspell(&mut text, keys, random);
    }
    let tag = |random: &mut fastrand::Rng| {
        let kind = [[0x81, 0], [0x88, 0xa8]][random.usize(..2)];
        [kind[0], kind[1], random.u8(..), random.u8(..)]
    };
    let mut packet = Packet::new(&text);
    if random.u8(..4) == 0 {
        packet.tags = (0..random.usize(1..4)).map(|_| tag(random)).collect();
    }
    packet.v6 = random.u8(..3) == 0;
    packet.request = random.u16(..);
    packet.ports.0 = random.u16(..);
    packet.padding = if random.u8(..4) == 0 { random.usize(..40) } else { 0 };
    packet
}

/// Shapes of text that are no plain request, or just not.
fn misspell(text: &mut Vec<u8>, keys: &Keys, random: &mut fastrand::Rng) {
    let shapes: [&[u8]; 14] = [
        b"get\r\n",
        b"get \r\n",
        b"gets\r\n",
        b"gets  a\r\n",
        b"GET a\r\n",
        b"get a",
        b"get a\n",
        b"get a \r\n",
        b"get a\r\nget b\r\n",
        b"mg a v\r\n",
        b"set a 0 0 1\r\nx\r\n",
        b"",
        b"\r\n",
        b"g",
    ];
    match random.u8(..7) {
        0 => *text = shapes[random.usize(..shapes.len())].to_vec(),
        1 => {
            let at = random.usize(..text.len());
            text[at] = [0, b' ', b'\r', b'\n', b'\t', 0x7f, 0x80, 0xff][random.usize(..8)];
        }
        2 => text.truncate(random.usize(..text.len())),
        3 => text.insert(random.usize(..text.len()), random.u8(..)),
        4 => *text = [b"get ", &vec![b'k'; random.usize(245..270)][..], b"\r\n"].concat(),
        5 => *text = [b"get ", keys.any(random), b"\r\n", keys.any(random), b"\r\n"].concat(),
        _ => {
            // As many keys as fit a packet.
            *text = b"get".to_vec();
            while text.len() < random.usize(600..1400) {
                *text = [&text[..], b" ", &keys.0[251 + random.usize(..40)]].concat();
            }
            text.extend(b"\r\n");
        }
    }
}

/// Makes a packet another: cut, longer, with other bytes, with a header that says something else.
fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    match random.u8(..8) {
        0 => bytes.truncate(random.usize(..bytes.len())),
        1 => bytes.extend((0..random.usize(..1600)).map(|_| 0xaa)),
        2 => {
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
        }
        3 => *bytes = (0..random.usize(14..200)).map(|_| random.u8(..)).collect(),
        4 => {
            // Headers: a bit of them, with the sum made right again where that can be done.
            let at = random.usize(..bytes.len().min(74));
            bytes[at] ^= 1 << random.u8(..8);
            repair(bytes);
        }
        5 => {
            let at = [16, 18, 20, 38, 42, 44, 46, 48, 50, 58][random.usize(..10)].min(bytes.len() - 2);
            let value = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_add_signed(random.i16(-3..4));
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            repair(bytes);
        }
        6 => {
            // Options in the header.
            if bytes.len() > 34 && bytes[12..14] == [8, 0] {
                bytes[14] = 0x46;
                bytes.splice(34..34, [1, 1, 1, 0]);
                repair(bytes);
            }
        }
        _ => {
            let at = random.usize(..bytes.len());
            bytes.insert(at, random.u8(..));
        }
    }
}

/// Makes the sum of an IPv4 header right.
fn repair(bytes: &mut [u8]) {
    if bytes.len() >= 34 && bytes[12..14] == [8, 0] {
        bytes[24..26].fill(0);
        let sum = !sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}
