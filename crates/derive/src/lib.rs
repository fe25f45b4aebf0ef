//! `#[derive(ArenaType)]`, re-exported by `bpf-arena`: see `bpf_arena::typed::ArenaType` for what it promises.

mod check;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `ArenaType` for a `#[repr(C)]` structure of plain fields, and gives a constant for each field.
///
/// Plain are integers of a fixed width, arrays of plain elements, structures that derive `ArenaType`, and `ArenaPtr<T>`.
/// Everything else is refused: any bit pattern may lie in an arena, and every one of them must be a value.
///
/// The names of fields are compared with the members of the C structure when an object is loaded. A field whose name
/// starts with `_` stands for any members (padding, members the host has no use for). Attributes:
///
/// - `#[arena(name = "node")]` on the structure: its name in C, if that is not the Rust name in snake case;
/// - `#[arena(name = "type")]` on a field: its name in C, if that is not the Rust name.
#[proc_macro_derive(ArenaType, attributes(arena))]
pub fn derive_arena_type(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::arena_type(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
