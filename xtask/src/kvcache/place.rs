//! Where a server and its clients are: on the loopback interface, or, for the program in the kernel, at the ends of a cable between
//! two network namespaces.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bpf_arena::Object;
use bpf_arena::kernel::Attachment;
use clap::ValueEnum;
use testkit::wire::{End, Wire, free_address, xdp};

use super::servers::{Server, build};

/// Who runs the cache's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// Nobody.
    None,
    /// The server's process.
    User,
    /// The kernel, at XDP at the server's end of a cable and in traffic control behind it.
    Xdp,
    /// The kernel, in traffic control at the server's end of a cable.
    Tc,
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::User => "user",
            Self::Xdp => "kernel, XDP",
            Self::Tc => "kernel, tc",
        }
    }

    /// What makes the cache use it.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::None => &["--engine", "none"],
            Self::User => &["--engine", "user"],
            Self::Xdp => &["--engine", "kernel", "--hook", "native"],
            Self::Tc => &["--engine", "kernel", "--hook", "tc"],
        }
    }

    fn is_in_kernel(self) -> bool {
        matches!(self, Self::Xdp | Self::Tc)
    }

    /// Those that were asked for, or all that work here; which do not is printed.
    pub(super) fn chosen(named: &[Self]) -> Vec<Self> {
        if !named.is_empty() {
            return named.to_vec();
        }
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            println!("the kernel engine is left out: it needs root, for network namespaces and programs");
        }
        Self::value_variants().iter().copied().filter(|engine| is_root || !engine.is_in_kernel()).collect()
    }
}

/// Where servers and clients are.
pub(super) struct Place {
    engine: Engine,
    /// The program at the client's end, without which that takes nothing that XDP sends.
    _taker: Option<Attachment>,
    wire: Option<Wire>,
}

impl Place {
    /// The place that an engine wants.
    pub(super) fn of(engine: Engine) -> anyhow::Result<Self> {
        if !engine.is_in_kernel() {
            return Ok(Self { engine, _taker: None, wire: None });
        }
        let wire = Wire::new("kvx").context("two network namespaces (`apt install iproute2`; needs root)")?;
        let app = Object::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/reflect.bpf.o"))?
            .load(bpf_arena::Engine::kernel()?)?;
        let taker = wire.attach(End::Client, app.program("pass")?, xdp)?;
        Ok(Self { engine, _taker: Some(taker), wire: Some(wire) })
    }

    /// Where servers listen.
    pub(super) fn address(&self) -> IpAddr {
        if self.wire.is_some() { End::Server.v4().into() } else { Ipv4Addr::LOCALHOST.into() }
    }

    /// Does something where clients are: sockets that it opens and commands that it runs are there, too.
    pub(super) fn at_client<T: Send>(
        &self,
        act: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        match &self.wire {
            None => act(),
            Some(wire) => wire.inside(End::Client, act)?,
        }
    }

    /// The cache, as it is built here, with one worker.
    pub(super) fn kvcache(&self, arguments: &[&str]) -> anyhow::Result<Server> {
        let binary = build(&[])?;
        let port = free_address()?.port();
        let mut command = self.command(&binary.display().to_string());
        command.args(["--threads", "1", "--port", &port.to_string()]).args(self.engine.arguments());
        command.args(["--listen", &self.address().to_string()]).args(arguments);
        if let Some(wire) = &self.wire {
            command.args(["--iface", &wire.device(End::Server)]);
        }
        self.start("kvcache", command, port)
    }

    /// Debian's memcached, with one worker.
    pub(super) fn memcached(&self, arguments: &[&str]) -> anyhow::Result<Server> {
        let (address, port) = (self.address().to_string(), free_address()?.port());
        let mut command = self.command("memcached");
        let number = port.to_string();
        command.args(["-u", "nobody", "-t", "1", "-l", &address, "-p", &number, "-U", &number]);
        command.args(arguments);
        self.start("memcached", command, port)
    }

    fn command(&self, program: &str) -> Command {
        self.wire.as_ref().map_or_else(|| Command::new(program), |wire| wire.command(End::Server, program))
    }

    fn start(&self, name: &str, mut command: Command, port: u16) -> anyhow::Result<Server> {
        command.stderr(Stdio::null());
        let to = (self.address(), port).into();
        let reach = || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1))?);
        Server::run(name, command, port, || self.at_client(reach).is_ok())
    }
}

/// Says what to install if one of these commands is not there.
pub(crate) fn want(commands: &[&str], packages: &str) -> anyhow::Result<()> {
    for command in commands {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(command).is_file()));
        ensure!(found, "there is no `{command}`: `apt install {packages}`");
    }
    Ok(())
}
