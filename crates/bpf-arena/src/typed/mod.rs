//! Rust types for what lies in arenas and global variables.
//!
//! A structure that both sides know derives [`ArenaType`]; a pointer to one is an [`ArenaPtr`]. Values are **copied**
//! out of and into shared memory field by field, never borrowed: a program, another thread or another process may write
//! the same bytes at any moment. Each integer is read in one access, so that it is never torn; a structure as a whole
//! may be read half before and half after a concurrent write. Where that matters, use one field
//! ([`ArenaPtr::field`]) and the atomic operations of [`Arena`](crate::arena::Arena).
//!
//! Pointers in shared memory are untrusted. Following one that leads out of the arena, or to a page that is not there,
//! is an error, whatever the program stored.
//!
//! ```
//! use bpf_arena::typed::{ArenaPtr, ArenaType};
//!
//! // struct node { struct node __arena *next; u64 value; };
//! #[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
//! #[repr(C)]
//! struct Node {
//!     next: ArenaPtr<Node>,
//!     value: u64,
//! }
//!
//! let node = Node { value: 7, ..Node::ZERO };
//! assert!(node.next.is_null());
//! ```
//!
//! What has no meaning in shared memory is refused when it is compiled:
//!
//! ```compile_fail
//! # use bpf_arena::typed::ArenaType;
//! #[derive(ArenaType, Clone, Copy)]
//! #[repr(C)]
//! struct Flags {
//!     ready: bool, // error: field `ready`: an arena may hold any byte, a bool is 0 or 1; use u8 and compare with 0
//! }
//! ```
//!
//! ```compile_fail
//! # use bpf_arena::typed::ArenaType;
//! struct Plain;
//! #[derive(ArenaType, Clone, Copy)]
//! #[repr(C)]
//! struct Outer {
//!     inner: Plain, // error: `Plain` cannot lie in an arena
//! }
//! ```

mod access;
mod globals;
pub(crate) mod layout;
mod list;
mod map;
mod memory;
mod ptr;
mod shape;
pub mod value;

pub use bpf_arena_derive::ArenaType;
pub use globals::{GlobalError, MAX_LIST_NODES, MAX_VARIABLE_BYTES, set_initial, variable_names};
pub use layout::{LayoutError, check_layout};
pub use list::{Found, List, WalkError};
pub use map::{MapTypeError, TypedMap};
pub use memory::{Bytes, Memory, OutOfBytes};
pub use ptr::{ArenaPtr, Field};
pub use shape::{ArenaInt, ArenaType, FieldShape, Shape, StructShape};
