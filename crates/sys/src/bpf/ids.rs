//! Objects by id, and what the kernel says of an object.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::Capability;
use super::error::BpfError;
use super::raw::{Attr, Command, call, length};

/// A kind of kernel object that has ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// Programs.
    Prog,
    /// Maps.
    Map,
    /// BTF.
    Btf,
    /// Links.
    Link,
}

/// Ids of every object of a kind in the system, ascending: what bpftool lists.
///
/// # Errors
/// `CAP_SYS_ADMIN` is missing, or as the kernel answers.
pub fn object_ids(kind: ObjectKind) -> Result<Vec<u32>, BpfError> {
    let mut ids = Vec::new();
    let mut last = 0;
    loop {
        let next = match kind {
            ObjectKind::Prog => next_id::<{ Command::ProgNextId as i32 }>(last),
            ObjectKind::Map => next_id::<{ Command::MapNextId as i32 }>(last),
            ObjectKind::Btf => next_id::<{ Command::BtfNextId as i32 }>(last),
            ObjectKind::Link => next_id::<{ Command::LinkNextId as i32 }>(last),
        };
        match next {
            Ok(id) => {
                ids.push(id);
                last = id;
            }
            Err((_, Errno::NOENT)) => return Ok(ids),
            Err((command, errno)) => {
                return Err(BpfError::from_errno(command, errno, &[Capability::SysAdmin]));
            }
        }
    }
}

/// A `struct bpf_*_info` (or a prefix of one) that holds no addresses the caller cares for.
///
/// # Safety
/// The type is `repr(C)`, made of integers without padding, and a prefix of the kernel's struct for the kind of object
/// it is used with, and addresses in it are valid for the lengths beside them.
pub(super) unsafe trait InfoAttr: Default {}

/// `BPF_OBJ_GET_INFO_BY_FD` with everything zero on the way in.
pub(super) fn object_info<T: InfoAttr>(fd: BorrowedFd<'_>) -> Result<T, BpfError> {
    object_info_with(fd, T::default())
}

/// `BPF_OBJ_GET_INFO_BY_FD` with a struct that says where the kernel may write more.
pub(super) fn object_info_with<T: InfoAttr>(fd: BorrowedFd<'_>, mut info: T) -> Result<T, BpfError> {
    let mut attr = ObjectInfoAttr {
        bpf_fd: fd.as_raw_fd().cast_unsigned(),
        info_len: length(size_of::<T>()),
        info: core::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is writable and `info_len` bytes long; any bytes make a valid `T`; addresses inside are by the
    // trait's contract.
    let result = unsafe { call(&mut attr) };
    result.map(|_| info).map_err(|errno| BpfError::Call { command: Command::ObjectInfo, errno })
}

fn next_id<const COMMAND: i32>(after: u32) -> Result<u32, (Command, Errno)>
where
    NextIdAttr<COMMAND>: Attr,
{
    let mut attr = NextIdAttr::<COMMAND> { start_id: after, next_id: 0 };
    // SAFETY: the attribute holds no address.
    match unsafe { call(&mut attr) } {
        Ok(_) => Ok(attr.next_id),
        Err(errno) => Err((<NextIdAttr<COMMAND> as Attr>::COMMAND, errno)),
    }
}

#[repr(C)]
struct ObjectInfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

// SAFETY: the kernel's struct for this command.
unsafe impl Attr for ObjectInfoAttr {
    const COMMAND: Command = Command::ObjectInfo;
}

#[repr(C)]
struct NextIdAttr<const COMMAND: i32> {
    start_id: u32,
    next_id: u32,
}

macro_rules! next_id_commands {
    ($($name:ident)*) => {$(
        // SAFETY: the kernel's struct for the next-id commands.
        unsafe impl Attr for NextIdAttr<{ Command::$name as i32 }> {
            const COMMAND: Command = Command::$name;
        }
    )*};
}

next_id_commands! { ProgNextId MapNextId BtfNextId LinkNextId }
