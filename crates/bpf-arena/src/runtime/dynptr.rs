//! Dynptrs: 16 bytes on a program's stack that stand for memory whose size only the run knows.
//!
//! The layout is the kernel's `struct bpf_dynptr_kern`: the address of the data, its size with what kind it is, and an offset into
//! it. A program cannot write these bytes once they are a dynptr, but nothing here relies on that: whatever they say, data is
//! reached through the memory of the run.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::registry::{Row, rows};
use super::{E2BIG, EINVAL, ERANGE, Invocation, errno, errno32, low32};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(197), "bpf_dynptr_from_mem" => from_mem;
    Some(201), "bpf_dynptr_read" => dynptr_read;
    Some(202), "bpf_dynptr_write" => dynptr_write;
    Some(203), "bpf_dynptr_data" => data;
    None, "bpf_dynptr_adjust" => adjust;
    None, "bpf_dynptr_clone" => clone;
    None, "bpf_dynptr_copy" => copy;
    None, "bpf_dynptr_is_null" => is_null;
    None, "bpf_dynptr_is_rdonly" => is_read_only;
    None, "bpf_dynptr_memset" => memset;
    None, "bpf_dynptr_size" => size;
    None, "bpf_dynptr_slice" => slice;
    None, "bpf_dynptr_slice_rdwr" => slice_writable;
};

/// Most bytes of data (`DYNPTR_MAX_SIZE`): the rest of the word says what kind it is.
pub(super) const MAX_SIZE: u32 = (1 << 24) - 1;

/// Bit of the size's word: the data may not be written.
const READ_ONLY: u32 = 1 << 31;

/// Where the kind begins in the size's word.
const KIND_SHIFT: u32 = 28;

/// Bytes moved at once between places that are not in one piece.
const CHUNK: usize = 256;

/// What a dynptr stands for (`enum bpf_dynptr_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Memory of the program.
    Local = 1,
    /// A record of a ring buffer.
    RingBuffer = 2,
}

/// A dynptr on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dynptr<'r> {
    data: Place<'r>,
    size: Place<'r>,
    offset: Place<'r>,
}

/// What a dynptr says, read once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contents {
    /// Address of the data; 0 if it stands for nothing.
    pub(super) data: u64,
    word: u32,
    offset: u32,
}

impl<'r> Dynptr<'r> {
    /// The dynptr at this address.
    pub(super) fn at(run: &Invocation<'r>, address: u64) -> Result<Self, TrapKind> {
        run.memory(address, 16, true)?;
        Ok(Self {
            data: run.memory(address, 8, true)?,
            size: run.memory(address.wrapping_add(8), 4, true)?,
            offset: run.memory(address.wrapping_add(12), 4, true)?,
        })
    }

    /// What it says.
    pub(super) fn get(&self) -> Contents {
        let word = |place: &Place<'_>| low32(place.load(Size::W, Relaxed));
        Contents {
            data: self.data.load(Size::DW, Relaxed),
            word: word(&self.size),
            offset: word(&self.offset),
        }
    }

    /// Makes it stand for the `size` bytes at `address`. The caller has checked the size.
    pub(super) fn set(&self, kind: Kind, address: u64, size: u32) {
        self.put(Contents { data: address, word: size & MAX_SIZE | (kind as u32) << KIND_SHIFT, offset: 0 });
    }

    /// Makes it stand for nothing.
    pub(super) fn set_null(&self) {
        self.put(Contents::default());
    }

    fn put(&self, contents: Contents) {
        self.data.store(Size::DW, contents.data, Relaxed);
        self.size.store(Size::W, u64::from(contents.word), Relaxed);
        self.offset.store(Size::W, u64::from(contents.offset), Relaxed);
    }
}

impl Contents {
    fn is_null(&self) -> bool {
        self.data == 0
    }

    fn is_read_only(&self) -> bool {
        self.word & READ_ONLY != 0
    }

    /// Bytes of data.
    fn size(&self) -> u32 {
        self.word & MAX_SIZE
    }

    /// `len` as a number of bytes, if the data has so many from `offset` on.
    pub(super) fn room(&self, offset: u64, len: u64) -> Option<usize> {
        let end = offset.checked_add(len).filter(|end| *end <= u64::from(self.size()));
        end.and_then(|_| usize::try_from(len).ok())
    }

    /// The address of the data from `offset` on.
    fn address(&self, offset: u64) -> u64 {
        self.data.wrapping_add(u64::from(self.offset)).wrapping_add(offset)
    }
}

/// Copies bytes into the data, as `bpf_dynptr_write` without flags from inside of a kfunc: 0 or an error number of 32 bits.
pub(super) fn write(
    run: &mut Invocation<'_>,
    dynptr: &Contents,
    offset: u64,
    bytes: &[u8],
) -> Result<u64, TrapKind> {
    if dynptr.is_null() || dynptr.is_read_only() {
        return Ok(errno32(EINVAL));
    }
    if dynptr.room(offset, bytes.len() as u64).is_none() {
        return Ok(errno32(E2BIG));
    }
    run.memory(dynptr.address(offset), bytes.len() as u64, true)?.write(bytes);
    Ok(0)
}

/// `long bpf_dynptr_from_mem(void *data, u32 size, u64 flags, struct bpf_dynptr *ptr)`.
fn from_mem(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [data, size, flags, dynptr, _] = args;
    let (dynptr, size) = (Dynptr::at(run, dynptr)?, low32(size));
    let error = match (size, flags) {
        (size, _) if size > MAX_SIZE => E2BIG,
        (_, 0) => {
            dynptr.set(Kind::Local, data, size);
            return Ok(0);
        }
        _ => EINVAL,
    };
    dynptr.set_null();
    Ok(errno(error))
}

/// `long bpf_dynptr_read(void *dst, u32 len, const struct bpf_dynptr *src, u32 offset, u64 flags)`.
fn dynptr_read(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, len, dynptr, offset, flags] = args;
    let (dynptr, len, offset) = (Dynptr::at(run, dynptr)?.get(), low32(len).into(), low32(offset).into());
    if dynptr.is_null() || flags != 0 {
        return Ok(errno(EINVAL));
    }
    if dynptr.room(offset, len).is_none() {
        return Ok(errno(E2BIG));
    }
    let (dst, src) = (run.memory(dst, len, true)?, run.memory(dynptr.address(offset), len, false)?);
    move_bytes(&dst, &src);
    Ok(0)
}

/// `long bpf_dynptr_write(const struct bpf_dynptr *dst, u32 offset, void *src, u32 len, u64 flags)`.
fn dynptr_write(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, offset, src, len, flags] = args;
    let (dynptr, len, offset) = (Dynptr::at(run, dynptr)?.get(), low32(len).into(), low32(offset).into());
    if dynptr.is_null() || dynptr.is_read_only() {
        return Ok(errno(EINVAL));
    }
    if dynptr.room(offset, len).is_none() {
        return Ok(errno(E2BIG));
    }
    if flags != 0 {
        return Ok(errno(EINVAL));
    }
    let (dst, src) = (run.memory(dynptr.address(offset), len, true)?, run.memory(src, len, false)?);
    move_bytes(&dst, &src);
    Ok(0)
}

/// `void *bpf_dynptr_data(const struct bpf_dynptr *ptr, u32 offset, u32 len)`: the data's address, or NULL.
fn data(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, offset, len, _, _] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    if dynptr.is_read_only() {
        return Ok(0);
    }
    direct(run, &dynptr, low32(offset).into(), low32(len).into(), true)
}

/// `void *bpf_dynptr_slice(const struct bpf_dynptr *p, u32 offset, void *buffer__opt, u32 buffer__szk)`: the data's address; the
/// buffer is for data that is not in one piece.
fn slice(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, offset, _, len, _] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    direct(run, &dynptr, low32(offset).into(), low32(len).into(), false)
}

/// `void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u32 offset, void *buffer__opt, u32 buffer__szk)`.
fn slice_writable(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    data(run, [args[0], args[1], args[3], 0, 0])
}

/// The address of `len` bytes of data, which the program may then access without further checks; 0 if there are not as many.
fn direct(
    run: &Invocation<'_>,
    dynptr: &Contents,
    offset: u64,
    len: u64,
    write: bool,
) -> Result<u64, TrapKind> {
    if dynptr.is_null() || dynptr.room(offset, len).is_none() {
        return Ok(0);
    }
    run.memory(dynptr.address(offset), len, write)?;
    Ok(dynptr.address(offset))
}

/// `int bpf_dynptr_adjust(const struct bpf_dynptr *p, u32 start, u32 end)`: narrows it to a part of its data.
fn adjust(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, start, end, _, _] = args;
    let (dynptr, start, end) = (Dynptr::at(run, dynptr)?, low32(start), low32(end));
    let old = dynptr.get();
    if old.is_null() || start > end {
        return Ok(errno32(EINVAL));
    }
    if end > old.size() {
        return Ok(errno32(ERANGE));
    }
    let word = old.word & !MAX_SIZE | (end - start);
    dynptr.put(Contents { word, offset: old.offset.wrapping_add(start), ..old });
    Ok(0)
}

/// `int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone__uninit)`.
fn clone(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, clone, ..] = args;
    let (dynptr, clone) = (Dynptr::at(run, dynptr)?.get(), Dynptr::at(run, clone)?);
    if dynptr.is_null() {
        clone.set_null();
        return Ok(errno32(EINVAL));
    }
    clone.put(dynptr);
    Ok(0)
}

/// `int bpf_dynptr_copy(struct bpf_dynptr *dst_ptr, u32 dst_off, struct bpf_dynptr *src_ptr, u32 src_off, u32 size)`.
fn copy(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, dst_offset, src, src_offset, len] = args;
    let (dst, src) = (Dynptr::at(run, dst)?.get(), Dynptr::at(run, src)?.get());
    let (dst_offset, src_offset, len) =
        (low32(dst_offset).into(), low32(src_offset).into(), low32(len).into());
    let null = dst.is_null() || src.is_null() || dst.is_read_only();
    let fits = [dst.room(dst_offset, len), src.room(src_offset, len)].map(|room| room.is_some());
    match (null, fits) {
        (false, [true, true]) => {}
        // Where one side has the data, the error is what reading or writing the other gives.
        (true, [true, _]) if !dst.is_null() && !dst.is_read_only() => return Ok(errno32(EINVAL)),
        (true, [_, true]) if !src.is_null() => return Ok(errno32(EINVAL)),
        (true, [true, true]) => return Ok(if len == 0 { 0 } else { errno32(EINVAL) }),
        _ => return Ok(errno32(E2BIG)),
    }
    let dst = run.memory(dst.address(dst_offset), len, true)?;
    let src = run.memory(src.address(src_offset), len, false)?;
    move_bytes(&dst, &src);
    Ok(0)
}

/// `int bpf_dynptr_memset(struct bpf_dynptr *p, u32 offset, u32 size, u8 val)`.
fn memset(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, offset, len, value, _] = args;
    let (dynptr, offset, len) =
        (Dynptr::at(run, dynptr)?.get(), u64::from(low32(offset)), u64::from(low32(len)));
    if dynptr.is_read_only() {
        return Ok(errno32(EINVAL));
    }
    if dynptr.room(offset, len).is_none() {
        return Ok(errno32(E2BIG));
    }
    let [value, ..] = value.to_le_bytes();
    let mut at = 0;
    while at < len {
        let count = (len - at).min(CHUNK as u64);
        let bytes = [value; CHUNK];
        let result = write(run, &dynptr, offset + at, bytes.get(..count as usize).unwrap_or_default())?;
        if result != 0 {
            return Ok(result);
        }
        at += count;
    }
    Ok(0)
}

/// `bool bpf_dynptr_is_null(const struct bpf_dynptr *p)`.
fn is_null(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, ..] = args;
    Ok(Dynptr::at(run, dynptr)?.get().is_null().into())
}

/// `bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *p)`.
fn is_read_only(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, ..] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    Ok((!dynptr.is_null() && dynptr.is_read_only()).into())
}

/// `u32 bpf_dynptr_size(const struct bpf_dynptr *p)`: an error number for one that stands for nothing.
fn size(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, ..] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    Ok(if dynptr.is_null() { errno32(EINVAL) } else { dynptr.size().into() })
}

/// Copies between places of one length that may overlap.
fn move_bytes(dst: &Place<'_>, src: &Place<'_>) {
    let mut buffer = [0; CHUNK];
    match buffer.get_mut(..src.len()) {
        Some(bytes) => {
            src.read(bytes);
            dst.write(bytes);
        }
        None => dst.write(&src.to_vec()),
    }
}
