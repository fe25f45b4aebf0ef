//! Golden listings: `tests/lowering/*.txt` hold a program and, behind a line `; code:`, what becomes of it; those for AArch64
//! are in the folder `aarch64` there, and are compared where such code is made. They show what is particular to the machine,
//! so no pass is at work. Behind a line `; ours:` follows what our own backend makes of it for x86-64, compared where the machine has
//! the instructions that it uses.
//!
//! `BLESS=1 cargo test -p bpf-arena-codegen` writes the present state into the files, to be read before it is
//! committed.

use std::fmt::Write;
use std::path::Path;

use super::fixture::Fixture;
use crate::{Compiled, Leaves};

const MARK: &str = "; code:\n";
const OURS: &str = "; ours:\n";

#[test]
fn listings_are_as_committed() {
    let (machine, fixtures) =
        if cfg!(target_arch = "x86_64") { ("", 8) } else { (std::env::consts::ARCH, 3) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lowering").join(machine);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    assert!(files.len() >= fixtures, "fixtures are missing");
    let bless = std::env::var_os("BLESS").is_some();
    let mut differ = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (program, committed) = text.split_once(MARK).unwrap_or((&text, ""));
        let fixture = Fixture::parse(program);
        let now = if machine.is_empty() {
            let [theirs, ours] = [true, false].map(|b| describe(&fixture.compile_with_calls(b).unwrap()));
            let (_, committed) = committed.split_once(OURS).unwrap_or_default();
            let ours = if crate::x86::has_instructions() { &ours } else { committed };
            format!("{theirs}{OURS}{ours}")
        } else {
            describe(&fixture.compile_plain().unwrap())
        };
        if bless {
            std::fs::write(&file, format!("{program}{MARK}{now}")).unwrap();
        } else if now != committed {
            differ.push(format!("{}:\n{now}", file.display()));
        }
    }
    assert!(differ.is_empty(), "not as committed (BLESS=1 accepts):\n{}", differ.join("\n"));
}

/// The code with the BPF instruction of each stretch, the sites, and what is imported.
fn describe(compiled: &Compiled) -> String {
    let mut text = String::new();
    let mut last = None;
    for machine in compiled.disassemble() {
        if last != Some(machine.insn) {
            writeln!(text, "; {}:", machine.insn).unwrap();
            last = Some(machine.insn);
        }
        write!(text, ";   {:4x} {}", machine.offset, machine.text).unwrap();
        if let Some(site) = compiled.faults.iter().find(|f| f.offset == machine.offset) {
            let leaves = match site.leaves {
                Leaves::Registers => "keeps".to_owned(),
                Leaves::Zero(register) => format!("clears {register}"),
                Leaves::Operand { from, to } => format!("copies {from} to {to}"),
            };
            write!(text, "   ! {:?} {:?}: {leaves}, to {:x}", site.access, site.size, site.resume).unwrap();
        }
        text.push('\n');
    }
    for function in compiled.functions.iter().filter(|f| f.callback.is_some()) {
        writeln!(text, "; callback: {:x}", function.start).unwrap();
    }
    if !compiled.imports.is_empty() {
        writeln!(text, "; imports: {:?}", compiled.imports).unwrap();
    }
    text
}
