//! The server itself, killed at any moment under its clients: what it acknowledged is there when the next one serves, nothing is
//! there that was never stored, and the kernel's program answers in between.
//!
//! Every key has one writer, which waits for each answer. So it is known what must be found: what was acknowledged last, or, of the
//! command that was under way at the end, what it did.

use std::fs::{File, Permissions};
use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testkit::wire::{End, free_address};

use crate::client::{Asker, Connection};
use crate::kills::BpfFolder;
use crate::sealed::{seal, unseal};
use crate::setting;
use crate::wire::Ends;

const WRITERS: usize = 3;
const KEYS: usize = 3000;

/// Keys whose values are asked for by one command.
const AT_ONCE: usize = 50;

/// Keys that are asked for by datagrams, of those that are there.
const BY_DATAGRAM: usize = 200;

/// Values that the repair after a kill may cost, on average.
const MOST_LOST: u64 = 1;

/// What is known of a key.
#[derive(Clone, Debug, Default)]
struct Key {
    /// The number of the last value that was ever sent.
    number: u64,
    /// What was acknowledged: the value with this number, or none.
    is: Option<u64>,
    /// What a command without an answer may have made of it.
    may_be: Option<Option<u64>>,
}

/// The same, for those who ask meanwhile.
#[derive(Default)]
struct Promise {
    /// Values up to this number are no longer there once this is read.
    done: AtomicU64,
    /// No value beyond this one was ever sent.
    begun: AtomicU64,
}

/// How a server is started, and where it is reached.
struct Site {
    place: PathBuf,
    ends: Option<Ends>,
    address: SocketAddr,
    log: File,
}

/// What happened over all kills.
#[derive(Debug, Default)]
struct Tally {
    served: u64,
    lost: u64,
    while_serving: u64,
    while_dead: u64,
    silent: u64,
    early: u64,
}

/// With the user engine: the store lies in a file.
pub(crate) fn in_file() -> Result<(), Failed> {
    let file = tempfile::Builder::new().prefix("kvcache").tempfile_in("/dev/shm")?;
    let address = free_address()?;
    let mut site = Site { place: file.path().to_owned(), ends: None, address, log: tempfile::tempfile()? };
    kill_and_restart(&mut site)
}

/// With the kernel engine: the store lies in the kernel, and the program stays attached.
pub(crate) fn pinned() -> Result<(), Failed> {
    let (ends, folder) = (Ends::new("kvk")?, BpfFolder::new()?);
    let place = folder.path().join("store");
    let address = (End::Server.v4(), 11211).into();
    let mut site = Site { place: place.clone(), ends: Some(ends), address, log: tempfile::tempfile()? };
    kill_and_restart(&mut site)?;
    kvcache::restart::forget(&place)?;
    Ok(())
}

/// Nobody's server, without a capability: it serves, and the program answers in its process.
pub(crate) fn unprivileged() -> Result<(), Failed> {
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir()?;
    // Where anybody may run it.
    let server = folder.path().join("kvcache");
    std::fs::copy(env!("CARGO_BIN_EXE_kvcache"), &server)?;
    let address = free_address()?;
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { Path::new("setpriv") } else { &server });
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        command.args(["--inh-caps=-all", "--no-new-privs"]).arg(&server);
    }
    command.args(["--memory", "64MiB", "--port", &address.port().to_string()]);
    let site = Site { place: server.clone(), ends: None, address, log: tempfile::tempfile()? };
    let mut server = command.stdout(Stdio::null()).stderr(site.log.try_clone()?).spawn()?;
    let asked = site.wait(&mut server).and_then(|()| ask_unprivileged(address, server.id(), is_root));
    server.kill()?;
    server.wait()?;
    Ok(asked?)
}

fn ask_unprivileged(address: SocketAddr, process: u32, is_root: bool) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).map_err(text)?;
    assert!(!is_root || status.contains("CapEff:\t0000000000000000"), "{status}");
    let mut connection = Connection::open(address).map_err(text)?;
    let value = seal(b"k", 1, 100);
    assert_eq!(connection.set(b"k", &value).map_err(text)?, "STORED");
    assert_eq!(connection.get(&[b"k".to_vec()]).map_err(text)?, [(b"k".to_vec(), value.clone())]);
    assert_eq!(Asker::new(address).map_err(text)?.get(b"k"), Some(Some(value)));
    assert_eq!(connection.stat("get_hits_program").map_err(text)?, 1);
    Ok(())
}

fn key_of(n: usize) -> Vec<u8> {
    format!("key:{n}:{}", "x".repeat(n % 23)).into_bytes()
}

fn kill_and_restart(site: &mut Site) -> Result<(), Failed> {
    let mut random = fastrand::Rng::with_seed(u64::from(std::process::id()));
    let mut keys = vec![Key::default(); KEYS];
    let promises: Vec<Promise> = (0..KEYS).map(|_| Promise::default()).collect();
    let mut tally = Tally::default();
    let kills = setting("KVCACHE_KILLS", 10);
    for round in 0..=kills {
        let failed = |what: String| format!("round {round}: {what}");
        let mut server = site.start(round)?;
        if round % 8 == 7 {
            // Before it serves, or shortly after.
            std::thread::sleep(Duration::from_micros(random.u64(..150_000)));
            tally.early += 1;
        } else {
            site.wait(&mut server).map_err(failed)?;
            site.inside(|| check(site.address, &mut keys, &promises, &mut tally)).map_err(failed)?;
            if round == kills {
                server.kill()?;
                server.wait()?;
                break;
            }
            let time = Duration::from_micros(random.u64(..300_000));
            load(site, &mut server, &mut keys, &promises, time, &mut tally).map_err(failed)?;
        }
        server.kill()?;
        server.wait()?;
        if site.ends.is_some() {
            site.inside(|| ask_nobody(site.address, &keys, &mut tally)).map_err(failed)?;
        }
    }
    println!("{kills} kills: {tally:?}");
    assert!(tally.served > 0 && tally.while_serving > 0);
    assert!(tally.lost <= MOST_LOST * kills, "{} values were lost by {kills} kills", tally.lost);
    assert!(site.ends.is_none() || tally.while_dead > 100 * tally.silent, "the program went on: {tally:?}");
    Ok(())
}

impl Site {
    /// The next server. In the kernel the program moves to another place with every third.
    fn start(&mut self, round: u64) -> Result<Child, Failed> {
        let server = env!("CARGO_BIN_EXE_kvcache");
        let mut command = match &self.ends {
            None => Command::new(server),
            Some(ends) => ends.wire.command(End::Server, server),
        };
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        command.args(["--memory", "32MiB", "--max-item-size", "64KiB", "--threads", "2"]);
        command.args(["--listen", &ip, "--port", &port]);
        match &self.ends {
            None => command.arg("--state").arg(&self.place),
            Some(ends) => {
                let hook = ["auto", "native", "generic"][(round / 3 % 3) as usize];
                command.args(["--engine", "kernel", "--iface", &ends.wire.device(End::Server)]);
                command.args(["--hook", hook, "--pin"]).arg(&self.place)
            }
        };
        self.log.set_len(0)?;
        self.log.rewind()?;
        let log = self.log.try_clone()?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?)
    }

    /// Waits until it serves.
    fn wait(&self, server: &mut Child) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(30);
        while self.inside(|| Connection::open(self.address).map_err(|error| error.to_string())).is_err() {
            let status = server.try_wait().map_err(|error| error.to_string())?;
            if status.is_some() || Instant::now() > end {
                let mut said = String::new();
                let _ = self.log.try_clone().and_then(|mut log| {
                    log.rewind()?;
                    log.read_to_string(&mut said)
                });
                return Err(format!("the server does not serve ({status:?}): {said}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Does something where clients are.
    fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
        match &self.ends {
            None => act(),
            Some(ends) => ends.wire.inside(End::Client, act).map_err(|error| error.to_string())?,
        }
    }
}

/// Asks for everything, and compares with what is known. What is found is what is known from now on.
fn check(
    server: SocketAddr,
    keys: &mut [Key],
    promises: &[Promise],
    tally: &mut Tally,
) -> Result<(), String> {
    let mut connection = Connection::open(server).map_err(|error| error.to_string())?;
    let mut asker = Asker::new(server).map_err(|error| error.to_string())?;
    let (mut n, mut by_datagram) = (0, 0);
    for some in keys.chunks_mut(AT_ONCE) {
        let names: Vec<_> = (n..n + some.len()).map(key_of).collect();
        let found = connection.get(&names).map_err(|error| error.to_string())?;
        for (key, name) in some.iter_mut().zip(&names) {
            let value = found.iter().find(|(found, _)| found == name).map(|(_, value)| value);
            let is =
                value.map(|value| unseal(name, value).ok_or(format!("{n}: a wrong value"))).transpose()?;
            if is != key.is && key.may_be != Some(is) {
                if is.is_some() {
                    return Err(format!("{n}: {is:?}, of which is known: {key:?}"));
                }
                tally.lost += 1;
            }
            if by_datagram < BY_DATAGRAM && value.is_some_and(|value| value.len() < 1000) {
                by_datagram += 1;
                let again = asker.get(name).flatten().and_then(|value| unseal(name, &value));
                if again.is_some() && again != is {
                    return Err(format!("{n}: {again:?} by datagram, {is:?} by stream"));
                }
            }
            tally.served += u64::from(is.is_some());
            (key.is, key.may_be) = (is, None);
            promises[n].done.store(is.map_or(key.number, |is| is - 1), Ordering::SeqCst);
            n += 1;
        }
    }
    if connection.stat("evictions").map_err(|error| error.to_string())? > 0 {
        return Err("there is room for all".into());
    }
    Ok(())
}

/// Writers and one who asks by datagrams, until the server is killed under them.
fn load(
    site: &Site,
    server: &mut Child,
    keys: &mut [Key],
    promises: &[Promise],
    time: Duration,
    tally: &mut Tally,
) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    let address = site.address;
    std::thread::scope(|scope| {
        let mut shares: Vec<Vec<(usize, &mut Key)>> = (0..WRITERS).map(|_| Vec::new()).collect();
        keys.iter_mut().enumerate().for_each(|(n, key)| shares[n % WRITERS].push((n, key)));
        let writers: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(|| site.inside(|| write(address, share, promises))))
            .collect();
        let reader = scope.spawn(|| site.inside(|| read(address, promises, &stop)));
        std::thread::sleep(time);
        let killed = server.kill().map_err(|error| error.to_string());
        let written = writers.into_iter().try_for_each(|writer| writer.join().unwrap());
        stop.store(true, Ordering::SeqCst);
        tally.while_serving += reader.join().unwrap()?;
        killed.and(written)
    })
}

/// Length of a value, most of which fit a packet.
fn filler(n: usize, number: u64) -> usize {
    let any = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize ^ n;
    if any.is_multiple_of(40) { any % 20_000 } else { any % 300 }
}

/// Sets and deletes, until the connection ends.
fn write(address: SocketAddr, mut share: Vec<(usize, &mut Key)>, promises: &[Promise]) -> Result<(), String> {
    let Ok(mut connection) = Connection::open(address) else { return Ok(()) };
    let mut random = fastrand::Rng::new();
    loop {
        let at = random.usize(..share.len());
        let (n, key) = &mut share[at];
        let (name, promise) = (key_of(*n), &promises[*n]);
        let answer = if random.u8(..8) == 0 {
            key.may_be = Some(None);
            connection.ask(&[b"delete ", &name[..], b"\r\n"].concat())
        } else {
            key.number += 1;
            key.may_be = Some(Some(key.number));
            promise.begun.store(key.number, Ordering::SeqCst);
            connection.set(&name, &seal(&name, key.number, filler(*n, key.number)))
        };
        let Ok(answer) = answer else { return Ok(()) };
        let expected = match (key.may_be, key.is) {
            (Some(Some(_)), _) => "STORED",
            (_, Some(_)) => "DELETED",
            (_, None) => "NOT_FOUND",
        };
        if answer != expected {
            return Err(format!("{n}: {answer}, of which is known: {key:?}"));
        }
        key.is = key.may_be.take().flatten();
        promise.done.store(key.is.map_or(key.number, |is| is - 1), Ordering::SeqCst);
    }
}

/// Asks by datagrams. How many values came: each whole, and none older than what had been acknowledged.
fn read(address: SocketAddr, promises: &[Promise], stop: &AtomicBool) -> Result<u64, String> {
    let mut asker = Asker::new(address).map_err(|error| error.to_string())?;
    let (mut random, mut found) = (fastrand::Rng::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        let n = random.usize(..KEYS);
        let (name, promise) = (key_of(n), &promises[n]);
        let done = promise.done.load(Ordering::SeqCst);
        let Some(Some(value)) = asker.get(&name) else { continue };
        let begun = promise.begun.load(Ordering::SeqCst);
        let number = unseal(&name, &value).ok_or_else(|| format!("{n}: a wrong value by datagram"))?;
        if number <= done || number > begun {
            return Err(format!("{n}: {number} by datagram is none of {}..={begun}", done + 1));
        }
        found += 1;
    }
    Ok(found)
}

/// No server runs: the program answers what was acknowledged.
fn ask_nobody(address: SocketAddr, keys: &[Key], tally: &mut Tally) -> Result<(), String> {
    let mut asker = Asker::new(address).map_err(|error| error.to_string())?;
    let is_short = |n: usize, key: &Key| key.is.is_some_and(|number| filler(n, number) < 1000);
    let known = keys.iter().enumerate().filter(|(n, key)| key.may_be.is_none() && is_short(*n, key));
    for (n, key) in known.step_by(30) {
        let name = key_of(n);
        // A datagram may be lost.
        let Some(Some(value)) = asker.get(&name).or_else(|| asker.get(&name)) else {
            tally.silent += 1;
            continue;
        };
        let number = unseal(&name, &value).ok_or_else(|| format!("{n}: a wrong value by the program"))?;
        if Some(number) != key.is {
            return Err(format!("{n}: {number} by the program, of which is known: {key:?}"));
        }
        tally.while_dead += 1;
    }
    Ok(())
}
