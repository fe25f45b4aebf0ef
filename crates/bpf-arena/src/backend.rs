//! What an engine gives the public handles: one trait object per loaded program and map.

use bpf_object::MapSpec;

use crate::error::{MapError, RunError};
use crate::kernel::KernelProgram;
use crate::{Outcome, UpdateMode};

/// A program that an engine has loaded.
pub(crate) trait LoadedProgram: Send + Sync {
    /// Runs it once with this context.
    fn run(&self, ctx: &mut [u8]) -> Result<Outcome, RunError>;

    /// Runs it `count` times with the same context and gives the last outcome, with the time of all runs.
    fn repeat(&self, ctx: &mut [u8], count: u32) -> Result<Outcome, RunError> {
        let begin = std::time::Instant::now();
        let mut outcome = self.run(ctx)?;
        for _ in 1..count {
            outcome = self.run(ctx)?;
        }
        outcome.duration = Some(begin.elapsed());
        Ok(outcome)
    }

    /// The program as the kernel engine has it, if that loaded it.
    fn kernel(&self) -> Option<&KernelProgram> {
        None
    }
}

/// A map that an engine has created.
pub(crate) trait LoadedMap: Send + Sync {
    /// Its specification.
    fn spec(&self) -> &MapSpec;

    /// Copies the value of `key`.
    fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError>;

    /// Inserts or replaces.
    fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError>;

    /// Removes.
    fn delete(&self, key: &[u8]) -> Result<(), MapError>;

    /// The key after this one in the map's order, the first one for `None`.
    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError>;

    /// Copies bytes out of the only value of a global data map, where it lies.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError>;

    /// Writes bytes into the only value of a global data map, where it lies.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError>;
}
