//! Servers on free ports of the loopback interface, which end when they are dropped.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// A running server; TCP and UDP share the port.
pub(super) struct Server {
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
    /// The cache, as it is built here, with one worker.
    pub(super) fn kvcache(arguments: &[&str]) -> anyhow::Result<Self> {
        let binary = build()?;
        Self::start("kvcache", |port| {
            let mut command = Command::new(&binary);
            command.args(["--threads", "1", "--memory", "64MiB", "--port", &port]).args(arguments);
            command
        })
    }

    /// Debian's memcached, with one worker.
    pub(super) fn memcached(arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start("memcached", |port| {
            let mut command = Command::new("memcached");
            command
                .args(["-u", "nobody", "-t", "1", "-l", "127.0.0.1", "-p", &port, "-U", &port])
                .args(arguments);
            command
        })
    }

    fn start(name: &str, command: impl Fn(String) -> Command) -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = command(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { child, port };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended: {status}");
            }
            ensure!(Instant::now() < end, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

/// A port that is free for TCP and UDP.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free for both TCP and UDP")
}

fn build() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--quiet", "--package", "kvcache", "--message-format=json"])
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
