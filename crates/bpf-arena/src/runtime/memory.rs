//! `bpf_probe_read_*` and `bpf_copy_from_user*`: reads of memory that may not be there.
//!
//! A program has two address spaces to read from. What is a kernel's memory to it is here the run's own: stack, context, map
//! values, objects. What is user space to it is here the arena at its user addresses, and what the host offers
//! ([`UserEngine::user_memory`](crate::UserEngine::user_memory)). Addresses decide in the kernel on x86-64 which error a read
//! of the wrong space gives; the same errors are given here.

use super::dynptr::{self, Dynptr};
use super::registry::{Row, rows};
use super::{E2BIG, EFAULT, EINVAL, ERANGE, Invocation, errno, errno32, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(4), "bpf_probe_read" => probe_read;
    Some(45), "bpf_probe_read_str" => probe_read_str;
    Some(112), "bpf_probe_read_user" => probe_read_user;
    Some(113), "bpf_probe_read_kernel" => probe_read_kernel;
    Some(114), "bpf_probe_read_user_str" => probe_read_user_str;
    Some(115), "bpf_probe_read_kernel_str" => probe_read_kernel_str;
    Some(148), "bpf_copy_from_user" => copy_from_user;
    Some(191), "bpf_copy_from_user_task" => copy_from_user_task;
    None, "bpf_copy_from_user_str" => copy_from_user_str;
    None, "bpf_copy_from_user_task_str" => copy_from_user_task_str;
    None, "bpf_probe_read_kernel_dynptr" => probe_read_kernel_dynptr;
    None, "bpf_probe_read_kernel_str_dynptr" => probe_read_kernel_str_dynptr;
    None, "bpf_probe_read_user_dynptr" => probe_read_user_dynptr;
    None, "bpf_probe_read_user_str_dynptr" => probe_read_user_str_dynptr;
    None, "bpf_copy_from_user_dynptr" => copy_from_user_dynptr;
    None, "bpf_copy_from_user_str_dynptr" => copy_from_user_str_dynptr;
    None, "bpf_copy_from_user_task_dynptr" => copy_from_user_task_dynptr;
    None, "bpf_copy_from_user_task_str_dynptr" => copy_from_user_str_dynptr;
};

/// Flag of `bpf_copy_from_user_str`: what is left of the buffer is zeroed.
const BPF_F_PAD_ZEROS: u64 = 1;

/// Where user space ends (`TASK_SIZE` of x86-64).
const USER_END: u64 = KERNEL_BEGIN - 4096;

/// The first address behind user space and its guard page (`TASK_SIZE_MAX + PAGE_SIZE` of x86-64).
const KERNEL_BEGIN: u64 = 1 << 47;

/// The page of `vsyscall` entries, which counts as user space.
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// Bytes that are read at once where the number of bytes there are is not known.
const CHUNK: usize = 64;

/// A space that addresses are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// The kernel's: the run's own memory.
    Kernel,
    /// The process's: the arena and what the host offers.
    User,
    /// Whichever has the address (the first helpers of this kind did not tell them apart).
    Either,
}

/// The error of a read in the kernel's space that finds nothing: `ERANGE` for addresses that no kernel memory has, `EFAULT` for
/// others.
pub(super) fn nothing_at(address: u64) -> i32 {
    let canonical = address >= !(KERNEL_BEGIN - 1) && address & !0xfff != VSYSCALL;
    if canonical { EFAULT } else { ERANGE }
}

/// Fills `bytes` from `address`.
///
/// # Errors
/// The (positive) error number that the kernel's read gives, if any byte is missing.
pub(super) fn read(run: &Invocation<'_>, space: Space, address: u64, bytes: &mut [u8]) -> Result<(), i32> {
    // Of nothing, no byte is missing: at an address that the space could have.
    let own = |bytes: &mut [u8]| match run.memory(address, bytes.len() as u64, false) {
        Ok(place) => {
            place.read(bytes);
            true
        }
        Err(_) => bytes.is_empty() && nothing_at(address) == EFAULT,
    };
    let user = |bytes: &mut [u8]| {
        run.image.maps.read_arena(address, bytes)
            || run.image.options.user_memory.as_ref().is_some_and(|memory| memory.read(address, bytes))
    };
    let no_user = || address > USER_END || run.memory(address, 1, false).is_ok();
    let user = |bytes: &mut [u8]| if bytes.is_empty() { !no_user() } else { user(bytes) };
    match space {
        Space::Kernel => own(bytes).then_some(()).ok_or_else(|| nothing_at(address)),
        Space::User => user(bytes).then_some(()).ok_or(EFAULT),
        Space::Either if address < USER_END => (own(bytes) || user(bytes)).then_some(()).ok_or(EFAULT),
        Space::Either => own(bytes).then_some(()).ok_or_else(|| nothing_at(address)),
    }
}

/// How the functions that copy strings treat the last byte of their buffer, which becomes NUL in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastByte {
    /// They read a byte for it, which must be there.
    Read,
    /// They do not.
    Skipped,
}

/// The string at `address` with its NUL, cut to `size` bytes.
///
/// # Errors
/// As for [`read`], if memory ends before the string or the buffer does.
fn string(
    run: &Invocation<'_>,
    space: Space,
    address: u64,
    size: usize,
    last: LastByte,
) -> Result<Vec<u8>, i32> {
    let mut text = Vec::new();
    let Some(room) = size.checked_sub(1) else { return Ok(text) };
    let mut bytes = Bytes::new(run, space, address);
    while text.len() < room || (text.len() == room && last == LastByte::Read) {
        match bytes.get(text.len() as u64)? {
            0 => break,
            byte => text.push(byte),
        }
    }
    text.truncate(room);
    text.push(0);
    Ok(text)
}

/// Memory that is read byte by byte, wherever it may be: fetched in pieces, as the string functions walk through it.
pub(super) struct Bytes<'a, 'r> {
    run: &'a Invocation<'r>,
    space: Space,
    address: u64,
    chunk: [u8; CHUNK],
    /// Offset of the chunk from `address`, and how many bytes of it were read.
    have: (u64, u64),
}

impl<'a, 'r> Bytes<'a, 'r> {
    /// The bytes from `address` on.
    pub(super) fn new(run: &'a Invocation<'r>, space: Space, address: u64) -> Self {
        Self { run, space, address, chunk: [0; CHUNK], have: (0, 0) }
    }

    /// The byte at `index`.
    ///
    /// # Errors
    /// As for [`read`].
    pub(super) fn get(&mut self, index: u64) -> Result<u8, i32> {
        let (first, count) = self.have;
        if index.checked_sub(first).is_none_or(|at| at >= count) {
            self.fetch(index)?;
        }
        let at = usize::try_from(index - self.have.0).unwrap_or(usize::MAX);
        self.chunk.get(at).copied().ok_or(EFAULT)
    }

    /// Reads what lies from `index` to the next multiple of the chunk's size, or one byte where not all of that is there.
    fn fetch(&mut self, index: u64) -> Result<(), i32> {
        let address = self.address.checked_add(index).ok_or(EFAULT)?;
        let whole = CHUNK as u64 - address % CHUNK as u64;
        for count in [whole, 1] {
            let bytes = self.chunk.get_mut(..usize::try_from(count).unwrap_or(1)).unwrap_or_default();
            match read(self.run, self.space, address, bytes) {
                Ok(()) => {
                    self.have = (index, count);
                    return Ok(());
                }
                Err(error) if count == 1 => return Err(error),
                Err(_) => {}
            }
        }
        Err(EFAULT)
    }
}

/// `long bpf_probe_read_kernel(void *dst, u32 size, const void *unsafe_ptr)`: 0, or an error and zeroes.
fn probe_read_kernel(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    copy(run, Space::Kernel, args)
}

/// `long bpf_copy_from_user(void *dst, u32 size, const void *user_ptr)`.
fn copy_from_user(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, size, ..] = args;
    if low32(size) == 0 { Ok(0) } else { copy(run, Space::User, args) }
}

/// `long bpf_probe_read_user(void *dst, u32 size, const void *unsafe_ptr)`.
fn probe_read_user(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    copy(run, Space::User, args)
}

/// `long bpf_probe_read(void *dst, u32 size, const void *unsafe_ptr)`.
fn probe_read(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    copy(run, Space::Either, args)
}

fn copy(run: &Invocation<'_>, space: Space, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, size, src, _, _] = args;
    let dst = run.memory(dst, u64::from(low32(size)), true)?;
    let mut bytes = vec![0; dst.len()];
    let result = read(run, space, src, &mut bytes);
    if result.is_err() {
        bytes.fill(0);
    }
    dst.write(&bytes);
    Ok(result.map_or_else(errno, |()| 0))
}

/// `long bpf_copy_from_user_task(void *dst, u32 size, const void *user_ptr, struct task_struct *tsk, u64 flags)`: every task
/// is a thread of this process or one that the host models, so that they all have the same memory.
fn copy_from_user_task(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [.., flags] = args;
    if flags != 0 {
        return Ok(errno(EINVAL));
    }
    copy_from_user(run, args)
}

/// `long bpf_probe_read_kernel_str(void *dst, u32 size, const void *unsafe_ptr)`: the length of the string with its NUL, cut
/// to the buffer; or an error and zeroes.
fn probe_read_kernel_str(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    copy_string(run, Space::Kernel, args)
}

/// `long bpf_probe_read_user_str(void *dst, u32 size, const void *unsafe_ptr)`.
fn probe_read_user_str(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    copy_string(run, Space::User, args)
}

/// `long bpf_probe_read_str(void *dst, u32 size, const void *unsafe_ptr)`.
fn probe_read_str(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    copy_string(run, Space::Either, args)
}

fn copy_string(run: &Invocation<'_>, space: Space, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, size, src, _, _] = args;
    let dst = run.memory(dst, u64::from(low32(size)), true)?;
    Ok(match string(run, space, src, dst.len(), LastByte::Read) {
        Ok(text) => {
            dst.write(&text);
            text.len() as u64
        }
        Err(error) => {
            dst.clear();
            errno(error)
        }
    })
}

/// `int bpf_copy_from_user_str(void *dst, u32 dst__sz, const void *unsafe_ptr__ign, u64 flags)`.
fn copy_from_user_str(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, size, src, flags, _] = args;
    user_string(run, dst, size, src, flags)
}

/// `int bpf_copy_from_user_task_str(void *dst, u32 dst__sz, const void *unsafe_ptr__ign, struct task_struct *tsk, u64 flags)`.
fn copy_from_user_task_str(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, size, src, _, flags] = args;
    user_string(run, dst, size, src, flags)
}

fn user_string(run: &Invocation<'_>, dst: u64, size: u64, src: u64, flags: u64) -> Result<u64, TrapKind> {
    if flags & !BPF_F_PAD_ZEROS != 0 {
        return Ok(errno32(EINVAL));
    }
    let dst = run.memory(dst, u64::from(low32(size)), true)?;
    let text = string(run, Space::User, src, dst.len(), LastByte::Skipped);
    if flags & BPF_F_PAD_ZEROS != 0 {
        dst.clear();
    }
    Ok(match text {
        Ok(text) => {
            dst.write(&text);
            text.len() as u64
        }
        Err(error) => errno32(error),
    })
}

/// `int bpf_probe_read_kernel_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign)`.
fn probe_read_kernel_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    into_dynptr(run, Space::Kernel, args, OnError::Leave)
}

/// `int bpf_probe_read_user_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign)`.
fn probe_read_user_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    into_dynptr(run, Space::User, args, OnError::Leave)
}

/// `int bpf_copy_from_user_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign)`.
fn copy_from_user_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    into_dynptr(run, Space::User, args, OnError::Clear)
}

/// `int bpf_copy_from_user_task_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign, struct task_struct
/// *tsk)`: see [`copy_from_user_task`].
fn copy_from_user_task_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    into_dynptr(run, Space::User, args, OnError::Leave)
}

/// `int bpf_probe_read_kernel_str_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign)`.
fn probe_read_kernel_str_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    string_into_dynptr(run, Space::Kernel, args, LastByte::Read)
}

/// `int bpf_probe_read_user_str_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign)`.
fn probe_read_user_str_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    string_into_dynptr(run, Space::User, args, LastByte::Read)
}

/// `int bpf_copy_from_user_str_dynptr(struct bpf_dynptr *dptr, u64 off, u64 size, const void *unsafe_ptr__ign)`, and with a task
/// as fifth argument `bpf_copy_from_user_task_str_dynptr`.
fn copy_from_user_str_dynptr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    string_into_dynptr(run, Space::User, args, LastByte::Skipped)
}

/// What becomes of data that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnError {
    /// The dynptr's data stays as it was.
    Leave,
    /// It is zeroed.
    Clear,
}

fn into_dynptr(
    run: &mut Invocation<'_>,
    space: Space,
    args: [u64; 5],
    on_error: OnError,
) -> Result<u64, TrapKind> {
    let [dynptr, offset, size, src, _] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    let Some(size) = dynptr.room(offset, size) else { return Ok(errno32(E2BIG)) };
    let mut bytes = vec![0; size];
    match read(run, space, src, &mut bytes) {
        _ if size == 0 && on_error == OnError::Clear => Ok(0),
        Ok(()) => Ok(dynptr::write(run, &dynptr, offset, &bytes, 0)?.map_or_else(errno32, |()| 0)),
        Err(error) => {
            if on_error == OnError::Clear {
                bytes.fill(0);
                let _ = dynptr::write(run, &dynptr, offset, &bytes, 0)?;
            }
            Ok(errno32(error))
        }
    }
}

fn string_into_dynptr(
    run: &mut Invocation<'_>,
    space: Space,
    args: [u64; 5],
    last: LastByte,
) -> Result<u64, TrapKind> {
    let [dynptr, offset, size, src, _] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    let Some(size) = dynptr.room(offset, size) else { return Ok(errno32(E2BIG)) };
    match string(run, space, src, size, last) {
        Ok(text) => {
            let written = dynptr::write(run, &dynptr, offset, &text, 0)?;
            Ok(written.map_or_else(errno32, |()| text.len() as u64))
        }
        Err(error) => {
            // What the kernel's copy leaves where it faulted.
            if (space, error) == (Space::Kernel, EFAULT) {
                let _ = dynptr::write(run, &dynptr, offset, &[0], 0)?;
            }
            Ok(errno32(error))
        }
    }
}
