//! userfaultfd in SIGBUS mode: touching a missing page raises a signal in the thread that touches it.

use core::ffi::c_void;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

use crate::{OsError, PAGE_SIZE};

const GROUP: u8 = 0xaa;
const API: rustix::ioctl::Opcode = opcode::read_write::<ApiArgs>(GROUP, 0x3f);
const REGISTER: rustix::ioctl::Opcode = opcode::read_write::<RegisterArgs>(GROUP, 0x00);
const ZEROPAGE: rustix::ioctl::Opcode = opcode::read_write::<ZeropageArgs>(GROUP, 0x04);

const FEATURE_MISSING_SHMEM: u64 = 1 << 5;
const FEATURE_SIGBUS: u64 = 1 << 7;
const MODE_MISSING: u64 = 1;
/// `UFFD_USER_MODE_ONLY`: what an unprivileged process may have. A system call that touches a missing page gets EFAULT.
const USER_MODE_ONLY: u32 = 1;

#[repr(C)]
struct ApiArgs {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArgs {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct ZeropageArgs {
    start: u64,
    len: u64,
    mode: u64,
    zeropage: i64,
}

/// The watch over missing pages of this process's mappings. They stop being watched on drop.
#[derive(Debug)]
pub(crate) struct Uffd {
    fd: OwnedFd,
}

impl Uffd {
    /// Opens one.
    ///
    /// # Errors
    /// The system has none with the needed features, or a sandbox refuses it.
    pub(crate) fn new() -> Result<Self, OsError> {
        let flags = UserfaultfdFlags::CLOEXEC
            | UserfaultfdFlags::NONBLOCK
            | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
        // SAFETY: the descriptor stays in this type, which only ever fills pages of arenas with zeros.
        let fd = unsafe { userfaultfd(flags) }.map_err(OsError::of("userfaultfd"))?;
        let mut args = ApiArgs { api: 0xaa, features: FEATURE_SIGBUS | FEATURE_MISSING_SHMEM, ioctls: 0 };
        // SAFETY: `ApiArgs` is the structure of this request.
        let call = unsafe { Updater::<API, ApiArgs>::new(&mut args) };
        // SAFETY: the request reads and writes its argument only.
        unsafe { ioctl(&fd, call) }.map_err(OsError::of("ioctl(UFFDIO_API)"))?;
        Ok(Self { fd })
    }

    /// Watches a mapping of a shared file.
    pub(crate) fn watch(&self, start: u64, len: u64) -> Result<(), OsError> {
        let mut args = RegisterArgs { start, len, mode: MODE_MISSING, ioctls: 0 };
        // SAFETY: `RegisterArgs` is the structure of this request.
        let call = unsafe { Updater::<REGISTER, RegisterArgs>::new(&mut args) };
        // SAFETY: the request reads and writes its argument only; the range's pages change no contents.
        unsafe { ioctl(&self.fd, call) }.map_err(OsError::of("ioctl(UFFDIO_REGISTER)"))
    }

    /// Makes one page of a watched mapping exist, zeroed; nothing happens if it does. Callable from a signal handler.
    pub(crate) fn fill(&self, start: u64) -> Result<(), OsError> {
        loop {
            let mut args = ZeropageArgs { start, len: PAGE_SIZE, mode: 0, zeropage: 0 };
            // SAFETY: `ZeropageArgs` is the structure of this request.
            let call = unsafe { Updater::<ZEROPAGE, ZeropageArgs>::new(&mut args) };
            // SAFETY: the request writes its argument, and fills a page of a watched mapping only if it is missing.
            match unsafe { ioctl(&self.fd, call) } {
                Ok(()) | Err(Errno::EXIST) => return Ok(()),
                // The mappings of the process were changing.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(OsError { call: "ioctl(UFFDIO_ZEROPAGE)", errno }),
            }
        }
    }
}

const _: () = assert!(size_of::<*const c_void>() == 8, "arguments hold addresses as u64");
