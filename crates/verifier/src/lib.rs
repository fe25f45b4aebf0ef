//! A BPF verifier for user space.
//!
//! [`verify`] follows every path of a [`Program`](bpf_object::Program) with abstract values and either proves that it is
//! safe to run, or says which rule it breaks ([`Rejection`]). It is the only way to obtain a [`Verified`]. The verdicts are
//! Linux 6.18's, with the privileges of `CAP_BPF` and `CAP_PERFMON`; what is not understood is refused by name
//! ([`Unsupported`]).
//!
//! How the parts fit: `plan` is what is known of a program before any path is walked; `walk` follows the paths, one
//! instruction at a time through `transfer`, on a `state` of registers and stack whose numbers are in `domain`; `facts`
//! gathers what code generation needs; `rules` are the tables of helpers, kernel functions, maps and program types, and
//! `kernel_types` reads the structures in the BTF that [`Env`] may carry. `report` is what comes out besides the verdict: broken
//! rules, explanations, events and the log.
#![forbid(unsafe_code)]

/// Fields of map values and allocated objects that the kernel owns.
pub mod fields {
    pub use crate::plan::fields::{Field, Fields, Tag};
}

mod domain;
mod env;
mod facts;
mod host;
mod kernel_types;
pub mod limits;
mod plan;
mod report;
mod rules;
mod state;
mod transfer;
mod undecoded;
mod verified;
mod verify;
mod walk;

pub use env::{Env, LoadFlags, MapMember, MapStruct};
pub use host::{Host, HostFunction, HostParam, HostResult};
pub use kernel_types::WalkFault;
pub use plan::hook::HookFault;
pub use report::error::{Cause, Rejection, errno_name};
pub use report::events::{Detail, Event, Observer};
pub use report::explain::Explanation;
pub use report::reason::{
    Access, BoundsFault, CallFault, ContextFault, FunctionFault, KfuncFault, KnownBits, LoadFault,
    MapStructFault, MemoryFault, ObjectFault, OtherStruct, Reason, ReturnPlace, TypeName, Unsupported,
};
pub use report::{events, explain, log, view};
pub use rules::kfuncs::kernel_functions;
pub use state::stack::SlotByte;
pub use undecoded::undecoded;
pub use verified::{FrameFacts, InsnFacts, Memory, Stats, Verified};
pub use verify::{verify, verify_with};
