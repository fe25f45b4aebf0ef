//! The user engine: programs run in this process, by interpreter or as machine code.

mod image;
mod load;
mod options;
mod state;

pub(crate) use image::Image;
pub use image::{Instance, Remains};
pub use load::Code;
pub use options::{Cancel, LoopLimit, Output, Stream, UserEngine};
