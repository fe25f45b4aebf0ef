//! Tasks: the host's threads, and those it makes up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bpf_object::Btf;

use super::object::{Image, Object, Task};
use super::world::World;
use crate::UserEngine;
use crate::user::Options;

/// A task that programs can find.
#[derive(Clone, Debug)]
pub(crate) struct KnownTask {
    /// Number of the thread.
    pub(crate) pid: i32,
    /// Number of its process: of the first of its threads.
    pub(crate) tgid: i32,
    pub(crate) image: Arc<Image>,
}

impl KnownTask {
    /// The task that an object says it is, by its members `pid` and `tgid`.
    fn of(image: &Arc<Image>) -> Option<Self> {
        let number = |member| image.number(member).and_then(|number| i32::try_from(number).ok());
        Some(Self { pid: number("pid")?, tgid: number("tgid")?, image: Arc::clone(image) })
    }
}

/// Tasks that the host makes up, by their numbers.
pub(crate) type Tasks = BTreeMap<i32, KnownTask>;

impl UserEngine {
    /// Makes a task up: `bpf_task_from_pid` finds it by its member `pid`, and iterators meet it. Without any, the tasks are the
    /// threads that run programs of this engine and have asked for themselves (`bpf_get_current_task_btf`).
    ///
    /// An object without the members `pid` and `tgid` is no task, and is left out.
    #[must_use]
    pub fn task(mut self, task: &Object<Task>) -> Self {
        if let Some(known) = KnownTask::of(task.image()) {
            self.set().tasks.insert(known.pid, known);
        }
        self
    }
}

thread_local! {
    /// The running thread as a task, once for each engine that asked. Ends with the thread.
    static OWN: RefCell<Vec<OwnTask>> = const { RefCell::new(Vec::new()) };
}

/// The running thread as one engine's programs know it.
struct OwnTask {
    world: Weak<World>,
    task: KnownTask,
}

impl Drop for OwnTask {
    fn drop(&mut self) {
        if let Some(world) = self.world.upgrade() {
            world.remove_thread(&self.task);
        }
    }
}

impl Options {
    /// The running thread, as a task of these programs; `None` if there is no memory for it.
    pub(crate) fn current_task(&self) -> Option<Arc<Image>> {
        let found = OWN.try_with(|own| {
            let mut own = own.try_borrow_mut().ok()?;
            let ours = std::ptr::from_ref(&*self.world);
            if let Some(known) = own.iter().find(|own| own.world.as_ptr() == ours) {
                return Some(Arc::clone(&known.task.image));
            }
            own.retain(|own| own.world.strong_count() > 0);
            let task = self.running_thread()?;
            self.world.add_thread(task.clone());
            let image = Arc::clone(&task.image);
            own.push(OwnTask { world: Arc::downgrade(&self.world), task });
            Some(image)
        });
        found.ok().flatten()
    }

    /// An image of the running thread, as far as the types have room for what is known of it.
    fn running_thread(&self) -> Option<KnownTask> {
        let number = |id: u64| i32::try_from(id & 0xffff_ffff).unwrap_or(0);
        let ids = sys::host::pid_tgid();
        let (pid, tgid) = (number(ids), number(ids >> 32));
        let task = self.structures().and_then(|types| Object::<Task>::new(&types).ok());
        let task = match task {
            Some(task) => {
                let name = String::from_utf8_lossy(&sys::host::thread_name()).into_owned();
                // What the types do not have, the program cannot ask for.
                let _ = task.set("pid", pid);
                let _ = task.set("tgid", tgid);
                let _ = task.set("comm", name);
                let _ = task.point("group_leader", &task);
                task
            }
            None => Object::opaque()?,
        };
        Some(KnownTask { pid, tgid, image: Arc::clone(task.image()) })
    }

    /// The structures that pointers of programs point to.
    fn structures(&self) -> Option<Arc<Btf>> {
        let kernel = self.env.kernel.as_ref();
        self.host.types(kernel).or_else(|| kernel.cloned())
    }

    /// The task with this number.
    pub(crate) fn find_task(&self, pid: i32) -> Option<Arc<Image>> {
        let made_up = self.tasks.get(&pid).map(|task| Arc::clone(&task.image));
        made_up
            .or_else(|| self.world.thread_after(pid.checked_sub(1)?, |task| task.pid == pid).map(|t| t.image))
    }

    /// The next task by its number that `wanted` picks.
    pub(crate) fn task_after(&self, pid: i32, wanted: impl Fn(&KnownTask) -> bool) -> Option<KnownTask> {
        let mut above = self.tasks.range(pid.checked_add(1)?..).map(|(_, task)| task);
        let made_up = above.find(|task| wanted(task)).cloned();
        let thread = self.world.thread_after(pid, &wanted);
        match (made_up, thread) {
            (Some(a), Some(b)) => Some(if a.pid <= b.pid { a } else { b }),
            (a, b) => a.or(b),
        }
    }
}
