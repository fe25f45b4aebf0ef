//! The kernel engine against the running kernel. Where bpf(2) is not permitted the tests are reported as ignored, naming
//! what is missing; where it is permitted, everything has to work.

mod kernel_engine;

use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};
use sys::bpf::{Capability, CapabilitySet};

type Test = fn() -> Result<(), Failed>;

const TESTS: [(&str, Test); 19] = [
    ("one_host_two_engines", kernel_engine::one_host_two_engines),
    ("engines_agree_on_the_arena_objects", kernel_engine::compare::engines_agree),
    ("a_wrong_engine_fails_a_test", kernel_engine::compare::wrong_engine_in_test),
    ("a_wrong_engine_shows_after_runs", kernel_engine::compare::wrong_engine_after_runs),
    ("arenas_are_handed_over", kernel_engine::handed_over::both_engines),
    ("linked_objects_load", kernel_engine::linked::load),
    ("globals_of_every_kind", kernel_engine::globals),
    ("order_of_allocation", kernel_engine::order_of_allocation),
    ("arena_pages_from_the_host", kernel_engine::arena_pages),
    ("pages_are_freed_while_they_are_mapped", kernel_engine::freed::while_mapped),
    ("refusal_shows_instruction_line_and_log", kernel_engine::refusal),
    ("context_errors_are_the_kernel's", kernel_engine::context_errors),
    ("packets_in_and_out", kernel_engine::packet_run),
    ("socket_filter_comes_off_on_drop", kernel_engine::socket_filter),
    ("nothing_is_left_behind", kernel_engine::nothing_left),
    ("missing_capability_is_named", kernel_engine::missing_capability),
    ("lookups_agree", kernel_engine::contexts::lookups_agree),
    ("raw_tracepoints_agree", kernel_engine::contexts::raw_tracepoints_agree),
    ("attach_xdp_and_tc", attach),
];

fn main() {
    let mut args = Arguments::from_args();
    // Arenas of the repository's objects are at fixed addresses: one at a time.
    args.test_threads = Some(1);
    if args.filter.as_deref() == Some(INSIDE) {
        let trials = vec![Trial::test(INSIDE, kernel_engine::attach::inside)];
        libtest_mimic::run(&args, trials).exit();
    }
    let needed = [Capability::Bpf, Capability::Perfmon, Capability::NetAdmin, Capability::SysAdmin];
    let missing = CapabilitySet::effective().first_missing(&needed).map(|c| c.to_string());
    let tools = ["ip", "unshare"].into_iter().find(|tool| !has(tool)).map(|tool| format!("`{tool}`"));
    let trials = TESTS.into_iter().map(|(name, test)| {
        let tools = if name == "attach_xdp_and_tc" { tools.clone() } else { None };
        // Taking capabilities away needs none.
        let missing = if name == "missing_capability_is_named" { None } else { missing.clone() };
        match missing.or(tools) {
            Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
            None => Trial::test(name, test),
        }
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

/// Name of the part of `attach_xdp_and_tc` that runs in a network namespace of its own.
const INSIDE: &str = "inside_a_network_namespace";

fn has(tool: &str) -> bool {
    Command::new(tool).arg("--help").output().is_ok()
}

/// Runs this binary again in a network namespace that vanishes with it.
fn attach() -> Result<(), Failed> {
    let executable = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    let output = command.arg("--net").arg("--").arg(executable).args([INSIDE, "--exact"]).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned().into())
}
