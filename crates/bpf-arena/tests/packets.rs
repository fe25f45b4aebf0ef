//! Programs on packets, in this process and in the running kernel: the same packets with the same contexts through the same
//! programs, which call what a script says. Verdict, packet, context, what each helper gave and what the context showed after
//! it must be the same, and so must the error of a run that is refused.
//!
//! Without the right to use bpf(2) the comparison is reported as ignored, naming what is missing.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "packets are short, and a test stops at the first surprise"
)]

mod packet_engines;

use libtest_mimic::{Arguments, Failed, Trial};
use sys::bpf::{Capability, CapabilitySet};

type Test = fn() -> Result<(), Failed>;

const COMPARED: [(&str, Test); 10] = [
    ("scripts_of_traffic_control", || packet_engines::scripts("script_tc")),
    ("scripts_of_outgoing_tunnels", || packet_engines::scripts("script_lwt_xmit")),
    ("scripts_of_incoming_tunnels", || packet_engines::scripts("script_lwt_in")),
    ("scripts_of_socket_filters", || packet_engines::scripts("script_socket")),
    ("scripts_of_control_groups", || packet_engines::scripts("script_cgroup")),
    ("scripts_of_xdp", || packet_engines::scripts("script_xdp")),
    ("legacy_loads_of_traffic_control", || packet_engines::scripts("legacy_tc")),
    ("legacy_loads_of_socket_filters", || packet_engines::scripts("legacy_socket")),
    ("dissected_flows", || packet_engines::scripts("dissect")),
    ("sockets_are_found", packet_engines::sockets),
];

fn main() {
    let args = Arguments::from_args();
    let needed = [Capability::Bpf, Capability::Perfmon, Capability::NetAdmin, Capability::SysAdmin];
    let missing = CapabilitySet::effective().first_missing(&needed).map(|c| c.to_string());
    let trials = COMPARED.into_iter().map(|(name, test)| match &missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    let here = Trial::test("clones_and_redirects_reach_the_host", packet_engines::clones_and_redirects);
    libtest_mimic::run(&args, trials.chain([here]).collect()).exit();
}
