//! Attaching programs, through handles that detach on drop.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::error::BpfError;
use super::raw::{Attr, Command, call, call_fd};
use super::{Capability, Prog};

/// `BPF_XDP`.
pub const ATTACH_XDP: u32 = 37;
/// `BPF_TCX_INGRESS` (Linux 6.6).
pub const ATTACH_TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS` (Linux 6.6).
pub const ATTACH_TCX_EGRESS: u32 = 47;
/// `XDP_FLAGS_SKB_MODE`: run in the network stack, on any device.
pub const XDP_MODE_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`: run in the driver, which must support it.
pub const XDP_MODE_DRIVER: u32 = 1 << 2;

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver where it can, else in the network stack.
    #[default]
    Any,
    /// In the driver (`XDP_FLAGS_DRV_MODE`), or not at all.
    Native,
    /// In the network stack (`XDP_FLAGS_SKB_MODE`).
    Generic,
}

impl XdpMode {
    fn flags(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Native => XDP_MODE_DRIVER,
            Self::Generic => XDP_MODE_GENERIC,
        }
    }
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LinkTarget<'a> {
    /// XDP on the network interface with this index.
    Xdp(u32, XdpMode),
    /// Traffic control, packets coming in on this interface (Linux 6.6).
    TcxIngress(u32),
    /// Traffic control, packets going out (Linux 6.6).
    TcxEgress(u32),
    /// A cgroup directory, with an attach type.
    Cgroup(BorrowedFd<'a>, u32),
    /// A network namespace, with an attach type (`sk_lookup`, `flow_dissector`).
    Netns(BorrowedFd<'a>, u32),
}

/// An attached program. Dropping it detaches.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Link {
    /// Attaches a program.
    ///
    /// # Errors
    /// EBUSY if something else is attached there (XDP), ENODEV without such an interface, EINVAL for a program of
    /// another type, or as the kernel answers; a missing capability is named.
    pub fn create(prog: &Prog, target: LinkTarget<'_>) -> Result<Self, BpfError> {
        let (target, attach_type, flags) = match target {
            LinkTarget::Xdp(ifindex, mode) => (ifindex, ATTACH_XDP, mode.flags()),
            LinkTarget::TcxIngress(ifindex) => (ifindex, ATTACH_TCX_INGRESS, 0),
            LinkTarget::TcxEgress(ifindex) => (ifindex, ATTACH_TCX_EGRESS, 0),
            LinkTarget::Cgroup(fd, attach) | LinkTarget::Netns(fd, attach) => {
                (fd.as_raw_fd().cast_unsigned(), attach, 0)
            }
        };
        let prog_fd = prog.as_fd().as_raw_fd().cast_unsigned();
        let mut attr = LinkCreateAttr { prog_fd, target, attach_type, flags };
        // SAFETY: the attribute holds no address.
        let fd = unsafe { call_fd(&mut attr) }.map_err(|errno| {
            BpfError::from_errno(Command::LinkCreate, errno, &[Capability::Bpf, Capability::NetAdmin])
        })?;
        Ok(Self { fd })
    }

    /// Attaches a raw tracepoint program to the tracepoint of this name.
    ///
    /// # Errors
    /// There is no such tracepoint (ENOENT), or as the kernel answers.
    pub fn raw_tracepoint(prog: &Prog, name: &str) -> Result<Self, BpfError> {
        let name = std::ffi::CString::new(name).map_err(|_| BpfError::Nul { what: "tracepoint" })?;
        let prog_fd = prog.as_fd().as_raw_fd().cast_unsigned();
        let mut attr = RawTracepointAttr { name: name.as_ptr() as u64, prog_fd, _zero: 0 };
        // SAFETY: the name is a zero-terminated string that lives past the call; the kernel only reads it.
        let fd = unsafe { call_fd(&mut attr) }.map_err(|errno| {
            BpfError::from_errno(Command::RawTracepointOpen, errno, &[Capability::Bpf, Capability::Perfmon])
        })?;
        Ok(Self { fd })
    }

    /// Takes over a descriptor of a link.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Puts another program in the place of the one that is attached, without a gap.
    ///
    /// # Errors
    /// EINVAL for a program of another type or what is no link, ENOLINK if the link was detached, or as the kernel answers.
    pub fn update(&self, prog: &Prog) -> Result<(), BpfError> {
        let mut attr = LinkUpdateAttr {
            link_fd: self.fd.as_raw_fd().cast_unsigned(),
            new_prog_fd: prog.as_fd().as_raw_fd().cast_unsigned(),
            flags: 0,
            old_prog_fd: 0,
        };
        // SAFETY: the attribute holds no address.
        let result = unsafe { call(&mut attr) };
        result.map(drop).map_err(|errno| {
            BpfError::from_errno(Command::LinkUpdate, errno, &[Capability::Bpf, Capability::NetAdmin])
        })
    }

    /// Detaches now, whoever else holds the link.
    ///
    /// # Errors
    /// As the kernel answers; the link is closed all the same.
    pub fn detach(self) -> Result<(), BpfError> {
        let mut attr = LinkDetachAttr { link_fd: self.fd.as_raw_fd().cast_unsigned() };
        // SAFETY: the attribute holds no address.
        let result = unsafe { call(&mut attr) };
        result.map(drop).map_err(|errno| BpfError::Call { command: Command::LinkDetach, errno })
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket filter on a socket. Dropping it takes the filter off.
#[derive(Debug)]
pub struct SocketFilter {
    // A duplicate: the caller's socket may be closed first.
    socket: OwnedFd,
}

impl SocketFilter {
    /// Puts a socket filter program on a socket (`SO_ATTACH_BPF`), in place of one that may be there.
    ///
    /// # Errors
    /// As setsockopt(2) answers: EINVAL for a program of another type.
    pub fn attach(prog: &Prog, socket: BorrowedFd<'_>) -> Result<Self, Errno> {
        let socket = rustix::io::fcntl_dupfd_cloexec(socket, 3)?;
        set_option(socket.as_fd(), libc::SO_ATTACH_BPF, prog.as_fd().as_raw_fd())?;
        Ok(Self { socket })
    }
}

impl Drop for SocketFilter {
    fn drop(&mut self) {
        // Fails only if the filter is gone already.
        let _ = set_option(self.socket.as_fd(), libc::SO_DETACH_BPF, 0);
    }
}

fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    let at = core::ptr::from_ref(&value).cast();
    // An int is 4 bytes: the conversion cannot fail.
    let size = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(4);
    // SAFETY: the kernel reads `size` bytes of a live integer.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, at, size) };
    if result == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(errno.map_or(Errno::IO, Errno::from_raw_os_error))
}

#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

// SAFETY: the kernel's struct for this command up to `flags`.
unsafe impl Attr for LinkCreateAttr {
    const COMMAND: Command = Command::LinkCreate;
}

#[repr(C)]
struct RawTracepointAttr {
    name: u64,
    prog_fd: u32,
    _zero: u32,
}

// SAFETY: the kernel's struct for this command up to its padding, spelled out.
unsafe impl Attr for RawTracepointAttr {
    const COMMAND: Command = Command::RawTracepointOpen;
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

// SAFETY: the kernel's struct for this command.
unsafe impl Attr for LinkUpdateAttr {
    const COMMAND: Command = Command::LinkUpdate;
}

#[repr(C)]
struct LinkDetachAttr {
    link_fd: u32,
}

// SAFETY: the kernel's struct for this command.
unsafe impl Attr for LinkDetachAttr {
    const COMMAND: Command = Command::LinkDetach;
}
