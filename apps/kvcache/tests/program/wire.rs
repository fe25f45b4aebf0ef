//! Two network namespaces and a cable between them: hits are answered without the server's socket hearing of them, everything else
//! reaches it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kvcache::fast::{AttachTo, Cache, FastPath, Hook};
use kvcache::restart::Keep;
use kvcache::store::{Expiry, Mode, Options, Store};
use libtest_mimic::Failed;

use crate::kills::BpfFolder;
use crate::packets::{Packet, rendered};
use crate::sealed::seal;
use crate::{Bench, config};

const KEYS: u32 = 500;

/// A pair of connected interfaces, removed when dropped.
pub(crate) struct Pair {
    pub(crate) server: String,
    spaces: Vec<String>,
}

impl Pair {
    /// In this network namespace, without addresses.
    pub(crate) fn here(name: &str) -> Result<Self, Failed> {
        let server = format!("{name}{}", std::process::id() % 10_000);
        run_command(&["ip", "link", "add", &server, "type", "veth", "peer", "name", &format!("{server}p")])?;
        let pair = Self { server, spaces: Vec::new() };
        run_command(&["ip", "link", "set", &pair.server, "up"])?;
        Ok(pair)
    }

    /// Each in a namespace of its own, with addresses.
    fn apart(name: &str) -> Result<Self, Failed> {
        let number = std::process::id();
        let spaces = vec![format!("{name}a{number}"), format!("{name}b{number}")];
        let pair = Self { server: "kv0".to_owned(), spaces };
        for space in &pair.spaces {
            run_command(&["ip", "netns", "add", space])?;
        }
        let [a, b] = [&pair.spaces[0], &pair.spaces[1]];
        run_command(&[
            "ip", "-n", a, "link", "add", "kv0", "type", "veth", "peer", "name", "kv1", "netns", b,
        ])?;
        for (space, name, end) in [(a, "kv0", 1), (b, "kv1", 2)] {
            run_command(&["ip", "-n", space, "addr", "add", &format!("10.99.0.{end}/24"), "dev", name])?;
            run_command(&[
                "ip",
                "-n",
                space,
                "addr",
                "add",
                &format!("fd99::{end}/64"),
                "dev",
                name,
                "nodad",
            ])?;
            run_command(&["ip", "-n", space, "link", "set", name, "up"])?;
            run_command(&["ip", "-n", space, "link", "set", "lo", "up"])?;
        }
        Ok(pair)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if self.spaces.is_empty() {
            let _ = run_command(&["ip", "link", "del", &self.server]);
        }
        for space in &self.spaces {
            let _ = run_command(&["ip", "netns", "del", space]);
        }
    }
}

pub(crate) fn run_command(words: &[&str]) -> Result<(), Failed> {
    let output = Command::new(words[0]).args(&words[1..]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// `None`: where it is best.
pub(crate) fn hook_named(name: &str) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| hook.name() == name)
}

fn child(space: &str, kind: &str, hook: &str, place: &str) -> Result<Child, Failed> {
    let exe = std::env::current_exe()?;
    Ok(Command::new("ip")
        .args(["netns", "exec", space])
        .arg(exe)
        .env("KVCACHE_CHILD", kind)
        .env("KVCACHE_HOOK", hook)
        .env("KVCACHE_PLACE", place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?)
}

/// Asks a server that runs, and then one that was killed.
pub(crate) fn run(hook: &str, attached: &str) -> Result<(), Failed> {
    let (pair, folder) = (Pair::apart("kvw")?, BpfFolder::new()?);
    let place = folder.path().join("store");
    let place = place.to_str().unwrap();
    let mut server = child(&pair.spaces[0], "server", hook, place)?;
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut line = || -> Result<String, Failed> { Ok(lines.next().ok_or("the server ended")??) };
    assert_eq!(line()?, format!("attached {attached}"));
    let asked = |kind| -> Result<String, Failed> {
        let mut client = child(&pair.spaces[1], "client", kind, place)?;
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
    assert_eq!((socket, xdp + tc, misses), (20, KEYS, 20), "hits do not reach the socket: {counts}");
    assert_eq!((xdp > 0, tc > 0), (attached != "tc", true), "each answers what it has room for: {counts}");
    server.kill()?;
    server.wait()?;
    // The program goes on answering where no server is.
    assert_eq!(asked("hits")?, format!("hits {KEYS} wrong 0 silent 0"));
    kvcache::restart::forget(std::path::Path::new(place))?;
    assert_eq!(asked("one")?, "hits 0 wrong 0 silent 1", "it is detached with its name");
    Ok(())
}

fn key_of(n: u32) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

/// Values of all lengths that a packet holds; at XDP there is room for some.
fn fill(store: &Store) {
    for n in 0..KEYS {
        let (key, filler) = (key_of(n), (n * 2) as usize);
        store.put(Mode::Set, &key, n, Expiry::Never, &seal(&key, n.into(), filler)).unwrap();
    }
}

/// The server's side: the program at the interface, and a socket that only counts.
pub(crate) fn serve() {
    let place = std::env::var_os("KVCACHE_PLACE").unwrap();
    let opened = Cache::open(&config(Keep::Pinned(place.into()), Some("kv0"))).unwrap();
    let Cache { store, fast } = &opened.cache;
    fill(store);
    let socket = UdpSocket::bind("10.99.0.1:11211").unwrap();
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
    // A driver of this kind hands packets of an XDP program on only to a device that has one, too: this passes all.
    let own = Bench::user(Options::default());
    let (quiet, _) = Store::over(kvcache::restart::kernel_arena().unwrap(), Options::default()).unwrap();
    let to = AttachTo {
        interface: "kv1".to_owned(),
        port: 0,
        address: std::net::IpAddr::from([10, 99, 0, 2]),
        hook: Some(Hook::Native),
    };
    let _peer = FastPath::kernel(&quiet, &to).unwrap();
    fill(&own.store);
    let socket = UdpSocket::bind("10.99.0.2:0").unwrap();
    socket.connect("10.99.0.1:11211").unwrap();
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
        match exchange(&socket, &packet.datagram()) {
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

/// The answer, unless there is none for so long that it is none. The first packets may be lost until addresses are known.
fn exchange(socket: &UdpSocket, datagram: &[u8]) -> Option<Vec<u8>> {
    let begin = Instant::now();
    let mut buffer = [0; 2048];
    socket.send(datagram).ok()?;
    while begin.elapsed() < Duration::from_millis(400) {
        if let Ok(len) = socket.recv(&mut buffer) {
            return Some(buffer[..len].to_vec());
        }
    }
    None
}
