//! The user engine: programs run in this process, by interpreter or as machine code.

mod options;

pub use options::{Cancel, LoopLimit, Output, Stream, UserEngine};
