//! bpf(2): one attribute struct per command, owned descriptors in and out, raw system calls nowhere else.
//!
//! Every function here is safe: each checks that the buffers it hands to the kernel are as long as the kernel will
//! take them to be (see [`Map`] for element sizes, [`Prog::test_run`] for contexts).

mod batch;
mod btf;
mod capability;
mod error;
mod ids;
mod link;
mod load;
mod map;
mod memory;
mod pin;
mod probe;
mod prog;
mod raw;
mod ring;
pub mod system;

pub use batch::BatchRead;
pub use btf::{BtfFd, BtfObjectInfo};
pub use capability::{Capability, CapabilitySet, WithoutCapabilities};
pub use error::{BpfError, VerifierLog};
pub use ids::{ObjectKind, object_ids};
pub use link::{
    ATTACH_TCX_EGRESS, ATTACH_TCX_INGRESS, ATTACH_XDP, Link, LinkTarget, SocketFilter, XDP_MODE_DRIVER,
    XDP_MODE_GENERIC, XdpMode,
};
pub use load::{FuncInfo, LineInfo, LogMode, ProgSpec};
pub use map::{
    ANY, EXIST, MAP_TYPE_ARENA, Map, MapBtf, MapInfo, MapOptions, NOEXIST, host_value_bytes, possible_cpus,
};
pub use memory::MapMemory;
pub use pin::{open_pinned, pin};
pub use probe::{Feature, KernelVersion};
pub use prog::{Prog, ProgInfo, TestOutcome, TestRun};
pub use raw::Command;
pub use ring::RingPages;
pub use rustix::io::Errno;

/// Bytes of a page.
#[must_use]
pub fn page_size() -> usize {
    rustix::param::page_size()
}
