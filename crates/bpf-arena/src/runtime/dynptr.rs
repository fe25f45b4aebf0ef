//! Dynptrs: 16 bytes on a program's stack that stand for memory whose size only the run knows.
//!
//! The layout is the kernel's `struct bpf_dynptr_kern`: the address of the data, its size with what kind it is, and an offset into
//! it. A program cannot write these bytes once they are a dynptr, but nothing here relies on that: whatever they say, data is
//! reached through the memory of the run.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::registry::{Row, rows};
use super::{E2BIG, EFAULT, EINVAL, ENOMEM, ERANGE, Invocation, errno, errno32, low32};
use crate::access::{Block, Place};
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
    /// The packet of the run, as the network stack has it.
    Skb = 3,
    /// The packet of the run, as a driver has it.
    Xdp = 4,
    /// What a driver has left in front of the packet.
    SkbMeta = 5,
}

/// The negative error numbers of the functions here, positive; as 32 or 64 bits to programs.
pub(super) type Done = Result<(), i32>;

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

    /// As [`Dynptr::set`], for data that may not be written.
    pub(super) fn set_read_only(&self, kind: Kind, address: u64, size: u32) {
        self.set(kind, address, size);
        self.put(Contents { word: self.get().word | READ_ONLY, ..self.get() });
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

    /// What it stands for; `None` if it is none of the kinds there are.
    fn kind(&self) -> Option<Kind> {
        let kinds = [Kind::Local, Kind::RingBuffer, Kind::Skb, Kind::Xdp, Kind::SkbMeta];
        let number = (self.word & !READ_ONLY) >> KIND_SHIFT;
        kinds.into_iter().find(|kind| *kind as u32 == number)
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
        self.data.wrapping_add(self.position(offset))
    }

    /// The same, from the start of the packet.
    fn position(&self, offset: u64) -> u64 {
        u64::from(self.offset).wrapping_add(offset)
    }
}

/// Copies the data from `offset` on to `dst` (`bpf_dynptr_read`).
pub(super) fn read_into(
    run: &Invocation<'_>,
    dynptr: &Contents,
    offset: u64,
    dst: &Place<'_>,
) -> Result<Done, TrapKind> {
    if dynptr.is_null() {
        return Ok(Err(EINVAL));
    }
    if dynptr.room(offset, dst.len() as u64).is_none() {
        return Ok(Err(E2BIG));
    }
    match dynptr.kind() {
        Some(Kind::Local | Kind::RingBuffer) => {
            move_bytes(dst, &run.memory(dynptr.address(offset), dst.len() as u64, false)?);
            Ok(Ok(()))
        }
        Some(Kind::Skb | Kind::Xdp) => Ok(run.load_packet_bytes(dynptr.position(offset), dst)),
        Some(Kind::SkbMeta) | None => Ok(Err(EFAULT)),
    }
}

/// Copies bytes into the data from `offset` on (`bpf_dynptr_write`).
pub(super) fn write(
    run: &mut Invocation<'_>,
    dynptr: &Contents,
    offset: u64,
    bytes: &[u8],
    flags: u64,
) -> Result<Done, TrapKind> {
    if dynptr.is_null() || dynptr.is_read_only() {
        return Ok(Err(EINVAL));
    }
    if dynptr.room(offset, bytes.len() as u64).is_none() {
        return Ok(Err(E2BIG));
    }
    match dynptr.kind() {
        Some(Kind::Skb) => Ok(run.store_skb_bytes(dynptr.position(offset), bytes, flags)),
        Some(_) if flags != 0 => Ok(Err(EINVAL)),
        Some(Kind::Xdp) => Ok(run.store_xdp_bytes(dynptr.position(offset), bytes)),
        Some(Kind::Local | Kind::RingBuffer) => {
            run.memory(dynptr.address(offset), bytes.len() as u64, true)?.write(bytes);
            Ok(Ok(()))
        }
        Some(Kind::SkbMeta) | None => Ok(Err(EFAULT)),
    }
}

/// The data from `offset` on, if it lies in one piece (`bpf_dynptr_slice` without a buffer): what the program may access at this
/// address without further checks.
fn piece<'r>(
    run: &Invocation<'r>,
    dynptr: &Contents,
    offset: u64,
    len: u64,
    write: bool,
) -> Result<Option<Place<'r>>, TrapKind> {
    if dynptr.is_null() || dynptr.room(offset, len).is_none() || (write && dynptr.is_read_only()) {
        return Ok(None);
    }
    match dynptr.kind() {
        Some(Kind::Local | Kind::RingBuffer) => run.memory(dynptr.address(offset), len, write).map(Some),
        Some(Kind::Skb | Kind::Xdp) => Ok(run.packet_piece(dynptr.position(offset), len)),
        Some(Kind::SkbMeta) | None => Ok(None),
    }
}

/// What a kfunc of type `int` gives.
fn int(done: Done) -> u64 {
    done.map_or_else(errno32, |()| 0)
}

/// What a helper gives.
fn long(done: Done) -> u64 {
    done.map_or_else(errno, |()| 0)
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
    let dynptr = Dynptr::at(run, dynptr)?.get();
    if flags != 0 {
        return Ok(errno(EINVAL));
    }
    let dst = run.memory(dst, low32(len).into(), true)?;
    let done = read_into(run, &dynptr, low32(offset).into(), &dst)?;
    if done == Err(EFAULT) {
        dst.clear();
    }
    Ok(long(done))
}

/// `long bpf_dynptr_write(const struct bpf_dynptr *dst, u32 offset, void *src, u32 len, u64 flags)`.
fn dynptr_write(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, offset, src, len, flags] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    let src = run.memory(src, low32(len).into(), false)?.to_vec();
    Ok(long(write(run, &dynptr, low32(offset).into(), &src, flags)?))
}

/// `void *bpf_dynptr_data(const struct bpf_dynptr *ptr, u32 offset, u32 len)`: the data's address, or NULL; always NULL for
/// packets.
fn data(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dynptr, offset, len, _, _] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    if !matches!(dynptr.kind(), Some(Kind::Local | Kind::RingBuffer)) {
        return Ok(0);
    }
    let piece = piece(run, &dynptr, low32(offset).into(), low32(len).into(), true)?;
    Ok(piece.map_or(0, |piece| piece.address()))
}

/// `void *bpf_dynptr_slice(const struct bpf_dynptr *p, u32 offset, void *buffer__opt, u32 buffer__szk)`: the data's address, or the
/// buffer's with a copy of data that does not lie in one piece.
fn slice(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    slice_of(run, args, false)
}

/// `void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u32 offset, void *buffer__opt, u32 buffer__szk)`.
fn slice_writable(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    slice_of(run, args, true)
}

fn slice_of(run: &Invocation<'_>, args: [u64; 5], write: bool) -> Result<u64, TrapKind> {
    let [dynptr, offset, buffer, len, _] = args;
    let dynptr = Dynptr::at(run, dynptr)?.get();
    let (offset, len) = (low32(offset).into(), low32(len).into());
    if write && dynptr.is_read_only() {
        return Ok(0);
    }
    if let Some(piece) = piece(run, &dynptr, offset, len, write)? {
        return Ok(piece.address());
    }
    if buffer == 0 || !matches!(dynptr.kind(), Some(Kind::Skb | Kind::Xdp)) {
        return Ok(0);
    }
    let copied = read_into(run, &dynptr, offset, &run.memory(buffer, len, true)?)?;
    Ok(if copied.is_ok() { buffer } else { 0 })
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
    let from = piece(run, &src, src_offset, len, false)?;
    let to = piece(run, &dst, dst_offset, len, true)?;
    match (from, to) {
        (Some(from), Some(to)) => {
            move_bytes(&to, &from);
            Ok(0)
        }
        (Some(from), None) => Ok(int(write(run, &dst, dst_offset, &from.to_vec(), 0)?)),
        (None, Some(to)) => Ok(int(read_into(run, &src, src_offset, &to)?)),
        (None, None) => copy_pieces(run, &dst, dst_offset, &src, src_offset, len),
    }
}

/// Copies data of which neither side has all in one piece.
fn copy_pieces(
    run: &mut Invocation<'_>,
    dst: &Contents,
    dst_offset: u64,
    src: &Contents,
    src_offset: u64,
    len: u64,
) -> Result<u64, TrapKind> {
    let (Some(_), Some(len)) = (dst.room(dst_offset, len), src.room(src_offset, len)) else {
        return Ok(errno32(E2BIG));
    };
    let Some(block) = Block::new(len) else { return Ok(errno32(ENOMEM)) };
    let Some(copy) = block.place(0, len as u64).filter(|_| len > 0) else { return Ok(0) };
    match read_into(run, src, src_offset, &copy)? {
        Ok(()) => Ok(int(write(run, dst, dst_offset, &copy.to_vec(), 0)?)),
        error => Ok(int(error)),
    }
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
        let bytes = bytes.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
        let done = write(run, &dynptr, offset + at, bytes, 0)?;
        if done.is_err() {
            return Ok(int(done));
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
