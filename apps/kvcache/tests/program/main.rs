//! The program that answers, in both engines and on the wire, beside a reader of packets that shares nothing with it; writers and
//! readers at the same moment; servers that are killed.
//!
//! `KVCACHE_REQUESTS`, `KVCACHE_SECONDS` and `KVCACHE_KILLS` make it last longer. Without the right to use bpf(2) what needs the
//! kernel is reported as ignored, naming what is missing.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

mod kills;
mod packets;
mod requests;
mod sealed;
mod stress;
mod wire;

use kvcache::fast::{AttachTo, EngineKind, FastPath};
use kvcache::restart::{Config, Keep};
use kvcache::store::{Options, Store};
use libtest_mimic::{Arguments, Failed, Trial};
use sys::bpf::{Capability, CapabilitySet};

type Test = fn() -> Result<(), Failed>;

/// An arena in the kernel or in this process, with the program loaded over it.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) fast: FastPath,
}

impl Bench {
    pub(crate) fn user(options: Options) -> Self {
        let store = Store::new(options).unwrap();
        let fast = FastPath::user(&store).unwrap();
        Self { store, fast }
    }

    pub(crate) fn kernel(options: Options) -> Self {
        let (store, _) = Store::over(kvcache::restart::kernel_arena().unwrap(), options).unwrap();
        let fast = FastPath::kernel_unattached(&store, 11211).unwrap();
        Self { store, fast }
    }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a killed server or one in another network namespace is opened with.
pub(crate) fn config(keep: Keep, interface: Option<&str>) -> Config {
    let engine = match interface {
        None => EngineKind::User,
        Some(name) => EngineKind::Kernel(AttachTo {
            interface: name.to_owned(),
            port: 11211,
            address: std::net::IpAddr::from([10, 99, 0, 1]),
            hook: std::env::var("KVCACHE_HOOK").ok().and_then(|hook| wire::hook_named(&hook)),
        }),
    };
    Config { store: Options::default().memory(8 << 20).item_max(64 << 10), engine, keep }
}

const HERE: [(&str, Test); 3] = [
    ("killed_servers_leave_their_file", kills::in_file),
    ("requests_in_this_process", || requests::compare(&Bench::user(Options::default()), false)),
    ("writers_and_answers_in_this_process", || stress::run(Bench::user)),
];

const KERNEL: [(&str, Test); 7] = [
    ("killed_servers_leave_their_pins", kills::pinned),
    ("requests_in_the_kernel", || requests::compare(&Bench::kernel(Options::default()), false)),
    ("requests_in_traffic_control", || requests::compare(&Bench::kernel(Options::default()), true)),
    ("writers_and_answers_in_the_kernel", || stress::run(Bench::kernel)),
    ("answers_on_the_wire_where_it_is_best", || wire::run("auto", "tc")),
    ("answers_on_the_wire_in_the_driver", || wire::run("native", "native+tc")),
    ("answers_on_the_wire_in_the_stack", || wire::run("generic", "generic+tc")),
];

fn main() {
    match std::env::var("KVCACHE_CHILD").as_deref() {
        Ok("writer") => return kills::write_until_killed(),
        Ok("server") => return wire::serve(),
        Ok("client") => return wire::ask(),
        _ => {}
    }
    // One after the other: kept arenas lie at a fixed address, and namespaces have the process's number.
    let args = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let needed = [Capability::Bpf, Capability::Perfmon, Capability::NetAdmin, Capability::SysAdmin];
    let missing = CapabilitySet::effective().first_missing(&needed).map(|c| c.to_string());
    let kernel = KERNEL.into_iter().map(|(name, test)| match &missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    let here = HERE.into_iter().map(|(name, test)| Trial::test(name, test));
    libtest_mimic::run(&args, here.chain(kernel).collect()).exit();
}
