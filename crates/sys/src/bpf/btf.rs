//! BTF objects in the kernel.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::Capability;
use super::error::{BpfError, VerifierLog};
use super::ids::{InfoAttr, object_info_with};
use super::raw::{Attr, Command, address, address_mut, call_fd, length};

const LOG_BYTES: usize = 256 << 10;

/// BTF in the kernel, by an owned descriptor.
#[derive(Debug)]
pub struct BtfFd {
    fd: OwnedFd,
}

/// What the kernel says of a BTF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfObjectInfo {
    /// Its id.
    pub id: u32,
    /// `vmlinux`, a module's name, or empty for a program's BTF.
    pub name: String,
    /// Whether it is the kernel's or a module's.
    pub is_kernel: bool,
    /// Bytes of its data.
    pub size: u32,
}

impl BtfFd {
    /// Loads BTF.
    ///
    /// # Errors
    /// The kernel does not accept it, with its log.
    pub fn load(btf: &[u8]) -> Result<Self, BpfError> {
        match attempt(btf, &mut []) {
            Ok(fd) => Ok(Self { fd }),
            Err(errno @ (Errno::PERM | Errno::NOMEM | Errno::BADF)) => {
                Err(BpfError::from_errno(Command::BtfLoad, errno, &[Capability::Bpf]))
            }
            Err(errno) => {
                let mut buffer = vec![0; LOG_BYTES];
                let result = attempt(btf, &mut buffer);
                let truncated = result.as_ref().is_err_and(|&e| e == Errno::NOSPC);
                let log = VerifierLog::from_bytes(&buffer, truncated);
                Err(BpfError::Rejected { command: Command::BtfLoad, errno, log })
            }
        }
    }

    /// The BTF object with this id.
    ///
    /// # Errors
    /// There is none, or `CAP_SYS_ADMIN` is missing.
    pub fn by_id(id: u32) -> Result<Self, BpfError> {
        let mut attr = FdByIdAttr { btf_id: id, next_id: 0, open_flags: 0 };
        // SAFETY: the attribute holds no address.
        let fd = unsafe { call_fd(&mut attr) }
            .map_err(|errno| BpfError::from_errno(Command::BtfFdById, errno, &[Capability::SysAdmin]))?;
        Ok(Self { fd })
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn info(&self) -> Result<BtfObjectInfo, BpfError> {
        let mut name = [0_u8; 64];
        let ask = InfoLayout {
            name: address_mut(&mut name),
            name_len: length(name.len()),
            ..InfoLayout::default()
        };
        let info = object_info_with(self.fd.as_fd(), ask)?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned();
        Ok(BtfObjectInfo { id: info.id, name, is_kernel: info.kernel_btf != 0, size: info.btf_size })
    }

    /// The BTF's bytes, as they were loaded.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn data(&self) -> Result<Vec<u8>, BpfError> {
        let mut data = vec![0; self.info()?.size as usize];
        let ask =
            InfoLayout { btf: address_mut(&mut data), btf_size: length(data.len()), ..InfoLayout::default() };
        object_info_with(self.fd.as_fd(), ask)?;
        Ok(data)
    }
}

impl AsFd for BtfFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn attempt(btf: &[u8], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut attr = BtfLoadAttr {
        btf: address(btf),
        log_buf: address_mut(log),
        btf_size: length(btf.len()),
        log_size: length(log.len()),
        log_level: u32::from(!log.is_empty()),
        _zero: 0,
    };
    // SAFETY: both addresses come from borrowed slices with their lengths beside them; the log's is writable.
    unsafe { call_fd(&mut attr) }
}

#[repr(C)]
struct BtfLoadAttr {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    _zero: u32,
}

// SAFETY: the kernel's struct for this command up to `btf_log_level` and the output after it, `btf_log_true_size`.
unsafe impl Attr for BtfLoadAttr {
    const COMMAND: Command = Command::BtfLoad;
}

#[repr(C)]
struct FdByIdAttr {
    btf_id: u32,
    next_id: u32,
    open_flags: u32,
}

// SAFETY: the kernel's struct for this command.
unsafe impl Attr for FdByIdAttr {
    const COMMAND: Command = Command::BtfFdById;
}

/// `struct bpf_btf_info`.
#[derive(Default)]
#[repr(C)]
struct InfoLayout {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

// SAFETY: a `repr(C)` struct of integers without padding, the kernel's `struct bpf_btf_info`; both makers above set
// addresses of writable slices with their lengths.
unsafe impl InfoAttr for InfoLayout {}
