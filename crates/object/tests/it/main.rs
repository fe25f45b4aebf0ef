//! Objects made by clang from `tests/bpf/*.bpf.c`: what parsing and linking says about them, and what it says about
//! broken ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod arena;
mod btf;
mod calls;
mod core;
mod data;
mod externs;
mod hostile;
mod maps;
mod merge;
mod refusals;

use bpf_arena_object::Object;

/// The bytes of `tests/bpf/NAME.bpf.o`.
fn bytes(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The parsed object.
fn object(name: &str) -> Object {
    Object::parse(&bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
