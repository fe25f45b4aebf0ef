//! A refusal in words: what is wrong with which value, where that value comes from, and what usually helps.
//!
//! The words are about the source as far as the object tells of it: functions, maps, lines. What a value is comes from
//! the abstract state at the fault, where it comes from out of the graph of origins; nothing is guessed from text.

mod cause;
mod help;
mod mistake;
mod value;

use bpf_object::{Btf, LineInfo, Program};
use isa::{CallTarget, Insn, InsnIdx, Reg};

use crate::report::error::Rejection;
use crate::rules::programs;

/// Steps told at most.
const MAX_STEPS: usize = 4;

/// A refusal in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What is wrong, in a sentence without a full stop.
    pub title: String,
    /// The same about the line at fault: what it does that must not be.
    pub label: String,
    /// Earlier lines that led to it, the nearest first. No line twice, nor the line at fault.
    pub steps: Vec<Step>,
    /// What else is to be known: of the registers that matter, and of the function.
    pub values: Vec<String>,
    /// What usually helps.
    pub help: Option<String>,
}

/// A line that led to the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The instruction.
    pub at: InsnIdx,
    /// Its source line, if the program has line information.
    pub line: Option<LineInfo>,
    /// What it contributed.
    pub text: String,
}

impl Rejection {
    /// The refusal in words. `program` is what was verified; `kernel` the types of the kernel, if there were any.
    #[must_use]
    pub fn explain(&self, program: &Program, kernel: Option<&Btf>) -> Explanation {
        let about = About { program, kernel, rejection: self };
        let mistake = mistake::of(&about);
        let steps = about.steps(mistake.explains_value);
        let mut values = about.values();
        values.retain(|_| !mistake.label.contains(&about.subject()));
        values.extend(about.alone());
        Explanation { title: mistake.title, label: mistake.label, steps, values, help: mistake.help }
    }
}

/// What an explanation is made from.
struct About<'a> {
    program: &'a Program,
    kernel: Option<&'a Btf>,
    rejection: &'a Rejection,
}

impl About<'_> {
    /// The instruction at fault.
    fn insn(&self) -> Option<Insn> {
        self.program.code.get(self.rejection.at()?)
    }

    /// What a register held, in words.
    fn describe(&self, reg: Reg) -> String {
        match self.rejection.value(reg) {
            Some(value) => value::describe(value, self.program, self.kernel),
            None => format!("r{}", reg.number()),
        }
    }

    /// The register at fault, in words.
    fn subject(&self) -> String {
        self.rejection.register().map_or_else(|| "a value".to_owned(), |reg| self.describe(reg))
    }

    /// The function that the instruction at fault calls.
    fn callee(&self) -> Option<String> {
        callee(self.program, self.rejection.at()?)
    }

    /// The same as part of a sentence.
    fn callee_text(&self) -> String {
        self.callee().map_or_else(|| "this function".to_owned(), |name| format!("`{name}`"))
    }

    /// The kind of program, as its section names it.
    fn section(&self) -> &str {
        &self.program.section
    }

    /// Whether a program of this kind could be loaded as one that may sleep, and how its section would be named.
    fn sleepable_section(&self) -> Option<String> {
        let (first, rest) = self.section().split_once('/').unwrap_or((self.section(), ""));
        let rules = self.program.kind.prog_type.and_then(programs::find);
        let can =
            rules.is_some() && ["lsm", "fentry", "fexit", "fmod_ret", "iter", "uprobe"].contains(&first);
        can.then(|| if rest.is_empty() { format!("{first}.s") } else { format!("{first}.s/{rest}") })
    }

    /// Whether the value at fault is what is left of a pointer that a function returned and that was given back since: no
    /// instruction made a number of it.
    fn given_back(&self) -> bool {
        let nearest = self.rejection.causes().iter().find(|cause| {
            !matches!(self.program.code.get(cause.at), Some(Insn::Mov { .. } | Insn::Branch { .. }))
        });
        let Some(name) = nearest.and_then(|cause| callee(self.program, cause.at)) else { return false };
        help::is_acquired(&name)
    }

    /// That the function is not verified as its callers call it.
    fn alone(&self) -> Option<String> {
        let function = self.program.subprograms.get(self.rejection.alone()? as usize)?;
        Some(format!(
            "`{}` is a global function: it is verified on its own, for any arguments of its types, whoever calls it",
            function.name
        ))
    }

    fn steps(&self, explains_value: bool) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let told = |steps: &[Step], line: &Option<LineInfo>| {
            let place = |line: &Option<LineInfo>| line.as_ref().map(|l| (l.file.clone(), l.line));
            line.is_some()
                && (place(line) == place(&self.rejection.line().cloned())
                    || steps.iter().any(|s| place(&s.line) == place(line)))
        };
        for held in self.rejection.held() {
            let line = self.program.line_at(held.at).cloned();
            if !told(&steps, &line) {
                steps.push(Step { at: held.at, line, text: cause::held(self, held) });
            }
        }
        let causes = if explains_value { self.rejection.causes() } else { &[] };
        for made in causes {
            let Some(text) = cause::text(self, made) else { continue };
            if steps.len() < MAX_STEPS && !told(&steps, &made.line) {
                steps.push(Step { at: made.at, line: made.line.clone(), text });
            }
        }
        steps
    }

    /// The registers that the instruction at fault works on, where they say more than the title.
    fn values(&self) -> Vec<String> {
        let Some(reg) = self.rejection.register() else { return Vec::new() };
        let known = self.rejection.value(reg).filter(|v| v.kind != crate::state::reg::RegType::NotInit);
        known.map(|_| format!("r{} is {}", reg.number(), self.describe(reg))).into_iter().collect()
    }
}

/// The function that an instruction calls.
fn callee(program: &Program, at: InsnIdx) -> Option<String> {
    let Some(Insn::Call { target }) = program.code.get(at) else { return None };
    match target {
        CallTarget::Helper(number) => isa::helper_name(number).map(str::to_owned),
        CallTarget::Kfunc { btf_id, .. } => {
            program.externs.get(usize::try_from(btf_id).ok()?).map(|e| e.name.clone())
        }
        CallTarget::Local(offset) => {
            let start = at.offset(i64::from(offset) + 1)?;
            program.subprograms.iter().find(|s| s.start == start).map(|s| s.name.clone())
        }
        CallTarget::Register(_) => None,
    }
}
