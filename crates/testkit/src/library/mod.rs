//! A scheduler's library in arena memory (`bpf/sched`): several objects linked into one, used at random by many threads,
//! and looked at by the host, which knows what must be true of every structure.

mod allocators;
mod check;
mod queues;
mod stress;
mod trees;
mod types;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpf_arena::error::OpenError;
use bpf_arena::{App, Engine, Object, UserEngine};
use bpf_object::Btf;
use verifier::Env;

pub use check::{Broken, Invariant};
pub use stress::{Plan, Report, StressError, Tally, stress};
pub use types::MAX_THREADS;

/// A part of the library that a program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The slab allocator.
    Slab,
    /// The stack allocator.
    Stack,
    /// The buddy allocator.
    Buddy,
    /// The red-black tree.
    RbTree,
    /// The B-tree.
    Btree,
    /// The heap.
    Heap,
    /// The queue without a lock.
    Queue,
    /// The bitmap.
    Bitmap,
    /// The tree of CPUs.
    Topology,
    /// Records of tasks, by task storage.
    Tasks,
    /// Timers.
    Timers,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 11] = [
        Self::Slab,
        Self::Stack,
        Self::Buddy,
        Self::RbTree,
        Self::Btree,
        Self::Heap,
        Self::Queue,
        Self::Bitmap,
        Self::Topology,
        Self::Tasks,
        Self::Timers,
    ];

    /// The program that uses it.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Slab => "use_slab",
            Self::Stack => "use_stack",
            Self::Buddy => "use_buddy",
            Self::RbTree => "use_rbtree",
            Self::Btree => "use_btree",
            Self::Heap => "use_heap",
            Self::Queue => "use_queue",
            Self::Bitmap => "use_bitmap",
            Self::Topology => "use_topology",
            Self::Tasks => "use_tasks",
            Self::Timers => "use_timers",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program().trim_start_matches("use_"))
    }
}

/// The types of this machine's kernel. Records of tasks are about its tasks, wherever programs run.
pub const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// An engine in this process that knows the types of this machine's kernel.
///
/// # Errors
/// There are none that can be read.
pub fn with_kernel_types(engine: UserEngine) -> Result<UserEngine, StressError> {
    let unreadable = |source| OpenError::Read { path: PathBuf::from(KERNEL_TYPES), source };
    let bytes = std::fs::read(KERNEL_TYPES).map_err(unreadable)?;
    let env = Env::default().with_kernel(Arc::new(Btf::parse(&bytes)?));
    Ok(engine.env(env))
}

/// Objects that every use of the library needs.
const OBJECTS: [&str; 11] = [
    "stress", "pages", "slab", "stack", "buddy", "rbtree", "btree", "minheap", "queue", "bitmap", "topology",
];

/// The library, loaded.
#[derive(Debug)]
pub struct Library {
    app: App,
    parts: Vec<Part>,
}

impl Library {
    /// Links the objects that these parts are made of.
    ///
    /// # Errors
    /// An object is missing, or they do not go together.
    pub fn link(parts: &[Part]) -> Result<Object, StressError> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf/sched");
        let mut names = OBJECTS.to_vec();
        for part in parts {
            match part {
                Part::Tasks => names.extend(["tasks", "stress_tasks"]),
                Part::Timers => names.extend(["timers", "stress_timers"]),
                _ => {}
            }
        }
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(format!("{name}.bpf.o"))).collect();
        Ok(Object::open_linked(&paths)?)
    }

    /// Links and loads these parts, and prepares their structures.
    ///
    /// # Errors
    /// What linking or the engine refuses.
    pub fn load(engine: impl Into<Engine>, parts: &[Part]) -> Result<Self, StressError> {
        let app = Self::link(parts)?.load(engine)?;
        let outcome =
            app.program("prepare")?.run(&mut types::Stress { seed: 1, thread: 0, rounds: 0, done: 0 })?;
        if outcome.return_value != 0 {
            return Err(StressError::Program { program: "prepare", returned: outcome.return_value });
        }
        Ok(Self { app, parts: parts.to_vec() })
    }

    /// The parts that are used.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}
