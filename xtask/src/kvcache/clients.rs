//! Real clients, unchanged: memccapable and memcaslap of libmemcached-tools, and the integration tests that pymemcache brings along.
//! memcaslap asks over UDP, too, and looks at every value that it gets.
//!
//! Each runs against memcached and against the cache with every engine that works here; what memcached passes is the bar.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::place::{Engine, Place, want};
use super::servers::stat;

/// What is installed for the tests that pymemcache brings along.
const PACKAGES: [&str; 2] = ["pymemcache==4.0.0", "pytest"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Python that has pymemcache and pytest; without it both are installed into a temporary environment.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The cache's engines; all that work here if none is named.
    #[arg(long, value_enum)]
    engine: Vec<Engine>,
    /// Print every test, not only those that do not pass everywhere.
    #[arg(long)]
    all: bool,
}

/// Whether a test passed, by its name.
type Results = BTreeMap<String, bool>;

/// Runs the clients and prints a table. Fails if memcached passes what the cache does not, but for the binary protocol, which
/// the cache does not speak.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    want(&["memcached", "memccapable", "memcaslap", "timeout"], "memcached libmemcached-tools coreutils")?;
    let folder = tempfile::tempdir()?;
    let python = args.python.clone().map_or_else(|| install(folder.path()), Ok)?;
    let clients = Clients { python: &python, folder: folder.path() };
    let place = Place::of(Engine::None)?;
    let memcached = place.memcached(&[])?;
    let bar = clients.everything((place.address(), memcached.port).into(), &["-a", "-b"])?;
    let mut sides = vec![("memcached".to_owned(), bar)];
    for engine in Engine::chosen(&args.engine) {
        let place = Place::of(engine)?;
        let server = place.kvcache(&["--memory", "64MiB"])?;
        let to = (place.address(), server.port).into();
        let results = place.at_client(|| clients.everything(to, &["-a"]))?;
        if engine != Engine::None {
            let hits = place.at_client(|| stat(to, "get_hits_program"))?;
            println!("kvcache {}: {hits} hits by the program", engine.name());
            ensure!(hits > 0, "the program answered nothing");
        }
        sides.push((format!("kvcache\n{}", engine.name()), results));
    }
    report(&sides, args.all)
}

fn report(sides: &[(String, Results)], all: bool) -> anyhow::Result<()> {
    let [(_, bar), ours @ ..] = sides else { return Ok(()) };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(std::iter::once("test").chain(sides.iter().map(|(name, _)| name.as_str())));
    let word = |results: &Results, name: &str| match results.get(name) {
        Some(true) => "passes",
        Some(false) => "fails",
        None => "not run",
    };
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut missed = Vec::new();
    for (name, wanted) in bar {
        let group = name.split_once(": ").map_or("", |(group, _)| group);
        let counts = groups.entry(group).or_insert_with(|| vec![0; sides.len() + 1]);
        for (count, passed) in counts.iter_mut().zip(sides.iter().map(|(_, results)| results.get(name))) {
            *count += usize::from(passed == Some(&true));
        }
        let differs = ours.iter().any(|(_, results)| results.get(name) != Some(wanted));
        if differs && *wanted && !name.starts_with("memccapable binary") {
            missed.push(name.clone());
        }
        if all || (differs && !name.starts_with("memccapable binary")) {
            table.add_row(
                std::iter::once(name.as_str()).chain(sides.iter().map(|(_, results)| word(results, name))),
            );
        }
    }
    for (group, counts) in groups {
        let total = bar.keys().filter(|name| name.starts_with(&format!("{group}: "))).count();
        let cells = counts.iter().take(sides.len()).map(|count| format!("{count} of {total}"));
        table.add_row(std::iter::once(group.to_owned()).chain(cells));
    }
    println!("{table}");
    ensure!(missed.is_empty(), "memcached passes, and the cache does not: {}", missed.join(", "));
    Ok(())
}

/// The clients, and a folder for what they need.
struct Clients<'a> {
    python: &'a Path,
    folder: &'a Path,
}

impl Clients<'_> {
    /// All clients; `protocols`: the options for memccapable, one for each protocol that the server speaks.
    fn everything(&self, server: SocketAddr, protocols: &[&str]) -> anyhow::Result<Results> {
        let mut results = self.pymemcache(server)?;
        for protocol in protocols {
            results.extend(memccapable(server, protocol)?);
        }
        for (name, options) in LOADS {
            results.insert(format!("memcaslap: {name}"), memcaslap(server, options)?);
        }
        Ok(results)
    }

    /// Lines like `test_integration.py::test_misc[socket-Client-] PASSED`.
    fn pymemcache(&self, server: SocketAddr) -> anyhow::Result<Results> {
        let place = Command::new(self.python)
            .args(["-c", "import os, pymemcache.test as t; print(os.path.dirname(t.__file__))"])
            .output()?;
        let folder = String::from_utf8(place.stdout)?;
        let output = Command::new("timeout")
            .arg("120")
            .arg(self.python)
            .args(["-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider", "test_integration.py"])
            .args(["--server", &server.ip().to_string(), "--port", &server.port().to_string()])
            .current_dir(folder.trim())
            .env("TMPDIR", self.folder)
            .output()?;
        let result = |line: &str| {
            let (name, rest) = line.strip_prefix("test_integration.py::")?.split_once(' ')?;
            let passed = rest.starts_with("PASSED");
            (passed || rest.starts_with("FAILED") || rest.starts_with("ERROR"))
                .then(|| (format!("pymemcache: {name}"), passed))
        };
        let results: Results = String::from_utf8_lossy(&output.stdout).lines().filter_map(result).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!results.is_empty(), "pymemcache's tests did not run: {said}");
        Ok(results)
    }
}

/// Lines like `ascii get    [pass]`.
fn memccapable(server: SocketAddr, protocol: &str) -> anyhow::Result<Results> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let output = Command::new("timeout")
        .args(["60", "memccapable", protocol, "-t", "1", "-h", &host, "-p", &port])
        .output()
        .context("memccapable")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let result = |line: &str| {
        let (name, rest) = line.split_once('[')?;
        let (group, test) = name.trim().split_once(' ')?;
        Some((format!("memccapable {group}: {test}"), rest.starts_with("pass")))
    };
    Ok(text.lines().filter_map(result).collect())
}

/// What memcaslap does, and its options for it.
const LOADS: [(&str, &[&str]); 4] = [
    ("sets and gets by TCP", &[]),
    ("sets and gets by UDP", &["--udp"]),
    ("sets and gets of short values by UDP", &["--udp", "--fixed_size=100"]),
    ("sets by TCP, gets of ten keys by UDP", &["--facebook", "--division=10", "--fixed_size=100"]),
];

/// Whether it got everything that it had set, as it was.
fn memcaslap(server: SocketAddr, options: &[&str]) -> anyhow::Result<bool> {
    let output = Command::new("timeout")
        .args(["60", "memcaslap", "-s", &server.to_string(), "-T", "1", "-c", "4", "-x", "20000"])
        .arg("--verify=1.0")
        .args(options)
        .output()
        .context("memcaslap")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        line.trim().parse::<u64>().ok()
    };
    let none = ["get_misses", "verify_misses", "verify_failed"].map(number);
    // Answers by UDP may be lost; values may not.
    Ok(output.status.success() && none == [Some(0); 3] && number("cmd_get").is_some_and(|gets| gets > 0))
}

/// pymemcache in an environment of its own.
fn install(folder: &Path) -> anyhow::Result<PathBuf> {
    want(&["python3"], "python3 python3-venv")?;
    let place = folder.join("python");
    let status = Command::new("python3").args(["-m", "venv"]).arg(&place).status()?;
    ensure!(status.success(), "python3 makes no environment: `apt install python3-venv`");
    let python = place.join("bin/python");
    let status = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES)
        .status()?;
    ensure!(
        status.success(),
        "{} cannot be installed; `--python` names one that has them",
        PACKAGES.join(" ")
    );
    Ok(python)
}
