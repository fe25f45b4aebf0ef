//! Servers that end when they are dropped.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// A running server; TCP and UDP share the port.
pub(crate) struct Server {
    child: Child,
    pub(super) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to be done then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Runs a server until it can be reached.
    pub(crate) fn run(
        name: &str,
        mut command: Command,
        port: u16,
        is_reached: impl Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut server = Self { child: child.with_context(|| format!("cannot start {name}"))?, port };
        let end = Instant::now() + Duration::from_secs(20);
        while !is_reached() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended: {status}");
            }
            ensure!(Instant::now() < end, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

/// Builds the cache, with these options of cargo's.
pub(crate) fn build(options: &[&str]) -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--quiet", "--package", "kvcache", "--message-format=json"])
        .args(options)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the cache does not build");
    let artifact = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    };
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().rev().find_map(artifact).context("cargo names no executable")
}

/// A number of the server's `stats`.
pub(super) fn stat(server: SocketAddr, name: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"stats\r\nquit\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let value =
        text.lines().find_map(|line| line.strip_prefix("STAT ")?.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no `{name}` in the server's numbers"))?.trim().parse()?)
}
