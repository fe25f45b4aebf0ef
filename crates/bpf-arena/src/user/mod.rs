//! The user engine: programs run in this process, by interpreter or as machine code.

mod called;
mod image;
mod iterate;
mod limits;
mod load;
mod memory;
mod missing;
mod options;
mod packet;
mod socket;
mod state;
mod trace;

pub(crate) use image::{Image, Loaded};
pub use image::{Instance, Remains};
pub use limits::{Cancel, RunLimits};
pub use load::Code;
pub use memory::{OfferedBytes, UserMemory};
pub(crate) use missing::runs;
pub(crate) use options::Options;
pub use options::{LoopLimit, Output, Stream, UserEngine};
pub use trace::Moment;
pub(crate) use trace::Trace;
