//! The operating system, as bpf-arena needs it.

pub mod bpf;
pub mod host;
