//! Random commands, as clients send them and as no client should.

use fastrand::Rng;

/// Where a version is to be put that the server itself gave for this key; each server has its own.
pub(super) const VERSION_MARK: &str = "@VERSION@";

/// A mark that is longer than marks may be.
const LONG_MARK: &str = "O0123456789012345678901234567890123";

/// One command with its data.
pub(super) struct Step {
    /// The bytes, with [`VERSION_MARK`] in place of versions.
    pub(super) text: Vec<u8>,
    /// The key whose version is meant.
    pub(super) key: String,
}

/// A random command. Keys are few, so that commands meet.
pub(super) fn step(rng: &mut Rng) -> Step {
    let key = key(rng);
    let text = match rng.u8(0..100) {
        0..20 => storage(rng, &key),
        20..35 => retrieval(rng, &key),
        35..50 => change(rng, &key),
        50..62 => meta_get(rng, &key),
        62..74 => meta_set(rng, &key),
        74..80 => meta_delete(rng, &key),
        80..88 => meta_arithmetic(rng, &key),
        88..90 => {
            format!("{}\r\n", pick(rng, &["verbosity 0", "flush_all", "flush_all 0", "flush_all -1"])).into()
        }
        _ => malformed(rng, &key),
    };
    Step { text, key }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    rng.choice(from).copied().unwrap_or_default()
}

fn key(rng: &mut Rng) -> String {
    match rng.u8(0..40) {
        0 => "k".repeat(250),
        1 => "with\ttab".into(),
        2 => "\u{e4}".into(),
        _ => format!("key{}", rng.u8(0..8)),
    }
}

/// Zero, the future, and the past; nothing that passes while the test runs.
fn exptime(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "0",
            "0",
            "0",
            "1000",
            "2592000",
            "2592001",
            "4000000000",
            "2000000000",
            "-1",
            "+500",
            "-2147483649",
        ],
    )
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(0..12) {
        0 => Vec::new(),
        // Above half of the range memcached reads behind the item, and what it says depends on what is there.
        1..4 => rng.u64(..1 << 62).to_string().into(),
        4 => rng.u8(..).to_string().into(),
        5 => pick(rng, &[" 12", "12 x", "-1", "99999999999999999999", "1x", "+7", "007", "4\x004"]).into(),
        6 => vec![b'l'; rng.usize(1300..3000)],
        7 => vec![b'x'; rng.usize(10_000..200_000)],
        8 => (0..rng.usize(0..50)).map(|_| rng.u8(..)).collect(),
        _ => vec![b'v'; rng.usize(1..100)],
    }
}

fn with_data(rng: &mut Rng, mut line: Vec<u8>, data: &[u8]) -> Vec<u8> {
    line.extend_from_slice(b"\r\n");
    line.extend_from_slice(data);
    // Wrong ends are as long as the right one, or longer: what a server waits for has come.
    let end = if rng.u8(0..30) == 0 { pick(rng, &["xx", "\n\r", "xyz\r\n"]) } else { "\r\n" };
    line.extend_from_slice(end.as_bytes());
    line
}

fn noreply(rng: &mut Rng) -> &'static str {
    if rng.u8(0..8) == 0 { " noreply" } else { "" }
}

fn storage(rng: &mut Rng, key: &str) -> Vec<u8> {
    let data = value(rng);
    let verb = pick(rng, &["set", "set", "set", "add", "replace", "append", "prepend", "cas"]);
    let flags = pick(rng, &["0", "0", "1", "4294967295", "4294967296", "77"]);
    let version = match (verb, rng.u8(0..4)) {
        ("cas", 0) => " 0".to_owned(),
        ("cas", _) => format!(" {VERSION_MARK}"),
        _ => String::new(),
    };
    let (exptime, noreply) = (exptime(rng), noreply(rng));
    let line = format!("{verb} {key} {flags} {exptime} {}{version}{noreply}", data.len());
    with_data(rng, line.into(), &data)
}

fn retrieval(rng: &mut Rng, key: &str) -> Vec<u8> {
    let mut line = pick(rng, &["get", "gets", "gat", "gats"]).to_owned();
    if line.starts_with("gat") {
        line = format!("{line} {}", exptime(rng));
    }
    let more = if rng.u8(0..10) == 0 { rng.usize(20..60) } else { rng.usize(0..4) };
    line = format!("{line} {key}");
    for _ in 0..more {
        line = format!("{line}{}key{}", pick(rng, &[" ", " ", "  "]), rng.u8(0..12));
    }
    format!("{line}{}\r\n", pick(rng, &["", "", " "])).into()
}

fn change(rng: &mut Rng, key: &str) -> Vec<u8> {
    let noreply = noreply(rng);
    let delta = pick(rng, &["0", "1", "9", "1000000000", "18446744073709551616", "x", "-1", " 5"]);
    match rng.u8(0..5) {
        0 => format!("delete {key}{noreply}\r\n"),
        1 => format!("delete {key} {}{noreply}\r\n", pick(rng, &["0", "1", "x"])),
        2 => format!("touch {key} {}{noreply}\r\n", exptime(rng)),
        _ => format!("{} {key} {delta}{noreply}\r\n", pick(rng, &["incr", "decr"])),
    }
    .into()
}

/// Flags in random order, each at most once, but for the odd mistake.
fn flags(rng: &mut Rng, known: &[&'static str]) -> String {
    let mut chosen: Vec<_> = known.iter().copied().filter(|_| rng.u8(0..3) == 0).collect();
    rng.shuffle(&mut chosen);
    if rng.u8(0..20) == 0 {
        chosen.push(pick(rng, &["v", "!", "T", "Tx", "F", "Cx", "Mxy", "E1"]));
    }
    chosen.iter().map(|flag| format!(" {flag}")).collect()
}

fn meta_get(rng: &mut Rng, key: &str) -> Vec<u8> {
    let known = [
        "v", "k", "s", "t", "f", "c", "h", "l", "u", "q", "O12", "T500", "N900", "R30", "T0", "R5000", "P1",
        "L",
    ];
    format!("mg {key}{}\r\n", flags(rng, &known)).into()
}

fn meta_set(rng: &mut Rng, key: &str) -> Vec<u8> {
    let data = value(rng);
    // Too long a mark is refused by both; but where memcached finds out only after it has acted, it is not sent.
    let mark = if rng.u8(0..30) == 0 { LONG_MARK } else { "Oabc" };
    let mut known = vec!["k", "c", "q", mark, "T700", "F9", "I", "C@VERSION@", "C5"];
    known.push(pick(rng, &["MS", "ME", "MA", "MP", "MR", "MX"]));
    let line = format!("ms {key} {}{}", data.len(), flags(rng, &known));
    with_data(rng, line.into(), &data)
}

fn meta_delete(rng: &mut Rng, key: &str) -> Vec<u8> {
    let mark = if rng.u8(0..30) == 0 { LONG_MARK } else { "Oxyz" };
    let known = ["k", "q", mark, "I", "T300", "C@VERSION@"];
    format!("md {key}{}\r\n", flags(rng, &known)).into()
}

fn meta_arithmetic(rng: &mut Rng, key: &str) -> Vec<u8> {
    let mut known = vec!["v", "k", "q", "t", "c", "O9", "N100", "J13", "D5", "T200", "C@VERSION@"];
    known.push(pick(rng, &["MI", "M+", "MD", "M-", "MX"]));
    format!("ma {key}{}\r\n", flags(rng, &known)).into()
}

fn malformed(rng: &mut Rng, key: &str) -> Vec<u8> {
    let long = "k".repeat(251);
    match rng.u8(0..10) {
        0 => format!("get {long}\r\n").into(),
        1 => format!("set {long} 0 0 0{}\r\n", noreply(rng)).into(),
        2 => {
            format!("{} {long} 5\r\n", pick(rng, &["incr", "touch", "mg", "md", "ma", "me", "delete"])).into()
        }
        3 => format!(
            "set {key} {}\r\n",
            pick(rng, &["0 0", "x 0 1", "0 x 1", "0 0 -1", "0 0 x noreply", "0 0 1 2 3"])
        )
        .into(),
        4 => format!(
            "{}\r\n",
            pick(rng, &["", " ", "x", "get", "gat 1", "gat x key1", "stats nothing", "mg", "ms", "ms key1"])
        )
        .into(),
        5 => format!(
            "{}\n",
            pick(rng, &["get key1", "version1", "verbosity", "verbosity x", "delete", "GET key1"])
        )
        .into(),
        6 => format!("get {key}\0{}\r\n", pick(rng, &["", "garbage", " key1"])).into(),
        7 => format!(
            "{}\r\n",
            pick(rng, &["shutdown", "flush_all x", "flush_all 0 noreply", "touch key1", "incr key1"])
        )
        .into(),
        8 => {
            let words =
                ["get", "set", "key1", "0", "1", "noreply", "delete", "incr", "mg", "md", "v", "T0", "touch"];
            let line: Vec<_> = (0..rng.usize(1..6)).map(|_| pick(rng, &words)).collect();
            let line = line.join(" ");
            // One that waits for data would swallow what follows.
            if line.starts_with("set") { b"set\r\n".to_vec() } else { format!("{line}\r\n").into() }
        }
        _ => {
            let mut line: Vec<u8> =
                (0..rng.usize(2..40)).map(|_| rng.u8(..)).filter(|byte| *byte != b'\n').collect();
            line.insert(0, b'z');
            line.extend_from_slice(b"\r\n");
            line
        }
    }
}
