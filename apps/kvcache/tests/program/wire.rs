//! Two network namespaces and a cable between them: hits are answered without the server's socket hearing of them, everything else
//! reaches it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bpf_arena::kernel::{AttachTarget, Attachment};
use bpf_arena::{App, Engine, Object};
use kvcache::fast::{Cache, Hook};
use kvcache::restart::Keep;
use kvcache::store::{Expiry, Mode, Options, Store};
use libtest_mimic::Failed;
use testkit::wire::{End, Wire, run, xdp};

use crate::client::{Asker, Connection};
use crate::kills::BpfFolder;
use crate::packets::{Packet, rendered};
use crate::sealed::seal;
use crate::{Bench, config};

const KEYS: u32 = 500;

/// A pair of connected interfaces, removed when dropped.
pub(crate) struct Pair {
    pub(crate) server: String,
}

impl Pair {
    /// In this network namespace, without addresses.
    pub(crate) fn here(name: &str) -> Result<Self, Failed> {
        let server = format!("{name}{}", std::process::id() % 10_000);
        run(&["ip", "link", "add", &server, "type", "veth", "peer", "name", &format!("{server}p")])?;
        let pair = Self { server };
        run(&["ip", "link", "set", &pair.server, "up"])?;
        Ok(pair)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = run(&["ip", "link", "del", &self.server]);
    }
}

/// The ends of a cable in namespaces of their own; the client's takes what XDP sends.
pub(crate) struct Ends {
    pub(crate) wire: Wire,
    _taker: Attachment,
}

impl Ends {
    pub(crate) fn new(name: &str) -> Result<Self, Failed> {
        let wire = Wire::new(name)?;
        // A driver of this kind hands packets of an XDP program on only to a device that has one, too.
        let taker = attach(&object("reflect")?, "pass", &wire)?;
        Ok(Self { wire, _taker: taker })
    }
}

/// `None`: where it is best.
pub(crate) fn hook_named(name: &str) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| hook.name() == name)
}

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    V4,
    V6,
    /// With a tag in each packet, and answers without it are not taken.
    Tagged,
}

impl Way {
    fn server(self) -> IpAddr {
        if self == Self::V6 { End::Server.v6().into() } else { End::Server.v4().into() }
    }

    /// What is attached at the client's end beside what is there anyway.
    fn prepare(self, wire: &Wire) -> Result<Vec<Attachment>, Failed> {
        if self != Self::Tagged {
            return Ok(Vec::new());
        }
        let device = wire.device(End::Client);
        // The tag is to be in the packet, not beside it.
        let space = wire.space(End::Client);
        run(&["ip", "netns", "exec", &space, "ethtool", "-K", &device, "tx-vlan-hw-insert", "off"])?;
        let app = object("tags")?;
        ["put", "take"].into_iter().map(|name| attach(&app, name, wire)).collect()
    }
}

/// An object of the repository, in the kernel.
fn object(name: &str) -> Result<App, Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../bpf/{name}.bpf.o"));
    Ok(Object::open(path)?.load(Engine::kernel()?)?)
}

/// Attaches a program at the client's end.
fn attach(app: &App, name: &str, wire: &Wire) -> Result<Attachment, Failed> {
    let target = match name {
        "put" => AttachTarget::TcEgress,
        "take" => AttachTarget::TcIngress,
        _ => xdp,
    };
    Ok(wire.attach(End::Client, app.program(name)?, target)?)
}

/// Asks a server that runs, and then one that was killed.
pub(crate) fn over(hook: &str, attached: &str, way: Way) -> Result<(), Failed> {
    let (ends, folder) = (Ends::new("kvw")?, BpfFolder::new()?);
    let wire = &ends.wire;
    let _attached = way.prepare(wire)?;
    let place = folder.path().join("store");
    let child = |end, kind, what: &str| -> Result<Child, Failed> {
        let mut command = wire.command(end, std::env::current_exe()?);
        command.env("KVCACHE_CHILD", kind).env("KVCACHE_HOOK", what).env("KVCACHE_PLACE", &place);
        command.env("KVCACHE_ADDRESS", way.server().to_string());
        command.env("KVCACHE_INTERFACE", wire.device(End::Server));
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
    };
    let mut server = child(End::Server, "server", hook)?;
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut line = || -> Result<String, Failed> { Ok(lines.next().ok_or("the server ended")??) };
    assert_eq!(line()?, format!("attached {attached}"));
    let asked = |kind| -> Result<String, Failed> {
        let mut client = child(End::Client, "client", kind)?;
        let mut said = String::new();
        client.stdout.take().unwrap().read_to_string(&mut said)?;
        client.wait()?;
        Ok(said.trim().to_owned())
    };
    assert_eq!(asked("all")?, format!("hits {KEYS} wrong 0 silent 20"));
    writeln!(server.stdin.as_ref().unwrap(), "counts")?;
    let counts = line()?;
    let numbers: Vec<u32> = counts.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [socket, xdp, tc, misses] = numbers[..] else { return Err(counts.into()) };
    assert_eq!((socket, xdp + tc, misses), (heard(way), KEYS, 20), "hits do not reach the socket: {counts}");
    assert_eq!((xdp > 0, tc > 0), (attached != "tc", true), "each answers what it has room for: {counts}");
    server.kill()?;
    server.wait()?;
    // The program goes on answering where no server is.
    assert_eq!(asked("hits")?, format!("hits {KEYS} wrong 0 silent 0"));
    kvcache::restart::forget(&place)?;
    assert_eq!(asked("one")?, "hits 0 wrong 0 silent 1", "it is detached with its name");
    Ok(())
}

/// How many of the misses come to the socket: all, but the server's host has no interface for packets with tags.
fn heard(way: Way) -> u32 {
    if way == Way::Tagged { 0 } else { 20 }
}

/// The server itself, under strace: hits do not so much as wake it.
pub(crate) fn unseen() -> Result<(), Failed> {
    let (ends, log) = (Ends::new("kvs")?, tempfile::NamedTempFile::new()?);
    let address: SocketAddr = (End::Server.v4(), 11211).into();
    let mut command = ends.wire.command(End::Server, "strace");
    command.args(["-f", "-qq", "-e", "trace=recvmmsg,recvmsg,recvfrom,epoll_wait", "-o"]).arg(log.path());
    // What is traced goes on without strace, if nobody ends it.
    command.args(["setpriv", "--pdeathsig", "KILL", env!("CARGO_BIN_EXE_kvcache"), "--engine", "kernel"]);
    command.args(["--iface", &ends.wire.device(End::Server), "--hook", "native", "--listen"]);
    command.arg(address.ip().to_string());
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let told = ends.wire.inside(End::Client, || ask_beside(address));
    server.kill()?;
    server.wait()?;
    let hits = told??;
    let calls = std::fs::read_to_string(log.path())?;
    let received = |line: &str| {
        let (_, result) = line.split_once("recvmmsg(")?.1.rsplit_once(" = ")?;
        result.split(' ').next()?.parse::<u32>().ok()
    };
    let received: u32 = calls.lines().filter_map(received).sum();
    assert_eq!(
        (received, hits),
        (5, u64::from(KEYS)),
        "datagrams that the server received, and hits by the program"
    );
    Ok(())
}

/// Many hits and five misses; the hits that the program says it had.
fn ask_beside(address: SocketAddr) -> Result<u64, String> {
    let text = |error: std::io::Error| error.to_string();
    let end = Instant::now() + Duration::from_secs(30);
    let mut connection = loop {
        match Connection::open(address) {
            Err(error) if Instant::now() > end => return Err(error.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
            Ok(connection) => break connection,
        }
    };
    let mut asker = Asker::new(address).map_err(text)?;
    for n in 0..KEYS {
        connection.set(&key_of(n), &value_of(n)).map_err(text)?;
    }
    for n in 0..KEYS + 5 {
        let key = key_of(n);
        let found = asker.get(&key).or_else(|| asker.get(&key)).ok_or("no answer")?;
        if found != (n < KEYS).then(|| value_of(n)) {
            return Err(format!("{n}: {found:?}"));
        }
    }
    connection.stat("get_hits_program").map_err(text)
}

fn key_of(n: u32) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

/// Of all lengths that a packet holds; at XDP there is room for some.
fn value_of(n: u32) -> Vec<u8> {
    seal(&key_of(n), n.into(), (n * 2) as usize)
}

fn fill(store: &Store) {
    for n in 0..KEYS {
        store.put(Mode::Set, &key_of(n), n, Expiry::Never, &value_of(n)).unwrap();
    }
}

/// The server's side: the program at the interface, and a socket that only counts.
pub(crate) fn serve() {
    let place = std::env::var_os("KVCACHE_PLACE").unwrap();
    let interface = std::env::var("KVCACHE_INTERFACE").unwrap();
    let opened = Cache::open(&config(Keep::Pinned(place.into()), Some(&interface))).unwrap();
    let Cache { store, fast } = &opened.cache;
    fill(store);
    let socket = UdpSocket::bind((crate::address(), 11211)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let hooks: Vec<_> = fast.hooks().map(Hook::name).collect();
    println!("attached {}", hooks.join("+"));
    let mut command = String::new();
    std::io::stdin().read_line(&mut command).unwrap();
    let mut heard = 0;
    let mut buffer = [0; 2048];
    while socket.recv(&mut buffer).is_ok() {
        heard += 1;
    }
    let [xdp, tc] = store.program_counters();
    assert_eq!(xdp.handed_on, tc.answered * u64::from(fast.hooks().count() == 2));
    println!("socket {heard} xdp {} tc {} misses {}", xdp.answered, tc.answered, xdp.misses + tc.misses);
    std::thread::sleep(Duration::from_secs(60));
}

/// The client's side.
pub(crate) fn ask() {
    let own = Bench::user(Options::default());
    fill(&own.store);
    let to = SocketAddr::new(crate::address(), 11211);
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (hits, misses) = match std::env::var("KVCACHE_HOOK").as_deref() {
        Ok("all") => (KEYS, 20),
        Ok("hits") => (KEYS, 0),
        _ => (1, 0),
    };
    let (mut right, mut wrong, mut silent) = (0, 0, 0);
    for n in (0..hits).chain(KEYS..KEYS + misses) {
        let mut packet = Packet::new(&[b"get ", &key_of(n)[..], b"\r\n"].concat());
        packet.request = n as u16;
        let expected = rendered(&own.store, &packet.text);
        let patience = Duration::from_millis(if n < KEYS && hits > 1 { 2000 } else { 60 });
        match exchange(&socket, &packet.datagram(), patience) {
            None => silent += 1,
            Some(answer) => {
                let text = expected.unwrap_or_default();
                let is_right = answer == Packet { text, ..packet }.datagram();
                right += u32::from(is_right);
                wrong += u32::from(!is_right);
            }
        }
    }
    println!("hits {right} wrong {wrong} silent {silent}");
}

/// The answer, unless there is none for so long that it is none.
fn exchange(socket: &UdpSocket, datagram: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let begin = Instant::now();
    let mut buffer = [0; 2048];
    socket.send(datagram).ok()?;
    while begin.elapsed() < patience {
        if let Ok(len) = socket.recv(&mut buffer) {
            return Some(buffer[..len].to_vec());
        }
    }
    None
}
