//! Who is measured: memcached and the cache, by every way a GET can take through them.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bpf_arena::kernel::Attachment;
use bpf_arena::{App, Engine, Object};
use clap::ValueEnum;
use serde::Serialize;
use testkit::wire::End;

use super::topology::{PORT, Stage, cpu_time_of_process};
use crate::kvcache::place::want;
use crate::kvcache::servers::{Server, build};

/// One way a GET can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    /// memcached, over UDP.
    Memcached,
    /// memcached, over TCP.
    MemcachedTcp,
    /// The cache's server without program, over UDP.
    None,
    /// The cache's server without program, over TCP.
    NoneTcp,
    /// The program in the server's process.
    User,
    /// The program in the driver (XDP) at the server's end of the cable.
    Xdp,
    /// The program in traffic control there.
    Tc,
    /// No server: every request comes back as it is. How fast requests can be sent and answers received.
    Reflect,
}

impl Side {
    /// As it is called in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memcached => "memcached UDP",
            Self::MemcachedTcp => "memcached TCP",
            Self::None => "kvcache none UDP",
            Self::NoneTcp => "kvcache none TCP",
            Self::User => "kvcache user UDP",
            Self::Xdp => "kvcache kernel (XDP) UDP",
            Self::Tc => "kvcache kernel (tc) UDP",
            Self::Reflect => "(reflected)",
        }
    }

    pub(super) fn is_tcp(self) -> bool {
        matches!(self, Self::MemcachedTcp | Self::NoneTcp)
    }

    fn is_memcached(self) -> bool {
        matches!(self, Self::Memcached | Self::MemcachedTcp)
    }

    fn hook(self) -> Option<&'static str> {
        match self {
            Self::Xdp => Some("native"),
            Self::Tc => Some("tc"),
            _ => None,
        }
    }

    fn engine(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Xdp | Self::Tc => "kernel",
            _ => "none",
        }
    }
}

/// What is needed to start any of them.
pub(super) struct Binaries {
    kvcache: PathBuf,
    programs: App,
    log: PathBuf,
}

/// A side that runs; it ends when this is dropped.
pub(super) enum Running {
    Server(Server),
    Reflector { _attached: Attachment },
}

impl Binaries {
    /// Builds the cache, optimised; memcached is there or it is said how to get it. `folder`: for logs.
    pub(super) fn find(folder: &Path, sides: &[Side]) -> anyhow::Result<Self> {
        if sides.iter().any(|side| side.is_memcached()) {
            want(&["memcached"], "memcached")?;
        }
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/reflect.bpf.o");
        Ok(Self {
            kvcache: build(&["--release"])?,
            programs: Object::open(&programs)?.load(Engine::kernel()?)?,
            log: folder.join("server.log"),
        })
    }

    /// Starts a side. `memory`: what it may use, in MiB.
    pub(super) fn start(&self, side: Side, stage: &Stage, memory: usize) -> anyhow::Result<Running> {
        if side == Side::Reflect {
            let attached = stage.attach(End::Server, self.programs.program("reflect")?)?;
            return Ok(Running::Reflector { _attached: attached });
        }
        let mut command = stage.server_command();
        let (address, port) = (stage.address().ip().to_string(), PORT.to_string());
        if side.is_memcached() {
            // As root, because the signal at this process's end is lost with a change of users.
            command.args(["memcached", "-u", "root", "-t", "1", "-m", &memory.to_string()]);
            command.args(["-l", &address, "-p", &port, "-U", &port]);
        } else {
            command.arg(&self.kvcache).args(["--threads", "1", "--memory", &format!("{memory}MiB")]);
            command.args(["--listen", &address, "--port", &port, "--engine", side.engine()]);
            if let Some(hook) = side.hook() {
                command.args(["--iface", &stage.device(End::Server), "--hook", hook]);
            }
        }
        command.stderr(File::create(&self.log).with_context(|| self.log.display().to_string())?);
        let is_reached = || {
            let reached = stage
                .at(End::Client, || TcpStream::connect_timeout(&stage.address(), Duration::from_secs(1)));
            matches!(reached, Ok(Ok(_)))
        };
        let server = Server::run(side.name(), command, PORT, is_reached).with_context(|| self.said())?;
        Ok(Running::Server(server))
    }

    /// What the server wrote.
    fn said(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Running {
    /// CPU time of the server's process so far.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        match self {
            Self::Server(server) => cpu_time_of_process(server.process()),
            Self::Reflector { .. } => Ok(Duration::ZERO),
        }
    }
}

/// The sides that are to run: those named, or all; memcached over UDP always, because others are compared with it.
pub(super) fn chosen(named: &[Side]) -> Vec<Side> {
    let is_chosen = |side: &Side| named.is_empty() || *side == Side::Memcached || named.contains(side);
    Side::value_variants().iter().copied().filter(is_chosen).collect()
}
