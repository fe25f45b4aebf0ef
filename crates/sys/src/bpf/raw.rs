//! The system call itself.

// The crate's one place that calls bpf(2); what the callers must guarantee is said at `call`.
#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

macro_rules! commands {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// Commands of bpf(2) used here, with the kernel's numbers (`enum bpf_cmd`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are the kernel's BPF_*")]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum Command { $($name = $number,)* }

        impl Command {
            /// The kernel's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

commands! {
    MapCreate = 0, "BPF_MAP_CREATE";
    MapLookup = 1, "BPF_MAP_LOOKUP_ELEM";
    MapUpdate = 2, "BPF_MAP_UPDATE_ELEM";
    MapDelete = 3, "BPF_MAP_DELETE_ELEM";
    MapNextKey = 4, "BPF_MAP_GET_NEXT_KEY";
    ProgLoad = 5, "BPF_PROG_LOAD";
    ObjPin = 6, "BPF_OBJ_PIN";
    ObjGet = 7, "BPF_OBJ_GET";
    ProgTestRun = 10, "BPF_PROG_TEST_RUN";
    ProgNextId = 11, "BPF_PROG_GET_NEXT_ID";
    MapNextId = 12, "BPF_MAP_GET_NEXT_ID";
    ObjectInfo = 15, "BPF_OBJ_GET_INFO_BY_FD";
    RawTracepointOpen = 17, "BPF_RAW_TRACEPOINT_OPEN";
    BtfLoad = 18, "BPF_BTF_LOAD";
    BtfFdById = 19, "BPF_BTF_GET_FD_BY_ID";
    MapLookupAndDelete = 21, "BPF_MAP_LOOKUP_AND_DELETE_ELEM";
    MapFreeze = 22, "BPF_MAP_FREEZE";
    BtfNextId = 23, "BPF_BTF_GET_NEXT_ID";
    MapLookupBatch = 24, "BPF_MAP_LOOKUP_BATCH";
    MapLookupAndDeleteBatch = 25, "BPF_MAP_LOOKUP_AND_DELETE_BATCH";
    MapUpdateBatch = 26, "BPF_MAP_UPDATE_BATCH";
    MapDeleteBatch = 27, "BPF_MAP_DELETE_BATCH";
    LinkCreate = 28, "BPF_LINK_CREATE";
    LinkUpdate = 29, "BPF_LINK_UPDATE";
    LinkNextId = 31, "BPF_LINK_GET_NEXT_ID";
    LinkDetach = 34, "BPF_LINK_DETACH";
}

impl core::fmt::Display for Command {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// The attribute of one command: only the fields that command knows.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and is a prefix of the kernel's struct for [`Attr::COMMAND`].
pub(super) unsafe trait Attr {
    const COMMAND: Command;
}

/// Calls bpf(2); `EINTR` is retried.
///
/// # Safety
/// Every address in `attr` is 0 or valid (for writes, where the command writes) for as many bytes as the kernel
/// derives from the attribute's other fields and the objects they name.
pub(super) unsafe fn call<A: Attr>(attr: &mut A) -> Result<i32, Errno> {
    loop {
        let command = A::COMMAND as libc::c_int;
        let size = size_of::<A>();
        // SAFETY: `attr` is exclusively borrowed and `size` bytes long; what it points to is the caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, core::ptr::from_mut(attr), size) };
        if result >= 0 {
            return Ok(i32::try_from(result).unwrap_or(i32::MAX));
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            Some(errno) => return Err(Errno::from_raw_os_error(errno)),
            None => return Err(Errno::IO),
        }
    }
}

/// [`call`] for a command that gives a descriptor.
///
/// # Safety
/// As for [`call`], and the command's result is a new descriptor.
pub(super) unsafe fn call_fd<A: Attr>(attr: &mut A) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller's promise is the same.
    let fd = unsafe { call(attr) }?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address of a slice as the kernel takes it; 0 for an empty one.
pub(super) fn address<T>(of: &[T]) -> u64 {
    if of.is_empty() { 0 } else { of.as_ptr() as u64 }
}

/// The address of a slice that the kernel will write; 0 for an empty one.
pub(super) fn address_mut<T>(of: &mut [T]) -> u64 {
    if of.is_empty() { 0 } else { of.as_mut_ptr() as u64 }
}

/// A length as the kernel takes it. Nothing we hand over comes near 4 GiB; a longer one would be cut to that.
pub(super) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// An object name (`BPF_OBJ_NAME_LEN`): letters, digits, `_` and `.`, at most 15 bytes, zero-terminated. Other characters
/// become `_`, the rest is cut: names are for people who list objects, they identify nothing.
pub(super) fn object_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().take(15).zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() || from == b'_' || from == b'.' { from } else { b'_' };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(&object_name("short"), b"short\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&object_name("a-name/that is longer"), b"a_name_that_is_\0");
        assert_eq!(object_name(""), [0; 16]);
    }
}
