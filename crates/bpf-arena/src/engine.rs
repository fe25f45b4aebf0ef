//! The choice of engine.

use crate::user::UserEngine;

/// Where objects are loaded: in this process or in the kernel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Engine {
    /// In this process.
    User(UserEngine),
}

impl Engine {
    /// The engine of this process, with its default options: needs no privilege.
    #[must_use]
    pub fn user() -> UserEngine {
        UserEngine::default()
    }
}

impl From<UserEngine> for Engine {
    fn from(engine: UserEngine) -> Self {
        Self::User(engine)
    }
}
