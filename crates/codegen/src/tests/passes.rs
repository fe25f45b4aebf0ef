//! Golden bodies: `tests/passes/PASS/*.txt` hold a program, behind a line `; before:` the body that the pass is given, and
//! behind a line `; after:` what it makes of it.
//!
//! The name of the folder is the pass; a first line `; with: a, b` runs others before it, in their usual order.
//! `BLESS=1 cargo test -p bpf-arena-codegen` writes the present state into the files, to be read before it is committed.

use std::path::Path;

use super::fixture::Fixture;
use crate::flow::Body;
use crate::passes::{self, Pass, PassSet};

const BEFORE: &str = "; before:\n";
const AFTER: &str = "; after:\n";

#[test]
fn bodies_are_as_committed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let bless = std::env::var_os("BLESS").is_some();
    let mut differ = Vec::new();
    for pass in Pass::ALL {
        let mut files: Vec<_> = std::fs::read_dir(folder.join(pass.name()))
            .unwrap_or_else(|_| panic!("no fixtures for {}", pass.name()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no fixtures for {}", pass.name());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let (program, committed) = text.split_once(BEFORE).unwrap_or((&text, ""));
            let now = describe(program, pass);
            if bless {
                std::fs::write(&file, format!("{program}{BEFORE}{now}")).unwrap();
            } else if now != committed {
                differ.push(format!("{}:\n{now}", file.display()));
            }
        }
    }
    assert!(differ.is_empty(), "not as committed (BLESS=1 accepts):\n{}", differ.join("\n"));
}

/// The bodies before and after the pass.
fn describe(program: &str, pass: Pass) -> String {
    let fixture = Fixture::parse(program);
    let with = program.lines().next().and_then(|line| line.strip_prefix("; with: ")).unwrap_or("");
    let names = with.split(',').map(str::trim).filter(|name| !name.is_empty());
    let earlier = names.fold(PassSet::NONE, |set, name| set.with(Pass::from_name(name).expect("a pass")));
    let mut bodies = fixture.bodies();
    passes::run(&mut bodies, fixture.source(), earlier);
    let before = text(&bodies);
    passes::run(&mut bodies, fixture.source(), PassSet::NONE.with(pass));
    format!("{before}{AFTER}{}", text(&bodies))
}

fn text(bodies: &[Body]) -> String {
    let mut text = String::new();
    for (index, body) in bodies.iter().enumerate() {
        if index > 0 {
            text += &format!("; subprogram {}:\n", body.subprogram);
        }
        for line in body.to_string().lines() {
            text += &format!("; {line}\n");
        }
    }
    text
}
