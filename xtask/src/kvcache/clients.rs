//! Real clients, unchanged: memccapable of libmemcached-tools, and the integration tests that pymemcache brings along.
//!
//! Each runs against memcached and against the cache with every engine that works here; what memcached passes is the bar.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::servers::Server;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Python that has pymemcache and pytest; without it both are installed into a temporary environment.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Print every test, not only those that do not pass everywhere.
    #[arg(long)]
    all: bool,
}

/// Whether a test passed, by its name.
type Results = BTreeMap<String, bool>;

/// Runs the clients and prints a table. Fails if memcached passes what the cache does not, but for the binary protocol, which
/// the cache does not speak.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let python = args.python.clone().map_or_else(|| install(folder.path()), Ok)?;
    let mut sides =
        vec![("memcached".to_owned(), everything(&Server::memcached(&[])?, &python, &["-a", "-b"])?)];
    for engine in ["none", "user"] {
        let server = Server::kvcache(&["--engine", engine])?;
        sides.push((format!("kvcache {engine}"), everything(&server, &python, &["-a"])?));
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

/// All clients; `protocols`: the options for memccapable, one for each protocol that the server speaks.
fn everything(server: &Server, python: &Path, protocols: &[&str]) -> anyhow::Result<Results> {
    let mut results = pymemcache(server, python)?;
    for protocol in protocols {
        results.extend(memccapable(server, protocol)?);
    }
    Ok(results)
}

/// Lines like `ascii get    [pass]`.
fn memccapable(server: &Server, protocol: &str) -> anyhow::Result<Results> {
    let output = Command::new("timeout")
        .args(["60", "memccapable", protocol, "-t", "1", "-h", "127.0.0.1", "-p", &server.port.to_string()])
        .output()
        .context("cannot run memccapable, of libmemcached-tools")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let result = |line: &str| {
        let (name, rest) = line.split_once('[')?;
        let (group, test) = name.trim().split_once(' ')?;
        Some((format!("memccapable {group}: {test}"), rest.starts_with("pass")))
    };
    Ok(text.lines().filter_map(result).collect())
}

/// Lines like `test_integration.py::test_misc[socket-Client-] PASSED`.
fn pymemcache(server: &Server, python: &Path) -> anyhow::Result<Results> {
    let place = Command::new(python)
        .args(["-c", "import os, pymemcache.test as t; print(os.path.dirname(t.__file__))"])
        .output()?;
    let folder = String::from_utf8(place.stdout)?;
    let output = Command::new("timeout")
        .arg("120")
        .arg(python)
        .args(["-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider", "test_integration.py"])
        .args(["--server", "127.0.0.1", "--port", &server.port.to_string()])
        .current_dir(folder.trim())
        .output()?;
    let result = |line: &str| {
        let (name, rest) = line.strip_prefix("test_integration.py::")?.split_once(' ')?;
        let passed = rest.starts_with("PASSED");
        (passed || rest.starts_with("FAILED") || rest.starts_with("ERROR"))
            .then(|| (format!("pymemcache: {name}"), passed))
    };
    let results: Results = String::from_utf8_lossy(&output.stdout).lines().filter_map(result).collect();
    ensure!(
        !results.is_empty(),
        "pymemcache's tests did not run: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(results)
}

/// pymemcache in an environment of its own.
fn install(folder: &Path) -> anyhow::Result<PathBuf> {
    let place = folder.join("python");
    let status = Command::new("python3").args(["-m", "venv"]).arg(&place).status()?;
    ensure!(status.success(), "python3 makes no environment: is python3-venv installed?");
    let python = place.join("bin/python");
    let packages = ["-m", "pip", "install", "--quiet", "pymemcache", "pytest"];
    let status = Command::new(&python).args(packages).status()?;
    ensure!(status.success(), "pymemcache cannot be installed");
    Ok(python)
}
