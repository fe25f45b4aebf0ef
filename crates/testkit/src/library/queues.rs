//! The invariants of what is no allocator and no tree.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::allocators::slab_holds;
use super::check::{Broken, Invariant, MAX_LIST, View};
use super::types::{Bitmap, MinHeap, Queue, TaskRecords, TimerState};

/// How long the last arming of a timer may take to fire: its delay is below a millisecond, but the machine may be busy.
const TIMER_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn heap(view: &View<'_>) -> Result<(), Broken> {
    let heap = view.app.global::<MinHeap>("heap")?;
    view.expect(Invariant::LockFree, 0, heap.lock.held.into())?;
    let items = usize::try_from(heap.count).ok().and_then(|count| heap.items.get(..count));
    view.ensure(Invariant::Count, items.is_some())?;
    let items = items.unwrap_or_default();
    for (index, item) in items.iter().enumerate().skip(1) {
        let above = items.get((index - 1) / 2).map_or(0, |i| i.key);
        view.ensure(Invariant::HeapOrder, above <= item.key)?;
        view.expect(Invariant::Values, !item.key, item.value)?;
    }
    let pushed = view.sum(|t| t.heap_pushed.wrapping_sub(t.heap_popped));
    view.expect(Invariant::Balance, pushed, heap.count)?;
    view.expect(Invariant::Balance, view.sum(|t| t.heap_sum), items.iter().map(|i| i.key).sum())
}

pub(super) fn queue(view: &View<'_>) -> Result<(), Broken> {
    let queue = view.app.global::<Queue>("queue")?;
    let cells = queue.cells.len() as u64;
    let inside = queue.tail.wrapping_sub(queue.head);
    view.ensure(Invariant::Count, inside <= cells)?;
    let mut sum = 0u64;
    for at in queue.head..queue.head + cells {
        let cell = usize::try_from(at % cells).ok().and_then(|i| queue.cells.get(i));
        let Some(cell) = cell else { break };
        // A cell that holds something waits for its pop, an empty one for the push of its turn.
        let turn = if at < queue.tail { at + 1 } else { at };
        view.expect(Invariant::Turn, turn, cell.sequence)?;
        if at < queue.tail {
            sum = sum.wrapping_add(cell.value);
        }
    }
    let pushed = view.sum(|t| t.queue_pushed.wrapping_sub(t.queue_popped));
    view.expect(Invariant::Balance, pushed, inside)?;
    view.expect(Invariant::Balance, view.sum(|t| t.queue_sum), sum)
}

pub(super) fn bitmap(view: &View<'_>) -> Result<(), Broken> {
    let bitmap = view.app.global::<Bitmap>("bitmap")?;
    let bits = bitmap.words.iter().zip(0u64..);
    let set = bits.flat_map(|(word, index)| {
        (0..64u64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| index * 64 + bit + 1)
    });
    view.same_set(Invariant::HeldBits, &view.held(|t| &t.bits)?, &set.collect())
}

pub(super) fn tasks(view: &View<'_>) -> Result<(), Broken> {
    let records = view.app.global::<TaskRecords>("task_records")?;
    view.expect(Invariant::LockFree, 0, records.lock.held.into())?;
    let (mut tasks, mut addresses, mut uses) = (BTreeSet::new(), BTreeSet::new(), 0u64);
    let mut at = records.first;
    while !at.is_null() {
        let record = view.read(at)?;
        view.ensure(Invariant::OneRecord, tasks.insert(record.pid))?;
        view.ensure(Invariant::Ends, addresses.insert(at.raw()) && addresses.len() < MAX_LIST)?;
        uses = uses.wrapping_add(record.uses);
        at = record.next;
    }
    view.expect(Invariant::Count, records.count, tasks.len() as u64)?;
    let used = view.threads.iter().filter(|t| t.task_uses > 0).count();
    view.expect(Invariant::OneRecord, used as u64, tasks.len() as u64)?;
    view.expect(Invariant::Balance, view.sum(|t| t.task_uses), uses)?;
    slab_holds(view, &records.records, &addresses)
}

pub(super) fn timers(view: &View<'_>) -> Result<(), Broken> {
    let patience = Instant::now() + TIMER_PATIENCE;
    loop {
        let states = view.app.global::<[TimerState; 8]>("timer_states")?;
        let Some(waits) = states.iter().find(|s| s.armed != s.fired) else {
            let counted = states.iter().all(|s| s.count <= s.armed && (s.count > 0) == (s.armed > 0));
            return view.ensure(Invariant::Count, counted);
        };
        if Instant::now() > patience {
            return view.expect(Invariant::Fires, waits.armed, waits.fired);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
