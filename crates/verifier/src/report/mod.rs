//! What verification tells: broken rules, where they come from, and everything that happened, for observers.

pub(crate) mod diagnose;
pub(crate) mod error;
pub mod events;
pub mod explain;
pub mod log;
pub(crate) mod reason;
pub mod view;
