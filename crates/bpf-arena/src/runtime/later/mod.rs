//! What programs have done later: timers and work queues in the values of maps.
//!
//! A timer is known by where it lies: the address of its field names an [`Entry`] here, from `bpf_timer_init` until the
//! value or the map that it lies in is gone. What the field itself contains does not matter. Each of the two kinds has a
//! thread of the process that calls callbacks, one after the other; it begins with the first start and ends when
//! nothing is left to do for a while.
//!
//! A callback is a run of its own, on the CPU that the timer is pinned to if it is. Its program is not kept alive by it: what a
//! dropped program has started does not happen any more.

mod timer;
mod work;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bpf_object::MapType;
use isa::Size;
use verifier::fields::Tag;

use super::maps::UserMap;
use super::{EINVAL, Invocation};
use crate::access::Block;
use crate::cpu::CpuSlot;
use crate::user::Loaded;

pub(super) use timer::{ROWS as TIMER_ROWS, TIMERS};
pub(super) use work::{ROWS as WORK_ROWS, WORK};

const EBUSY: i32 = 16;
const EDEADLK: i32 = 35;

/// How long a thread without anything to do stays.
const IDLE: Duration = Duration::from_secs(1);

/// How often those who wait for a callback look whether they are to go on.
const NAP: Duration = Duration::from_micros(200);

/// Everything of one kind that was set up, and the thread that calls it.
pub(super) struct Later {
    tag: Tag,
    thread: &'static str,
    state: Mutex<State>,
    /// Something is due earlier than the thread knows.
    sooner: Condvar,
    /// A callback has returned.
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// By the addresses of their fields.
    entries: Option<HashMap<u64, Entry>>,
    /// The addresses of those that were started, by when they are due.
    due: BTreeMap<Due, u64>,
    last: u64,
    has_thread: bool,
    /// The entry whose callback is being called.
    running: Option<u64>,
}

/// When something is due (nanoseconds of the monotonic clock), and a number that tells it from others.
type Due = (u64, u64);

/// One timer or work queue that was initialised.
struct Entry {
    /// Others may have the same address later.
    id: u64,
    arguments: Arguments,
    callback: Option<Callback>,
    due: Option<Due>,
    cpu: Option<u32>,
    /// What the program wants besides: the clock of a timer.
    pub(super) extra: u32,
}

#[derive(Clone)]
struct Callback {
    program: Weak<Loaded>,
    function: u64,
}

/// What a callback is given.
#[derive(Clone)]
struct Arguments {
    /// The map, as the program names it, and where it is if it was found inside of another.
    handle: u64,
    map: Option<Weak<dyn UserMap>>,
    key: Key,
    value: u64,
}

/// The key that a value belongs to.
#[derive(Clone)]
enum Key {
    /// It lies in the map.
    At(u64),
    /// The index of an array's element, which is nowhere else.
    Index(Arc<Block>),
}

thread_local! {
    /// The entry whose callback this thread is calling.
    static CALLING: Cell<Option<u64>> = const { Cell::new(None) };
}

impl Later {
    const fn new(tag: Tag, thread: &'static str) -> Self {
        let state = State { entries: None, due: BTreeMap::new(), last: 0, has_thread: false, running: None };
        Self { tag, thread, state: Mutex::new(state), sooner: Condvar::new(), returned: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets one up at this address, in a value of this map. An error number if it was.
    fn init(&self, run: &Invocation<'_>, at: u64, map: u64, extra: u32) -> Result<(), i32> {
        let arguments = self.arguments(run, at, map).ok_or(EINVAL)?;
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        let entries = state.entries.get_or_insert_default();
        if entries.contains_key(&at) {
            return Err(EBUSY);
        }
        entries.insert(at, Entry { id, arguments, callback: None, due: None, cpu: None, extra });
        Ok(())
    }

    /// What the callback of the one at this address is to be given.
    fn arguments(&self, run: &Invocation<'_>, at: u64, handle: u64) -> Option<Arguments> {
        let map = run.map("bpf_timer_init", 2, handle).ok()?;
        let value = at.checked_sub(u64::from(map.core().offset_of(self.tag)?))?;
        let key = match map.spec().map_type {
            MapType::Array => {
                let block = Block::new(8)?;
                block.place(0, 4)?.store(
                    Size::W,
                    index_of(run, map, value)?,
                    std::sync::atomic::Ordering::Relaxed,
                );
                Key::Index(Arc::new(block))
            }
            // The key lies before the value.
            _ => Key::At(value.checked_sub(u64::from(map.spec().key_size).next_multiple_of(8))?),
        };
        let map = run.held.arc_of(handle).map(|map| Arc::downgrade(&map));
        Some(Arguments { handle, map, key, value })
    }

    /// Says what is to be called.
    fn set_callback(&self, run: &Invocation<'_>, at: u64, function: u64) -> Result<(), i32> {
        let mut state = self.state();
        let entry = state.entry(at).ok_or(EINVAL)?;
        entry.callback = Some(Callback { program: Arc::downgrade(run.loaded), function });
        Ok(())
    }

    /// Has it called at this time. One that was started is due then instead; `keep` leaves it as it was.
    fn start(&'static self, at: u64, time: u64, cpu: Option<u32>, keep: bool) -> Result<(), i32> {
        let mut state = self.state();
        state.last += 1;
        let due = (time, state.last);
        let entry = state.entry(at).filter(|entry| entry.callback.is_some()).ok_or(EINVAL)?;
        if keep && entry.due.is_some() {
            return Ok(());
        }
        entry.cpu = cpu;
        if let Some(before) = entry.due.replace(due) {
            state.due.remove(&before);
        }
        state.due.insert(due, at);
        let first = state.due.first_key_value().is_some_and(|(first, _)| *first == due);
        if state.has_thread {
            if first {
                self.sooner.notify_one();
            }
            return Ok(());
        }
        let spawned = std::thread::Builder::new().name(self.thread.to_owned()).spawn(|| self.serve());
        // Without a thread nothing is called: the next start tries again.
        state.has_thread = spawned.is_ok();
        Ok(())
    }

    /// Takes back a start and the callback, and waits for one that is being called, unless the run is to end: whether it was
    /// started.
    fn cancel(&self, run: &mut Invocation<'_>, at: u64) -> Result<bool, i32> {
        let mut state = self.state();
        let entry = state.entry(at).ok_or(EINVAL)?;
        let id = entry.id;
        if CALLING.get() == Some(id) {
            return Err(EDEADLK);
        }
        entry.callback = None;
        let mut started = state.unschedule(at);
        // A callback of the same thread waits for this one to return; there is no other then.
        if CALLING.get().is_none() {
            while state.running == Some(id) && !run.must_end() {
                let waited = self.returned.wait_timeout(state, NAP);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                started |= state.entry(at).is_some_and(|entry| entry.id == id) && state.unschedule(at);
            }
        }
        Ok(started)
    }

    /// Forgets the one at this address, because its value is gone. A callback that is being called goes on.
    pub(super) fn forget(&self, at: u64) {
        let mut state = self.state();
        state.unschedule(at);
        if let Some(entries) = &mut state.entries {
            entries.remove(&at);
        }
    }

    /// Calls what is due until nothing is left.
    fn serve(&self) {
        let mut state = self.state();
        loop {
            let now = sys::host::monotonic_ns();
            let next = state.due.first_key_value().map(|((time, _), at)| (*time, *at));
            state = match next {
                Some((time, at)) if time <= now => {
                    let cpu = state.entry(at).and_then(|entry| entry.cpu);
                    drop(state);
                    self.call(cpu, at);
                    self.state()
                }
                Some((time, _)) => {
                    let left = Duration::from_nanos(time - now);
                    self.sooner.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let (state, waited) =
                        self.sooner.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && state.due.is_empty() {
                        let mut state = state;
                        state.has_thread = false;
                        return;
                    }
                    state
                }
            };
        }
    }

    /// Calls the one at this address, if it is still due. The CPU is taken first: whoever waits for the callback to return may
    /// have one, and then must not be waited for.
    fn call(&self, cpu: Option<u32>, at: u64) {
        let _cpu = CpuSlot::preferring(cpu);
        let mut state = self.state();
        let now = sys::host::monotonic_ns();
        let Some(entry) = state.entry(at).filter(|entry| entry.due.is_some_and(|(time, _)| time <= now))
        else {
            return;
        };
        let (id, callback, arguments) = (entry.id, entry.callback.clone(), entry.arguments.clone());
        state.unschedule(at);
        let program = callback.as_ref().and_then(|callback| callback.program.upgrade());
        let (Some(program), Some(Callback { function, .. })) = (program, callback) else { return };
        state.running = Some(id);
        drop(state);
        CALLING.set(Some(id));
        arguments.call(&program, function);
        // What goes with the program may lie in a map with timers, so no lock is held.
        drop(program);
        CALLING.set(None);
        self.state().running = None;
        self.returned.notify_all();
    }
}

impl State {
    fn entry(&mut self, at: u64) -> Option<&mut Entry> {
        self.entries.as_mut()?.get_mut(&at)
    }

    /// Takes back a start; whether there was one.
    fn unschedule(&mut self, at: u64) -> bool {
        let due = self.entry(at).and_then(|entry| entry.due.take());
        due.is_some_and(|due| self.due.remove(&due).is_some())
    }
}

impl Arguments {
    /// Calls a callback. What becomes of a run that is ended early is nobody's business: nothing waits for its result.
    fn call(self, program: &Arc<Loaded>, function: u64) {
        let map = match &self.map {
            None => None,
            Some(map) => match map.upgrade() {
                None => return,
                found => found,
            },
        };
        let _ = program.call_with(function, |held| {
            if let Some(map) = map {
                held.map(map);
            }
            let key = match self.key {
                Key::At(address) => address,
                Key::Index(block) => held.block(block, false).address(),
            };
            [self.handle, key, self.value, 0, 0]
        });
    }
}

/// The index of the element of an array whose value begins at this address.
fn index_of(run: &Invocation<'_>, map: &dyn UserMap, value: u64) -> Option<u64> {
    let first = Block::new(4)?;
    let begin = map.lookup_elem(&run.cpu, first.place(0, 4)?)?;
    let stride = codegen::abi::value_stride(map.spec().value_size);
    value.checked_sub(begin)?.checked_div(stride)
}
