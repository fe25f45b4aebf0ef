//! Tasks: the running one, by number, and one after the other.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::registry::{Row, rows};
use super::{EINVAL, Invocation, errno32, low32};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(35), "bpf_get_current_task" => current;
    Some(158), "bpf_get_current_task_btf" => current;
    None, "bpf_task_acquire" => acquire;
    None, "bpf_task_from_pid" => from_pid;
    None, "bpf_task_from_vpid" => from_pid;
    None, "bpf_task_release" => release;
    None, "bpf_iter_task_new" => iter_new;
    None, "bpf_iter_task_next" => iter_next;
    None, "bpf_iter_task_destroy" => iter_destroy;
};

/// `struct task_struct *bpf_get_current_task_btf(void)`, and the same as a number.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn current(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(run.image.options.current_task().map_or(0, |task| task.block().address()))
}

/// `struct task_struct *bpf_task_acquire(struct task_struct *p)`: NULL for what is no task any more.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn acquire(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [task, ..] = args;
    let world = &run.image.options.world;
    Ok(world.find(task).map_or(0, |image| {
        world.hand_out(&image, true);
        run.owned.gain(task);
        task
    }))
}

/// `struct task_struct *bpf_task_from_pid(s32 pid)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn from_pid(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [pid, ..] = args;
    let options = &run.image.options;
    Ok(options.find_task(low32(pid).cast_signed()).map_or(0, |image| {
        options.world.hand_out(&image, true);
        run.owned.gain(image.block().address());
        image.block().address()
    }))
}

/// `void bpf_task_release(struct task_struct *p)`.
fn release(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [task, ..] = args;
    run.owned.lose(task);
    let world = &run.image.options.world;
    let held = world.find(task).is_some_and(|image| world.release(&image));
    let nothing = TrapKind::BadArgument { function: "bpf_task_release", argument: 1, value: task };
    if held { Ok(0) } else { Err(nothing) }
}

/// The iterator on the program's stack: the task it has come to, which tasks it gives, and of which process.
struct TaskIter<'m> {
    pid: Place<'m>,
    flags: Place<'m>,
    tgid: Place<'m>,
}

/// The first thread of each process (`BPF_TASK_ITER_ALL_PROCS`).
const ALL_PROCESSES: u64 = 0;
/// Every thread.
const ALL_THREADS: u64 = 1;
/// The threads of one process.
const THREADS_OF: u64 = 2;
/// Nothing, any more.
const ENDED: u64 = u64::MAX;

impl<'m> TaskIter<'m> {
    fn at(run: &Invocation<'m>, address: u64) -> Result<Self, TrapKind> {
        let word = |at: u64| run.memory(address.wrapping_add(at), 8, true);
        Ok(Self { pid: word(0)?, flags: word(8)?, tgid: word(16)? })
    }

    fn set(&self, pid: u64, flags: u64, tgid: u64) {
        self.pid.store(Size::DW, pid, Relaxed);
        self.flags.store(Size::DW, flags, Relaxed);
        self.tgid.store(Size::DW, tgid, Relaxed);
    }
}

/// `int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable, unsigned int flags)`.
fn iter_new(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, task, flags, ..] = args;
    let iter = TaskIter::at(run, it)?;
    let flags = u64::from(low32(flags));
    let tgid = run.image.options.world.find(task).and_then(|image| image.number("tgid"));
    iter.set(0, ENDED, 0);
    match (flags, tgid) {
        (ALL_PROCESSES | ALL_THREADS, _) => iter.set(0, flags, 0),
        (THREADS_OF, Some(tgid)) => iter.set(0, flags, u64::try_from(tgid).unwrap_or(0)),
        _ => return Ok(errno32(EINVAL)),
    }
    Ok(0)
}

/// `struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it)`.
fn iter_next(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, ..] = args;
    let iter = TaskIter::at(run, it)?;
    let [last, flags, of] = [&iter.pid, &iter.flags, &iter.tgid].map(|place| place.load(Size::DW, Relaxed));
    if flags == ENDED || run.must_end() {
        return Ok(0);
    }
    let options = &run.image.options;
    let next = options.task_after(low32(last).cast_signed(), |task| match flags {
        ALL_PROCESSES => task.pid == task.tgid,
        THREADS_OF => u64::from(task.tgid.unsigned_abs()) == of,
        _ => true,
    });
    let Some(task) = next else {
        iter.set(0, ENDED, 0);
        return Ok(0);
    };
    options.world.hand_out(&task.image, false);
    iter.set(u64::from(task.pid.unsigned_abs()), flags, of);
    Ok(task.image.block().address())
}

/// `void bpf_iter_task_destroy(struct bpf_iter_task *it)`.
fn iter_destroy(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, ..] = args;
    TaskIter::at(run, it)?.set(0, ENDED, 0);
    Ok(0)
}

impl Invocation<'_> {
    /// The number of the task that a program names by its address.
    pub(super) fn task_number(&self, address: u64) -> Option<u64> {
        let image = self.image.options.world.find(address)?;
        u64::try_from(image.number("pid")?).ok()
    }
}
