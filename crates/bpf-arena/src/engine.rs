//! The choice of engine.

use crate::kernel::{KernelEngine, KernelError};
use crate::user::UserEngine;

/// Where objects are loaded: in this process or in the kernel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Engine {
    /// In this process.
    User(UserEngine),
    /// In the running kernel.
    Kernel(KernelEngine),
}

impl Engine {
    /// The engine of this process, with its default options: needs no privilege.
    #[must_use]
    pub fn user() -> UserEngine {
        UserEngine::default()
    }

    /// The engine of the running kernel, with its default options.
    ///
    /// # Errors
    /// [`KernelError::MissingCapability`]: this process may not use bpf(2).
    pub fn kernel() -> Result<KernelEngine, KernelError> {
        KernelEngine::new()
    }
}

impl From<KernelEngine> for Engine {
    fn from(engine: KernelEngine) -> Self {
        Self::Kernel(engine)
    }
}

impl From<UserEngine> for Engine {
    fn from(engine: UserEngine) -> Self {
        Self::User(engine)
    }
}
