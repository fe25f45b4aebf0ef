//! The memory of allocated objects: one heap for the whole process.
//!
//! Objects outlive the run, and even the program, that made them: they hang in map values and in one another. A pointer to
//! one that is read from memory is worth nothing until the heap has found the object it points to; everything the runtime
//! must know of an object is kept beside the memory, where no program writes.
//!
//! Objects of one [`Layout`] lie in chunks of their own, so memory that has held one layout never holds another. A dropped
//! object is not used again before every run that could still look at it has ended (see [`pin`]), as the kernel waits for a
//! grace period of RCU.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use verifier::fields::{Field, Tag};

use crate::access::{Block, Place};

/// Sizes of the heap that are tried, largest first. It is address space: pages come with the first use.
const HEAP_BYTES: [usize; 4] = [1 << 30, 1 << 28, 1 << 26, 1 << 24];

/// The heap is handed out in multiples of this.
const UNIT: u64 = 1 << 14;

/// Objects begin at multiples of this.
const ALIGN: u64 = 16;

/// The states of a slot.
const FREE: u8 = 0;
const LIVE: u8 = 1;
/// Dropped, but someone may still be looking.
const DROPPED: u8 = 2;

/// The heap; `None` if there is no memory for one.
pub(crate) fn heap() -> Option<&'static Heap> {
    static HEAP: LazyLock<Option<Heap>> = LazyLock::new(Heap::new);
    HEAP.as_ref()
}

/// Keeps objects that are dropped from now on until it is dropped itself.
pub(crate) type Guard = crossbeam_epoch::Guard;

/// A guard, which runs of programs that may look at objects have.
pub(crate) fn pin() -> Guard {
    crossbeam_epoch::pin()
}

/// What objects look like to the runtime.
#[derive(Debug)]
pub(crate) struct Layout {
    shape: Shape,
    stride: u64,
    /// Where the count of references lies.
    refcount: Option<u32>,
    /// Addresses of slots that are free.
    free: Mutex<Vec<u64>>,
}

/// What makes layouts different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    size: u32,
    /// 1, or as many as there are CPUs.
    copies: u32,
    fields: Box<[(u32, Tag)]>,
}

impl Layout {
    /// Of an object of `size` bytes with these fields. Equal layouts are the same.
    pub(crate) fn of(size: u32, fields: &[Field]) -> &'static Self {
        let fields: Vec<_> = fields.iter().map(|field| (field.offset, field.tag)).collect();
        Self::with(size, &fields)
    }

    /// Of an object with fields of these kinds at these offsets.
    pub(super) fn with(size: u32, fields: &[(u32, Tag)]) -> &'static Self {
        Self::known(Shape { size, copies: 1, fields: fields.into() })
    }

    /// Of an object of the runtime's own: `size` bytes, and a count of references behind them.
    pub(crate) fn counted(size: u32) -> &'static Self {
        let fields = Box::new([(size, Tag::Refcount)]);
        Self::known(Shape { size: size.saturating_add(Tag::Refcount.size()), copies: 1, fields })
    }

    /// Of one object of `size` bytes for each of `copies` CPUs.
    pub(crate) fn per_cpu(size: u32, copies: u32) -> &'static Self {
        Self::known(Shape { size, copies, fields: Box::default() })
    }

    fn known(shape: Shape) -> &'static Self {
        static LAYOUTS: LazyLock<Mutex<HashMap<Shape, &'static Layout>>> = LazyLock::new(Mutex::default);
        let mut layouts = LAYOUTS.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.entry(shape).or_insert_with_key(|shape| {
            let copy = u64::from(shape.size).next_multiple_of(8);
            let stride = copy.saturating_mul(u64::from(shape.copies)).max(1).next_multiple_of(ALIGN);
            let refcount = shape.fields.iter().find(|(_, tag)| *tag == Tag::Refcount).map(|(at, _)| *at);
            // Layouts stay known as long as the process lives, as their chunks do.
            Box::leak(Box::new(Self { shape: shape.clone(), stride, refcount, free: Mutex::default() }))
        })
    }

    /// Bytes of an object, or of one CPU's.
    pub(crate) fn size(&self) -> u32 {
        self.shape.size
    }

    /// Where its special fields lie and what they are.
    pub(crate) fn fields(&self) -> &[(u32, Tag)] {
        &self.shape.fields
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory for objects.
#[derive(Debug)]
pub(crate) struct Heap {
    block: Block,
    /// What each unit is used for.
    units: Box<[OnceLock<Chunk>]>,
    used: Mutex<usize>,
}

/// Slots of one layout, one after the other.
#[derive(Clone, Debug)]
struct Chunk {
    layout: &'static Layout,
    start: u64,
    states: Arc<[AtomicU8]>,
}

impl Heap {
    fn new() -> Option<Self> {
        let block = HEAP_BYTES.iter().find_map(|bytes| Block::new(*bytes))?;
        let units = usize::try_from(block.len() as u64 / UNIT).ok()?;
        let units = std::iter::repeat_with(OnceLock::new).take(units).collect();
        Some(Self { block, units, used: Mutex::new(0) })
    }

    /// All of its memory, whatever it is used for.
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// A zeroed object; `None` if the heap is full.
    pub(crate) fn allocate(&'static self, layout: &'static Layout) -> Option<Object> {
        // The lock must not be held while the list grows.
        let free = layout.free().pop();
        let address = free.or_else(|| self.grow(layout)).or_else(|| {
            // What this thread has dropped may be waiting for nobody.
            pin().flush();
            layout.free().pop()
        })?;
        let (chunk, index) = self.slot(address)?;
        let object = Object { start: address, layout, state: chunk.states.get(index)? };
        object.place(0, layout.stride)?.clear();
        object.state.store(LIVE, Ordering::Release);
        Some(object)
    }

    /// The object that an address points into; `None` if it points to none that is alive.
    pub(crate) fn find(&'static self, address: u64) -> Option<Object> {
        let (chunk, index) = self.slot(address)?;
        let state = chunk.states.get(index)?;
        if state.load(Ordering::Acquire) != LIVE {
            return None;
        }
        let start = chunk.start + index as u64 * chunk.layout.stride;
        Some(Object { start, layout: chunk.layout, state })
    }

    fn slot(&self, address: u64) -> Option<(&Chunk, usize)> {
        let offset = address.checked_sub(self.block.address())?;
        let chunk = self.units.get(usize::try_from(offset / UNIT).ok()?)?.get()?;
        let index = address.checked_sub(chunk.start)? / chunk.layout.stride;
        Some((chunk, usize::try_from(index).ok()?))
    }

    /// Makes a chunk of slots and gives the first one.
    fn grow(&self, layout: &'static Layout) -> Option<u64> {
        let count = layout.stride.div_ceil(UNIT);
        let slots = count * UNIT / layout.stride;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *used;
        let units = self.units.get(first..first.checked_add(usize::try_from(count).ok()?)?)?;
        *used += units.len();
        drop(used);
        let start = self.block.address() + first as u64 * UNIT;
        let states = (0..slots).map(|_| AtomicU8::new(FREE)).collect();
        let chunk = Chunk { layout, start, states };
        units.iter().for_each(|unit| _ = unit.set(chunk.clone()));
        // The lowest addresses come out first.
        layout.free().extend((1..slots).rev().map(|slot| start + slot * layout.stride));
        Some(start)
    }
}

/// A live object, found in the heap. Others may drop it at any time: its memory stays, and stays of this layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    start: u64,
    layout: &'static Layout,
    state: &'static AtomicU8,
}

impl Object {
    /// The object that an address points into.
    pub(crate) fn find(address: u64) -> Option<Self> {
        heap()?.find(address)
    }

    /// Address of its first byte.
    pub(crate) fn address(&self) -> u64 {
        self.start
    }

    /// Its layout.
    pub(crate) fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// A range of its bytes.
    pub(crate) fn place(&self, offset: u64, len: u64) -> Option<Place<'static>> {
        if offset.checked_add(len)? > self.layout.stride {
            return None;
        }
        let heap = heap()?;
        heap.block.place(self.start - heap.block.address() + offset, len)
    }

    /// The bytes of one CPU.
    pub(crate) fn copy_of(&self, cpu: u32) -> Option<Place<'static>> {
        let Shape { size, copies, .. } = self.layout.shape;
        let offset = u64::from(cpu) * u64::from(size).next_multiple_of(8);
        (cpu < copies).then(|| self.place(offset, u64::from(size)))?
    }

    /// The field of this kind at this address, with all its bytes.
    pub(crate) fn field(&self, address: u64, tag: Tag) -> Option<Place<'static>> {
        let offset = address.checked_sub(self.start)?;
        let known = self.layout.fields().iter().any(|(at, kind)| u64::from(*at) == offset && *kind == tag);
        known.then(|| self.place(offset, u64::from(tag.size())))?
    }

    /// Its count of references, if it has one.
    pub(super) fn refcount(&self) -> Option<Place<'static>> {
        self.place(u64::from(self.layout.refcount?), 4)
    }

    /// Ends its life. `false` if it had ended. The memory is used again once nobody can be looking.
    pub(super) fn end(&self) -> bool {
        if self.state.compare_exchange(LIVE, DROPPED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let Self { start, layout, state } = *self;
        pin().defer(move || {
            state.store(FREE, Ordering::Release);
            layout.free().push(start);
        });
        true
    }
}

/// How many live objects have a field of this kind.
#[cfg(test)]
pub(super) fn live_with(tag: Tag) -> usize {
    let Some(heap) = heap() else { return 0 };
    let mut last = 0;
    let chunks = heap.units.iter().filter_map(OnceLock::get).filter(|chunk| {
        chunk.start != std::mem::replace(&mut last, chunk.start)
            && chunk.layout.fields().iter().any(|(_, known)| *known == tag)
    });
    chunks.flat_map(|chunk| chunk.states.iter()).filter(|state| state.load(Ordering::Relaxed) == LIVE).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layout that no other test has.
    fn layout(size: u32) -> &'static Layout {
        Layout::of(size, &[])
    }

    #[test]
    fn objects_are_found_by_any_address_in_them() {
        let heap = heap().unwrap();
        let object = heap.allocate(layout(1001)).unwrap();
        let found = |offset| heap.find(object.address() + offset).map(|o| o.address());
        assert_eq!(found(0), Some(object.address()));
        assert_eq!(found(1000), Some(object.address()));
        assert_ne!(found(1008), Some(object.address()));
        assert!(heap.find(0).is_none() && heap.find(u64::MAX).is_none());
        assert!(object.place(0, 1008).is_some() && object.place(1, 1008).is_none());
        let slot = heap.slot(object.address() + 1008).unwrap().1;
        assert_eq!(slot, heap.slot(object.address()).unwrap().1 + 1);
    }

    #[test]
    fn objects_end_once_and_are_not_reused_while_someone_looks() {
        let heap = heap().unwrap();
        let layout = layout(1002);
        let guard = pin();
        let object = heap.allocate(layout).unwrap();
        object.place(0, 8).unwrap().write(&[7; 8]);
        assert!(object.end() && !object.end());
        assert!(heap.find(object.address()).is_none());
        for _ in 0..100 {
            assert_ne!(heap.allocate(layout).unwrap().address(), object.address());
        }
        assert_eq!(object.place(0, 8).unwrap().to_vec(), [7; 8], "still there for those who look");
        drop(guard);
        // Other threads may be looking at other things now and then.
        let reused = (0..100_000).any(|_| {
            pin().flush();
            let next = heap.allocate(layout).unwrap();
            assert_eq!(next.place(0, 8).unwrap().to_vec(), [0; 8]);
            next.end();
            next.address() == object.address()
        });
        assert!(reused);
    }

    #[test]
    fn per_cpu_objects_and_large_ones() {
        let heap = heap().unwrap();
        let object = heap.allocate(Layout::per_cpu(510, 100)).unwrap();
        assert_eq!(object.copy_of(99).unwrap().address(), object.address() + 99 * 512);
        assert!(object.copy_of(100).is_none());
        let last = heap.find(object.address() + 99 * 512 + 509).unwrap();
        assert_eq!(last.address(), object.address());
        assert!(std::ptr::eq(Layout::per_cpu(510, 100), object.layout()));
        assert!(!std::ptr::eq(Layout::per_cpu(510, 99), object.layout()));
    }

    #[test]
    fn a_full_heap_says_so() {
        let heap = heap().unwrap();
        let large = Layout::per_cpu(u32::MAX, 16);
        assert!(heap.allocate(large).is_none());
    }
}
