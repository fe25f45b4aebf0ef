//! Conformance vectors for `bpf-arena isa-plugin`, by the conformance groups of RFC 9669 (section 2.4): each file in
//! `tests/isa` is a group, each vector a program in the disassembler's language, the memory that R1 points to, and what R0
//! is at the end. Expected results were worked out from the RFC's text, not by running this project's code.
//!
//! Every vector runs as machine code and by the interpreter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::{Arguments, Failed, Trial};

/// A program and what it gives.
#[derive(Clone, Default)]
struct Vector {
    title: String,
    asm: String,
    memory: String,
    result: String,
}

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isa");
    let mut trials = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let group = path.file_stem().unwrap().to_string_lossy().into_owned();
        for (index, vector) in parse(&fs::read_to_string(&path).unwrap()).into_iter().enumerate() {
            let name = format!("{group}/{:03} {}", index + 1, vector.title);
            trials.push(Trial::test(name, move || check(&vector)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn parse(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    let mut part = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            vectors.push(Vector { title: title.to_owned(), ..Vector::default() });
            continue;
        }
        if let Some(name) = line.strip_prefix("-- ") {
            part = name;
            continue;
        }
        let vector = vectors.last_mut().unwrap();
        let text = match part {
            "asm" => &mut vector.asm,
            "mem" => &mut vector.memory,
            "result" => &mut vector.result,
            other => panic!("there is no part `{other}`"),
        };
        *text += line;
        text.push('\n');
    }
    vectors
}

fn check(vector: &Vector) -> Result<(), Failed> {
    let code = bpf_arena::isa::assemble(&vector.asm)?.code.encode(bpf_arena::isa::Endian::Little)?;
    let program: Vec<String> = code.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = vector.result.trim().strip_prefix("0x").ok_or("a result is hexadecimal")?;
    for mode in [&[][..], &["--interp"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bpf-arena"))
            .args(["isa-plugin", vector.memory.trim(), "--debug"])
            .args(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().unwrap().write_all(program.join(" ").as_bytes())?;
        let output = child.wait_with_output()?;
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || found != expected {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(
                format!("{mode:?}: expected {expected}, found {found:?}\n{error}\n{}", vector.asm).into()
            );
        }
    }
    Ok(())
}
