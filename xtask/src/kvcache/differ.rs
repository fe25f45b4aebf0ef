//! Random commands to both servers, answers side by side.
//!
//! The same commands go to both over TCP, cut at random places, and to both over UDP, a datagram each. What may differ
//! is made equal before the comparison: versions (each server numbers in its own way, so they are named by the order in
//! which they appear), and seconds that passed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;

use super::place::{Engine, Place, want};
use super::servers::stat;
use super::streams::{Step, VERSION_MARK, step};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Commands to send over TCP.
    #[arg(long, default_value_t = 50_000)]
    commands: u64,
    /// Commands to send over UDP.
    #[arg(long, default_value_t = 20_000)]
    datagrams: u64,
    /// The cache's engines; all that work here if none is named.
    #[arg(long, value_enum)]
    engine: Vec<Engine>,
    #[arg(long)]
    seed: Option<u64>,
    /// Print every command sent over TCP.
    #[arg(long)]
    verbose: bool,
}

/// Compares until the first difference.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(crate::fuzz::any_seed);
    want(&["memcached"], "memcached")?;
    for engine in Engine::chosen(&args.engine) {
        println!("engine {}, seed {seed}", engine.name());
        beside(engine, args, seed)?;
    }
    Ok(())
}

fn beside(engine: Engine, args: &Args, seed: u64) -> anyhow::Result<()> {
    let place = Place::of(engine)?;
    // Its maintenance thread holds on to items for moments, in which `incr` behaves in another way.
    let theirs = place.memcached(&["-o", "no_lru_maintainer,no_lru_crawler"])?;
    let ours = place.kvcache(&["--memory", "64MiB"])?;
    let ours_port = ours.port;
    place.at_client(|| {
        let sides = [theirs.port, ours.port].map(|port| Side::new((place.address(), port).into()));
        let [theirs, ours] = sides;
        ask_both([theirs?, ours?], args, seed)?;
        let hits = stat((place.address(), ours_port).into(), "get_hits_program")?;
        println!("{hits} keys by the program");
        ensure!((hits > 0) == (engine != Engine::None), "the program of engine {} answers", engine.name());
        Ok(())
    })
}

fn ask_both(mut sides: [Side; 2], args: &Args, seed: u64) -> anyhow::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let mut bytes = 0;
    for index in 0..args.commands {
        let step = step(&mut rng);
        if args.verbose {
            println!("{index}: {}", shown(&step.text));
        }
        bytes += compare(index, &step, &mut sides, |side, text, rng| side.by_stream(text, rng), &mut rng)?;
    }
    println!("TCP: {} commands, {bytes} bytes of answers, no difference", args.commands);
    // Values too long for what a socket holds at a time would be lost by either side.
    let flush = Step { text: b"flush_all\r\n".to_vec(), key: String::new() };
    compare(args.commands, &flush, &mut sides, |side, text, rng| side.by_stream(text, rng), &mut rng)?;
    bytes = 0;
    for index in 0..args.datagrams {
        let step = step(&mut rng);
        // An answer by datagrams need not arrive at all if it is long; a request of several packets is not one.
        if step.text.len() > 1400 || step.text.starts_with(b"flush_all") {
            continue;
        }
        bytes += compare(index, &step, &mut sides, |side, text, _| side.by_datagram(text), &mut rng)?;
    }
    println!("UDP: {} commands, {bytes} bytes of answers, no difference", args.datagrams);
    Ok(())
}

fn compare(
    index: u64,
    step: &Step,
    sides: &mut [Side; 2],
    ask: impl Fn(&mut Side, &[u8], &mut Rng) -> anyhow::Result<Vec<u8>>,
    rng: &mut Rng,
) -> anyhow::Result<usize> {
    let cuts = rng.u64(..);
    let mut answers = Vec::new();
    for side in sides.iter_mut() {
        let text = side.with_versions(step);
        let answer = ask(side, &text, &mut Rng::with_seed(cuts))
            .with_context(|| format!("command {index}: {}", shown(&step.text)))?;
        side.learn_versions(&step.key, &answer);
        answers.push((side.comparable(&answer), answer));
    }
    let [(theirs, raw_theirs), (ours, raw_ours)] = &answers[..] else { bail!("two sides, two answers") };
    if theirs != ours {
        // What both say first helps nobody.
        let same = raw_theirs.iter().zip(raw_ours).take_while(|(theirs, ours)| theirs == ours).count();
        let from = |bytes: &[u8]| shown(bytes.get(same.saturating_sub(60)..).unwrap_or_default());
        let (theirs, ours) = (from(raw_theirs), from(raw_ours));
        bail!("command {index}: {}\nmemcached: {theirs}\nkvcache:   {ours}", shown(&step.text));
    }
    Ok(raw_ours.len())
}

/// Bytes as text, long ones cut.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() > 200 {
        format!("{}... ({} bytes)", text.get(..200).unwrap_or_default(), bytes.len())
    } else {
        text
    }
}

/// One server as the comparison sees it.
struct Side {
    server: SocketAddr,
    stream: TcpStream,
    socket: UdpSocket,
    request: u16,
    /// The version that was last seen of a key.
    versions: HashMap<String, String>,
    /// Versions by order of appearance.
    names: HashMap<String, usize>,
}

impl Side {
    fn new(server: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (versions, names) = (HashMap::new(), HashMap::new());
        Ok(Self { server, stream: connect(server)?, socket, request: 0, versions, names })
    }

    /// Sends a command in pieces, and `mn` behind it; what comes before the answer to that is the command's.
    fn by_stream(&mut self, text: &[u8], rng: &mut Rng) -> anyhow::Result<Vec<u8>> {
        let whole = [text, b"mn\r\n"].concat();
        let mut rest = &whole[..];
        while !rest.is_empty() {
            let (piece, behind) =
                rest.split_at(if rng.bool() { rest.len() } else { rng.usize(1..=rest.len()) });
            self.stream.write_all(piece)?;
            rest = behind;
        }
        let mut answer = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                self.stream = connect(self.server)?;
                answer.extend_from_slice(b"<the end>");
                return Ok(answer);
            }
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if let Some(answer) = answer.strip_suffix(b"MN\r\n") {
                return Ok(answer.to_vec());
            }
        }
    }

    /// Sends a command as a datagram, and `mn` as the next; what comes before the answer to that is the command's.
    fn by_datagram(&mut self, text: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.request = self.request.wrapping_add(2);
        let end = self.request.wrapping_add(1);
        for (id, text) in [(self.request, text), (end, b"mn\r\n")] {
            let [high, low] = id.to_be_bytes();
            self.socket.send(&[&[high, low, 0, 0, 0, 1, 0, 0], text].concat())?;
        }
        let mut answer = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            let count = self.socket.recv(&mut buffer)?;
            let datagram = buffer.get(..count).unwrap_or_default();
            let (header, text) = datagram.split_first_chunk::<8>().context("an answer without a header")?;
            let [high, low, _, _, _, _, reserved @ ..] = *header;
            ensure!(reserved == [0, 0], "a header ends in two zeros");
            match u16::from_be_bytes([high, low]) {
                id if id == end => return Ok(answer),
                id if id == self.request => answer.extend_from_slice(text),
                id => bail!("an answer to request {id}, which nobody sent"),
            }
        }
    }

    fn with_versions(&self, step: &Step) -> Vec<u8> {
        let version = self.versions.get(&step.key).map_or("1", String::as_str);
        match String::from_utf8(step.text.clone()) {
            Ok(text) => text.replace(VERSION_MARK, version).into_bytes(),
            Err(error) => {
                let mark = VERSION_MARK.as_bytes();
                let bytes = error.into_bytes();
                match bytes.windows(mark.len()).position(|window| window == mark) {
                    None => bytes,
                    Some(at) => {
                        let (before, behind) = bytes.split_at(at);
                        [before, version.as_bytes(), behind.get(mark.len()..).unwrap_or_default()].concat()
                    }
                }
            }
        }
    }

    /// Remembers the versions in the lines of an answer: the last word of `VALUE`, words with `c` of meta answers.
    fn learn_versions(&mut self, key: &str, answer: &[u8]) {
        for line in answer.split(|byte| *byte == b'\n') {
            let Some(version) = version_of(line) else { continue };
            let version = String::from_utf8_lossy(version).into_owned();
            let count = self.names.len();
            self.names.entry(version.clone()).or_insert(count);
            let key = match line.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
                [b"VALUE", key, ..] => String::from_utf8_lossy(key).into_owned(),
                _ => key.to_owned(),
            };
            self.versions.insert(key, version);
        }
    }

    /// An answer with versions by name and without seconds.
    fn comparable(&self, answer: &[u8]) -> Vec<Vec<u8>> {
        answer.split_inclusive(|byte| *byte == b'\n').map(|line| self.comparable_line(line)).collect()
    }

    fn comparable_line(&self, line: &[u8]) -> Vec<u8> {
        let version = version_of(line);
        let is_meta = line.starts_with(b"HD") || line.starts_with(b"VA ");
        let words = line.split(|byte| *byte == b' ').map(|word| {
            let text = word.trim_ascii_end();
            let end = word.get(text.len()..).unwrap_or_default();
            let bare = text.strip_prefix(b"c").filter(|_| is_meta).unwrap_or(text);
            if version == Some(bare) {
                let name = self.names.get(&*String::from_utf8_lossy(bare));
                return [format!("version {name:?}").as_bytes(), end].concat();
            }
            match text {
                [letter @ (b't' | b'l'), digits @ ..]
                    if is_meta && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) =>
                {
                    [&[*letter], &b"seconds"[..], end].concat()
                }
                _ => word.to_vec(),
            }
        });
        words.collect::<Vec<_>>().join(&b' ')
    }
}

fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// The version in a line of an answer.
fn version_of(line: &[u8]) -> Option<&[u8]> {
    let words: Vec<_> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
    match &words[..] {
        [b"VALUE", _, _, _, version] => Some(*version),
        [b"HD" | b"VA", rest @ ..] => {
            let version = rest.iter().find_map(|word| word.strip_prefix(b"c"))?;
            (!version.is_empty() && version.iter().all(u8::is_ascii_digit)).then_some(version)
        }
        _ => None,
    }
}
