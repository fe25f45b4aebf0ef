//! Attaching programs to the interfaces and sockets that the caller names.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use sys::bpf::{BpfError, Errno, Link, LinkTarget, SocketFilter, XdpMode};

use super::KernelProgram;

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AttachTarget<'a> {
    /// Packets that arrive at the network interface with this index, before the network stack (XDP).
    Xdp {
        /// Interface index, in the network namespace of the calling thread.
        interface: u32,
        /// In the driver or in the stack.
        mode: XdpMode,
    },
    /// Packets that come in at this interface, in traffic control (tcx, Linux 6.6).
    TcIngress(u32),
    /// Packets that go out at this interface, in traffic control (tcx, Linux 6.6).
    TcEgress(u32),
    /// Packets received by this socket (socket filter).
    Socket(BorrowedFd<'a>),
}

/// An attached program: detached on drop, unless it is [pinned](Attachment::pin).
#[derive(Debug)]
#[must_use = "dropping it detaches the program"]
pub struct Attachment {
    held: Held,
}

#[derive(Debug)]
enum Held {
    Link(Link),
    Socket(#[allow(dead_code, reason = "held for its drop")] SocketFilter),
}

/// Why a program could not be attached.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The program was not loaded by the kernel engine.
    #[error("only programs in the kernel can be attached")]
    NotInKernel,
    /// The kernel refused.
    #[error(transparent)]
    Link(#[from] BpfError),
    /// What is attached to a socket ends with it: it has no name and cannot be replaced.
    #[error("a program on a socket has no link")]
    NoLink,
    /// The socket refused.
    #[error("SO_ATTACH_BPF: {0}")]
    Socket(Errno),
}

impl Attachment {
    /// Gives the attachment a name in a BPF file system: the program stays attached as long as the name is there.
    ///
    /// # Errors
    /// The name is taken, it does not lie in a BPF file system, or the program is attached to a socket.
    pub fn pin(&self, path: &Path) -> Result<(), AttachError> {
        Ok(sys::bpf::pin(self.link()?.as_fd(), path)?)
    }

    /// The attachment with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn open_pinned(path: &Path) -> Result<Self, AttachError> {
        let link = Link::from_fd(sys::bpf::open_pinned(path)?);
        Ok(Self { held: Held::Link(link) })
    }

    /// Puts another program in the place of the attached one, without a moment in between.
    ///
    /// # Errors
    /// The program has another type, the interface is gone, or the program is attached to a socket.
    pub fn replace(&self, program: &KernelProgram) -> Result<(), AttachError> {
        Ok(self.link()?.update(program.prog())?)
    }

    /// Detaches now, whatever name it has: when this returns, something else can be attached in its place. (A link whose last
    /// name or holder goes away is detached a little later.)
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn detach(self) -> Result<(), AttachError> {
        match self.held {
            Held::Link(link) => Ok(link.detach()?),
            Held::Socket(filter) => {
                drop(filter);
                Ok(())
            }
        }
    }

    fn link(&self) -> Result<&Link, AttachError> {
        match &self.held {
            Held::Link(link) => Ok(link),
            Held::Socket(_) => Err(AttachError::NoLink),
        }
    }
}

impl KernelProgram {
    /// Attaches the program; what is given back detaches it when dropped.
    ///
    /// # Errors
    /// The program has another type, the interface does not exist, or something else is attached there.
    pub fn attach(&self, target: AttachTarget<'_>) -> Result<Attachment, AttachError> {
        let link = match target {
            AttachTarget::Xdp { interface, mode } => LinkTarget::Xdp(interface, mode),
            AttachTarget::TcIngress(interface) => LinkTarget::TcxIngress(interface),
            AttachTarget::TcEgress(interface) => LinkTarget::TcxEgress(interface),
            AttachTarget::Socket(socket) => {
                let filter = SocketFilter::attach(self.prog(), socket).map_err(AttachError::Socket)?;
                return Ok(Attachment { held: Held::Socket(filter) });
            }
        };
        Ok(Attachment { held: Held::Link(Link::create(self.prog(), link)?) })
    }
}
