//! A BPF verifier for user space.
//!
//! [`verify`] follows every path of a [`Program`](bpf_object::Program) with abstract values and either proves that it is
//! safe to run, or says which rule it breaks ([`Rejection`]). It is the only way to obtain a [`Verified`]. The verdicts are
//! Linux 6.18's, with the privileges of `CAP_BPF` and `CAP_PERFMON`; what is not understood is refused by name
//! ([`Unsupported`]).
//!
//! How the parts fit: `cfg` and `plan` check what needs no walk; `explore` walks, one instruction at a time through
//! `transfer`, on a `state` of registers (`reg`, with numbers in `scalar` and `tnum`) and `stack`; `saved` and `equal` cut
//! off paths that earlier ones cover, `live` and `stack_live` say what still matters of a state, `loops` and `trust` when
//! that is complete; `origin` knows what every value was made of, for precision and for blame; `facts`
//! gathers what code generation needs; `rules` are the tables of helpers, kernel functions, maps and program types. What a
//! program refers to in the kernel is found by `externs` (functions and variables), `hook` (what it is attached to) and
//! `kernel_types` (structures), in the BTF that [`Env`] may carry.
#![forbid(unsafe_code)]

mod cfg;
mod clean;
mod diagnose;
mod effects;
mod env;
mod equal;
mod error;
pub mod events;
pub mod explain;
mod explore;
mod externs;
mod facts;
mod fields;
mod flow;
mod functions;
mod held;
mod hook;
mod kernel_types;
pub mod limits;
mod live;
pub mod log;
mod loops;
mod origin;
mod plan;
mod reason;
mod references;
#[allow(dead_code, reason = "every kind of register the kernel has; rules for some are still to come")]
mod reg;
mod rules;
mod saved;
mod scalar;
mod stack;
mod stack_live;
mod state;
mod struct_ops;
mod tnum;
mod transfer;
mod trust;
mod undecoded;
mod verified;
mod verify;
pub mod view;

pub use env::{Env, LoadFlags, MapMember, MapStruct};
pub use error::{Cause, Rejection, errno_name};
pub use events::{Detail, Event, Observer};
pub use explain::Explanation;
pub use hook::HookFault;
pub use kernel_types::WalkFault;
pub use reason::{
    Access, BoundsFault, CallFault, ContextFault, FunctionFault, KfuncFault, KnownBits, LoadFault,
    MapStructFault, MemoryFault, ObjectFault, OtherStruct, Reason, ReturnPlace, TypeName, Unsupported,
};
pub use stack::SlotByte;
pub use undecoded::undecoded;
pub use verified::{FrameFacts, InsnFacts, Memory, Stats, Verified};
pub use verify::{verify, verify_with};
