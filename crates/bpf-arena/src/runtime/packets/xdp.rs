//! A packet as XDP programs see it: a page with room on both sides of the packet, and where it is longer, further pages of
//! which only helpers know.

use super::context::{Image, xdp as field};
use super::{EACCES, EFAULT, EINVAL, Errno};
use crate::access::{Block, Place};

/// Bytes of the page that a packet begins in.
pub(crate) const PAGE: usize = 4096;

/// Room in front of a packet, metadata included (`XDP_PACKET_HEADROOM`).
pub(crate) const HEADROOM: usize = 256;

/// The start of that room, which the kernel keeps for itself (`struct xdp_frame`).
pub(crate) const KERNEL_HEAD: usize = 40;

/// The end of the page, which the kernel keeps for itself (`struct skb_shared_info`).
pub(crate) const KERNEL_TAIL: usize = 320;

/// Most pages beside the first (`MAX_SKB_FRAGS`).
pub(crate) const MAX_FRAGMENTS: usize = 17;

/// The shortest that a packet may become: its Ethernet header stays.
const LEAST_BYTES: usize = 14;

/// Most bytes of metadata.
const MAX_META: usize = 252;

/// A further page of a packet, of which some bytes are the packet's.
#[derive(Clone, Copy, Debug)]
struct Fragment<'r> {
    block: &'r Block,
    start: usize,
    len: usize,
}

/// A packet. All offsets are from the start of its page.
#[derive(Clone, Debug)]
pub(crate) struct Xdp<'r> {
    image: Image<'r>,
    block: &'r Block,
    meta: usize,
    data: usize,
    end: usize,
    fragments: Vec<Fragment<'r>>,
}

/// Whether metadata may have this length.
pub(crate) fn meta_is_valid(bytes: usize) -> bool {
    bytes.is_multiple_of(4) && bytes <= MAX_META
}

impl<'r> Xdp<'r> {
    /// A packet in a page: metadata, then what fits of it.
    pub(crate) fn new(image: Image<'r>, block: &'r Block, meta: &[u8], linear: &[u8]) -> Option<Self> {
        let start = HEADROOM.checked_sub(meta.len())?;
        block.place(start as u64, meta.len() as u64)?.write(meta);
        block.place(HEADROOM as u64, linear.len() as u64)?.write(linear);
        let end = HEADROOM + linear.len();
        Some(Self { image, block, meta: start, data: HEADROOM, end, fragments: Vec::new() })
    }

    /// Adds the packet's next bytes, a page at most.
    pub(crate) fn add_fragment(&mut self, block: &'r Block, bytes: &[u8]) -> Option<()> {
        block.place(0, bytes.len() as u64)?.write(bytes);
        self.fragments.push(Fragment { block, start: 0, len: bytes.len() });
        Some(())
    }

    /// What the program sees of it besides its bytes.
    pub(crate) fn image(&self) -> Image<'r> {
        self.image
    }

    /// Bytes of the packet, without metadata.
    pub(crate) fn len(&self) -> usize {
        self.linear_len() + self.fragments_len()
    }

    /// Bytes of the packet that lie in the first page.
    pub(crate) fn linear_len(&self) -> usize {
        self.end - self.data
    }

    /// Bytes beyond the first page.
    pub(crate) fn fragments_len(&self) -> usize {
        self.fragments.iter().map(|fragment| fragment.len).sum()
    }

    /// Bytes of metadata.
    pub(crate) fn meta_len(&self) -> usize {
        self.data - self.meta
    }

    /// A copy of metadata and packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let linear = self.block.place(self.meta as u64, (self.end - self.meta) as u64);
        let mut bytes = linear.map_or_else(Vec::new, Place::to_vec);
        for fragment in &self.fragments {
            let (start, len) = (fragment.start as u64, fragment.len as u64);
            bytes.extend(fragment.block.place(start, len).map_or_else(Vec::new, Place::to_vec));
        }
        bytes
    }

    /// Shows the program where the packet is now.
    pub(crate) fn show(&self) {
        let start = self.block.address();
        self.image.set_pointer(field::DATA_META, start + self.meta as u64);
        self.image.set_pointer(field::DATA, start + self.data as u64);
        self.image.set_pointer(field::DATA_END, start + self.end as u64);
    }

    /// The part of the packet, if it lies in one page; `None` if it does not.
    ///
    /// # Errors
    /// The packet has no such part.
    pub(crate) fn part(&self, offset: u32, len: u32) -> Result<Option<Place<'r>>, Errno> {
        if offset > 0xffff || len > 0xffff {
            return Err(Errno(EFAULT));
        }
        let (mut offset, len) = (offset as usize, len as usize);
        if offset + len > self.len() {
            return Err(Errno(EINVAL));
        }
        let linear = (self.block, self.data, self.linear_len());
        for (block, start, bytes) in std::iter::once(linear).chain(self.fragments.iter().map(Fragment::whole))
        {
            if offset < bytes {
                let fits = offset + len <= bytes;
                return Ok(fits.then(|| block.place((start + offset) as u64, len as u64)).flatten());
            }
            offset -= bytes;
        }
        // Nothing, behind the end of everything.
        Ok(self.block.place(self.end as u64, 0).filter(|_| len == 0))
    }

    /// Every piece of a part of the packet, in order; together they are as long as both have.
    pub(crate) fn pieces(&self, offset: usize, len: usize) -> impl Iterator<Item = Place<'r>> {
        let linear = (self.block, self.data, self.linear_len());
        let (mut skip, mut left) = (offset, len);
        std::iter::once(linear).chain(self.fragments.iter().map(Fragment::whole)).filter_map(
            move |(block, start, bytes)| {
                let skipped = skip.min(bytes);
                skip -= skipped;
                let taken = left.min(bytes - skipped);
                left -= taken;
                block.place((start + skipped) as u64, taken as u64).filter(|_| taken > 0)
            },
        )
    }

    /// Moves the start of the packet, and its metadata with it (`bpf_xdp_adjust_head`).
    pub(crate) fn adjust_head(&mut self, by: i32) -> Result<(), Errno> {
        let data = moved(self.data, by)
            .filter(|data| *data >= KERNEL_HEAD + self.meta_len() && *data + LEAST_BYTES <= self.end);
        let data = data.ok_or(Errno(EINVAL))?;
        let meta_len = self.meta_len();
        let meta = data - meta_len;
        if let (Some(from), Some(to)) = (
            self.block.place(self.meta as u64, meta_len as u64),
            self.block.place(meta as u64, meta_len as u64),
        ) {
            to.write(&from.to_vec());
        }
        (self.meta, self.data) = (meta, data);
        Ok(())
    }

    /// Moves the start of the metadata (`bpf_xdp_adjust_meta`).
    pub(crate) fn adjust_meta(&mut self, by: i32) -> Result<(), Errno> {
        let meta = moved(self.meta, by).filter(|meta| *meta >= KERNEL_HEAD && *meta <= self.data);
        let meta = meta.ok_or(Errno(EINVAL))?;
        if !meta_is_valid(self.data - meta) {
            return Err(Errno(EACCES));
        }
        self.meta = meta;
        Ok(())
    }

    /// Moves the end of the packet; what is new is zero (`bpf_xdp_adjust_tail`).
    pub(crate) fn adjust_tail(&mut self, by: i32) -> Result<(), Errno> {
        if !self.fragments.is_empty() {
            let bytes = by.unsigned_abs() as usize;
            return if by < 0 { self.shrink_fragments(bytes) } else { self.grow_fragment(bytes) };
        }
        let end =
            moved(self.end, by).filter(|end| *end <= PAGE - KERNEL_TAIL && *end >= self.data + LEAST_BYTES);
        let end = end.ok_or(Errno(EINVAL))?;
        if let Some(new) = end.checked_sub(self.end)
            && let Some(place) = self.block.place(self.end as u64, new as u64)
        {
            place.clear();
        }
        self.end = end;
        Ok(())
    }

    /// Makes the first `len` bytes lie in the first page (`bpf_xdp_pull_data`).
    pub(crate) fn pull(&mut self, len: u32) -> Result<(), Errno> {
        let len = len as usize;
        if len > self.len() {
            return Err(Errno(EINVAL));
        }
        let Some(wanted) = len.checked_sub(self.linear_len()).filter(|wanted| *wanted > 0) else {
            return Ok(());
        };
        // What does not fit behind the packet makes it begin earlier.
        let tail = (PAGE - KERNEL_TAIL) - self.end;
        let shift = wanted.saturating_sub(tail);
        if shift > self.meta - KERNEL_HEAD {
            return Err(Errno(EINVAL));
        }
        if shift > 0 {
            let used = (self.end - self.meta) as u64;
            if let (Some(from), Some(to)) =
                (self.block.place(self.meta as u64, used), self.block.place((self.meta - shift) as u64, used))
            {
                to.write(&from.to_vec());
            }
            self.meta -= shift;
            self.data -= shift;
            self.end -= shift;
        }
        let pulled: Vec<u8> = self.pieces(self.linear_len(), wanted).flat_map(Place::to_vec).collect();
        if let Some(place) = self.block.place(self.end as u64, pulled.len() as u64) {
            place.write(&pulled);
        }
        self.end += pulled.len();
        self.drop_front(wanted);
        Ok(())
    }

    /// Takes bytes from the start of the first fragments.
    fn drop_front(&mut self, mut bytes: usize) {
        self.fragments.retain_mut(|fragment| {
            let taken = bytes.min(fragment.len);
            bytes -= taken;
            fragment.len -= taken;
            fragment.start += taken;
            fragment.len > 0
        });
    }

    fn grow_fragment(&mut self, bytes: usize) -> Result<(), Errno> {
        let last = self.fragments.last_mut().ok_or(Errno(EINVAL))?;
        let end = last.start + last.len;
        if bytes > PAGE - end {
            return Err(Errno(EINVAL));
        }
        if let Some(place) = last.block.place(end as u64, bytes as u64) {
            place.clear();
        }
        last.len += bytes;
        Ok(())
    }

    fn shrink_fragments(&mut self, mut bytes: usize) -> Result<(), Errno> {
        if bytes + LEAST_BYTES > self.len() {
            return Err(Errno(EINVAL));
        }
        while bytes > 0 {
            let Some(last) = self.fragments.last_mut() else { break };
            let taken = bytes.min(last.len);
            last.len -= taken;
            bytes -= taken;
            if last.len == 0 {
                self.fragments.pop();
            }
        }
        self.end -= bytes;
        Ok(())
    }
}

impl<'r> Fragment<'r> {
    /// Block, first byte, and length.
    fn whole(&self) -> (&'r Block, usize, usize) {
        (self.block, self.start, self.len)
    }
}

/// An offset moved by so many bytes; `None` if there is nothing.
fn moved(offset: usize, by: i32) -> Option<usize> {
    offset.checked_add_signed(isize::try_from(by).ok()?)
}
