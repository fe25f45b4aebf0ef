//! The `bpf-arena` command: run, test, verify and look into BPF objects that use arenas.
//!
//! Flags become a plan, the plan is carried out, its result is printed. Exit code 0: fine; 1: a program was refused,
//! trapped or failed; 2: wrong usage, or a file that cannot be read.

mod args;
mod capture;
mod context;
mod disasm;
mod engine;
mod failure;
mod features;
mod input;
mod inspect;
mod isa_plugin;
mod json;
mod limits;
mod link;
mod output;
mod packets;
mod report;
mod run;
mod test;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => match &args.pcap {
            Some(capture) => packets::run(&args, capture),
            None => run::run(&args),
        },
        Command::Test(args) => test::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Disasm(args) => disasm::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Link(args) => link::run(&args),
        Command::Features(args) => features::run(&args),
        Command::IsaPlugin(args) => isa_plugin::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
