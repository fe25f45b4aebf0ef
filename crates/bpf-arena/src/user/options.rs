//! How the user engine runs programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bpf_object::{Btf, KconfigValue};
use codegen::PassSet;
use isa::Size;

use super::limits::{Cancel, RunLimits};
use super::memory::UserMemory;
use crate::arena::Arena;
use crate::host::tasks::Tasks;
use crate::host::{HostFunctions, World};
use crate::network::Network;
use crate::runtime::maps::structs;
use crate::symbols::Symbols;

/// The engine of this process: options for everything loaded with it.
#[derive(Clone, Debug)]
pub struct UserEngine {
    pub(crate) options: Arc<Options>,
}

/// The options, with their defaults.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) interpreter: bool,
    pub(crate) checked_arena: bool,
    pub(crate) arena: Option<Arena>,
    pub(crate) loop_limit: LoopLimit,
    pub(crate) instruction_limit: Option<u64>,
    pub(crate) fault_records: usize,
    pub(crate) seed: Option<u64>,
    pub(crate) output: Option<Arc<dyn Output>>,
    pub(crate) user_memory: Option<Arc<dyn UserMemory>>,
    pub(crate) attach_cookie: u64,
    pub(crate) limits: RunLimits,
    pub(crate) kconfig: BTreeMap<String, KconfigValue>,
    pub(crate) target_btf: Option<Arc<Btf>>,
    pub(crate) only: Option<Vec<String>>,
    pub(crate) env: verifier::Env,
    pub(crate) network: Network,
    pub(crate) wrong_stores: Option<WrongStores>,
    pub(crate) host: HostFunctions,
    pub(crate) world: Arc<World>,
    pub(crate) tasks: Tasks,
    pub(crate) call_stacks: Option<CallStacks>,
    pub(crate) symbols: Symbols,
    pub(crate) passes: PassSet,
}

/// What the host says the call stack is: of user space or of the kernel, innermost frame first.
#[derive(Clone)]
pub(crate) struct CallStacks(Arc<dyn Fn(bool) -> Vec<u64> + Send + Sync>);

impl CallStacks {
    /// The stack of user space or of the kernel.
    pub(crate) fn get(&self, user: bool) -> Vec<u64> {
        (self.0)(user)
    }
}

impl fmt::Debug for CallStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallStacks")
    }
}

impl Default for UserEngine {
    fn default() -> Self {
        Self {
            options: Arc::new(Options {
                interpreter: false,
                checked_arena: false,
                arena: None,
                loop_limit: LoopLimit::default(),
                instruction_limit: None,
                fault_records: 64,
                seed: None,
                output: None,
                user_memory: None,
                attach_cookie: 0,
                limits: RunLimits::default(),
                kconfig: BTreeMap::new(),
                target_btf: None,
                only: None,
                env: with_map_structs(verifier::Env::default()),
                network: Network::new(),
                wrong_stores: None,
                host: HostFunctions::default(),
                world: Arc::default(),
                tasks: Tasks::new(),
                call_stacks: None,
                symbols: Symbols::default(),
                passes: PassSet::default(),
            }),
        }
    }
}

impl UserEngine {
    /// Runs programs by the reference interpreter instead of compiling them.
    #[must_use]
    pub fn interpreter(mut self) -> Self {
        self.set().interpreter = true;
        self
    }

    /// Checks each arena access in software instead of relying on fault signals: slower, and what a process must do
    /// that cannot have a signal handler.
    #[must_use]
    pub fn checked_arena(mut self) -> Self {
        self.set().checked_arena = true;
        self
    }

    /// Loads objects with this arena as theirs, instead of creating one: made before
    /// ([`Arena::create`]), or by another process ([`Arena::attach`]). Its contents stay: initial values of the object's
    /// variables in the arena are not written.
    #[must_use]
    pub fn arena(mut self, arena: &Arena) -> Self {
        self.set().arena = Some(arena.clone());
        self
    }

    /// The passes that improve compiled code: all of them, unless they are to be compared or measured.
    #[must_use]
    pub fn passes(mut self, passes: PassSet) -> Self {
        self.set().passes = passes;
        self
    }

    /// Tells Linux `perf` what compiled functions are called (`bpf_arena::PROGRAM::SUBPROGRAM`), by lines in `/tmp/perf-PID.map`.
    ///
    /// Addresses of code that was dropped are not used again then, so that each has one name as long as the process lives.
    /// A user can ask for this and its two siblings without the program's help, by an environment variable:
    /// `BPF_ARENA_SYMBOLS=perf-map,jitdump=FOLDER,gdb`.
    #[must_use]
    pub fn perf_map(mut self) -> Self {
        self.set().symbols.perf_map = true;
        self
    }

    /// Writes compiled functions, their names and source lines to `jit-PID.dump` in this folder, for `perf record -k mono` followed by
    /// `perf inject --jit`: then `perf annotate` shows machine code and source lines.
    #[must_use]
    pub fn jitdump(mut self, folder: impl Into<PathBuf>) -> Self {
        self.set().symbols.jitdump = Some(folder.into());
        self
    }

    /// Tells debuggers that know GDB's interface for code made at run time of compiled functions, their source lines and frames:
    /// `break PROGRAM::SUBPROGRAM`, `break FILE.bpf.c:LINE` and `backtrace` work as for other code.
    #[must_use]
    pub fn gdb(mut self) -> Self {
        self.set().symbols.gdb = true;
        self
    }

    /// How long `may_goto` loops go on.
    #[must_use]
    pub fn loop_limit(mut self, limit: LoopLimit) -> Self {
        self.set().loop_limit = limit;
        self
    }

    /// Ends a run of the interpreter with an error after this many instructions. Compiled code does not count.
    #[must_use]
    pub fn instruction_limit(mut self, limit: u64) -> Self {
        self.set().instruction_limit = Some(limit);
        self
    }

    /// How many arena faults of a run are recorded in full (64 by default); all are counted.
    #[must_use]
    pub fn fault_records(mut self, count: usize) -> Self {
        self.set().fault_records = count;
        self
    }

    /// Makes `bpf_get_prandom_u32` give the same numbers in each run.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.set().seed = Some(seed);
        self
    }

    /// Where programs print to. Without it their output is dropped.
    #[must_use]
    pub fn output(mut self, output: impl Output + 'static) -> Self {
        self.set().output = Some(Arc::new(output));
        self
    }

    /// What programs can read of "user space" besides the arena. Without it every other address there is missing.
    #[must_use]
    pub fn user_memory(mut self, memory: impl UserMemory + 'static) -> Self {
        self.set().user_memory = Some(Arc::new(memory));
        self
    }

    /// The call stack that programs are told of (`bpf_get_stack`, `bpf_get_stackid`), innermost frame first: of user space if the
    /// argument is `true`, otherwise of the kernel. Without it there is none, which is `-EFAULT` for programs.
    #[must_use]
    pub fn call_stacks(mut self, stacks: impl Fn(bool) -> Vec<u64> + Send + Sync + 'static) -> Self {
        self.set().call_stacks = Some(CallStacks(Arc::new(stacks)));
        self
    }

    /// What `bpf_get_attach_cookie` gives: in the kernel, what a program was attached with.
    #[must_use]
    pub fn attach_cookie(mut self, cookie: u64) -> Self {
        self.set().attach_cookie = cookie;
        self
    }

    /// Ends runs early once this token is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        let options = self.set();
        options.limits = std::mem::take(&mut options.limits).cancel(cancel);
        self
    }

    /// Ends each run, those of callbacks that programs have called later among them, after this time. Unlike the time of
    /// [`LoopLimit`], at which a loop is left and the program goes on, this is an error:
    /// [`RunError::Stopped`](crate::RunError::Stopped).
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        let options = self.set();
        options.limits = std::mem::take(&mut options.limits).time(limit);
        self
    }

    /// The value of an `extern ... __kconfig` variable.
    #[must_use]
    pub fn kconfig(mut self, name: &str, value: KconfigValue) -> Self {
        self.set().kconfig.insert(name.to_owned(), value);
        self
    }

    /// The types that CO-RE relocations are resolved against, behind this engine's own.
    ///
    /// Without them there are only the structures that maps have here: `struct bpf_map` in `struct bpf_array` and `struct
    /// bpf_arena`, with the members that are of use to programs, and `enum bpf_map_type` with the types of maps that can
    /// be created. Questions about these are never answered by `btf`: a kernel's layout of a map is not what a program
    /// would find in memory.
    #[must_use]
    pub fn target_btf(mut self, btf: Arc<Btf>) -> Self {
        self.set().target_btf = Some(btf);
        self
    }

    /// Loads only these programs. By default all are, save those whose section begins with `?`.
    #[must_use]
    pub fn only(mut self, programs: &[&str]) -> Self {
        self.set().only = Some(programs.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// The devices and sockets that programs on packets find. Without it there is the loopback device.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.set().network = network;
        self
    }

    /// What programs are verified against. The structures of maps are always this engine's.
    #[must_use]
    pub fn env(mut self, env: verifier::Env) -> Self {
        self.set().env = with_map_structs(env);
        self
    }

    /// What programs are verified against.
    #[must_use]
    pub fn verifier_env(&self) -> &verifier::Env {
        &self.options.env
    }

    /// Makes the engine wrong, for tests of what compares engines and of nothing else: programs are interpreted, and their
    /// arena stores of this width at this offset in a page store the value with its lowest bit inverted.
    #[doc(hidden)]
    #[must_use]
    pub fn with_wrong_stores(mut self, size: Size, page_offset: u16) -> Self {
        self.set().wrong_stores = Some(WrongStores { size, page_offset });
        self.interpreter()
    }

    pub(crate) fn set(&mut self) -> &mut Options {
        Arc::make_mut(&mut self.options)
    }
}

fn with_map_structs(mut env: verifier::Env) -> verifier::Env {
    env.map_structs = Arc::clone(structs::table());
    env
}

/// Which arena stores of the interpreter are wrong: see [`UserEngine::with_wrong_stores`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrongStores {
    size: Size,
    page_offset: u16,
}

impl WrongStores {
    /// What is stored at this offset of the window instead of `value`.
    pub(crate) fn stored(self, at: i64, size: Size, value: u64) -> u64 {
        let wrong = size == self.size && at & 0xfff == i64::from(self.page_offset);
        value ^ u64::from(wrong)
    }
}

/// The bound of `may_goto` loops. As in the kernel it is one for all loops of a function, each time the function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopLimit {
    /// A loop leaves at the first question after this time. The program asks about each 100 us, at first after 4,096 iterations.
    Time(Duration),
    /// They have this many iterations together: for tests.
    Iterations(u64),
}

impl Default for LoopLimit {
    /// 250 ms, as in Linux 6.18 on x86-64.
    fn default() -> Self {
        Self::Time(Duration::from_millis(250))
    }
}

/// Which output a program writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stream {
    /// `bpf_trace_printk` and `bpf_trace_vprintk`: the trace pipe.
    Trace,
    /// `bpf_stream_vprintk` to `BPF_STDOUT`.
    Stdout,
    /// `bpf_stream_vprintk` to `BPF_STDERR`.
    Stderr,
}

/// Where programs print to. Called on the thread that runs the program, while it waits.
///
/// Any `Fn(Stream, &[u8])` is one.
pub trait Output: Send + Sync {
    /// Takes one message, as the program formatted it.
    fn write(&self, stream: Stream, message: &[u8]);
}

impl<F: Fn(Stream, &[u8]) + Send + Sync> Output for F {
    fn write(&self, stream: Stream, message: &[u8]) {
        self(stream, message);
    }
}

impl fmt::Debug for dyn Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}
