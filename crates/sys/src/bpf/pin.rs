//! Names of objects in a BPF file system, by which they outlive the processes that made them.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Capability;
use super::error::BpfError;
use super::raw::{Attr, Command, call, call_fd};

/// Gives a map, program or link a name in a BPF file system. It exists as long as the name does.
///
/// # Errors
/// EEXIST if the name is taken, EPERM outside of a BPF file system, or as the kernel answers.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<(), BpfError> {
    let name = name_of(path)?;
    let mut attr =
        PinAttr { pathname: name.as_ptr() as u64, bpf_fd: object.as_raw_fd().cast_unsigned(), flags: 0 };
    // SAFETY: the name is a zero-terminated string that lives past the call; the kernel only reads it.
    let result = unsafe { call(&mut attr) };
    result.map(drop).map_err(|errno| BpfError::from_errno(Command::ObjPin, errno, &[Capability::Bpf]))
}

/// A new descriptor of the object with this name.
///
/// # Errors
/// ENOENT without such a name, EINVAL if it is no object's, or as the kernel answers.
pub fn open_pinned(path: &Path) -> Result<OwnedFd, BpfError> {
    let name = name_of(path)?;
    let mut attr = GetAttr { pathname: name.as_ptr() as u64, bpf_fd: 0, flags: 0 };
    // SAFETY: as in `pin`; the command gives a new descriptor.
    let result = unsafe { call_fd(&mut attr) };
    result.map_err(|errno| BpfError::from_errno(Command::ObjGet, errno, &[Capability::Bpf]))
}

fn name_of(path: &Path) -> Result<CString, BpfError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| BpfError::Nul { what: "path" })
}

#[repr(C)]
struct PinAttr {
    pathname: u64,
    bpf_fd: u32,
    flags: u32,
}

// SAFETY: the kernel's struct for this command up to `file_flags`.
unsafe impl Attr for PinAttr {
    const COMMAND: Command = Command::ObjPin;
}

#[repr(C)]
struct GetAttr {
    pathname: u64,
    bpf_fd: u32,
    flags: u32,
}

// SAFETY: the kernel's struct for this command up to `file_flags`.
unsafe impl Attr for GetAttr {
    const COMMAND: Command = Command::ObjGet;
}
