//! The invariants of the allocators.

use std::collections::BTreeSet;

use bpf_arena::typed::ArenaPtr;

use super::check::{Broken, Invariant, MAX_LIST, View};
use super::types::{BUDDY_BLOCKS, BUDDY_ORDERS, Buddy, BuddyBlock, Slab, SlabPage, Stack};

/// Bytes of an arena page.
const PAGE: u64 = 4096;
/// Bytes of `struct slab_page`, behind which the objects begin.
const SLAB_HEAD: u64 = 40;
/// No block, in the lists of the buddy allocator.
const NO_BLOCK: u16 = 0xffff;
/// Bytes of the smallest block.
const BLOCK_BYTES: u64 = 64;
/// `enum buddy_state`.
const FREE: u8 = 1;
const USED: u8 = 2;

pub(super) fn slab(view: &View<'_>) -> Result<(), Broken> {
    slab_holds(view, &view.app.global::<Slab>("slab")?, &view.held(|t| &t.slab)?)
}

/// A slab allocator is sound, and these are its objects that are not free.
pub(super) fn slab_holds(view: &View<'_>, slab: &Slab, held: &BTreeSet<u64>) -> Result<(), Broken> {
    view.expect(Invariant::LockFree, 0, slab.lock.held.into())?;
    let mut given = BTreeSet::new();
    let (mut pages, mut live) = (0, 0);
    for (list, is_full) in [(slab.partial, false), (slab.full, true)] {
        let (mut at, mut previous) = (list, ArenaPtr::NULL);
        while !at.is_null() {
            let page = view.read(at)?;
            view.expect(Invariant::LinkedBack, previous.raw(), page.previous.raw())?;
            view.expect(Invariant::Count, u64::from(is_full), u64::from(page.free.is_null()))?;
            slab_page(view, slab, at, &page, &mut given)?;
            (previous, at) = (at, page.next);
            pages += 1;
            live += page.live;
            view.ensure(Invariant::Ends, pages < MAX_LIST as u64)?;
        }
    }
    view.expect(Invariant::Count, slab.pages, pages)?;
    view.expect(Invariant::Count, slab.live, live)?;
    view.same_set(Invariant::HeldObjects, held, &given)
}

/// Adds the objects of a page that are not free.
fn slab_page(
    view: &View<'_>,
    slab: &Slab,
    at: ArenaPtr<SlabPage>,
    page: &SlabPage,
    given: &mut BTreeSet<u64>,
) -> Result<(), Broken> {
    let first = at.raw() + SLAB_HEAD;
    view.expect(Invariant::Count, (PAGE - SLAB_HEAD) / slab.object_size, page.total)?;
    let mut objects: BTreeSet<u64> = (0..page.total).map(|i| first + i * slab.object_size).collect();
    let mut object = page.free;
    while !object.is_null() {
        // An object that is not of this page, or is free twice, is not there any more.
        view.ensure(Invariant::InsidePage, objects.remove(&object.raw()))?;
        object = view.read(object)?.next;
    }
    view.expect(Invariant::Count, page.live, objects.len() as u64)?;
    given.extend(objects);
    Ok(())
}

pub(super) fn stack(view: &View<'_>) -> Result<(), Broken> {
    stack_holds(view, &view.app.global::<Stack>("stack")?, &view.held(|t| &t.stack)?)
}

/// A stack allocator is sound, and these are its objects that are not free.
pub(super) fn stack_holds(view: &View<'_>, stack: &Stack, held: &BTreeSet<u64>) -> Result<(), Broken> {
    view.expect(Invariant::LockFree, 0, stack.lock.held.into())?;
    let mut free = BTreeSet::new();
    let mut at = stack.top;
    while !at.is_null() {
        let segment = view.read(at)?;
        let objects = usize::try_from(segment.count).ok().and_then(|count| segment.objects.get(..count));
        view.ensure(Invariant::Count, objects.is_some())?;
        for &object in objects.unwrap_or_default() {
            view.ensure(Invariant::Distinct, free.insert(object))?;
            view.ensure(Invariant::InsidePage, object % stack.object_size == 0)?;
        }
        view.ensure(Invariant::Ends, free.len() < MAX_LIST)?;
        at = segment.below;
    }
    view.expect(Invariant::Count, stack.live, held.len() as u64)?;
    view.expect(Invariant::Count, stack.created, (free.len() + held.len()) as u64)?;
    view.ensure(Invariant::Distinct, free.is_disjoint(held))
}

pub(super) fn buddy(view: &View<'_>) -> Result<(), Broken> {
    let buddy = view.app.global::<Buddy>("buddy")?;
    view.expect(Invariant::LockFree, 0, buddy.lock.held.into())?;
    let mut used = BTreeSet::new();
    let mut free = vec![BTreeSet::new(); BUDDY_ORDERS];
    let (mut index, mut blocks) = (0, 0);
    while index < BUDDY_BLOCKS {
        let Some(block) = buddy.blocks.get(index) else { break };
        let size = 1usize << block.order.min(15);
        view.ensure(Invariant::Covered, index % size == 0 && [FREE, USED].contains(&block.state))?;
        let inside = buddy.blocks.get(index + 1..index + size).unwrap_or_default();
        view.ensure(Invariant::Covered, inside.len() + 1 == size && inside.iter().all(|b| b.state == 0))?;
        if block.state == USED {
            used.insert(buddy.base + index as u64 * BLOCK_BYTES);
            blocks += size as u64;
        } else {
            let other = buddy.blocks.get(index ^ size);
            let is_twin = |b: &BuddyBlock| b.state == FREE && b.order == block.order;
            view.ensure(Invariant::Joined, !other.is_some_and(is_twin))?;
            free.get_mut(usize::from(block.order)).into_iter().for_each(|f| f.extend([index as u64]));
        }
        index += size;
    }
    view.expect(Invariant::Count, buddy.live, used.len() as u64)?;
    view.expect(Invariant::Count, buddy.live_blocks, blocks)?;
    view.same_set(Invariant::HeldObjects, &view.held(|t| &t.buddy)?, &used)?;
    for (expected, &first) in free.iter().zip(&buddy.free) {
        view.same_set(Invariant::Count, expected, &buddy_list(view, &buddy, first)?)?;
    }
    Ok(())
}

/// Blocks of a list of free ones.
fn buddy_list(view: &View<'_>, buddy: &Buddy, first: u16) -> Result<BTreeSet<u64>, Broken> {
    let mut listed = BTreeSet::new();
    let (mut at, mut previous) = (first, NO_BLOCK);
    while let Some(block) = buddy.blocks.get(usize::from(at)) {
        view.expect(Invariant::LinkedBack, previous.into(), block.previous.into())?;
        view.ensure(Invariant::Ends, listed.insert(at.into()))?;
        (previous, at) = (at, block.next);
    }
    view.expect(Invariant::Ends, NO_BLOCK.into(), at.into())?;
    Ok(listed)
}
