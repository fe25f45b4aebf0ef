//! A loaded object: its programs, maps, arena and global variables.

use std::sync::Arc;
use std::time::Duration;

use bpf_object::MapType;

use crate::RunLimits;
use crate::arena::Arena;
use crate::backend::LoadedProgram;
use crate::context::Context;
use crate::error::{CallbackError, RunError, UnknownName};
use crate::fault::Faults;
use crate::host::Argument;
use crate::map::Map;
use crate::packet::{PacketOutcome, PacketRun};
use crate::socket::SocketRun;

/// A loaded object. Every method takes `&self` and works from any number of threads at once.
///
/// The host, the programs and other processes may all write the app's memory at the same time; what is read here is a
/// copy of what was there.
#[derive(Debug)]
pub struct App {
    object: Arc<bpf_object::Object>,
    programs: Vec<Program>,
    maps: Vec<Map>,
    arena: Option<Arena>,
}

impl App {
    /// Puts together what an engine loaded of `object`: its programs, a map for each of its specifications in their
    /// order, and its arena.
    pub(crate) fn new(
        object: Arc<bpf_object::Object>,
        programs: Vec<Program>,
        maps: Vec<Map>,
        arena: Option<Arena>,
    ) -> Self {
        Self { object, programs, maps, arena }
    }

    /// The object it was loaded from.
    #[must_use]
    pub fn object(&self) -> &bpf_object::Object {
        &self.object
    }

    /// The object's arena.
    ///
    /// # Errors
    /// It has none.
    pub fn arena(&self) -> Result<&Arena, UnknownName> {
        self.arena.as_ref().ok_or_else(|| UnknownName {
            kind: "map of type",
            name: MapType::Arena.name().to_owned(),
            known: self.maps.iter().map(|m| m.name().to_owned()).collect(),
        })
    }

    /// The program with this name.
    ///
    /// # Errors
    /// There is none, or it was not loaded.
    pub fn program(&self, name: &str) -> Result<&Program, UnknownName> {
        self.programs.iter().find(|p| p.name() == name).ok_or_else(|| UnknownName {
            kind: "program",
            name: name.to_owned(),
            known: self.programs.iter().map(|p| p.name().to_owned()).collect(),
        })
    }

    /// Every loaded program, in the object's order.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The `struct_ops` table with this name, of which callbacks can be called.
    ///
    /// # Errors
    /// There is none.
    pub fn struct_ops(&self, name: &str) -> Result<StructOps<'_>, UnknownName> {
        let tables = || self.maps.iter().filter(|map| map.spec().map_type == MapType::StructOps);
        let found = tables().find(|map| map.name() == name);
        found.map(|table| StructOps { app: self, table }).ok_or_else(|| UnknownName {
            kind: "struct_ops table",
            name: name.to_owned(),
            known: tables().map(|map| map.name().to_owned()).collect(),
        })
    }

    /// The map with this name: the name of a variable in `.maps` or of a data section.
    ///
    /// # Errors
    /// There is none.
    pub fn map(&self, name: &str) -> Result<&Map, UnknownName> {
        self.maps.iter().find(|m| m.name() == name).ok_or_else(|| UnknownName {
            kind: "map",
            name: name.to_owned(),
            known: self.maps.iter().map(|m| m.name().to_owned()).collect(),
        })
    }

    /// Every map, the arena and the data sections among them, in the object's order.
    #[must_use]
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }
}

/// A table of callbacks that the object fills in (`SEC(".struct_ops")`).
#[derive(Clone, Copy, Debug)]
pub struct StructOps<'a> {
    app: &'a App,
    table: &'a Map,
}

impl<'a> StructOps<'a> {
    /// Names of its members that are programs, in the table's order.
    #[must_use]
    pub fn callbacks(&self) -> Vec<&'a str> {
        self.slots().map(|(member, _)| member).collect()
    }

    /// The program that is this member.
    ///
    /// # Errors
    /// The table has no such member, or the object leaves it out.
    pub fn program(&self, member: &str) -> Result<&'a Program, UnknownName> {
        let found = self.slots().find(|(name, _)| *name == member);
        match found {
            Some((_, program)) => self.app.program(program),
            None => Err(UnknownName {
                kind: "callback",
                name: member.to_owned(),
                known: self.callbacks().into_iter().map(str::to_owned).collect(),
            }),
        }
    }

    /// Calls the member with these arguments: see [`Program::call`].
    ///
    /// # Errors
    /// There is no such callback, or as for [`Program::call`].
    pub fn call(&self, member: &str, arguments: &[Argument]) -> Result<Outcome, CallbackError> {
        Ok(self.program(member)?.call(arguments)?)
    }

    /// Members and their programs.
    fn slots(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let btf = self.app.object.btf.as_deref();
        let spec = self.table.spec();
        let members =
            btf.zip(spec.value_btf).and_then(|(btf, ty)| Some((btf, btf.composite(btf.resolve(ty))?)));
        spec.slots.iter().filter_map(move |slot| {
            let (btf, table) = members?;
            let member = table.members.iter().find(|m| Some(m.bit_offset) == slot.index.checked_mul(8))?;
            Some((btf.str(member.name), slot.target.as_str()))
        })
    }
}

/// A program of an [`App`]. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Program {
    spec: Arc<bpf_object::Program>,
    inner: Arc<dyn LoadedProgram>,
}

impl Program {
    pub(crate) fn new(spec: Arc<bpf_object::Program>, inner: Arc<dyn LoadedProgram>) -> Self {
        Self { spec, inner }
    }

    /// The program's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The linked program it was loaded from.
    #[must_use]
    pub fn spec(&self) -> &bpf_object::Program {
        &self.spec
    }

    /// Runs the program once with this context (`&mut ()` for none), which it may change.
    ///
    /// # Errors
    /// The context does not fit, or the run was stopped. Arena faults are no errors: see [`Outcome::faults`].
    pub fn run<C: Context + ?Sized>(&self, ctx: &mut C) -> Result<Outcome, RunError> {
        ctx.with_bytes(|bytes| self.inner.run(bytes))
    }

    /// Runs the program `count` times (at least once) with the same context, and gives the outcome of the last run
    /// with the time of all.
    ///
    /// # Errors
    /// As for [`Program::run`]; the first error ends it.
    pub fn repeat<C: Context + ?Sized>(&self, ctx: &mut C, count: u32) -> Result<Outcome, RunError> {
        ctx.with_bytes(|bytes| self.inner.repeat(bytes, count))
    }

    /// Runs a program on packets (`xdp`, `tc`, `socket`, `cgroup_skb`, `lwt_*`, `flow_dissector`) with one, by the rules of the
    /// kernel's `BPF_PROG_TEST_RUN`.
    ///
    /// ```
    /// use bpf_arena::{Engine, Object, PacketRun};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/packets.bpf.o");
    /// let app = Object::open(path)?.load(Engine::user())?;
    /// let mut run = PacketRun { data: &[0; 64], ..PacketRun::default() };
    /// let outcome = app.program("count_xdp")?.run_packet(&mut run)?;
    /// assert_eq!(outcome.return_value, 2, "XDP_PASS");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The packet or its context does not fit ([`RunError::Packet`], or [`RunError::Kernel`] where the kernel says so), the
    /// program runs on no packets, or the run was stopped.
    pub fn run_packet(&self, run: &mut PacketRun<'_>) -> Result<PacketOutcome, RunError> {
        self.inner.run_packet(run)
    }

    /// Runs a program that is about a socket (`cgroup/bind4` and its like, `cgroup/getsockopt` and `setsockopt`, `sockops`,
    /// `sk_lookup`, `sk_reuseport`, `sk_msg`) with one.
    ///
    /// # Errors
    /// The context does not fit ([`RunError::Socket`], or [`RunError::Kernel`] where the kernel says so), the program is about
    /// no socket, or the run was stopped.
    pub fn run_socket(&self, run: &mut SocketRun<'_>) -> Result<Outcome, RunError> {
        self.inner.run_socket(run)
    }

    /// Calls a program that takes arguments: a callback of a `struct_ops` table, or one that is attached to a function, hook or
    /// tracepoint of the kernel (`fentry`, `fexit`, `lsm`, `tp_btf`, `raw_tp`). `fexit` takes the function's result besides.
    ///
    /// User engine only.
    ///
    /// # Errors
    /// There are others than the function has ([`RunError::Arguments`]), the program takes none, or the run was stopped.
    pub fn call(&self, arguments: &[Argument]) -> Result<Outcome, RunError> {
        let not_called = || RunError::NotCalled { program: self.name().to_owned() };
        self.user().ok_or_else(not_called)?.call(arguments)
    }

    /// Runs an iterator (`iter/..`) over elements, and gives what it writes with `bpf_seq_printf` and `bpf_seq_write`. Each element is
    /// what the kernel gives the program behind its `meta`: for `iter/task` one task. After the last, the program is called with
    /// NULL, as by the kernel.
    ///
    /// User engine only.
    ///
    /// # Errors
    /// The program is no iterator, an element is none of its kind, or a run was stopped.
    pub fn iterate(&self, elements: &[Vec<Argument>]) -> Result<Vec<u8>, RunError> {
        let not_called = || RunError::NotCalled { program: self.name().to_owned() };
        self.user().ok_or_else(not_called)?.iterate(elements)
    }
}

impl Program {
    /// The same program with limits for its runs, besides the engine's: for the runs that are begun with what this gives, however
    /// they are begun, and for no others. So one run can be given a token of its own, or all of a caller.
    ///
    /// `None` from the kernel engine, which has no way to end a run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use bpf_arena::{Cancel, Engine, Object, RunError, RunLimits, StopReason};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/endless.bpf.o");
    /// let app = Object::open(path)?.load(Engine::user())?;
    /// let spin = app.program("spin")?;
    ///
    /// let limited = spin.limited(RunLimits::new().time(Duration::from_millis(5))).expect("not the kernel's");
    /// let Err(RunError::Stopped(stopped)) = limited.run(&mut ()) else { panic!("it has no end") };
    /// assert_eq!(stopped.reason, StopReason::TimeLimit(Duration::from_millis(5)));
    ///
    /// let cancel = Cancel::new();
    /// let limited = spin.limited(RunLimits::new().cancel(&cancel)).expect("not the kernel's");
    /// std::thread::scope(|scope| {
    ///     let run = scope.spawn(move || limited.run(&mut ()));
    ///     cancel.cancel();
    ///     assert!(matches!(run.join(), Ok(Err(RunError::Stopped(_)))));
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn limited(&self, limits: RunLimits) -> Option<Self> {
        let limited = self.user()?.limited(limits);
        Some(Self { spec: Arc::clone(&self.spec), inner: Arc::new(limited) })
    }

    /// The program as the kernel engine has it: for test runs with packets and for attaching. `None` from the user engine.
    #[must_use]
    pub fn kernel(&self) -> Option<&crate::kernel::KernelProgram> {
        self.inner.kernel()
    }

    /// The program as the user engine has it. `None` from the kernel engine.
    pub(crate) fn user(&self) -> Option<&crate::Instance> {
        self.inner.user()
    }
}

/// What was loaded stage by stage, to be used like what [`Object::load`](crate::Object::load) gives.
impl From<crate::Instance> for Program {
    fn from(instance: crate::Instance) -> Self {
        Self::new(Arc::new(instance.program().clone()), Arc::new(instance))
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// The program's return value: the low half of `R0`.
    pub return_value: u32,
    /// All of `R0`. The kernel reports only the low half; its engine leaves the high half 0.
    pub r0: u64,
    /// Arena accesses that found no page.
    pub faults: Faults,
    /// Time of the runs, where it was measured: after [`Program::repeat`].
    pub duration: Option<Duration>,
}
