//! Two network namespaces and a cable between them: a server's end and a client's.
//!
//! Everything is made by the command `ip`, under names that carry this process's number, and is gone when the [`Wire`] is dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;

use bpf_arena::Program;
use bpf_arena::kernel::{AttachError, AttachTarget, Attachment, XdpMode};
use nix::net::if_::if_nametoindex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// An end of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where a server is to run.
    Server,
    /// Where its clients are.
    Client,
}

/// Why there is no cable, or no way to one of its ends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A command cannot be run.
    #[error("{words}: {source}")]
    Command {
        /// The command.
        words: String,
        /// Why not.
        source: io::Error,
    },
    /// A command did not do what it was asked for.
    #[error("{words}: {said}")]
    Refused {
        /// The command.
        words: String,
        /// What it wrote.
        said: String,
    },
    /// A thread cannot be in a network namespace.
    #[error("the network namespace {space}: {source}")]
    Enter {
        /// The namespace's name.
        space: String,
        /// Why not.
        source: io::Error,
    },
    /// A program cannot be attached to an end.
    #[error("attaching to {device}: {source}")]
    Attach {
        /// The interface there.
        device: String,
        /// Why not.
        source: AttachError,
    },
}

/// The cable; it and its namespaces go when this is dropped.
#[derive(Debug)]
pub struct Wire {
    name: String,
}

impl Wire {
    /// Lays a cable between two new namespaces, with addresses of both versions. `name`: some letters, for those who look.
    ///
    /// # Errors
    /// The command `ip` is not there, or not permitted to.
    pub fn new(name: &str) -> Result<Self, WireError> {
        let wire = Self { name: format!("{name}{}", std::process::id()) };
        for end in [End::Server, End::Client] {
            run(&["ip", "netns", "add", &wire.space(end)])?;
        }
        let [near, far] = [End::Server, End::Client].map(|end| wire.device(end));
        let [here, there] = [End::Server, End::Client].map(|end| wire.space(end));
        run(&[
            "ip", "-n", &here, "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &there,
        ])?;
        for end in [End::Server, End::Client] {
            let (space, device) = (wire.space(end), wire.device(end));
            let [v4, v6] = [format!("{}/24", end.v4()), format!("{}/64", end.v6())];
            run(&["ip", "-n", &space, "address", "add", &v4, "dev", &device])?;
            run(&["ip", "-n", &space, "address", "add", &v6, "dev", &device, "nodad"])?;
            for device in ["lo", &device] {
                run(&["ip", "-n", &space, "link", "set", device, "up"])?;
            }
        }
        Ok(wire)
    }

    /// The name of an end's namespace.
    #[must_use]
    pub fn space(&self, end: End) -> String {
        format!("{}{}", self.name, end.letter())
    }

    /// The name of an end's interface.
    #[must_use]
    pub fn device(&self, end: End) -> String {
        // There is room for 15 letters.
        format!("w{}{}", std::process::id(), end.letter())
    }

    /// A command that runs a program at an end.
    #[must_use]
    pub fn command(&self, end: End, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(end)]).arg(program);
        command
    }

    /// Does something on a thread at this end. Sockets that it opens stay at this end.
    ///
    /// # Errors
    /// The thread cannot get there.
    pub fn inside<T: Send>(&self, end: End, act: impl FnOnce() -> T + Send) -> Result<T, WireError> {
        let space = self.space(end);
        let enter = || -> io::Result<()> {
            let place = File::open(format!("/run/netns/{space}"))?;
            Ok(move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter().map_err(|source| WireError::Enter { space: space.clone(), source })?;
                Ok(act())
            });
            done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The number of an end's interface, in its namespace.
    ///
    /// # Errors
    /// As [`Wire::inside`].
    pub fn interface(&self, end: End) -> Result<u32, WireError> {
        let found = self.inside(end, || if_nametoindex(self.device(end).as_str()))?;
        found.map_err(|error| WireError::Enter { space: self.space(end), source: error.into() })
    }

    /// Attaches a program in the kernel to an end: to its interface, given as a number.
    ///
    /// # Errors
    /// The program is not in the kernel, or the kernel refuses.
    pub fn attach(
        &self,
        end: End,
        program: &Program,
        target: impl FnOnce(u32) -> AttachTarget<'static> + Send,
    ) -> Result<Attachment, WireError> {
        let interface = self.interface(end)?;
        let refused = |source| WireError::Attach { device: self.device(end), source };
        let program = program.kernel().ok_or(AttachError::NotInKernel).map_err(refused)?;
        self.inside(end, || program.attach(target(interface)))?.map_err(refused)
    }
}

/// XDP in the driver. The driver of a cable hands packets of one end's program on only if the other end has one, too.
#[must_use]
pub fn xdp(interface: u32) -> AttachTarget<'static> {
    AttachTarget::Xdp { interface, mode: XdpMode::Native }
}

/// An address of the loopback interface whose port is free for TCP and UDP.
///
/// # Errors
/// There is none.
pub fn free_address() -> io::Result<SocketAddr> {
    for _ in 0..100 {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free for both TCP and UDP"))
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in [End::Server, End::Client] {
            // One that was never made is not there to be removed.
            let _ = run(&["ip", "netns", "del", &self.space(end)]);
        }
    }
}

impl End {
    /// Its address.
    #[must_use]
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.number())
    }

    /// Its address of the newer version.
    #[must_use]
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, self.number().into())
    }

    fn number(self) -> u8 {
        match self {
            Self::Server => 1,
            Self::Client => 2,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Server => 's',
            Self::Client => 'c',
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run, or ends with another status than success.
pub fn run(words: &[&str]) -> Result<(), WireError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|source| WireError::Command { words: words.join(" "), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(WireError::Refused { words: words.join(" "), said })
}
