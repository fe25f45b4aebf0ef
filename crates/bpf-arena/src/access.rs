//! Reads and writes of memory that programs share with the host, by width. One of the two files with `unsafe`.
//!
//! A program's stack, context and map values lie at real addresses that machine code uses directly, from any number of
//! threads, while the host and the interpreter read and write them here. Such bytes never become a reference to something that
//! is not atomic: each access is a relaxed atomic of its own width, or of single bytes where it is not aligned. Relaxed atomics
//! are what the plain `mov`s of generated code are on every machine this runs on.
//!
//! [`Block`] owns memory, [`Regions`] lists what one run may touch, [`Place`] is a checked range of it. All three are
//! safe to use: a `Place` borrows what it lies in, and every access is checked against its length.
//!
//! Arena memory is not handled here: it may be missing, so `sys` accesses it.
#![allow(unsafe_code, reason = "raw memory is the subject of this file")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use elsa::FrozenVec;
use isa::{AtomicOp, Size};
use sys::{LazyMemory, RingMapping};

/// Alignment of every block: a line of the cache, so that what is as long as one lies in one. More than any access and any C type
/// needs.
const ALIGN: usize = 64;

/// What the heap aligns to anyway. More costs it the way to memory that is known to be zeroes.
const HEAP_ALIGN: usize = 16;

/// Blocks from this size on are mapped, so that what is never touched takes no memory, and no account is kept of it.
const LAZY: usize = 1 << 20;

/// Bytes that are copied at once where they are aligned.
const WORD: usize = 8;
/// Bytes of half a word.
const HALF: usize = 4;

/// Zeroed memory at an address that does not change.
#[derive(Debug)]
pub(crate) struct Block {
    // Invariant: `len` bytes that `owner` keeps, aligned to `ALIGN`.
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

/// Where a block's memory is from.
#[derive(Debug)]
enum Owner {
    /// Allocated with `layout(len)`, freed when the block is dropped and not before.
    Heap {
        allocation: NonNull<u8>,
    },
    Lazy {
        _memory: LazyMemory,
    },
    Ring {
        _memory: RingMapping,
    },
}

// SAFETY: a block is plain memory without ties to a thread.
unsafe impl Send for Block {}
// SAFETY: its bytes are only ever accessed through raw pointers, by relaxed atomics.
unsafe impl Sync for Block {}

impl Block {
    /// `len` zero bytes, or `None` if there is no memory for them.
    pub(crate) fn new(len: usize) -> Option<Self> {
        if len >= LAZY {
            let memory = LazyMemory::new(len as u64).ok()?;
            return Some(Self {
                start: mapped(memory.address())?,
                len,
                owner: Owner::Lazy { _memory: memory },
            });
        }
        let layout = Self::layout(len)?;
        // SAFETY: the layout's size is not 0.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let padding = allocation.as_ptr().align_offset(ALIGN).min(ALIGN - HEAP_ALIGN);
        // SAFETY: the allocation is `ALIGN - HEAP_ALIGN` bytes longer than the block.
        let start = unsafe { allocation.add(padding) };
        Some(Self { start, len, owner: Owner::Heap { allocation } })
    }

    /// A ring of `size` zero bytes, a whole number of pages: a block of twice as many, whose second half is its first half again.
    pub(crate) fn ring(size: u64) -> Option<Self> {
        let memory = RingMapping::new(size).ok()?;
        let len = usize::try_from(memory.len() * 2).ok()?;
        Some(Self { start: mapped(memory.address())?, len, owner: Owner::Ring { _memory: memory } })
    }

    /// Address of the first byte.
    #[inline]
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A range of the block; `None` if it is not inside.
    #[inline]
    pub(crate) fn place(&self, offset: u64, len: u64) -> Option<Place<'_>> {
        Span { start: self.start.as_ptr(), len: self.len }.place(offset, len)
    }

    /// The whole words of it, in order.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words of live memory, aligned to more than a word. Atomics may be shared with anybody.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / WORD) }
    }

    /// The halves of its words, in order.
    #[inline]
    pub(crate) fn halves(&self) -> &[AtomicU32] {
        // SAFETY: so many halves of live memory, aligned to more than a word. Atomics may be shared with anybody.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / HALF) }
    }

    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_add(ALIGN - HEAP_ALIGN)?, HEAP_ALIGN).ok()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Owner::Heap { allocation } = self.owner
            && let Some(layout) = Self::layout(self.len)
        {
            // SAFETY: allocated in `new` with the same layout.
            unsafe { dealloc(allocation.as_ptr(), layout) };
        }
    }
}

/// The start of memory that was mapped.
fn mapped(address: u64) -> Option<NonNull<u8>> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(usize::try_from(address).ok()?))
}

/// A range of memory without an owner; only inside of this file.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: *mut u8,
    len: usize,
}

impl Span {
    /// The caller names in the lifetime what keeps the memory alive.
    #[inline]
    fn place<'m>(self, offset: u64, len: u64) -> Option<Place<'m>> {
        let end = offset.checked_add(len)?;
        if end > self.len as u64 {
            return None;
        }
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        // SAFETY: `offset <= self.len`, so the result is inside of or just past the memory.
        let start = unsafe { self.start.add(offset) };
        Some(Place { start, len, memory: PhantomData })
    }

    #[inline]
    fn find<'m>(self, address: u64, len: u64) -> Option<Place<'m>> {
        self.place(address.checked_sub(self.start.addr() as u64)?, len)
    }
}

/// Blocks that live as long as an app: its map values and global data.
#[derive(Debug, Default)]
pub(crate) struct BlockTable {
    // Invariant: ascending addresses.
    blocks: Vec<(Arc<Block>, bool)>,
}

impl BlockTable {
    /// Adds a block, which programs may write or only read.
    pub(crate) fn insert(&mut self, block: Arc<Block>, writable: bool) {
        let at = self.blocks.partition_point(|(b, _)| b.address() < block.address());
        self.blocks.insert(at, (block, writable));
    }

    fn find(&self, address: u64, len: u64, write: bool) -> Option<Place<'_>> {
        let after = self.blocks.partition_point(|(b, _)| b.address() <= address);
        let (block, writable) = self.blocks.get(after.checked_sub(1)?)?;
        if write && !writable {
            return None;
        }
        block.place(address - block.address(), len)
    }
}

/// Everything one run may touch, arena aside.
#[derive(Debug)]
pub(crate) struct Regions<'r> {
    stack: &'r Block,
    // The run's exclusive borrow of the context, as a pointer because the program shares it.
    ctx: Span,
    ctx_memory: PhantomData<&'r mut [u8]>,
    table: &'r BlockTable,
    /// What joined the run while it went on.
    joined: &'r Joined,
    /// Where allocated objects lie, for programs that use any.
    objects: Option<&'static Block>,
}

/// Memory that joins a run while it goes on: of maps inside of maps, packets, what the host lends. It stays until the run
/// ends, whatever becomes of its owner.
#[derive(Default)]
pub(crate) struct Joined {
    tables: FrozenVec<Box<BlockTable>>,
}

impl Joined {
    /// Adds the blocks of a table.
    pub(crate) fn add(&self, table: BlockTable) -> &BlockTable {
        self.tables.push_get(Box::new(table))
    }

    /// Forgets everything, once the run is over.
    pub(crate) fn clear(&mut self) {
        self.tables.as_mut().clear();
    }

    fn find(&self, address: u64, len: u64, write: bool) -> Option<Place<'_>> {
        self.tables.iter().find_map(|table| table.find(address, len, write))
    }
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined").field("tables", &self.tables.len()).finish()
    }
}

impl<'r> Regions<'r> {
    /// The memory of a run with this stack, context and these map values.
    pub(crate) fn new(
        stack: &'r Block,
        ctx: &'r mut [u8],
        table: &'r BlockTable,
        joined: &'r Joined,
    ) -> Self {
        let ctx = Span { start: ctx.as_mut_ptr(), len: ctx.len() };
        Self { stack, ctx, ctx_memory: PhantomData, table, joined, objects: None }
    }

    /// The memory of another program that goes on with this run: with a stack and maps of its own, and the same context.
    pub(crate) fn of_other(&self, stack: &'r Block, table: &'r BlockTable) -> Self {
        Self {
            stack,
            table,
            ctx: self.ctx,
            ctx_memory: PhantomData,
            joined: self.joined,
            objects: self.objects,
        }
    }

    /// Lets the program use allocated objects, all of which lie in this block.
    pub(crate) fn lend_objects(&mut self, objects: &'static Block) {
        self.objects = Some(objects);
    }

    /// Address of the context's first byte.
    pub(crate) fn ctx_address(&self) -> u64 {
        self.ctx.start.expose_provenance() as u64
    }

    /// Bytes of the context that the caller gave.
    pub(crate) fn ctx_bytes(&self) -> usize {
        self.ctx.len
    }

    /// The memory at `address`, if all of it belongs to the run and may be accessed in this way.
    #[inline]
    pub(crate) fn find(&self, address: u64, len: u64, write: bool) -> Option<Place<'r>> {
        self.find_on_stack(address, len).or_else(|| self.find_elsewhere(address, len, write))
    }

    /// The same on the stack alone, where nearly everything lies that programs hand to functions.
    #[inline]
    pub(crate) fn find_on_stack(&self, address: u64, len: u64) -> Option<Place<'r>> {
        Span { start: self.stack.start.as_ptr(), len: self.stack.len }.find(address, len)
    }

    #[inline(never)]
    fn find_elsewhere(&self, address: u64, len: u64, write: bool) -> Option<Place<'r>> {
        self.ctx
            .find(address, len)
            .or_else(|| self.table.find(address, len, write))
            .or_else(|| self.joined.find(address, len, write))
            .or_else(|| {
                self.objects.and_then(|block| block.place(address.checked_sub(block.address())?, len))
            })
    }
}

/// A range of live memory, checked once, accessed by width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'m> {
    // Invariant: `start..start + len` is allocated for 'm and accessed by relaxed atomics only.
    start: *mut u8,
    len: usize,
    memory: PhantomData<&'m ()>,
}

// SAFETY: see the invariant; a place is as shareable as the block it lies in.
unsafe impl Send for Place<'_> {}

impl<'m> Place<'m> {
    /// Bytes of the host as a place, which has them for itself as long as the place is used.
    pub(crate) fn over(bytes: &'m mut [u8]) -> Self {
        Self { start: bytes.as_mut_ptr(), len: bytes.len(), memory: PhantomData }
    }
}

impl Place<'_> {
    /// Length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address of the first byte.
    #[inline]
    pub(crate) fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    /// `len` bytes from `offset` on, if it has them.
    #[inline]
    pub(crate) fn sub(&self, offset: usize, len: usize) -> Option<Self> {
        let part = self.at(offset)?;
        (len <= part.len).then_some(Self { len, ..part })
    }

    /// The part from `offset` on.
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> Option<Self> {
        let len = self.len.checked_sub(offset)?;
        // SAFETY: `offset` is inside of or just past the place.
        let start = unsafe { self.start.add(offset) };
        Some(Self { start, len, memory: PhantomData })
    }

    /// Whether the first byte's address is a multiple of `size`.
    #[inline]
    pub(crate) fn is_aligned(&self, size: Size) -> bool {
        self.start.addr().is_multiple_of(usize::from(size.bytes()))
    }

    /// The zero-extended value at the start; 0 if the place is shorter.
    #[inline]
    pub(crate) fn load(&self, size: Size, order: Ordering) -> u64 {
        if self.len < usize::from(size.bytes()) {
            return 0;
        }
        if !self.is_aligned(size) {
            let mut bytes = [0; 8];
            let wanted = usize::from(size.bytes());
            bytes.iter_mut().take(wanted).enumerate().for_each(|(i, byte)| *byte = self.byte(i));
            return u64::from_le_bytes(bytes);
        }
        match size {
            Size::B => u64::from(self.atomic8().load(order)),
            Size::H => u64::from(self.atomic16().load(order)),
            Size::W => u64::from(self.atomic32().load(order)),
            Size::DW => self.atomic64().load(order),
        }
    }

    /// Stores the low bytes of `value` at the start; nothing if the place is shorter.
    #[allow(clippy::cast_possible_truncation, reason = "a store keeps the low bytes")]
    #[inline]
    pub(crate) fn store(&self, size: Size, value: u64, order: Ordering) {
        if self.len < usize::from(size.bytes()) {
            return;
        }
        if !self.is_aligned(size) {
            let wanted = usize::from(size.bytes());
            value.to_le_bytes().iter().take(wanted).enumerate().for_each(|(i, byte)| self.set_byte(i, *byte));
            return;
        }
        match size {
            Size::B => self.atomic8().store(value as u8, order),
            Size::H => self.atomic16().store(value as u16, order),
            Size::W => self.atomic32().store(value as u32, order),
            Size::DW => self.atomic64().store(value, order),
        }
    }

    /// Sequentially consistent read-modify-write of 4 or 8 bytes at the start; the old value, zero-extended.
    /// `expected` matters to `CmpXchg` only. `None` if the place is too short or not aligned.
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit operation uses the low halves")]
    pub(crate) fn fetch(&self, size: Size, op: AtomicOp, operand: u64, expected: u64) -> Option<u64> {
        if self.len < usize::from(size.bytes()) || !self.is_aligned(size) {
            return None;
        }
        macro_rules! rmw {
            ($cell:expr, $operand:expr, $expected:expr) => {{
                let (cell, operand, order) = ($cell, $operand, Ordering::SeqCst);
                match op {
                    AtomicOp::Add => cell.fetch_add(operand, order),
                    AtomicOp::Or => cell.fetch_or(operand, order),
                    AtomicOp::And => cell.fetch_and(operand, order),
                    AtomicOp::Xor => cell.fetch_xor(operand, order),
                    AtomicOp::Xchg => cell.swap(operand, order),
                    AtomicOp::CmpXchg => {
                        cell.compare_exchange($expected, operand, order, order).unwrap_or_else(|old| old)
                    }
                }
            }};
        }
        match size {
            Size::W => Some(u64::from(rmw!(self.atomic32(), operand as u32, expected as u32))),
            Size::DW => Some(rmw!(self.atomic64(), operand, expected)),
            Size::B | Size::H => None,
        }
    }

    /// Copies bytes out, each read once; as many as both sides have.
    pub(crate) fn read(&self, bytes: &mut [u8]) {
        let len = bytes.len().min(self.len);
        let (head, words) = self.split(len);
        let (first, rest) = bytes.get_mut(..len).unwrap_or_default().split_at_mut(head);
        first.iter_mut().enumerate().for_each(|(at, byte)| *byte = self.byte(at));
        let (chunks, last) = rest.as_chunks_mut::<WORD>();
        chunks.iter_mut().zip(words).for_each(|(chunk, word)| {
            *chunk = word.load(Ordering::Relaxed).to_le_bytes();
        });
        let end = len - last.len();
        last.iter_mut().zip(end..).for_each(|(byte, at)| *byte = self.byte(at));
    }

    /// Copies from another place, each byte read and written once; as many as both have.
    #[inline]
    pub(crate) fn copy_from(&self, from: Place<'_>) {
        let len = from.len.min(self.len);
        let mut done = 0;
        if let (Some(to), Some(words)) = (self.words(len), from.words(len)) {
            to.iter().zip(words).for_each(|(to, word)| {
                to.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
            });
            done = len - len % WORD;
        }
        if done < len {
            self.copy_rest(from, done, len);
        }
    }

    /// Copies the bytes from `at` to `len`, whatever their alignment.
    fn copy_rest(&self, from: Place<'_>, mut at: usize, len: usize) {
        while at < len {
            at += match (self.word(at), from.word(at)) {
                (Some(to), Some(word)) if at + WORD <= len => {
                    to.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
                    WORD
                }
                _ => self.copy_part(from, at, len),
            };
        }
    }

    /// Copies what a whole word is not: four bytes if they are aligned, or one. How many.
    fn copy_part(&self, from: Place<'_>, at: usize, len: usize) -> usize {
        let size = Size::W;
        let bytes = usize::from(size.bytes());
        match (self.at(at), from.at(at)) {
            (Some(to), Some(from)) if at + bytes <= len && to.is_aligned(size) && from.is_aligned(size) => {
                to.store(size, from.load(size, Ordering::Relaxed), Ordering::Relaxed);
                bytes
            }
            _ => {
                self.set_byte(at, from.byte(at));
                1
            }
        }
    }

    /// Copies bytes in, each written once; as many as both sides have.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let len = bytes.len().min(self.len);
        let (head, words) = self.split(len);
        let (first, rest) = bytes.get(..len).unwrap_or_default().split_at(head);
        first.iter().enumerate().for_each(|(at, byte)| self.set_byte(at, *byte));
        let (chunks, last) = rest.as_chunks::<WORD>();
        chunks.iter().zip(words).for_each(|(chunk, word)| {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        });
        let end = len - last.len();
        last.iter().zip(end..).for_each(|(byte, at)| self.set_byte(at, *byte));
    }

    /// Zeroes all bytes.
    pub(crate) fn clear(&self) {
        let (head, words) = self.split(self.len);
        (0..head).for_each(|at| self.set_byte(at, 0));
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        (head + words.len() * WORD..self.len).for_each(|at| self.set_byte(at, 0));
    }

    /// Of the first `len` bytes, how many come before the first aligned word, and the words from there on.
    #[inline]
    fn split(&self, len: usize) -> (usize, &[AtomicU64]) {
        let head = self.start.addr().wrapping_neg() % WORD;
        if len < head + WORD || len > self.len {
            return (len.min(self.len), &[]);
        }
        // SAFETY: `head` is inside of the place.
        let start = unsafe { self.start.add(head) };
        // SAFETY: so many words of live memory, aligned. Atomics may be shared with anybody.
        (head, unsafe { std::slice::from_raw_parts(start.cast(), (len - head) / WORD) })
    }

    /// A copy of all bytes.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(&mut bytes);
        bytes
    }

    fn byte(&self, at: usize) -> u8 {
        if at >= self.len {
            return 0;
        }
        // SAFETY: `at` is inside of the place.
        let start = unsafe { self.start.add(at) };
        // SAFETY: the place is live memory; a byte is always aligned.
        unsafe { AtomicU8::from_ptr(start) }.load(Ordering::Relaxed)
    }

    fn set_byte(&self, at: usize, value: u8) {
        if at >= self.len {
            return;
        }
        // SAFETY: `at` is inside of the place.
        let start = unsafe { self.start.add(at) };
        // SAFETY: the place is live memory; a byte is always aligned.
        unsafe { AtomicU8::from_ptr(start) }.store(value, Ordering::Relaxed);
    }

    /// The whole words of the first `len` bytes, if they are inside and aligned.
    #[inline]
    fn words(&self, len: usize) -> Option<&[AtomicU64]> {
        if len > self.len || !self.start.addr().is_multiple_of(WORD) {
            return None;
        }
        // SAFETY: so many words of live memory, aligned. Atomics may be shared with anybody.
        Some(unsafe { std::slice::from_raw_parts(self.start.cast(), len / WORD) })
    }

    /// The aligned word that begins `at` bytes in, if all of it is inside.
    #[inline]
    fn word(&self, at: usize) -> Option<&AtomicU64> {
        if at.checked_add(WORD)? > self.len || !(self.start.addr().wrapping_add(at)).is_multiple_of(WORD) {
            return None;
        }
        // SAFETY: `at` is inside of the place.
        let start = unsafe { self.start.add(at) };
        // SAFETY: the place is live memory, eight bytes of it begin here, aligned.
        Some(unsafe { AtomicU64::from_ptr(start.cast()) })
    }

    // The callers of these four have checked length and alignment.

    #[inline]
    fn atomic8(&self) -> &AtomicU8 {
        // SAFETY: the place is live memory of at least one byte.
        unsafe { AtomicU8::from_ptr(self.start) }
    }

    #[inline]
    fn atomic16(&self) -> &AtomicU16 {
        // SAFETY: the place is live memory of at least two bytes, aligned.
        unsafe { AtomicU16::from_ptr(self.start.cast()) }
    }

    #[inline]
    fn atomic32(&self) -> &AtomicU32 {
        // SAFETY: the place is live memory of at least four bytes, aligned.
        unsafe { AtomicU32::from_ptr(self.start.cast()) }
    }

    #[inline]
    fn atomic64(&self) -> &AtomicU64 {
        // SAFETY: the place is live memory of at least eight bytes, aligned.
        unsafe { AtomicU64::from_ptr(self.start.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_inside_of_their_block() {
        let block = Block::new(24).unwrap();
        assert!(block.place(0, 24).is_some());
        assert!(block.place(24, 0).is_some());
        assert!(block.place(17, 8).is_none());
        assert!(block.place(u64::MAX, 2).is_none());
    }

    #[test]
    fn large_blocks_are_zeroed_and_rings_repeat() {
        let large = Block::new(LAZY + 3).unwrap();
        assert!(large.place(0, LAZY as u64 + 4).is_none());
        let end = large.place(LAZY as u64, 3).unwrap();
        assert_eq!(end.to_vec(), [0; 3]);
        end.write(&[1, 2, 3]);
        assert_eq!(end.to_vec(), [1, 2, 3]);
        let ring = Block::ring(4096).unwrap();
        assert_eq!(ring.len(), 8192);
        ring.place(4094, 4).unwrap().write(&[1, 2, 3, 4]);
        assert_eq!(ring.place(0, 2).unwrap().to_vec(), [3, 4]);
        assert_eq!(ring.place(4096, 2).unwrap().to_vec(), [3, 4]);
    }

    #[test]
    fn widths_and_alignments_read_what_was_written() {
        let block = Block::new(32).unwrap();
        for offset in 0..8 {
            for size in [Size::B, Size::H, Size::W, Size::DW] {
                let place = block.place(offset, u64::from(size.bytes())).unwrap();
                place.store(size, 0x8877_6655_4433_2211, Ordering::Relaxed);
                let mask = u64::MAX >> (64 - u32::from(size.bits()));
                assert_eq!(place.load(size, Ordering::Relaxed), 0x8877_6655_4433_2211 & mask);
                let mut bytes = [0; 8];
                place.read(&mut bytes);
                assert_eq!(u64::from_le_bytes(bytes), 0x8877_6655_4433_2211 & mask);
            }
        }
    }

    #[test]
    fn copies_of_every_length_and_alignment() {
        let pattern: Vec<u8> = (1..=40).collect();
        for (start, len) in (0usize..9).flat_map(|start| (0..=24).map(move |len: usize| (start, len))) {
            let block = Block::new(40).unwrap();
            block.place(0, 40).unwrap().write(&pattern);
            let place = block.place(start as u64, len as u64).unwrap();
            let range = start..start + len;
            assert_eq!(place.to_vec(), pattern[range.clone()]);
            let mut short = vec![0; len / 2];
            place.read(&mut short);
            assert_eq!(short, pattern[range.start..range.start + len / 2]);
            place.write(&[0xaa; 40]);
            let mut expected = pattern.clone();
            expected[range.clone()].fill(0xaa);
            assert_eq!(block.place(0, 40).unwrap().to_vec(), expected);
            place.clear();
            expected[range].fill(0);
            assert_eq!(block.place(0, 40).unwrap().to_vec(), expected);
        }
    }

    #[test]
    fn copies_between_places() {
        let pattern: Vec<u8> = (1..=40).collect();
        let (from, to) = (Block::new(40).unwrap(), Block::new(40).unwrap());
        from.place(0, 40).unwrap().write(&pattern);
        for (start, len) in (0usize..9).flat_map(|start| (0..=24).map(move |len: usize| (start, len))) {
            for shift in [0, 1, 4] {
                let all = to.place(0, 40).unwrap();
                all.clear();
                all.sub(start, len)
                    .unwrap()
                    .copy_from(from.place(start as u64 + shift, 24).unwrap().sub(0, 24).unwrap());
                let mut expected = vec![0; 40];
                let first = start + usize::try_from(shift).unwrap();
                expected[start..start + len].copy_from_slice(&pattern[first..first + len]);
                assert_eq!(all.to_vec(), expected);
            }
        }
        let mut bytes = [0; 5];
        Place::over(&mut bytes).copy_from(from.place(1, 30).unwrap());
        assert_eq!(bytes, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn atomics_give_the_old_value_and_refuse_misalignment() {
        let block = Block::new(16).unwrap();
        let place = block.place(0, 8).unwrap();
        assert_eq!(place.fetch(Size::DW, AtomicOp::Add, 5, 0), Some(0));
        assert_eq!(place.fetch(Size::DW, AtomicOp::CmpXchg, 9, 5), Some(5));
        assert_eq!(place.fetch(Size::DW, AtomicOp::CmpXchg, 1, 5), Some(9));
        assert_eq!(place.fetch(Size::W, AtomicOp::Xchg, u64::MAX, 0), Some(9));
        assert_eq!(place.load(Size::DW, Ordering::Relaxed), 0xffff_ffff);
        assert_eq!(block.place(1, 8).unwrap().fetch(Size::DW, AtomicOp::Add, 5, 0), None);
    }

    #[test]
    fn a_run_finds_its_own_memory_only() {
        let stack = Block::new(64).unwrap();
        let mut ctx = [0; 8];
        let mut table = BlockTable::default();
        let (data, rodata) = (Arc::new(Block::new(8).unwrap()), Arc::new(Block::new(8).unwrap()));
        table.insert(data.clone(), true);
        table.insert(rodata.clone(), false);
        let mut joined = Joined::default();
        let regions = Regions::new(&stack, &mut ctx, &table, &joined);
        assert!(regions.find(stack.address() + 56, 8, true).is_some());
        assert!(regions.find(stack.address() + 57, 8, true).is_none());
        assert!(regions.find(regions.ctx_address(), 8, true).is_some());
        assert!(regions.find(data.address(), 8, true).is_some());
        assert!(regions.find(rodata.address(), 8, false).is_some());
        assert!(regions.find(rodata.address(), 8, true).is_none());
        assert!(regions.find(0, 1, false).is_none());
        assert!(regions.find(u64::MAX, 1, false).is_none());
        let late = Arc::new(Block::new(16).unwrap());
        assert!(regions.find(late.address(), 16, false).is_none());
        let mut table = BlockTable::default();
        table.insert(late.clone(), true);
        joined.add(table);
        assert!(regions.find(late.address(), 16, true).is_some());
        joined.clear();
        assert!(joined.find(late.address(), 16, true).is_none());
    }
}
