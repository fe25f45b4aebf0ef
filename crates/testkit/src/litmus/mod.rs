//! Litmus tests: small programs on several threads at once, with the outcomes that the memory model forbids.
//!
//! The model is the Linux kernel's, as it is meant for BPF: plain loads and stores are like `READ_ONCE` and `WRITE_ONCE`, `load_acquire`
//! and `store_release` are what they are called, atomic operations that fetch are full barriers, those that do not fetch
//! order nothing. An address, and a store's value or being executed at all, that depends on a load is ordered behind it.
//!
//! Each thread executes its part of a test once for each of many places in an arena, and waits before each for the others,
//! by spinning on words of the arena.

mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpf_arena::arena::{PageCount, UserAddr};
use bpf_arena::{Instance, LoadError, LoopLimit, MapSet, RunError, UserEngine};
use bpf_object::{BPF_F_MMAPABLE, MapSpec, MapType, Program};

pub use table::TESTS;

/// Places of a batch.
const PLACES: u64 = 120;
/// Bytes of a place: variables `x`, `y` and `z`, and the results of four threads, on lines of the cache of their own.
const PLACE_BYTES: u64 = 512;
const RESULTS: u64 = 256;
const LINE_BYTES: u64 = 64;
/// Behind the places, a line for each thread's progress.
const PROGRESS: u64 = PLACES * PLACE_BYTES;
const PAGES: u32 = 16;

/// A test.
#[derive(Clone, Copy)]
pub struct Litmus {
    /// What it is called in the literature, with what orders its accesses.
    pub name: &'static str,
    /// What each thread does: `r9` points to `x`, with `y` 64 and `z` 128 bytes behind it; `r2` and `r3` are its results and begin as
    /// 0, `r4` and `r5` are free.
    pub threads: &'static [&'static str],
    /// What may be seen, in words.
    pub allowed: &'static str,
    /// What may not, in words.
    pub forbidden: &'static str,
    /// Whether an outcome is forbidden.
    pub forbids: fn(&Outcome) -> bool,
}

/// What one round of a test left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// The results of each thread.
    pub results: [[u64; 2]; 4],
    /// What the variables are in the end.
    pub variables: [u64; 3],
}

impl Outcome {
    /// The first result of a thread.
    #[must_use]
    pub fn first(&self, thread: usize) -> u64 {
        self.results.get(thread).map_or(0, |[first, _]| *first)
    }

    /// The second result of a thread.
    #[must_use]
    pub fn second(&self, thread: usize) -> u64 {
        self.results.get(thread).map_or(0, |[_, second]| *second)
    }

    /// The results of a thread.
    #[must_use]
    pub fn of(&self, thread: usize) -> [u64; 2] {
        self.results.get(thread).copied().unwrap_or_default()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.variables;
        write!(f, "x={x:#x} y={y:#x} z={z:#x}")?;
        self.results
            .iter()
            .zip(0..)
            .filter(|(results, _)| **results != [0, 0])
            .try_for_each(|([first, second], thread)| write!(f, " thread {thread}: {first:#x}, {second:#x}"))
    }
}

/// The outcomes of a test, and how often each was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Rounds that all threads began together.
    pub rounds: u64,
}

impl Seen {
    /// A forbidden outcome that was seen.
    #[must_use]
    pub fn forbidden(&self, test: &Litmus) -> Option<&Outcome> {
        self.outcomes.keys().find(|outcome| (test.forbids)(outcome))
    }
}

/// Why a test could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LitmusError {
    /// A thread's program is no assembly.
    #[error("{test}, thread {thread}: {source}\n{text}")]
    Assembly {
        /// The test.
        test: &'static str,
        /// The thread.
        thread: usize,
        /// What is wrong.
        source: Box<isa::AsmError>,
        /// The program.
        text: String,
    },
    /// A program was not loaded.
    #[error("{test}: {source}")]
    Load {
        /// The test.
        test: &'static str,
        /// Why.
        source: Box<LoadError>,
    },
    /// A run ended with an error.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The arena could not be prepared or read.
    #[error("the arena: {0}")]
    Arena(String),
    /// A thread panicked.
    #[error("a thread panicked")]
    Panicked,
}

/// A test that is loaded.
pub struct Bench<'t> {
    test: &'t Litmus,
    programs: Vec<Instance>,
    maps: MapSet,
}

impl<'t> Bench<'t> {
    /// Loads a test's programs with this engine.
    ///
    /// # Errors
    /// They are no programs, or are refused.
    pub fn new(test: &'t Litmus, engine: &UserEngine) -> Result<Self, LitmusError> {
        let loading = |source| LitmusError::Load { test: test.name, source: Box::new(source) };
        let engine = engine.clone().loop_limit(LoopLimit::Time(Duration::from_secs(20)));
        let arena =
            MapSpec { max_entries: PAGES, flags: BPF_F_MMAPABLE, ..MapSpec::new("arena", MapType::Arena) };
        let specs: Arc<[MapSpec]> = Arc::from([arena]);
        let mut programs = Vec::new();
        for thread in 0..test.threads.len() {
            let text = text(test, thread);
            let code = isa::assemble(&text)
                .map_err(|source| LitmusError::Assembly {
                    test: test.name,
                    thread,
                    source: Box::new(source),
                    text,
                })?
                .code;
            let mut program = Program::from_code(&format!("thread{thread}"), "syscall", code);
            program.maps = Arc::clone(&specs);
            programs.push(program);
        }
        let maps = programs.first().map(|program| engine.maps(program).map_err(loading)).transpose()?;
        let maps = maps.ok_or_else(|| LitmusError::Arena("no threads".to_owned()))?;
        let programs = programs
            .iter()
            .map(|program| engine.load_program(program, &maps).map_err(loading))
            .collect::<Result<_, _>>()?;
        Ok(Self { test, programs, maps })
    }

    /// Runs batches until the time is over, at least one.
    ///
    /// # Errors
    /// A run was ended, or the arena is not as it should be.
    pub fn run(&self, time: Duration, seen: &mut Seen) -> Result<(), LitmusError> {
        let begin = Instant::now();
        loop {
            self.batch(seen)?;
            // One forbidden outcome is enough.
            if begin.elapsed() >= time || seen.forbidden(self.test).is_some() {
                return Ok(());
            }
        }
    }

    fn batch(&self, seen: &mut Seen) -> Result<(), LitmusError> {
        let failed = |error: &dyn fmt::Display| LitmusError::Arena(error.to_string());
        let arena = self.maps.arena().ok_or_else(|| LitmusError::Arena("there is none".to_owned()))?;
        let start = arena.user_vm_start();
        // New pages are zeroed.
        arena.free_pages(start, PageCount::new(PAGES));
        arena.alloc_pages(Some(start), PageCount::new(PAGES)).ok_or_else(|| failed(&"no pages"))?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .programs
                .iter()
                .map(|program| scope.spawn(move || program.run(&mut context(start))))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                let outcome = thread.join().map_err(|_| LitmusError::Panicked)??;
                let faults = outcome.faults.total();
                if faults == 0 { Ok(()) } else { Err(failed(&format!("{faults} faults"))) }
            })
        })?;
        let mut bytes = vec![0; usize::try_from(PLACES * PLACE_BYTES).unwrap_or(0)];
        arena.read_bytes(start, &mut bytes).map_err(|error| failed(&error))?;
        let place_bytes = usize::try_from(PLACE_BYTES).unwrap_or(1);
        for place in bytes.chunks_exact(place_bytes) {
            let word = |offset: u64| {
                let bytes = usize::try_from(offset).ok().and_then(|at| place.get(at..)?.first_chunk());
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            let variables = [0, 1, 2].map(|n| word(n * LINE_BYTES));
            let results = [0, 1, 2, 3].map(|thread| {
                let at = RESULTS + thread * LINE_BYTES;
                [word(at), word(at + 8)]
            });
            *seen.outcomes.entry(Outcome { results, variables }).or_default() += 1;
            seen.rounds += 1;
        }
        Ok(())
    }
}

/// The context: where the arena begins.
fn context(start: UserAddr) -> Vec<u8> {
    start.get().to_le_bytes().to_vec()
}

/// The program of a thread: for each place, it tells that it has come there, waits for the others, and does its part. A wait that has
/// used up its budget ends the program: the verifier wants an end.
fn text(test: &Litmus, thread: usize) -> String {
    let body = test.threads.get(thread).copied().unwrap_or_default();
    let progress = |thread: usize| PROGRESS + LINE_BYTES * u64::try_from(thread).unwrap_or(0);
    let mut wait = String::new();
    for other in (0..test.threads.len()).filter(|other| *other != thread) {
        let at = progress(other);
        wait.push_str(&format!(
            "r4 = r8\nr4 += {at}\nwait{other}:\nmay_goto done\nr5 = *(u64 *)(r4 +0)\nif r5 < r7 goto wait{other}\n"
        ));
    }
    let mine = progress(thread);
    let result = RESULTS + LINE_BYTES * u64::try_from(thread).unwrap_or(0);
    format!(
        "r0 = map[idx:0]\n\
         r8 = *(u64 *)(r1 +0)\n\
         r8 = addr_space_cast(r8, 0, 1)\n\
         r9 = r8\n\
         r7 = 0\n\
         next:\n\
         may_goto done\n\
         r7 += 1\n\
         r4 = r8\n\
         r4 += {mine}\n\
         *(u64 *)(r4 +0) = r7\n\
         {wait}\
         r2 = 0\n\
         r3 = 0\n\
         {body}\n\
         end:\n\
         *(u64 *)(r9 +{result}) = r2\n\
         *(u64 *)(r9 +{}) = r3\n\
         r9 += {PLACE_BYTES}\n\
         if r7 < {PLACES} goto next\n\
         done:\n\
         r0 = 0\n\
         exit\n",
        result + 8,
    )
}
