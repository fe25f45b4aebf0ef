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

mod client;
mod kills;
mod packets;
mod requests;
mod sealed;
mod servers;
mod stress;
mod wire;

use std::net::IpAddr;

use kvcache::fast::{AttachTo, EngineKind, FastPath};
use kvcache::restart::{Config, Keep};
use kvcache::store::{Options, Store};
use libtest_mimic::{Arguments, Failed, Trial};
use sys::bpf::{Capability, CapabilitySet};

use crate::wire::Way;

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
            address: address(),
            hook: std::env::var("KVCACHE_HOOK").ok().and_then(|hook| wire::hook_named(&hook)),
        }),
    };
    Config { store: Options::default().memory(8 << 20).item_max(64 << 10), engine, keep }
}

/// Where the server is.
pub(crate) fn address() -> IpAddr {
    let address = std::env::var("KVCACHE_ADDRESS").ok().and_then(|address| address.parse().ok());
    address.unwrap_or(testkit::wire::End::Server.v4().into())
}

const HERE: [(&str, Test); 6] = [
    ("a_server_without_privileges", servers::unprivileged),
    ("killed_writers_leave_their_file", kills::in_file),
    ("killed_servers_leave_their_file", servers::in_file),
    ("requests_in_this_process", || requests::compare(&Bench::user(Options::default()), false)),
    ("requests_in_traffic_control_in_this_process", || {
        requests::compare(&Bench::user(Options::default()), true)
    }),
    ("writers_and_answers_in_this_process", || stress::run(Bench::user)),
];

const KERNEL: [(&str, Test); 12] = [
    ("killed_writers_leave_their_pins", kills::pinned),
    ("killed_servers_leave_their_pins", servers::pinned),
    ("requests_in_the_kernel", || requests::compare(&Bench::kernel(Options::default()), false)),
    ("requests_in_traffic_control", || requests::compare(&Bench::kernel(Options::default()), true)),
    ("writers_and_answers_in_the_kernel", || stress::run(Bench::kernel)),
    ("answers_on_the_wire_where_it_is_best", || wire::over("auto", "tc", Way::V4)),
    ("answers_on_the_wire_in_the_driver", || wire::over("native", "native+tc", Way::V4)),
    ("answers_on_the_wire_in_the_stack", || wire::over("generic", "generic+tc", Way::V4)),
    ("answers_on_the_wire_in_the_driver_by_ipv6", || wire::over("native", "native+tc", Way::V6)),
    ("answers_on_the_wire_in_traffic_control_by_ipv6", || wire::over("tc", "tc", Way::V6)),
    ("answers_on_the_wire_in_the_driver_with_tags", || wire::over("native", "native+tc", Way::Tagged)),
    ("answers_on_the_wire_in_traffic_control_with_tags", || wire::over("tc", "tc", Way::Tagged)),
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
    let strace = missing.clone().or_else(|| {
        std::process::Command::new("strace").arg("-V").output().err().map(|_| "strace".to_owned())
    });
    let unseen = Trial::test("answers_on_the_wire_past_the_server", wire::unseen);
    let unseen = unseen.with_ignored_flag(strace.is_some());
    let here = HERE.into_iter().map(|(name, test)| Trial::test(name, test));
    libtest_mimic::run(&args, here.chain(kernel).chain([unseen]).collect()).exit();
}
