//! Text fixtures: a program in assembly, what it is run on, and what must come out of every engine.
//!
//! `tests/filetests/format.bpf` documents the format.

use std::fmt::Write as _;

use isa::{Assembly, CallTarget, Imm64, Insn, InsnIdx};

use crate::differential::Observed;
use crate::generate::{Case, USER_VM_START};

const PAGE_BYTES: usize = 4096;

/// A parsed fixture.
#[derive(Clone, Debug)]
pub struct FileTest {
    /// The program, its context and the pages that exist.
    pub case: Case,
    /// Flags of the arena.
    pub flags: u32,
    /// What must come of it.
    pub expected: Expected,
    /// `r0` in the kernel, where that is known to differ; and why the fixture is not for the kernel at all.
    pub kernel: Kernel,
}

/// What a fixture expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Refused, with a message that contains this.
    Error(String),
    /// Run, leaving this: lines of `run:`.
    Run(Vec<String>),
}

/// What a fixture says of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Nothing: it does as the others.
    Same,
    /// It returns this instead.
    Returns(u32),
    /// It is not asked.
    Skipped,
}

/// What is wrong with a fixture itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FixtureError {
    /// The program.
    #[error(transparent)]
    Assembly(#[from] isa::AsmError),
    /// A directive.
    #[error("line {line}: {what}")]
    Directive {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl FileTest {
    /// Reads a fixture.
    ///
    /// # Errors
    /// The program or a directive is not understood.
    pub fn parse(text: &str) -> Result<Self, FixtureError> {
        let Assembly { code, .. } = isa::assemble(text)?;
        let mut functions: Vec<InsnIdx> = std::iter::once(InsnIdx(0)).chain(targets(&code)).collect();
        functions.sort();
        functions.dedup();
        let case = Case { seed: 0, code, functions, ctx: Vec::new(), pages: Vec::new() };
        let mut test = Self { case, flags: 0, expected: Expected::Run(Vec::new()), kernel: Kernel::Same };
        for (number, line) in text.lines().enumerate() {
            if let Some((key, value)) = directive(line) {
                let error = |what| FixtureError::Directive { line: number + 1, what };
                test.apply(key, value).map_err(error)?;
            }
        }
        Ok(test)
    }

    fn apply(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ctx" => self.case.ctx = hex(value)?,
            "page" => {
                let (page, contents) = value.split_once('=').ok_or("expected `page: N = HEX`")?;
                let page = page.trim().parse().map_err(|_| format!("{page} is no page number"))?;
                let mut contents = hex(contents)?;
                contents.resize(PAGE_BYTES, 0);
                self.case.pages.push((page, contents));
            }
            "arena" => match value {
                "no_user_conv" => self.flags |= bpf_object::BPF_F_NO_USER_CONV,
                other => return Err(format!("unknown flag {other}")),
            },
            "kernel" => {
                self.kernel = match value.split_once('=') {
                    _ if value.starts_with("skip") => Kernel::Skipped,
                    Some((name, number)) if name.trim() == "r0" => Kernel::Returns(parse_u32(number.trim())?),
                    _ => return Err("expected `kernel: r0 = N` or `kernel: skip, WHY`".to_owned()),
                };
            }
            "error" => self.expected = Expected::Error(value.to_owned()),
            "run" => match &mut self.expected {
                Expected::Run(lines) => lines.push(value.to_owned()),
                Expected::Error(_) => return Err("a refused program does not run".to_owned()),
            },
            _ => return Err(format!("unknown directive {key}")),
        }
        Ok(())
    }

    /// What a run left, in the words of `run:` directives: `r0`, then what changed in context and pages, then faults.
    #[must_use]
    pub fn describe(&self, observed: &Observed) -> Vec<String> {
        let mut lines = vec![format!("r0 = {:#x}", observed.r0)];
        changes("ctx", &self.case.ctx, &observed.ctx, &mut lines);
        for (page, after) in &observed.pages {
            let before = self.case.pages.iter().find(|(number, _)| number == page);
            let name = format!("page {page}");
            changes(&name, before.map_or(&[], |(_, bytes)| bytes.as_slice()), after, &mut lines);
        }
        for (kind, address, size, chain) in &observed.faults {
            let at = address.wrapping_sub(USER_VM_START).cast_signed();
            let sign = if at < 0 { "-" } else { "+" };
            let insn = chain.first().map_or_else(String::new, |insn| format!(" by {insn}"));
            let kind = kind.to_lowercase();
            lines.push(format!("fault: {size}-byte {kind} at start {sign} {:#x}{insn}", at.unsigned_abs()));
        }
        lines
    }

    /// The text with its `run:` lines replaced by these.
    #[must_use]
    pub fn bless(text: &str, lines: &[String]) -> String {
        let mut out = String::new();
        let mut pending = Some(lines);
        let write = |out: &mut String, lines: &[String]| {
            lines.iter().for_each(|line| {
                let _ = writeln!(out, "; run: {line}");
            });
        };
        for line in text.lines() {
            if directive(line).is_some_and(|(key, _)| key == "run") {
                if let Some(lines) = pending.take() {
                    write(&mut out, lines);
                }
            } else {
                out.push_str(line);
                out.push('\n');
            }
        }
        if let Some(lines) = pending {
            write(&mut out, lines);
        }
        out
    }
}

/// `; key: value` at the start of a line, for the keys there are. Other comments are comments.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix("; ")?.split_once(':')?;
    let known = ["ctx", "page", "arena", "kernel", "error", "run"].contains(&key);
    known.then_some((key, value.trim()))
}

/// Where functions begin: what is called or has its address taken.
fn targets(code: &isa::Code) -> impl Iterator<Item = InsnIdx> + '_ {
    code.iter().filter_map(|(at, insn)| match insn {
        Insn::Call { target: CallTarget::Local(offset) }
        | Insn::LoadImm64 { value: Imm64::Func(offset), .. } => at.offset(i64::from(offset) + 1),
        _ => None,
    })
}

/// Each run of changed bytes: `ctx 8..16 = HEX`.
fn changes(name: &str, before: &[u8], after: &[u8], lines: &mut Vec<String>) {
    let changed = |at: usize| after.get(at) != before.get(at).or(Some(&0));
    let mut at = 0;
    while at < after.len() {
        let end = (at..after.len()).find(|at| !changed(*at)).unwrap_or(after.len());
        if let Some(bytes) = after.get(at..end).filter(|bytes| !bytes.is_empty()) {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push(format!("{name} at {at:#x} = {}", hex.join(" ")));
        }
        at = end + 1;
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let byte = |word: &str| u8::from_str_radix(word, 16).map_err(|_| format!("{word} is no byte"));
    text.split_whitespace().map(byte).collect()
}

fn parse_u32(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x");
    let parsed = digits.map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16));
    parsed.map_err(|_| format!("{text} is no 32-bit number"))
}
