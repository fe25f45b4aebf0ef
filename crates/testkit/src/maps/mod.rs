//! The same operations on a map of this process and on the running kernel's, from the host and from a program.
//!
//! Results, values and error numbers have to be equal; the order of elements too, where it does not depend on a random
//! seed; of maps that evict, what the kernel promises: never more elements than there is room for, the values stored last, the
//! newest element.

mod compare;
mod config;
mod create;
mod sequence;
mod side;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bpf_arena::Engine;
use bpf_arena::kernel::KernelEngine;
use bpf_object::{Btf, MapType};
use fastrand::Rng;

pub use self::config::types;
pub use self::create::creations;
pub use self::side::SideError;

use self::compare::Comparison;
use self::config::{Config, Shape, configs};
use self::sequence::{Step, sequence};
use self::side::{Scripts, Side};

/// One sequence in so many is run as machine code here, the others by the interpreter, which needs no compiling.
const COMPILED_EVERY: u64 = 4;

/// Threads that compare maps whose host side mostly waits.
const WAITING: usize = 16;

/// Held by the one comparison that may run programs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Sequences.
    pub sequences: u64,
    /// Operations of the host and of programs.
    pub operations: u64,
}

/// Where the two sides differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The map.
    pub map: String,
    /// The sequence's seed.
    pub seed: u64,
    /// The steps until then, the last one answered differently.
    pub steps: Vec<String>,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, seed {}: {}", self.map, self.seed, self.what)?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "  {number}: {step}"))
    }
}

impl std::error::Error for Difference {}

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapsError {
    /// The two sides differ.
    #[error(transparent)]
    Difference(Box<Difference>),
    /// One of them could not be asked.
    #[error(transparent)]
    Side(#[from] SideError),
}

/// Compares maps of one type in sequences with seeds from `first_seed` on.
///
/// # Errors
/// The first difference, or a side that could not be asked.
pub fn compare(map_type: MapType, first_seed: u64, sequences: u64) -> Result<Compared, MapsError> {
    let scripts = Scripts::open()?;
    let kernel = Engine::kernel()
        .map_err(|error| SideError::Load { engine: "kernel", error: error.to_string() })?
        .log(bpf_arena::kernel::LogMode::Never);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let configs = configs(map_type);
    let lane = |number: usize, lanes: usize| {
        let seeds = first_seed..first_seed.saturating_add(sequences);
        let mut compared = Compared::default();
        for seed in seeds.skip(number).step_by(lanes) {
            let mut rng = Rng::with_seed(seed);
            let Some(config) = configs.get(rng.usize(0..configs.len().max(1))) else { break };
            compared.operations += one(config, &scripts, &kernel, seed, &mut rng)?;
            compared.sequences += 1;
        }
        Ok(compared)
    };
    if !configs.iter().all(|config| config.shape == Shape::Nested) {
        // Per-CPU values are those of the CPU that ran, here and there: the first of both, with nobody else on it here.
        let _pinned = sys::host::Pinned::to_cpu(0);
        return lane(0, 1);
    }
    // The kernel makes the host wait for programs that may still use the map that was replaced: all at the same time.
    let lane = &lane;
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..WAITING).map(|number| scope.spawn(move || lane(number, WAITING))).collect();
        let join = |lane: std::thread::ScopedJoinHandle<'_, _>| {
            lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // All are waited for before the first difference is told.
        let results: Vec<Result<Compared, MapsError>> = lanes.into_iter().map(join).collect();
        results.into_iter().try_fold(Compared::default(), |all, lane| {
            let lane = lane?;
            Ok(Compared {
                sequences: all.sequences + lane.sequences,
                operations: all.operations + lane.operations,
            })
        })
    })
}

/// The running kernel's types, which say what a task is.
fn kernel_types() -> Result<Arc<Btf>, SideError> {
    static TYPES: OnceLock<Option<Arc<Btf>>> = OnceLock::new();
    let types = TYPES.get_or_init(|| {
        let bytes = std::fs::read(crate::library::KERNEL_TYPES).ok()?;
        Some(Arc::new(Btf::parse(&bytes).ok()?))
    });
    let missing = || SideError::Load { engine: "user engine", error: "the kernel tells no types".to_owned() };
    types.clone().ok_or_else(missing)
}

/// Runs one sequence on both sides; the number of operations.
fn one(
    config: &Config,
    scripts: &Scripts,
    kernel: &KernelEngine,
    seed: u64,
    rng: &mut Rng,
) -> Result<u64, MapsError> {
    let object = scripts.with(config)?;
    let mut user =
        if seed.is_multiple_of(COMPILED_EVERY) { Engine::user() } else { Engine::user().interpreter() };
    if config.spec.map_type == MapType::TaskStorage {
        user = user.kernel_types(kernel_types()?);
    }
    let ours = Side::load(config, &object, user.into())?;
    let theirs = Side::load(config, &object, kernel.clone().into())?;
    let steps = sequence(config, theirs.value_bytes(), rng);
    let mut comparison = Comparison::new(config);
    let mut operations = 0;
    for (number, step) in steps.iter().enumerate() {
        let (mine, its) = (ours.take(step)?, theirs.take(step)?);
        comparison.step(step, &mine, &its).map_err(|what| {
            let spec = &config.spec;
            let map = format!(
                "{} with keys of {}, values of {}{}, {} entries, flags {:#x}",
                spec.map_type.name(),
                spec.key_size,
                spec.value_size,
                if config.locked { " with a lock" } else { "" },
                spec.max_entries,
                spec.flags
            );
            let steps = steps.iter().take(number + 1).map(|step| format!("{step:?}")).collect();
            MapsError::Difference(Box::new(Difference { map, seed, steps, what }))
        })?;
        operations += match step {
            Step::Host(_) => 1,
            Step::Script(ops) => ops.len() as u64,
        };
    }
    Ok(operations)
}
