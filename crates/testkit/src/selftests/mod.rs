//! Our own host side of the kernel's arena selftests: what their `prog_tests/arena_*.c` demand of a loaded object, asked
//! through the public API, on whatever engine loaded it.

mod atomics;
mod htab;
mod list;

use bpf_arena::typed::value::Value;
use bpf_arena::{App, Engine, LoadError, Object, RunError};

/// Loads objects for a check: an engine with its options.
pub type EngineOf<'a> = &'a dyn Fn() -> Result<Engine, String>;

/// One check: an object's name and what has to hold for it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Name of the check.
    pub name: &'static str,
    /// Name of the object, without directory and `.bpf.o`.
    pub object: &'static str,
    run: fn(&Bench<'_>) -> Result<(), CheckError>,
}

/// Every check.
pub const CHECKS: &[Check] = &[
    Check { name: "list_1", object: "arena_list", run: |bench| list::add_and_delete(bench, 1) },
    Check { name: "list_1000", object: "arena_list", run: |bench| list::add_and_delete(bench, 1000) },
    Check { name: "htab_llvm", object: "arena_htab", run: |bench| htab::filled(bench, "arena_htab_llvm") },
    Check { name: "htab_asm", object: "arena_htab_asm", run: |bench| htab::filled(bench, "arena_htab_asm") },
    Check { name: "atomics_add", object: "arena_atomics", run: atomics::add },
    Check { name: "atomics_sub", object: "arena_atomics", run: atomics::sub },
    Check { name: "atomics_and", object: "arena_atomics", run: atomics::and },
    Check { name: "atomics_or", object: "arena_atomics", run: atomics::or },
    Check { name: "atomics_xor", object: "arena_atomics", run: atomics::xor },
    Check { name: "atomics_cmpxchg", object: "arena_atomics", run: atomics::cmpxchg },
    Check { name: "atomics_xchg", object: "arena_atomics", run: atomics::xchg },
    Check { name: "atomics_use_after_free", object: "arena_atomics", run: atomics::use_after_free },
];

impl Check {
    /// Loads the object and checks.
    ///
    /// # Errors
    /// What does not hold.
    pub fn run(&self, object: &Object, engine: EngineOf<'_>) -> Result<(), CheckError> {
        (self.run)(&Bench { object, engine })
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no engine.
    #[error("{0}")]
    Engine(String),
    /// The object was not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A value is not what it should be.
    #[error("{what} is {got}, not {expected}")]
    Value {
        /// Variable or result.
        what: String,
        /// What it is.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// A program, variable or piece of memory cannot be had.
    #[error("{what}: {reason}")]
    Missing {
        /// What.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// What a check works with.
struct Bench<'a> {
    object: &'a Object,
    engine: EngineOf<'a>,
}

impl Bench<'_> {
    /// Loads the object.
    fn load(&self) -> Result<App, CheckError> {
        let engine = (self.engine)().map_err(CheckError::Engine)?;
        Ok(self.object.load(engine)?)
    }
}

/// Runs a program, which has to return 0.
fn run(app: &App, program: &str) -> Result<(), CheckError> {
    let outcome = app.program(program).map_err(|error| missing(program, error))?.run(&mut ())?;
    expect(program, outcome.return_value, 0)
}

/// An integer variable has to have this value.
fn expect_global(app: &App, name: &str, expected: i128) -> Result<(), CheckError> {
    match app.global_value(name).map_err(|error| missing(name, error))? {
        Value::Int(got) => expect(name, got, expected),
        Value::Bool(got) => expect(name, i128::from(got), expected),
        other => Err(missing(name, format_args!("{other} is no integer"))),
    }
}

fn expect<T: PartialEq + std::fmt::Display>(what: &str, got: T, expected: T) -> Result<(), CheckError> {
    if got == expected {
        return Ok(());
    }
    Err(CheckError::Value { what: what.to_owned(), got: got.to_string(), expected: expected.to_string() })
}

fn missing(what: &str, reason: impl std::fmt::Display) -> CheckError {
    CheckError::Missing { what: what.to_owned(), reason: reason.to_string() }
}
