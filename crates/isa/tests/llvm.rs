//! LLVM's idea of the instruction set against ours, where `llvm-mc-22` and `llvm-objdump-22` are installed.
//!
//! Our encoder makes bytes, LLVM disassembles them, our assembler reads LLVM's text: the instruction must come
//! back. The other way round, what LLVM disassembles and we refuse must be refused for a field that LLVM does
//! not look at.

#![allow(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use bpf_arena_isa::{CallTarget, Encoded, Endian, Form, Imm64, Insn, PacketBase, RawField, RawInsn, Refusal};
use libtest_mimic::{Arguments, Failed, Trial};

mod common;
use common::{OFFSETS, instance};

const MC: &str = "llvm-mc-22";
const OBJDUMP: &str = "llvm-objdump-22";

fn main() -> ExitCode {
    let missing = [MC, OBJDUMP].into_iter().find(|tool| {
        !Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let trial = |name: &str, run: fn() -> Result<(), Failed>| {
        let name = missing.map_or_else(|| name.to_owned(), |tool| format!("{name} ({tool} is missing)"));
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    };
    let trials = vec![
        trial("llvm_reads_what_we_write_little_endian", || llvm_reads_what_we_write(Endian::Little)),
        trial("llvm_reads_what_we_write_big_endian", || llvm_reads_what_we_write(Endian::Big)),
        trial("what_only_llvm_decodes", what_only_llvm_decodes),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// LLVM's text for each run of slots, which must be one instruction each.
fn llvm_text(slots: &[Vec<RawInsn>], endian: Endian) -> Vec<String> {
    let mut source = String::new();
    for slot in slots.iter().flatten() {
        let bytes = slot.to_bytes(endian).map(|byte| byte.to_string()).join(",");
        writeln!(source, ".byte {bytes}").expect("writing to a string");
    }
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (text, object) = (folder.path().join("insns.s"), folder.path().join("insns.o"));
    std::fs::write(&text, source).expect("writable");
    let triple = if endian == Endian::Little { "--triple=bpfel" } else { "--triple=bpfeb" };
    run(MC, &[triple, "-mcpu=v4", "-filetype=obj", "-o"], &[&object, &text]);
    let options = ["-d", "--mcpu=v4", "--no-print-imm-hex", "--no-show-raw-insn", "--no-leading-addr", "-z"];
    let listing = run(OBJDUMP, &options, &[&object]);
    let lines = listing.lines().skip_while(|line| !line.ends_with("<.text>:")).skip(1);
    lines.map(|line| line.split(" <.text").next().unwrap_or(line).trim().to_owned()).collect()
}

fn run(tool: &str, options: &[&str], files: &[&Path]) -> String {
    let output = Command::new(tool).args(options).args(files).output().expect("the tool starts");
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("LLVM prints ASCII")
}

fn slots(insn: &Insn) -> Vec<RawInsn> {
    let Encoded { first, second } = insn.encode().expect("has an encoding");
    std::iter::once(first).chain(second).collect()
}

/// LLVM's text does not tell everything: it prints no selector of a call and no module, no second `imm` of a
/// pseudo load, no `imm` of `LD_IND`. What its text means; or the text itself, where it is like nothing of ours.
fn as_llvm_has_it(insn: Insn) -> Result<Insn, String> {
    let raw = insn.encode().expect("has an encoding").first;
    match insn {
        Insn::LoadImm64 { value: Imm64::Const(_), .. } => Ok(insn),
        Insn::LoadImm64 { dst, .. } => {
            Err(format!("ld_pseudo\tr{}, {}, {}", dst.number(), raw.src_reg, raw.imm.cast_unsigned()))
        }
        Insn::Call { target: CallTarget::Register(_) } => Ok(insn),
        Insn::Call { .. } => Err(format!("call {}", raw.imm)),
        Insn::LoadPacket { size, from: from @ PacketBase::Ind(_), .. } => {
            Ok(Insn::LoadPacket { size, from, imm: 0 })
        }
        other => Ok(other),
    }
}

fn llvm_reads_what_we_write(endian: Endian) -> Result<(), Failed> {
    let insns: Vec<Insn> = Form::all()
        .flat_map(|form| OFFSETS.iter().map(move |offset| instance(form, 7, 3, *offset, 0x1234, 5)))
        .chain(Form::all().flat_map(|form| (0..11).map(move |reg| instance(form, reg, 10 - reg, 4, -2, -3))))
        .collect();
    let texts = llvm_text(&insns.iter().map(slots).collect::<Vec<_>>(), endian);
    assert_eq!(texts.len(), insns.len());
    let mut wrong = String::new();
    for (insn, text) in insns.iter().zip(texts) {
        let same = match as_llvm_has_it(*insn) {
            Ok(meant) => text.parse().as_ref() == Ok(&meant),
            Err(exact) => text == exact,
        };
        if !same {
            writeln!(wrong, "{insn}: LLVM has `{text}`")?;
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}

fn what_only_llvm_decodes() -> Result<(), Failed> {
    let refused: Vec<(RawInsn, Refusal)> = (0..=u8::MAX)
        .filter(|opcode| *opcode != 0x18)
        .flat_map(|opcode| {
            [
                (0, 0, 0),
                (0, 1, 0),
                (0, 8, 0),
                (0, 16, 0),
                (0, 32, 0),
                (0, 0, 1),
                (0, 0, 0x40),
                (0, 0, 0xe1),
                (0, 0, 0xf1),
                (0, 0, 0x100),
                (0, 0, 0x110),
                (0, 0, 16),
                (1, 0, 0),
                (2, 0, 0),
                (3, 0, 0),
            ]
            .map(move |(src_reg, offset, imm)| RawInsn {
                opcode,
                dst_reg: 0,
                src_reg,
                offset,
                imm,
            })
        })
        .filter_map(|raw| Some((raw, Insn::decode(raw, None).err()?)))
        .collect();
    let texts = llvm_text(&refused.iter().map(|(raw, _)| vec![*raw]).collect::<Vec<_>>(), Endian::Little);
    assert_eq!(texts.len(), refused.len());
    // LLVM reads over reserved fields and over the selector of a call. Nothing else may be new to us.
    let mut wrong = String::new();
    for ((raw, why), text) in refused.iter().zip(texts) {
        let overlooked = matches!(
            why,
            Refusal::Reserved { .. } | Refusal::Selector { opcode: 0x85, field: RawField::SrcReg, .. }
        );
        if text != "<unknown>" && !overlooked {
            writeln!(wrong, "{raw}: LLVM has `{text}`; {why}")?;
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}
