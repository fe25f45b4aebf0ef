//! Reads `cases/*.txt`: small programs in assembly with the verdict they must get.
//!
//! ```text
//! == name of the case
//! ; reject: R0 !read_ok          (or `; accept`: part of the final message)
//! ; walked 17                    (instructions walked, the kernel's as ours)
//! ; fact 3: arena                (or `proven`, `narrow`, `unreached`: of the instruction at slot 3)
//! ; program xdp                  (section name; without one it is `syscall`)
//! ; flags 8                      (`BPF_F_*` of the load; here `BPF_F_TEST_STATE_FREQ`)
//! ; here alone                   (the running kernel answers otherwise; the reason stands behind)
//! ; kernel types                 (needs the BTF of a kernel: left out where this machine's is not to be had)
//! exit
//! ```
//! Map 0 is an arena of 16 pages, map 1 an array of one value of 64 bytes, map 2 a hash map with keys of 8 and values of 16
//! bytes, map 3 a program array, map 4 a ring buffer, map 5 an array of `struct { int count; struct bpf_spin_lock lock; }`,
//! map 6 an array of `struct bpf_timer`, map 7 an array of 16 bytes for each processor, map 8 a perf event array, map 9 a
//! map of sockets, map 10 an array of arrays of one value of 4 bytes, map 11 an array of one value with a spin lock (at 0),
//! a kptr (8) and an untrusted kptr (16) to `struct case_plain` (type 18, 8 bytes), a list (24) and a tree (40) of
//! `struct case_item` (type 17: nodes at 8 and 32, data at 64), map 12 an array of two `struct bpf_res_spin_lock`. Kernel
//! functions are called by name. Whatever is called by label is a static function; callbacks (`r2 = subprog[label]`) have
//! a type.

mod maps;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use bpf_object::{Linkage, Program, Subprogram};
use isa::{CallTarget, Imm64, Insn, InsnIdx};
use maps::{ENTRY, FUNCTION, assembled};

/// What a case must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is accepted.
    Accept,
    /// It is refused, with this in the message.
    Reject(String),
}

/// One program.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// File and name.
    pub(crate) name: String,
    /// The verdict.
    pub(crate) expected: Expected,
    /// Instructions walked until it is accepted.
    pub(crate) walked: Option<u64>,
    /// Facts that must hold, by slot.
    #[allow(dead_code, reason = "the kernel tells no facts")]
    pub(crate) facts: Vec<(u32, String)>,
    /// The kernel's verdict is another.
    #[allow(dead_code, reason = "not asked where only our verdict counts")]
    pub(crate) here_alone: bool,
    /// The kernel's types are needed.
    #[allow(dead_code, reason = "the kernel has them")]
    pub(crate) kernel_types: bool,
    /// `BPF_F_*`.
    pub(crate) flags: u32,
    section: String,
    text: String,
}

/// Every case of every file.
pub(crate) fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier/tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(|f| f.path());
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.path())?;
        let stem = file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for part in text.split("\n== ").skip(1) {
            let (name, body) = part.split_once('\n').unwrap_or((part, ""));
            cases.push(Case::parse(format!("{stem}: {}", name.trim()), body)?);
        }
    }
    Ok(cases)
}

impl Case {
    fn parse(name: String, body: &str) -> Result<Self, Box<dyn Error>> {
        let mut expected = None;
        let (mut facts, mut walked) = (Vec::new(), None);
        let (mut here_alone, mut kernel_types) = (false, false);
        let (mut section, mut flags) = ("syscall", 0);
        for line in body.lines().filter_map(|l| l.strip_prefix("; ")) {
            if line == "accept" {
                expected = Some(Expected::Accept);
            } else if let Some(message) = line.strip_prefix("reject: ") {
                expected = Some(Expected::Reject(message.to_owned()));
            } else if let Some((slot, fact)) = line.strip_prefix("fact ").and_then(|f| f.split_once(": ")) {
                facts.push((slot.parse()?, fact.to_owned()));
            } else if let Some(name) = line.strip_prefix("program ") {
                section = name.trim();
            } else if let Some(bits) = line.strip_prefix("flags ") {
                flags = bits.trim().parse()?;
            } else if let Some(count) = line.strip_prefix("walked ") {
                walked = Some(count.parse()?);
            } else if line.starts_with("here alone") {
                here_alone = true;
            } else if line == "kernel types" {
                kernel_types = true;
            }
        }
        let expected = expected.ok_or_else(|| format!("{name}: no verdict"))?;
        let (section, text) = (section.to_owned(), body.to_owned());
        Ok(Self { name, expected, walked, facts, here_alone, kernel_types, flags, section, text })
    }

    /// The program.
    pub(crate) fn program(&self) -> Result<Program, Box<dyn Error>> {
        let mut program =
            assembled("main", &self.section, &self.text).map_err(|e| format!("{}: {e}", self.name))?;
        program.subprograms = subprograms(&program);
        let has_callback =
            |(_, insn): (_, Insn)| matches!(insn, Insn::LoadImm64 { value: Imm64::Func(_), .. });
        // What functions allocate is of the types that come with the functions'.
        if program.code.iter().any(has_callback) || !program.externs.is_empty() {
            for (number, part) in program.subprograms.iter_mut().enumerate() {
                part.btf_func = Some(if number == 0 { ENTRY } else { FUNCTION });
            }
        }
        Ok(program)
    }
}

/// Functions start where something is called or has its address taken.
fn subprograms(program: &Program) -> Vec<Subprogram> {
    let target = |(at, insn): (InsnIdx, Insn)| match insn {
        Insn::Call { target: CallTarget::Local(offset) }
        | Insn::LoadImm64 { value: Imm64::Func(offset), .. } => at.offset(1 + i64::from(offset)),
        _ => None,
    };
    let starts: BTreeSet<InsnIdx> = program.code.iter().filter_map(target).chain([InsnIdx(0)]).collect();
    let ends = starts.iter().skip(1).copied();
    let last = InsnIdx(u32::try_from(program.code.len()).unwrap_or(u32::MAX));
    starts
        .iter()
        .zip(ends.chain([last]))
        .map(|(&start, end)| Subprogram {
            name: format!("f{start}"),
            start,
            end,
            btf_func: None,
            linkage: Linkage::Static,
        })
        .collect()
}
